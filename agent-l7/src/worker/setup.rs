//! From an accepted client to a pair of connected sockets.
//!
//! A server is chosen and connected to; if that fails, another one at once, each at most once and
//! all within a few times the connect timeout, and the client sees nothing of it. Where every
//! server is at its maximum the client waits in line. When no server is left the fallback is
//! tried, and without one the client is reset: it must not take an empty stream for an answer. Where the
//! mode is DICOM it is told, and being connected includes that the server accepts its association.
//! Not a byte is read from the client before that, but for the PROXY protocol header that it may have to
//! begin with, and its TLS handshake; at what it begins with is only looked, where the choice depends on it. Where the server speaks TLS, its handshake is part of connecting.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gantry_medical::dicom::{Reject, RejectReason};
use gantry_model::port::Port;
use gantry_model::service::Endpoint;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{self, RecvFlags, sockopt};
use tracing::debug;

use crate::deadline::{after, after_dials};
use crate::ending::{Ending, Phase, Untaken};
use crate::http::Client;
use crate::limits::Pass;
use crate::proxy_header::{self, Ends, Header};
use crate::queue::{Place, Ticket};
use crate::relay::{Early, INTEREST, Pair, Patience, Secrets, Side};
use crate::seat::{Seat, Visitor};
use crate::server::{Server, Tenure};
use crate::service::{Admission, Service};
use crate::socket::{self, Source};
use crate::stats::Traffic;
use crate::tls::Session;

use super::{Desk, Guest, SERVER};

use association::{Asking, Offering};
pub(super) use moving::Moved;

mod association;
mod handshake;
mod moving;
mod opening;

pub(super) struct Setup {
    service: Arc<Service>,
    port: Port,
    peer: SocketAddr,
    visitor: Visitor,
    /// There where the connections of each client are limited.
    pass: Option<Box<Pass>>,
    /// What the client began with, where it must.
    greeting: Option<Header>,
    client: Unserved,
    /// The client speaks TLS.
    session: Option<Box<Session>>,
    /// What it said right after its handshake, or asks for an association with.
    early: Vec<u8>,
    /// The association that it asks for.
    asking: Option<Box<Asking>>,
    /// What it is told last.
    farewell: Option<[u8; 10]>,
    /// What the poller said of the client so far.
    client_seen: EventFlags,
    state: State,
    /// When waiting in line is over, once it has begun.
    queue_until: Option<Instant>,
    /// When no further server is tried, once the first was.
    dial_until: Option<Instant>,
    /// Why the server that was tried last did not take it.
    untaken: Option<Untaken>,
}

/// What came of one step of the set-up.
pub(super) enum Step {
    Pending,
    /// The server has taken the connection; this is what the poller said of it.
    Connected(EventFlags),
    /// The client has gone, or is to be reset.
    Failed(Ending),
    /// The server has accepted the client's association.
    Associated,
    /// The client is to be told that it is not served, and why.
    Parts(Ending),
    /// The client speaks HTTP.
    Http,
}

/// A pair of sockets, and what it takes to relay them.
pub(super) struct Ready {
    pub(super) pair: Pair,
    pub(super) secrets: Secrets,
    pub(super) target: Target,
    pub(super) pass: Option<Box<Pass>>,
    pub(super) client_seen: EventFlags,
    pub(super) server_seen: EventFlags,
}

/// What a client is connected to.
#[derive(Debug)]
pub(super) enum Target {
    Server(Seat),
    Fallback,
}

enum State {
    /// The client has to say who it is.
    Greeting {
        until: Instant,
    },
    /// What the client begins with decides who serves it.
    Listening {
        until: Instant,
    },
    /// The client and the proxy agree on keys.
    Shaking {
        until: Instant,
    },
    /// The client has to say which association it wants.
    Requesting {
        until: Instant,
    },
    Choosing,
    Waiting(InLine),
    Dialling {
        socket: OwnedFd,
        target: Target,
        until: Instant,
    },
    /// The proxy and the server agree on keys.
    Securing(Box<Securing>),
    /// The server has to accept the association.
    Offering(Box<Offering>),
}

/// A server that has taken the connection, and speaks TLS.
struct Securing {
    socket: OwnedFd,
    target: Target,
    session: Box<Session>,
    /// What it said right after the handshake.
    early: Vec<u8>,
    /// What the poller said of it so far.
    seen: EventFlags,
    until: Instant,
}

/// A client that is reset when dropped.
struct Unserved(Option<OwnedFd>);

/// A place in the line; left when dropped.
struct InLine {
    service: Arc<Service>,
    ticket: Ticket,
}

/// How long a client may take to say who it is.
const GREETING: Duration = Duration::from_secs(5);

impl Setup {
    pub(super) fn new(
        service: Arc<Service>,
        port: Port,
        client: OwnedFd,
        peer: SocketAddr,
    ) -> Self {
        Self {
            service,
            port,
            peer,
            visitor: Visitor::new(peer.ip()),
            pass: None,
            greeting: None,
            client: Unserved(Some(client)),
            session: None,
            early: Vec::new(),
            asking: None,
            farewell: None,
            client_seen: EventFlags::empty(),
            state: State::Choosing,
            queue_until: None,
            dial_until: None,
            untaken: None,
        }
    }

    /// What there is to relay, once connected.
    pub(super) fn finish(mut self, server_seen: EventFlags) -> Option<Ready> {
        let client = self.client.0.take()?;
        let header = self.header(&client);
        let (server, target, header, from_server, session) = match self.state {
            State::Dialling { socket, target, .. } => (socket, target, header, Vec::new(), None),
            State::Securing(it) => (it.socket, it.target, Vec::new(), it.early, Some(it.session)),
            _ => return None,
        };
        let from_client = [header, self.early].concat();
        let timeouts = self.service.routing().layer7.timeouts;
        let traffic = Arc::clone(target.traffic(&self.service));
        traffic.connections.add(1);
        if let Target::Server(seat) = &target {
            seat.server.trust();
        }
        let pair = Pair {
            client,
            server,
            early: Early { from_client, from_server },
            patience: Patience { client: timeouts.client, server: timeouts.server },
            traffic,
        };
        let secrets = Secrets { client: self.session, server: session };
        let (pass, client_seen) = (self.pass, self.client_seen);
        Some(Ready { pair, secrets, target, pass, client_seen, server_seen })
    }

    pub(super) fn take_pass(&mut self) -> Option<Box<Pass>> {
        self.pass.take()
    }

    /// The client, as those want it who serve HTTP.
    pub(super) fn into_client(mut self, guest: Guest) -> Option<Client> {
        let socket = self.client.0.take()?;
        let Self { peer, greeting, port, pass, .. } = self;
        Some(Client { socket, peer, greeting, guest, pass, port })
    }

    /// When something has to be done without an event.
    pub(super) fn due(&self) -> Option<Instant> {
        match &self.state {
            State::Choosing => None,
            State::Greeting { until }
            | State::Listening { until }
            | State::Shaking { until }
            | State::Requesting { until } => Some(*until),
            State::Securing(securing) => Some(securing.until),
            State::Offering(offering) => Some(offering.until),
            State::Waiting(_) => self.queue_until,
            State::Dialling { until, .. } => Some(*until),
        }
    }

    /// How far it has come.
    pub(super) fn phase(&self) -> Phase {
        match &self.state {
            State::Greeting { .. } | State::Listening { .. } | State::Requesting { .. } => {
                Phase::Greeting
            }
            State::Shaking { .. } => Phase::Tls,
            State::Waiting(_) => Phase::Queue,
            State::Choosing if self.dial_until.is_none() && self.queue_until.is_some() => {
                Phase::Queue
            }
            State::Choosing if self.dial_until.is_none() && self.farewell.is_some() => {
                Phase::Greeting
            }
            State::Choosing | State::Dialling { .. } | State::Securing(_) | State::Offering(_) => {
                Phase::Connect
            }
        }
    }

    /// Looks for a server, unless the client has to say something first.
    pub(super) fn begin(&mut self, place: Place, desk: &mut Desk) -> Step {
        if !self.service.routing().layer7.accept_proxy_protocol {
            return self.meet(place, desk);
        }
        self.state = State::Greeting { until: after(desk.now, GREETING) };
        Step::Pending
    }

    /// Reads the client's header, and not a byte more.
    fn greet(&mut self, place: Place, desk: &mut Desk) -> Step {
        let Some(client) = &self.client.0 else { return Step::Failed(Ending::Trouble) };
        let mut bytes = [0; proxy_header::LONGEST];
        let seen = match peek(client, &mut bytes) {
            Ok(seen) => seen,
            Err(step) => return step,
        };
        match Header::read(seen) {
            Ok(Some((header, length))) => {
                // It was there a moment ago, and nobody else reads here.
                let taken = net::recv(client, &mut bytes[..length], RecvFlags::empty());
                if !matches!(taken, Ok((read, _)) if read == length) {
                    return Step::Failed(Ending::Trouble);
                }
                if let Some(ends) = &header.ends {
                    self.visitor = Visitor::new(ends.client.ip());
                }
                self.greeting = Some(header);
                self.meet(place, desk)
            }
            Ok(None) if !self.client_seen.contains(EventFlags::RDHUP) => Step::Pending,
            Ok(None) => self.malformed(Ending::ClientLeft, "an unfinished PROXY protocol header"),
            Err(why) => self.malformed(Ending::Malformed, &why.to_string()),
        }
    }

    fn malformed(&self, ending: Ending, why: &str) -> Step {
        debug!(service = %self.service.name, peer = %self.peer, why, "client refused");
        self.service.counts.malformed.add(1);
        Step::Failed(ending)
    }

    /// What the server is told of the client.
    fn header(&self, client: &OwnedFd) -> Vec<u8> {
        let Some(version) = self.service.routing().layer7.send_proxy_protocol else {
            return Vec::new();
        };
        let told = self.greeting.as_ref().and_then(|greeting| greeting.ends);
        let seen = || {
            let listener = net::getsockname(client).ok()?.try_into().ok()?;
            Some(Ends { client: self.peer, listener })
        };
        let additions = self.greeting.as_ref().map_or(&[][..], |greeting| &greeting.additions);
        told.or_else(seen).map(|ends| ends.header(version, additions)).unwrap_or_default()
    }

    /// Looks for a server, until one is being connected to or the client has to wait.
    pub(super) fn choose(&mut self, place: Place, desk: &mut Desk) -> Step {
        self.state = State::Choosing;
        loop {
            if self.service.is_closed() {
                return self.refuse();
            }
            if self.dial_until.is_some_and(|until| until <= desk.now) {
                return self.fall_back(place, desk);
            }
            match self.service.admit(&self.visitor, place) {
                Admission::Nobody => return self.fall_back(place, desk),
                Admission::Wait(ticket) => return self.wait(ticket, desk),
                Admission::Seat(seat) => {
                    if self.try_seat(seat, place, desk) {
                        return Step::Pending;
                    }
                }
            }
        }
    }

    /// A seat has come free for this client, who was first in line.
    pub(super) fn seated(&mut self, seat: Seat, place: Place, desk: &mut Desk) -> Step {
        if self.service.is_closed() {
            return self.refuse();
        }
        let over = matches!(seat.tenure(), Tenure::Over);
        if !over && self.try_seat(seat, place, desk) {
            return Step::Pending;
        }
        self.choose(place, desk)
    }

    pub(super) fn event(
        &mut self,
        side: Side,
        flags: EventFlags,
        place: Place,
        desk: &mut Desk,
    ) -> Step {
        match side {
            Side::Client => self.client_event(flags, place, desk),
            Side::Server => self.server_event(flags, place, desk),
        }
    }

    /// The configuration has changed. Who waits in line was seen to by the service.
    pub(super) fn review(&mut self, place: Place, desk: &mut Desk) -> Step {
        if self.service.is_closed() {
            return self.refuse();
        }
        match &self.state {
            State::Dialling { target, .. } if matches!(target.tenure(), Tenure::Over) => {
                self.choose(place, desk)
            }
            State::Securing(it) if matches!(it.target.tenure(), Tenure::Over) => {
                self.choose(place, desk)
            }
            State::Offering(it) if matches!(it.target.tenure(), Tenure::Over) => {
                self.choose(place, desk)
            }
            _ => Step::Pending,
        }
    }

    /// The time for what is under way is over.
    pub(super) fn ring(&mut self, place: Place, desk: &mut Desk) -> Step {
        match &self.state {
            State::Greeting { until } if *until <= desk.now => {
                self.malformed(Ending::ClientSilent, "no PROXY protocol header in time")
            }
            State::Listening { until } if *until <= desk.now => {
                self.malformed(Ending::ClientSilent, "nothing to choose a server by in time")
            }
            State::Shaking { until } if *until <= desk.now => {
                self.unshaken(Ending::ClientSilent, "it did not agree on keys in time")
            }
            State::Dialling { until, .. } if *until <= desk.now => {
                self.dial_failed(Errno::TIMEDOUT, place, desk)
            }
            State::Securing(securing) if securing.until <= desk.now => {
                self.dial_failed(Errno::TIMEDOUT, place, desk)
            }
            State::Offering(offering) if offering.until <= desk.now => {
                self.dial_failed(Errno::TIMEDOUT, place, desk)
            }
            State::Requesting { until } if *until <= desk.now => self.unrequested(),
            State::Waiting(line) if self.queue_until.is_some_and(|until| until <= desk.now) => {
                if !line.leave() {
                    // A seat or a recall is in the mailbox.
                    self.state = State::Choosing;
                    return Step::Pending;
                }
                self.service.counts.queue_timeouts.add(1);
                self.reject(
                    Reject::transient(RejectReason::LocalLimitExceeded),
                    Ending::QueueTimeout,
                )
            }
            _ => Step::Pending,
        }
    }

    fn wait(&mut self, ticket: Ticket, desk: &Desk) -> Step {
        let patience = self.service.routing().layer7.timeouts.queue;
        self.queue_until.get_or_insert(after(desk.now, patience));
        self.state = State::Waiting(InLine { service: Arc::clone(&self.service), ticket });
        // The poller spoke of an end before there was a line to wait in.
        if self.client_seen.contains(EventFlags::RDHUP) && self.client_has_left() {
            return Step::Failed(Ending::ClientLeft);
        }
        Step::Pending
    }

    fn client_event(&mut self, flags: EventFlags, place: Place, desk: &mut Desk) -> Step {
        self.client_seen |= flags;
        if flags.intersects(EventFlags::ERR | EventFlags::HUP) {
            return Step::Failed(Ending::ClientLeft);
        }
        match self.state {
            State::Greeting { .. } => return self.greet(place, desk),
            State::Listening { .. } => return self.listen(place, desk),
            State::Shaking { .. } => return self.shake(place, desk),
            State::Requesting { .. } => return self.request(place, desk),
            // Who wants an association does not end its stream before that.
            _ if self.asking.is_some() && flags.contains(EventFlags::RDHUP) => {
                return Step::Failed(Ending::ClientLeft);
            }
            _ => {}
        }
        let waiting = matches!(self.state, State::Waiting(_));
        if waiting && flags.contains(EventFlags::RDHUP) && self.client_has_left() {
            return Step::Failed(Ending::ClientLeft);
        }
        Step::Pending
    }

    /// Whether a client whose stream has ended sent nothing before. One that did may only have
    /// half closed, and wait for its answer.
    fn client_has_left(&self) -> bool {
        self.client.0.as_ref().is_none_or(|client| {
            matches!(net::recv(client, &mut [0; 1], RecvFlags::PEEK), Ok((0, _)))
        })
    }

    fn server_event(&mut self, flags: EventFlags, place: Place, desk: &mut Desk) -> Step {
        if let State::Securing(securing) = &mut self.state {
            securing.seen |= flags;
            return self.secure(place, desk);
        }
        if let State::Offering(offering) = &mut self.state {
            offering.leg.notice(flags);
            return self.answer(place, desk);
        }
        let State::Dialling { socket, .. } = &self.state else { return Step::Pending };
        match sockopt::socket_error(socket).and_then(|error| error) {
            Err(error) => self.dial_failed(error, place, desk),
            Ok(()) if flags.contains(EventFlags::OUT) => self.connected(flags, place, desk),
            Ok(()) => Step::Pending,
        }
    }

    fn connected(&mut self, seen: EventFlags, place: Place, desk: &mut Desk) -> Step {
        match &self.state {
            State::Dialling { target, .. } if matches!(target.tenure(), Tenure::Over) => {
                self.choose(place, desk)
            }
            _ => match self.service.routing().secrecy.servers.clone() {
                Some(tls) => self.begin_securing(&tls, seen, place, desk),
                None => self.taken_up(seen, place, desk),
            },
        }
    }

    /// The server can be spoken with.
    fn taken_up(&mut self, seen: EventFlags, place: Place, desk: &mut Desk) -> Step {
        match self.asking {
            Some(_) => self.offer(seen, place, desk),
            None => Step::Connected(seen),
        }
    }

    /// Begins to connect to the server of `seat`; false if that failed at once.
    fn try_seat(&mut self, seat: Seat, place: Place, desk: &mut Desk) -> bool {
        let endpoint = seat.endpoint;
        let source = self.service.routing().source(endpoint.address, self.visitor.client);
        match self.dial((endpoint, source), place, desk) {
            Ok((socket, until)) => {
                self.state = State::Dialling { socket, target: Target::Server(seat), until };
                true
            }
            Err(error) => {
                self.tell_trouble(error, desk);
                self.blame(&Target::Server(seat), untaken(error), &error.to_string(), desk);
                false
            }
        }
    }

    fn fall_back(&mut self, place: Place, desk: &mut Desk) -> Step {
        let Some(fallback) = self.service.routing().fallback else { return self.refuse() };
        let source = self.service.routing().source_to_fallback();
        match self.dial((fallback, source), place, desk) {
            Ok((socket, until)) => {
                self.state = State::Dialling { socket, target: Target::Fallback, until };
                Step::Pending
            }
            Err(error) => {
                self.tell_trouble(error, desk);
                self.blame(&Target::Fallback, untaken(error), &error.to_string(), desk);
                self.refuse()
            }
        }
    }

    fn dial(
        &mut self,
        (to, source): (Endpoint, Source),
        place: Place,
        desk: &Desk,
    ) -> rustix::io::Result<(OwnedFd, Instant)> {
        let routing = self.service.routing();
        let layer7 = &routing.layer7;
        let patience = layer7.timeouts.connect;
        let answer = self.asking.as_ref().map_or(Duration::ZERO, |_| layer7.dicom.answer_timeout);
        let all = patience.saturating_add(answer);
        self.dial_until.get_or_insert(after_dials(desk.now, all));
        let port = to.port.unwrap_or(self.port);
        let at = SocketAddr::new(to.address, port.get());
        let socket = socket::connect(at, source, &layer7.tcp)?;
        let token = EventData::new_u64(place.key.pack(SERVER));
        epoll::add(&desk.poller, &socket, token, INTEREST)?;
        Ok((socket, after(desk.now, patience)))
    }

    fn dial_failed(&mut self, error: Errno, place: Place, desk: &mut Desk) -> Step {
        let why = match (untaken(error), &self.state) {
            (Untaken::Refused, State::Securing(_)) => Untaken::Unshaken,
            (why, _) => why,
        };
        self.tell_trouble(error, desk);
        self.fail(why, &error.to_string(), place, desk)
    }

    /// The attempt that is under way has failed: makes another one, if there is anybody left to try.
    fn fail(&mut self, why: Untaken, error: &str, place: Place, desk: &mut Desk) -> Step {
        let target = match std::mem::replace(&mut self.state, State::Choosing) {
            State::Dialling { target, .. } => target,
            State::Securing(securing) => securing.target,
            State::Offering(offering) => offering.target,
            _ => return Step::Pending,
        };
        self.blame(&target, why, error, desk);
        match target {
            Target::Fallback => self.refuse(),
            Target::Server(seat) => {
                drop(seat);
                self.choose(place, desk)
            }
        }
    }

    /// Puts a failed attempt down to its target.
    fn blame(&mut self, target: &Target, why: Untaken, error: &str, desk: &Desk) {
        target.traffic(&self.service).connect_failures.add(1);
        self.untaken = Some(why);
        let Target::Server(seat) = target else { return };
        debug!(server = %seat.server.name, error, "connect failed");
        self.visitor.tried.push(Arc::clone(&seat.server));
        if why != Untaken::Exhausted {
            let rule = &self.service.routing().layer7.passive_health;
            seat.server.suspect(rule, desk.now);
        }
    }

    fn tell_trouble(&self, error: Errno, desk: &Desk) {
        let source = self.service.routing().layer7.source_address;
        self.service.trouble.tell(&self.service.name, source, error, desk.now);
    }

    /// Tells the client that nobody serves it.
    fn refuse(&mut self) -> Step {
        self.service.counts.unserved.add(1);
        let closed = self.service.is_closed();
        let why = if closed { Ending::ServiceClosed } else { Ending::Unserved(self.untaken) };
        self.reject_for_want_of_servers(why)
    }
}

impl Target {
    pub(super) fn tenure(&self) -> Tenure {
        match self {
            Self::Server(seat) => seat.tenure(),
            Self::Fallback => Tenure::Stay,
        }
    }

    /// The real server, if it is one.
    pub(super) fn server(&self) -> Option<&Arc<Server>> {
        match self {
            Self::Server(seat) => Some(&seat.server),
            Self::Fallback => None,
        }
    }

    /// The name of the real server.
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Server(seat) => seat.server.name.server.as_str(),
            Self::Fallback => "the fallback",
        }
    }

    /// Why what it is connected to may not keep it.
    pub(super) fn taken(&self) -> Ending {
        match self {
            Self::Server(seat) => Ending::ServerTaken(seat.taken()),
            // It is there for as long as its service is.
            Self::Fallback => Ending::ServiceClosed,
        }
    }

    fn address(&self, service: &Service) -> Option<IpAddr> {
        match self {
            Self::Server(seat) => Some(seat.endpoint.address),
            Self::Fallback => service.routing().fallback.map(|fallback| fallback.address),
        }
    }

    pub(super) fn traffic<'a>(&'a self, service: &'a Service) -> &'a Arc<Traffic> {
        match self {
            Self::Server(seat) => &seat.server.traffic,
            Self::Fallback => &service.fallback,
        }
    }
}

/// What has come from a client, and is still to be read; else what to do about that.
fn peek<'a>(client: &OwnedFd, buffer: &'a mut [u8]) -> Result<&'a [u8], Step> {
    match net::recv(client, &mut *buffer, RecvFlags::PEEK) {
        Ok((0, _)) => Err(Step::Failed(Ending::ClientLeft)),
        Ok((seen, _)) => Ok(&buffer[..seen]),
        Err(Errno::AGAIN | Errno::INTR) => Err(Step::Pending),
        Err(_) => Err(Step::Failed(Ending::ClientLeft)),
    }
}

fn untaken(error: Errno) -> Untaken {
    match error {
        _ if socket::is_ours(error) => Untaken::Exhausted,
        Errno::TIMEDOUT => Untaken::TimedOut,
        _ => Untaken::Refused,
    }
}

impl InLine {
    /// Whether the place was still there to be left.
    fn leave(&self) -> bool {
        self.service.leave(self.ticket)
    }
}

impl Drop for Unserved {
    fn drop(&mut self) {
        self.0.iter().for_each(socket::reset_on_close);
    }
}

impl Drop for InLine {
    fn drop(&mut self) {
        self.leave();
    }
}
