//! From an accepted client to a pair of connected sockets.
//!
//! What a client has to say before it is served is heard first: a PROXY protocol header, its TLS
//! handshake, the association that it wants. Then a real server is searched for it. Without one the
//! client is reset: it must not take an empty stream for an answer. Where the mode is DICOM it is told,
//! and being connected includes that the server accepts its association.
//! Of what passes untouched not a byte is read before that; at what it begins with is only looked, where
//! the choice depends on it.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gantry_model::port::Port;
use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::{self, RecvFlags};
use tracing::debug;

use crate::deadline::after;
use crate::ending::{Ending, Phase};
use crate::http::Client;
use crate::leg::Leg;
use crate::limits::Pass;
use crate::proxy_header::{self, Ends, Header};
use crate::queue::Place;
use crate::relay::{Early, Pair, Patience, Secrets, Side};
use crate::seat::{Seat, Visitor};
use crate::server::Tenure;
use crate::service::Service;
use crate::socket;
use crate::tls::Session;

use super::lane::{Lane, Sender};
use super::search::{Find, Reached, Search, Target};
use super::{Desk, Guest};

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
    search: Search,
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
}

/// What came of one step of the set-up.
pub(super) enum Step {
    Pending,
    /// The server has taken the connection.
    Connected(Box<Reached>),
    /// The server has accepted the client's association.
    Associated,
    /// The client is to be told that it is not served, and why.
    Parts(Ending),
    /// The client has gone, or is to be reset.
    Failed(Ending),
    /// The client sends messages of HL7.
    Lane,
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
    Searching,
    /// The server has to accept the association.
    Offering(Box<Offering>),
}

/// A client that is reset when dropped.
struct Unserved(Option<OwnedFd>);

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
            search: Search::new(Arc::clone(&service), port, peer.ip()),
            service,
            port,
            peer,
            pass: None,
            greeting: None,
            client: Unserved(Some(client)),
            session: None,
            early: Vec::new(),
            asking: None,
            farewell: None,
            client_seen: EventFlags::empty(),
            state: State::Searching,
        }
    }

    /// What there is to relay, once connected.
    pub(super) fn finish(mut self, reached: Reached) -> Option<Ready> {
        let client = self.client.0.take()?;
        let Reached { socket, target, session, header, early, seen } = reached;
        let timeouts = self.service.routing().layer7.timeouts;
        let traffic = Arc::clone(target.traffic(&self.service));
        traffic.connections.add(1);
        if let Some(server) = target.server() {
            server.trust();
        }
        let from_client = [header, self.early].concat();
        let pair = Pair {
            client,
            server: socket,
            early: Early { from_client, from_server: early },
            patience: Patience { client: timeouts.client, server: timeouts.server },
            traffic,
        };
        let secrets = Secrets { client: self.session, server: session };
        let (pass, client_seen) = (self.pass, self.client_seen);
        Some(Ready { pair, secrets, target, pass, client_seen, server_seen: seen })
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
            State::Greeting { until }
            | State::Listening { until }
            | State::Shaking { until }
            | State::Requesting { until } => Some(*until),
            State::Searching => self.search.due(),
            State::Offering(offering) => Some(offering.until),
        }
    }

    /// How far it has come.
    pub(super) fn phase(&self) -> Phase {
        match &self.state {
            State::Greeting { .. } | State::Listening { .. } | State::Requesting { .. } => {
                Phase::Greeting
            }
            State::Shaking { .. } => Phase::Tls,
            State::Searching => self.search.phase(),
            State::Offering(_) => Phase::Connect,
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
                    self.search.visitor = Visitor::new(ends.client.ip());
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

    /// Looks for a server: whatever the client had to say has been heard.
    pub(super) fn choose(&mut self, place: Place, desk: &mut Desk) -> Step {
        let Some(client) = &self.client.0 else { return Step::Failed(Ending::Trouble) };
        self.search.header = self.header(client);
        self.state = State::Searching;
        let found = self.search.choose(place, desk);
        self.take(found, place, desk)
    }

    /// A seat has come free for this client, who was first in line.
    pub(super) fn seated(&mut self, seat: Seat, place: Place, desk: &mut Desk) -> Step {
        let found = self.search.seated(seat, place, desk);
        self.take(found, place, desk)
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

    /// The configuration has changed.
    pub(super) fn review(&mut self, place: Place, desk: &mut Desk) -> Step {
        if let State::Offering(offering) = &self.state
            && !self.service.is_closed()
        {
            return match offering.target.tenure() {
                Tenure::Over => self.choose(place, desk),
                Tenure::Stay | Tenure::Until(_) => Step::Pending,
            };
        }
        let found = self.search.review(place, desk);
        self.take(found, place, desk)
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
            State::Requesting { until } if *until <= desk.now => self.unrequested(),
            State::Offering(offering) if offering.until <= desk.now => {
                self.unanswered(Errno::TIMEDOUT, place, desk)
            }
            State::Searching => {
                let found = self.search.ring(place, desk);
                self.take(found, place, desk)
            }
            _ => Step::Pending,
        }
    }

    /// Goes on with what the search has found.
    fn take(&mut self, found: Find, place: Place, desk: &mut Desk) -> Step {
        match found {
            // The poller spoke of an end before there was a line to wait in.
            Find::Pending
                if self.search.is_waiting()
                    && self.client_seen.contains(EventFlags::RDHUP)
                    && self.client_has_left() =>
            {
                Step::Failed(Ending::ClientLeft)
            }
            Find::Pending => Step::Pending,
            Find::Found(reached) if self.asking.is_some() => self.offer(reached, place, desk),
            Find::Found(reached) => Step::Connected(Box::new(reached)),
            // Nothing is known to it but what it finds.
            Find::Seated(_) => Step::Failed(Ending::Trouble),
            Find::Nobody(why) => self.turn_away(why),
        }
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
            State::Searching | State::Offering(_) => {}
        }
        let has_left = || match self.asking {
            // Who wants an association does not end its stream before that.
            Some(_) => true,
            None => self.search.is_waiting() && self.client_has_left(),
        };
        if flags.contains(EventFlags::RDHUP) && has_left() {
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
        if let State::Offering(offering) = &mut self.state {
            offering.leg.notice(flags);
            return self.answer(place, desk);
        }
        let found = self.search.event(flags, place, desk);
        self.take(found, place, desk)
    }

    /// The client as a lane of messages.
    pub(super) fn into_lane(mut self, now: Instant) -> Option<Lane> {
        let newcomer = self.describe(now);
        let header = self.header(self.client.0.as_ref()?);
        let client = self.leg()?;
        let Self { service, port, search, pass, early, .. } = self;
        let sender = Sender { port, client: search.visitor.client, header, newcomer };
        Some(Lane::new(service, sender, client, (early, pass), now))
    }

    /// The client as it is spoken with here.
    fn leg(&mut self) -> Option<Leg> {
        let mut leg = Leg::new(self.client.0.take()?, self.session.take());
        leg.notice(self.client_seen);
        Some(leg)
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

impl Drop for Unserved {
    fn drop(&mut self) {
        self.0.iter().for_each(socket::reset_on_close);
    }
}
