//! A virtual service while it runs: where its connections are routed, and who waits.
//!
//! The routing is an immutable snapshot, swapped as a whole. Seats are given without a lock while
//! nobody waits. Once somebody does, newcomers join the line too, and every seat that comes free
//! goes, under the line's lock, to the first waiter that may use it: nobody is overtaken, nobody is
//! woken in vain. Nothing here opens or closes a socket.
//!
//! Locks are taken in this order: the line, then a shard of the persistence table. A seat is never
//! dropped under either.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use gantry_model::name::{Id, ServiceName};
use gantry_model::port::Port;
use gantry_model::server::{AdminState, RealServer};
use gantry_model::service::{
    Algorithm, Endpoint, Layer7, Persistence, PersistenceKey, Strategy, VirtualService,
};
use gantry_runtime::clock;
use parking_lot::Mutex;

use crate::dicom::Titles;
use crate::ending::Taken;
use crate::limits::Clients;
use crate::mllp::Ledger;
use crate::opening::Opening;
use crate::pick::{self, Candidate, Choice, Health, Rule};
use crate::queue::{Held, Place, Queue, Ticket, Waiter};
use crate::seat::{Seat, Visitor};
use crate::server::{Server, Tenure};
use crate::socket::Source;
use crate::stats::{DicomCounts, ServiceCounts, Traffic, WaitSample};
use crate::sticky::{Lease, Sticky};
use crate::tls::Secrecy;
use crate::trouble::Trouble;
use crate::worker::{Mailbox, Message};

pub(crate) struct Service {
    pub(crate) name: ServiceName,
    /// Unique among all services that this plane ever had.
    pub(crate) serial: u64,
    pub(crate) counts: ServiceCounts,
    /// What the fallback carries.
    pub(crate) fallback: Arc<Traffic>,
    pub(crate) trouble: Trouble,
    routing: ArcSwap<Routing>,
    closed: AtomicBool,
    /// Made with the first client that is counted: few services limit them.
    clients: OnceLock<Box<Clients>>,
    /// Made with the first association.
    titles: OnceLock<Box<Titles>>,
    /// Made with the first message.
    ledger: OnceLock<Box<Mutex<Ledger>>>,
    queue: Queue,
    /// Where the round stands: the pass of the server chosen last.
    round: AtomicU64,
    workers: Arc<[Arc<Mailbox>]>,
}

/// Where a service's connections may go, as configured.
#[derive(Debug)]
pub(crate) struct Routing {
    pub(crate) layer7: Layer7,
    pub(crate) secrecy: Secrecy,
    pub(crate) fallback: Option<Endpoint>,
    /// How long a cookie keeps a client on its server, where cookies do.
    pub(crate) cookie: Option<Duration>,
    pub(crate) servers: Vec<Entry>,
    rule: Rule,
    sticky: Option<(Persistence, Arc<Sticky>)>,
}

/// One real server of a snapshot.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) config: Arc<RealServer>,
    pub(crate) live: Arc<Server>,
    key: u64,
    /// What cookies call it.
    token: u64,
}

/// The answer to a client that asks for a server.
#[derive(Debug)]
pub(crate) enum Admission {
    Seat(Seat),
    Wait(Ticket),
    /// No real server is in service for this client.
    Nobody,
}

/// A seat for one that waited.
struct Grant {
    place: Place,
    since: Instant,
    seat: Seat,
}

/// Why there is no seat.
enum Unseated {
    Full,
    Nobody,
}

impl Service {
    pub(crate) fn new(
        name: ServiceName,
        serial: u64,
        routing: Routing,
        workers: Arc<[Arc<Mailbox>]>,
    ) -> Self {
        Self {
            name,
            serial,
            counts: ServiceCounts::default(),
            fallback: Arc::default(),
            trouble: Trouble::default(),
            routing: ArcSwap::from_pointee(routing),
            closed: AtomicBool::new(false),
            clients: OnceLock::new(),
            titles: OnceLock::new(),
            ledger: OnceLock::new(),
            queue: Queue::default(),
            round: AtomicU64::new(0),
            workers,
        }
    }

    pub(crate) fn routing(&self) -> Arc<Routing> {
        self.routing.load_full()
    }

    /// Those whose connections are counted.
    pub(crate) fn clients(&self) -> &Clients {
        self.clients.get_or_init(Box::default)
    }

    /// The AE titles whose associations are counted; none if there never was one.
    pub(crate) fn titles(&self) -> Option<&Titles> {
        self.titles.get().map(Box::as_ref)
    }

    /// The counts of this calling AE title.
    pub(crate) fn title(&self, calling: &str) -> Arc<DicomCounts> {
        self.titles.get_or_init(Box::default).counts_of(calling)
    }

    /// What is remembered of its messages.
    pub(crate) fn ledger(&self) -> &Mutex<Ledger> {
        self.ledger.get_or_init(Box::default)
    }

    /// Whether a client is to stay with its server, which is there, for what it sends next; none: with the
    /// fallback.
    pub(crate) fn keeps(&self, at: Option<(&Arc<Server>, Endpoint)>, visitor: &Visitor) -> bool {
        let routing = self.routing.load();
        let mut field = self.field(&routing, visitor, None);
        let Some((server, endpoint)) = at else {
            let best = pick::choose(routing.rule, &field, visitor.hash(), None);
            return best == Choice::Nobody;
        };
        let same =
            |entry: &Entry| Arc::ptr_eq(&entry.live, server) && entry.config.endpoint == endpoint;
        let Some(at) = routing.servers.iter().position(same) else { return false };
        // It has its place there already.
        field[at].room = true;
        let is_kept = routing.sticky.is_some() || routing.rule != Rule::Failover;
        if !field[at].works() || field[at].keeps_clients() && is_kept {
            return field[at].works();
        }
        match pick::choose(routing.rule, &field, visitor.hash(), None) {
            Choice::Server(best) => best == at || field[best].suspect,
            Choice::Wait | Choice::Nobody => true,
        }
    }

    pub(crate) fn route(&self, routing: Routing) {
        self.routing.store(Arc::new(routing));
    }

    /// Removed or disabled: its connections are to end.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(SeqCst)
    }

    pub(crate) fn set_closed(&self, closed: bool) {
        self.closed.store(closed, SeqCst);
    }

    pub(crate) fn waiting(&self) -> usize {
        self.queue.waiting()
    }

    /// How clients wait, and have waited.
    pub(crate) fn waits(&self) -> WaitSample {
        let now = clock::monotonic();
        let longest_now = self.queue.longest().map(|since| now.saturating_duration_since(since));
        WaitSample { longest_now, ..self.counts.waits.sample() }
    }

    /// What becomes of the connections that a server of this service has.
    pub(crate) fn tenure(&self, server: &Server) -> Tenure {
        let failed = server.health() == Health::Unhealthy;
        if failed && self.routing.load().layer7.close_on_failure {
            return Tenure::Over;
        }
        server.tenure()
    }

    /// Why the connections that a server of this service has may not stay, where they may not.
    pub(crate) fn taken(&self, server: &Arc<Server>) -> Taken {
        let routing = self.routing.load();
        let present = routing.live(&server.name.server);
        if !present.is_some_and(|present| Arc::ptr_eq(present, server)) {
            return Taken::Removed;
        }
        match server.tenure() {
            Tenure::Over => Taken::Halted,
            Tenure::Until(end) if end <= clock::monotonic() => Taken::Drained,
            Tenure::Until(_) | Tenure::Stay => Taken::Failed,
        }
    }

    /// Gives `visitor` a seat, or a place in line.
    pub(crate) fn admit(self: &Arc<Self>, visitor: &Visitor, place: Place) -> Admission {
        if let Some(admission) = self.admit_now(visitor) {
            return admission;
        }
        let mut line = self.queue.hold();
        if self.is_hopeless(visitor, &self.routing.load()) {
            return Admission::Nobody;
        }
        let since = clock::monotonic();
        let ticket = line.join(Waiter { visitor: visitor.clone(), place, since });
        let mut granted = self.serve(&mut line);
        drop(line);
        // Who gets a seat at once has not waited.
        let own = granted.iter().position(|grant| grant.place == place);
        let own = own.map(|at| granted.remove(at).seat);
        self.deliver(granted);
        own.map_or(Admission::Wait(ticket), Admission::Seat)
    }

    /// The same without the line: none if it has to be waited in.
    pub(crate) fn admit_now(self: &Arc<Self>, visitor: &Visitor) -> Option<Admission> {
        if self.queue.waiting() > 0 {
            return None;
        }
        match self.seat(&self.routing.load(), visitor, None) {
            Ok(seat) => Some(Admission::Seat(seat)),
            Err(Unseated::Nobody) => Some(Admission::Nobody),
            Err(Unseated::Full) => None,
        }
    }

    /// A seat for a connection that another process has opened; `client` is remembered for it.
    pub(crate) fn occupy(self: &Arc<Self>, server: &Id, client: Option<&str>) -> Option<Seat> {
        let routing = self.routing.load();
        let entry = &routing.servers[routing.position(server)?];
        entry.live.slots.occupy();
        let table = routing.sticky.as_ref().map(|(_, table)| table);
        let lease = table.zip(client).and_then(|(table, client)| {
            let client = table.read(client)?;
            Some(table.rejoin(client))
        });
        Some(self.seat_at(entry, lease))
    }

    /// Whether the waiter was still in line. If not, a seat or a recall is on its way to it.
    pub(crate) fn leave(&self, ticket: Ticket) -> bool {
        self.queue.leave(ticket)
    }

    /// Gives what is free to those that wait.
    pub(crate) fn hand_out(self: &Arc<Self>) {
        if self.queue.waiting() > 0 {
            let granted = self.serve(&mut self.queue.hold());
            self.deliver(granted);
        }
    }

    /// Looks at every waiter again after a change of the configuration or of somebody's health.
    pub(crate) fn reconsider(self: &Arc<Self>) {
        if self.queue.waiting() == 0 {
            return;
        }
        let mut line = self.queue.hold();
        let routing = self.routing.load();
        let hopeless = |waiter: &Waiter| self.is_hopeless(&waiter.visitor, &routing);
        let recalled: Vec<Ticket> = line
            .in_order()
            .filter(|(_, waiter)| hopeless(waiter))
            .map(|(ticket, _)| ticket)
            .collect();
        for waiter in recalled.into_iter().filter_map(|ticket| line.take(ticket)) {
            self.workers[waiter.place.worker].send(Message::Recall(waiter.place.key));
        }
        let granted = self.serve(&mut line);
        drop(line);
        self.deliver(granted);
    }

    /// Seats waiters in order, until nothing is free. A server that was full when the round began
    /// is left for the next round, which whoever freed it begins: otherwise one far behind in line
    /// might get what one in front was just refused.
    fn serve(self: &Arc<Self>, line: &mut Held<'_>) -> Vec<Grant> {
        let routing = self.routing.load();
        let mut offer: Vec<bool> =
            routing.servers.iter().map(|server| server.live.slots.has_room()).collect();
        let mut seated = Vec::new();
        for (ticket, waiter) in line.in_order() {
            if !offer.contains(&true) {
                break;
            }
            if let Ok(seat) = self.seat(&routing, &waiter.visitor, Some(&mut offer)) {
                seated.push((ticket, seat));
            }
        }
        let leave = |(ticket, seat)| {
            let waiter = line.take(ticket).expect("nobody leaves while the line is held");
            Grant { place: waiter.place, since: waiter.since, seat }
        };
        seated.into_iter().map(leave).collect()
    }

    fn deliver(&self, granted: Vec<Grant>) {
        if granted.is_empty() {
            return;
        }
        let now = clock::monotonic();
        for Grant { place, since, seat } in granted {
            self.counts.waits.add(now.saturating_duration_since(since));
            self.workers[place.worker].send(Message::Seat(place.key, seat));
        }
    }

    /// No server would do, even if all of them had room.
    fn is_hopeless(self: &Arc<Self>, visitor: &Visitor, routing: &Routing) -> bool {
        let mut nothing = vec![false; routing.servers.len()];
        matches!(self.seat(routing, visitor, Some(&mut nothing)), Err(Unseated::Nobody))
    }

    fn seat(
        self: &Arc<Self>,
        routing: &Routing,
        visitor: &Visitor,
        offer: Option<&mut Vec<bool>>,
    ) -> Result<Seat, Unseated> {
        let asked = visitor.home.as_ref();
        let known = routing.sticky.as_ref().and_then(|(persistence, table)| {
            Some((visitor.known_by(persistence.key)?, persistence.timeout, table))
        });
        let Some((client, timeout, table)) = known else {
            let at = self.take(routing, visitor, asked, offer)?;
            return Ok(self.seat_at(&routing.servers[at], None));
        };
        let (at, lease) = table.settle(client, timeout, |home| {
            let at = self.take(routing, visitor, asked.or(home), offer)?;
            self.counts.persistence.settled(home, &routing.servers[at].live.name.server);
            Ok((routing.servers[at].live.name.server.clone(), at))
        })?;
        Ok(self.seat_at(&routing.servers[at], Some(lease)))
    }

    fn seat_at(self: &Arc<Self>, entry: &Entry, lease: Option<Lease>) -> Seat {
        let server = Arc::clone(&entry.live);
        Seat::new(Arc::clone(self), server, entry.config.endpoint, lease)
    }

    /// Takes a slot of the server that the rule chooses; `offer` limits what is there to take.
    fn take(
        &self,
        routing: &Routing,
        visitor: &Visitor,
        home: Option<&Id>,
        mut offer: Option<&mut Vec<bool>>,
    ) -> Result<usize, Unseated> {
        let mut field = self.field(routing, visitor, offer.as_deref().map(Vec::as_slice));
        let home = home.and_then(|home| routing.position(home));
        loop {
            let at = match pick::choose(routing.rule, &field, visitor.hash(), home) {
                Choice::Server(at) => at,
                Choice::Wait => return Err(Unseated::Full),
                Choice::Nobody => return Err(Unseated::Nobody),
            };
            let server = &routing.servers[at].live;
            field[at].room = server.slots.take();
            if let Some(offer) = offer.as_mut() {
                offer[at] = field[at].room && server.slots.has_room();
            }
            if field[at].room {
                self.turn(server, &field[at]);
                return Ok(at);
            }
        }
    }

    fn turn(&self, server: &Server, chosen: &Candidate) {
        self.round.fetch_max(chosen.pass, Relaxed);
        server.move_on(chosen.pass, pick::stride(chosen));
    }

    fn field(
        &self,
        routing: &Routing,
        visitor: &Visitor,
        offer: Option<&[bool]>,
    ) -> Vec<Candidate> {
        let (now, floor) = (clock::monotonic(), self.round.load(Relaxed));
        let Layer7 { slow_start, passive_health, .. } = &routing.layer7;
        let candidate = |(at, entry): (usize, &Entry)| Candidate {
            tried: visitor.has_tried(&entry.live),
            room: offer.map_or_else(|| entry.live.slots.has_room(), |offer| offer[at]),
            share: pick::share(entry.live.back_for(now), *slow_start),
            suspect: entry.live.is_suspect(passive_health, now),
            ..entry.candidate(visitor, floor)
        };
        routing.servers.iter().enumerate().map(candidate).collect()
    }
}

impl Routing {
    /// The servers in the order of their names; `before` is what this snapshot replaces.
    pub(crate) fn new(
        layer7: &Layer7,
        config: &VirtualService,
        mut servers: Vec<Entry>,
        before: Option<&Self>,
    ) -> Self {
        servers.sort_by(|a, b| a.live.name.cmp(&b.live.name));
        let rule = match (config.strategy, layer7.algorithm) {
            (Strategy::Failover, _) => Rule::Failover,
            (Strategy::Balance, Algorithm::WeightedLeastConnection) => Rule::LeastConnection,
            (Strategy::Balance, Algorithm::WeightedRoundRobin) => Rule::RoundRobin,
            (Strategy::Balance, Algorithm::SourceHash) => Rule::SourceHash,
        };
        // A cookie is kept by the client.
        let kept_here = config.persistence.filter(|kept| kept.key != PersistenceKey::Cookie);
        let sticky = kept_here.map(|persistence| {
            let kept = before.and_then(|before| before.sticky.as_ref()).map(|(_, table)| table);
            let kept = kept.filter(|table| table.knows_by(&persistence)).cloned();
            (persistence, kept.unwrap_or_else(|| Arc::new(Sticky::new(&persistence))))
        });
        let by_cookie = config.persistence.filter(|kept| kept.key == PersistenceKey::Cookie);
        Self {
            layer7: layer7.clone(),
            secrecy: Secrecy::default(),
            fallback: config.fallback,
            cookie: by_cookie.map(|kept| kept.timeout),
            servers,
            rule,
            sticky,
        }
    }

    /// Where a connection comes from that is made to `server` for `client`.
    pub(crate) fn source(&self, server: IpAddr, client: IpAddr) -> Source {
        match self.layer7.source_address {
            Some(address) => Source::Own(address),
            None if self.layer7.transparent_source && client.is_ipv4() == server.is_ipv4() => {
                Source::Client(client)
            }
            None => Source::Any,
        }
    }

    /// The same for one to the fallback, which is nearby and knows this machine.
    pub(crate) fn source_to_fallback(&self) -> Source {
        self.layer7.source_address.map_or(Source::Any, Source::Own)
    }

    /// The live server of this name.
    pub(crate) fn live(&self, server: &Id) -> Option<&Arc<Server>> {
        self.position(server).map(|at| &self.servers[at].live)
    }

    pub(crate) fn sticky(&self) -> Option<(Persistence, &Sticky)> {
        self.sticky.as_ref().map(|(persistence, table)| (*persistence, table.as_ref()))
    }

    /// Whether clients are known by this.
    pub(crate) fn is_sticky_by(&self, key: PersistenceKey) -> bool {
        self.sticky.as_ref().is_some_and(|(persistence, _)| persistence.key == key)
    }

    /// Where the server of this name listens.
    pub(crate) fn endpoint(&self, server: &Id) -> Option<Endpoint> {
        self.position(server).map(|at| self.servers[at].config.endpoint)
    }

    /// What connections of TCP begin with that has to be known before a server is chosen.
    pub(crate) fn opening(&self) -> Option<Opening> {
        let by_name = !self.layer7.routes.is_empty();
        let by_user = self.is_sticky_by(PersistenceKey::RdpCookie);
        by_name.then_some(Opening::ServerName).or(by_user.then_some(Opening::RemoteDesktop))
    }

    /// The server that listens there, for clients that come to `port`.
    pub(crate) fn listening_at(&self, address: SocketAddr, port: Port) -> Option<&Id> {
        let listens = |entry: &&Entry| {
            let Endpoint { address, port: own } = entry.config.endpoint;
            SocketAddr::new(address, own.unwrap_or(port).get())
        };
        let found = self.servers.iter().find(|entry| listens(entry) == address);
        found.map(|entry| &entry.live.name.server)
    }

    /// The server that a cookie speaks of.
    pub(crate) fn by_token(&self, token: u64) -> Option<&Id> {
        let named = self.servers.iter().find(|entry| entry.token == token);
        named.map(|entry| &entry.live.name.server)
    }

    /// How a cookie speaks of the server of this name.
    pub(crate) fn token(&self, server: &Id) -> Option<u64> {
        self.position(server).map(|at| self.servers[at].token)
    }

    fn position(&self, server: &Id) -> Option<usize> {
        self.servers.binary_search_by(|entry| entry.live.name.server.cmp(server)).ok()
    }
}

impl Entry {
    pub(crate) fn new(config: Arc<RealServer>, live: Arc<Server>) -> Self {
        let key = pick::hash(config.name.server.as_str().as_bytes());
        let token = pick::hash(config.name.to_string().as_bytes());
        Self { config, live, key, token }
    }

    fn candidate(&self, visitor: &Visitor, floor: u64) -> Candidate {
        let serves = self.config.pool == visitor.pool;
        Candidate {
            online: serves && self.config.admin_state == AdminState::Online,
            weight: self.config.weight.get(),
            share: pick::WHOLE,
            priority: self.config.priority,
            health: self.live.health(),
            suspect: false,
            tried: false,
            room: true,
            active: self.live.slots.active(),
            pass: self.live.pass(floor),
            key: self.key,
        }
    }
}

impl std::fmt::Debug for Service {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Service").field("name", &self.name).finish_non_exhaustive()
    }
}
