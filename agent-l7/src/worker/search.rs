//! From a client that is to be served to a real server that has taken its connection.
//!
//! A server is chosen and connected to; if that fails, another one at once, each at most once and all
//! within a few times the connect timeout. Where every server is at its maximum the client waits in line.
//! When no server is left the fallback is tried. Where the server speaks TLS, its handshake is part of
//! connecting.
//!
//! A search knows nothing of the client's own connection: whoever searches sees to that.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gantry_model::port::Port;
use gantry_model::service::Endpoint;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::sockopt;
use tracing::{debug, warn};

use crate::deadline::{after, after_dials};
use crate::ending::{Ending, Phase, Untaken};
use crate::leg::Leg;
use crate::queue::{Place, Ticket};
use crate::relay::{Bench, INTEREST};
use crate::seat::{Seat, Visitor};
use crate::server::{Server, Tenure};
use crate::service::{Admission, Service};
use crate::socket::{self, Source};
use crate::stats::Traffic;
use crate::tls::{Session, ShakeError, Shaken, WithServers};

use super::{Desk, SERVER};

pub(super) struct Search {
    service: Arc<Service>,
    port: Port,
    pub(super) visitor: Visitor,
    /// What the server is told before all else.
    pub(super) header: Vec<u8>,
    /// How long a server that has taken the connection may take to say whether it wants it.
    pub(super) answer: Duration,
    /// Servers that need not be connected to.
    pub(super) known: Vec<Arc<Server>>,
    state: State,
    /// When waiting in line is over, once it has begun.
    pub(super) queue_until: Option<Instant>,
    /// When no further server is tried, once the first was.
    dial_until: Option<Instant>,
    /// Why the server that was tried last did not take it.
    untaken: Option<Untaken>,
}

/// What came of one step.
pub(super) enum Find {
    Pending,
    Found(Reached),
    /// A seat at one of the servers that are known already.
    Seated(Seat),
    Nobody(Ending),
}

/// A server that has taken the connection.
pub(super) struct Reached {
    pub(super) socket: OwnedFd,
    pub(super) target: Target,
    pub(super) session: Option<Box<Session>>,
    /// What it is still to be told before all else.
    pub(super) header: Vec<u8>,
    /// What it has said already.
    pub(super) early: Vec<u8>,
    /// What the poller said of it so far.
    pub(super) seen: EventFlags,
}

/// What a client is connected to.
#[derive(Debug)]
pub(super) enum Target {
    Server(Seat),
    Fallback,
}

enum State {
    Choosing,
    Waiting(InLine),
    Dialling {
        socket: OwnedFd,
        target: Target,
        until: Instant,
    },
    /// The proxy and the server agree on keys.
    Securing(Box<Securing>),
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

/// A place in the line; left when dropped.
struct InLine {
    service: Arc<Service>,
    ticket: Ticket,
}

impl Search {
    pub(super) fn new(service: Arc<Service>, port: Port, client: IpAddr) -> Self {
        Self {
            service,
            port,
            visitor: Visitor::new(client),
            header: Vec::new(),
            answer: Duration::ZERO,
            known: Vec::new(),
            state: State::Choosing,
            queue_until: None,
            dial_until: None,
            untaken: None,
        }
    }

    /// When something has to be done without an event.
    pub(super) fn due(&self) -> Option<Instant> {
        match &self.state {
            State::Choosing => None,
            State::Waiting(_) => self.queue_until,
            State::Securing(securing) => Some(securing.until),
            State::Dialling { until, .. } => Some(*until),
        }
    }

    /// How far it has come.
    pub(super) fn phase(&self) -> Phase {
        match &self.state {
            State::Waiting(_) => Phase::Queue,
            State::Choosing if self.dial_until.is_none() && self.queue_until.is_some() => {
                Phase::Queue
            }
            State::Choosing | State::Dialling { .. } | State::Securing(_) => Phase::Connect,
        }
    }

    pub(super) fn is_waiting(&self) -> bool {
        matches!(self.state, State::Waiting(_))
    }

    /// Gives up what was begun, as if it had not been.
    pub(super) fn forget(&mut self) {
        self.state = State::Choosing;
        self.visitor.tried.clear();
        self.dial_until = None;
        self.untaken = None;
    }

    /// Looks for a server, until one is being connected to or the client has to wait.
    pub(super) fn choose(&mut self, place: Place, desk: &mut Desk) -> Find {
        self.state = State::Choosing;
        loop {
            if self.service.is_closed() {
                return self.nobody();
            }
            if self.dial_until.is_some_and(|until| until <= desk.now) {
                return self.fall_back(place, desk);
            }
            match self.service.admit(&self.visitor, place) {
                Admission::Nobody => return self.fall_back(place, desk),
                Admission::Wait(ticket) => return self.wait(ticket, desk),
                Admission::Seat(seat) if self.knows(&seat) => return Find::Seated(seat),
                Admission::Seat(seat) => {
                    if self.try_seat(seat, place, desk) {
                        return Find::Pending;
                    }
                }
            }
        }
    }

    /// A seat has come free for this client, who was first in line.
    pub(super) fn seated(&mut self, seat: Seat, place: Place, desk: &mut Desk) -> Find {
        if self.service.is_closed() {
            return self.nobody();
        }
        let over = matches!(seat.tenure(), Tenure::Over);
        if !over && self.knows(&seat) {
            return Find::Seated(seat);
        }
        if !over && self.try_seat(seat, place, desk) {
            return Find::Pending;
        }
        self.choose(place, desk)
    }

    fn knows(&self, seat: &Seat) -> bool {
        self.known.iter().any(|server| Arc::ptr_eq(server, &seat.server))
    }

    /// The poller speaks of the server.
    pub(super) fn event(&mut self, flags: EventFlags, place: Place, desk: &mut Desk) -> Find {
        if let State::Securing(securing) = &mut self.state {
            securing.seen |= flags;
            return self.secure(place, desk);
        }
        let State::Dialling { socket, .. } = &self.state else { return Find::Pending };
        match sockopt::socket_error(socket).and_then(|error| error) {
            Err(error) => self.dial_failed(error, place, desk),
            Ok(()) if flags.contains(EventFlags::OUT) => self.connected(flags, place, desk),
            Ok(()) => Find::Pending,
        }
    }

    /// The configuration has changed. Who waits in line was seen to by the service.
    pub(super) fn review(&mut self, place: Place, desk: &mut Desk) -> Find {
        if self.service.is_closed() {
            return self.nobody();
        }
        let target = match &self.state {
            State::Dialling { target, .. } => target,
            State::Securing(securing) => &securing.target,
            State::Choosing | State::Waiting(_) => return Find::Pending,
        };
        match target.tenure() {
            Tenure::Over => self.choose(place, desk),
            Tenure::Stay | Tenure::Until(_) => Find::Pending,
        }
    }

    /// The time for what is under way may be over.
    pub(super) fn ring(&mut self, place: Place, desk: &mut Desk) -> Find {
        match &self.state {
            State::Dialling { until, .. } if *until <= desk.now => {
                self.dial_failed(Errno::TIMEDOUT, place, desk)
            }
            State::Securing(securing) if securing.until <= desk.now => {
                self.dial_failed(Errno::TIMEDOUT, place, desk)
            }
            State::Waiting(line) if self.queue_until.is_some_and(|until| until <= desk.now) => {
                if !line.leave() {
                    // A seat or a recall is in the mailbox.
                    self.state = State::Choosing;
                    return Find::Pending;
                }
                self.service.counts.queue_timeouts.add(1);
                Find::Nobody(Ending::QueueTimeout)
            }
            _ => Find::Pending,
        }
    }

    /// A server that had taken the connection does not want it: looks for another one, if there is any.
    pub(super) fn fail(
        &mut self,
        target: Target,
        (why, error): (Untaken, &str),
        place: Place,
        desk: &mut Desk,
    ) -> Find {
        self.blame(&target, why, error, desk);
        match target {
            Target::Fallback => self.nobody(),
            Target::Server(seat) => {
                drop(seat);
                self.choose(place, desk)
            }
        }
    }

    fn wait(&mut self, ticket: Ticket, desk: &Desk) -> Find {
        let patience = self.service.routing().layer7.timeouts.queue;
        self.queue_until.get_or_insert(after(desk.now, patience));
        self.state = State::Waiting(InLine { service: Arc::clone(&self.service), ticket });
        Find::Pending
    }

    fn connected(&mut self, seen: EventFlags, place: Place, desk: &mut Desk) -> Find {
        match &self.state {
            State::Dialling { target, .. } if matches!(target.tenure(), Tenure::Over) => {
                self.choose(place, desk)
            }
            _ => match self.service.routing().secrecy.servers.clone() {
                Some(tls) => self.begin_securing(&tls, seen, place, desk),
                None => self.reached(seen),
            },
        }
    }

    /// The server can be spoken with.
    fn reached(&mut self, seen: EventFlags) -> Find {
        let header = self.header.clone();
        Find::Found(match std::mem::replace(&mut self.state, State::Choosing) {
            State::Dialling { socket, target, .. } => {
                Reached { socket, target, session: None, header, early: Vec::new(), seen }
            }
            State::Securing(it) => {
                let Securing { socket, target, session, early, seen, .. } = *it;
                let header = Vec::new();
                Reached { socket, target, session: Some(session), header, early, seen }
            }
            State::Choosing | State::Waiting(_) => return Find::Nobody(Ending::Trouble),
        })
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

    fn fall_back(&mut self, place: Place, desk: &mut Desk) -> Find {
        let Some(fallback) = self.service.routing().fallback else { return self.nobody() };
        let source = self.service.routing().source_to_fallback();
        match self.dial((fallback, source), place, desk) {
            Ok((socket, until)) => {
                self.state = State::Dialling { socket, target: Target::Fallback, until };
                Find::Pending
            }
            Err(error) => {
                self.tell_trouble(error, desk);
                self.blame(&Target::Fallback, untaken(error), &error.to_string(), desk);
                self.nobody()
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
        let all = patience.saturating_add(self.answer);
        self.dial_until.get_or_insert(after_dials(desk.now, all));
        let port = to.port.unwrap_or(self.port);
        let at = SocketAddr::new(to.address, port.get());
        let socket = socket::connect(at, source, &layer7.tcp)?;
        let token = EventData::new_u64(place.key.pack(SERVER));
        epoll::add(&desk.poller, &socket, token, INTEREST)?;
        Ok((socket, after(desk.now, patience)))
    }

    fn dial_failed(&mut self, error: Errno, place: Place, desk: &mut Desk) -> Find {
        let (target, why) = match std::mem::replace(&mut self.state, State::Choosing) {
            State::Dialling { target, .. } => (target, untaken(error)),
            State::Securing(securing) => match untaken(error) {
                Untaken::Refused => (securing.target, Untaken::Unshaken),
                why => (securing.target, why),
            },
            State::Choosing | State::Waiting(_) => return Find::Pending,
        };
        self.tell_trouble(error, desk);
        self.fail(target, (why, &error.to_string()), place, desk)
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

    fn nobody(&mut self) -> Find {
        let closed = self.service.is_closed();
        Find::Nobody(if closed { Ending::ServiceClosed } else { Ending::Unserved(self.untaken) })
    }

    /// Begins to agree on keys with the server that has taken the connection.
    fn begin_securing(
        &mut self,
        tls: &WithServers,
        seen: EventFlags,
        place: Place,
        desk: &mut Desk,
    ) -> Find {
        let state = std::mem::replace(&mut self.state, State::Choosing);
        let State::Dialling { socket, target, until } = state else {
            return Find::Nobody(Ending::Trouble);
        };
        let session = target
            .address(&self.service)
            .map(|address| Session::with_server(&tls.config, tls.name(address)));
        let Some(Ok(mut session)) = session else { return Find::Nobody(Ending::Trouble) };
        session.out_mut().push(&self.header);
        let session = Box::new(session);
        let securing = Securing { socket, target, session, early: Vec::new(), seen, until };
        self.state = State::Securing(Box::new(securing));
        self.secure(place, desk)
    }

    fn secure(&mut self, place: Place, desk: &mut Desk) -> Find {
        let State::Securing(it) = &mut self.state else { return Find::Pending };
        match it.session.shake(&it.socket, &mut desk.bench.buffer, &mut it.early) {
            Ok(Shaken::Pending) => Find::Pending,
            Ok(Shaken::Done) => {
                let seen = it.seen;
                self.reached(seen)
            }
            Err(ShakeError::Io(error)) => self.dial_failed(error, place, desk),
            Err(ShakeError::Closed) => self.dial_failed(Errno::CONNRESET, place, desk),
            Err(ShakeError::Tls(error)) => {
                let (service, server) = (&self.service.name, it.target.name());
                warn!(%service, server, %error, "no TLS with a real server");
                self.dial_failed(Errno::PROTO, place, desk)
            }
        }
    }
}

impl Reached {
    /// The server as it is spoken with here, who it is, and what it has said already.
    pub(super) fn into_leg(self, bench: &mut Bench) -> (Leg, Target, Vec<u8>) {
        let mut leg = Leg::new(self.socket, self.session);
        leg.notice(self.seen);
        leg.write(&self.header, &mut bench.sealed);
        (leg, self.target, self.early)
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

    /// The real server, and where it is; none: the fallback.
    pub(super) fn place(&self) -> Option<(&Arc<Server>, Endpoint)> {
        match self {
            Self::Server(seat) => Some((&seat.server, seat.endpoint)),
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

pub(super) fn untaken(error: Errno) -> Untaken {
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

impl Drop for InLine {
    fn drop(&mut self) {
        self.leave();
    }
}
