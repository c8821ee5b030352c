//! One worker thread: its poller, its listeners and the connections that live and die on it.
//!
//! Other threads speak to it through its [`Mailbox`] only. A panic while one connection is attended
//! to ends that connection; anywhere else it ends the process, since then nothing here can be
//! trusted any more.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use gantry_runtime::clock;
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, Event, EventData, EventFlags};
use rustix::io::Errno;
use tracing::{error, warn};

use crate::ending::Ending;
use crate::relay::{Bench, INTEREST, Pipes, Side};
use crate::service::Service;
use crate::slab::{Key, Slab};
use crate::socket;

use connection::{Connection, Fate};
use debts::Debts;
use timers::Timers;

pub(crate) use connection::{Arrival, Frozen, Guest};
pub(crate) use mailbox::{ListenerId, Listening, Mailbox, Message};

mod connection;
mod debts;
mod lane;
mod mailbox;
mod moving;
mod parting;
mod search;
mod setup;
mod timers;

pub(crate) struct Worker {
    mailbox: Arc<Mailbox>,
    /// Where clients of HTTP go.
    http: Arc<Mailbox>,
    listeners: Slab<Listening>,
    by_id: HashMap<ListenerId, Key>,
    /// Listeners that rest because there were no descriptors left, and until when.
    resting: Vec<Key>,
    rest_until: Instant,
    connections: Slab<Box<Connection>>,
    /// Every connection under the serial number of its service.
    members: BTreeSet<(u64, Key)>,
    timers: Timers,
    desk: Desk,
}

/// What a connection needs of its worker while it is attended to.
pub(crate) struct Desk {
    pub(crate) worker: usize,
    pub(crate) poller: OwnedFd,
    pub(crate) bench: Bench,
    /// Connections that are to have a turn.
    pub(crate) ready: VecDeque<Key>,
    debts: Debts,
    /// When the events now handled were taken.
    pub(crate) now: Instant,
}

/// What a poller's token stands for, in the two bits that a key leaves.
pub(crate) const CLIENT: u64 = 0;
pub(crate) const SERVER: u64 = 1;
const LISTENER: u64 = 2;
const MAILBOX: u64 = 3;

/// Events taken at a time.
const EVENTS: usize = 512;
/// Clients accepted from one listener before others get their turn.
const ACCEPTS: usize = 64;
/// How long a listener rests when there are no descriptors left.
const REST: Duration = Duration::from_millis(100);
/// Pipes that one worker may have open: their contents are what blocked bulk costs at most.
const PIPES: usize = 512;

impl Worker {
    pub(crate) fn new(
        worker: usize,
        mailbox: Arc<Mailbox>,
        http: Arc<Mailbox>,
    ) -> rustix::io::Result<Self> {
        let poller = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let token = EventData::new_u64(Key::MIN.pack(MAILBOX));
        if let Some(bell) = mailbox.bell() {
            epoll::add(&poller, bell, token, EventFlags::IN)?;
        }
        let (bench, now) = (Bench::new(Pipes::new(PIPES)), clock::monotonic());
        Ok(Self {
            mailbox,
            http,
            listeners: Slab::new(),
            by_id: HashMap::new(),
            resting: Vec::new(),
            rest_until: now,
            connections: Slab::new(),
            members: BTreeSet::new(),
            timers: Timers::default(),
            desk: Desk {
                worker,
                poller,
                bench,
                ready: VecDeque::new(),
                debts: Debts::default(),
                now,
            },
        })
    }

    /// Works until it is told to stop.
    pub(crate) fn run(mut self) {
        let mut events = Vec::with_capacity(EVENTS);
        let mut running = true;
        while running {
            self.wait(&mut events);
            for event in events.drain(..) {
                let (key, kind) = Key::unpack({ event.data }.u64());
                match kind {
                    CLIENT => self.event(key, Side::Client, event.flags),
                    SERVER => self.event(key, Side::Server, event.flags),
                    LISTENER => self.accept(key),
                    _ => running = self.read_mail(),
                }
            }
            for _ in 0..self.desk.ready.len() {
                let key = self.desk.ready.pop_front().expect("nothing else takes from it");
                self.attend(key, Connection::turn);
            }
            self.ring_timers();
        }
        self.mailbox.close();
    }

    fn wait(&mut self, events: &mut Vec<Event>) {
        while let Some(key) = self.desk.debts.take_ripe(self.desk.now) {
            self.attend(key, Connection::pay);
        }
        if self.desk.debts.are_overdue(self.desk.now) {
            self.pay_debts();
        } else if self.desk.ready.is_empty() && self.desk.debts.are_due() {
            // What has come meanwhile may be the answers that bring the acknowledgements.
            self.poll(events, Some(Duration::ZERO));
            if !events.is_empty() {
                return;
            }
            self.pay_debts();
        }
        let timeout = if self.desk.ready.is_empty() {
            let rest = (!self.resting.is_empty()).then_some(self.rest_until);
            let next =
                rest.into_iter().chain(self.timers.next()).chain(self.desk.debts.next()).min();
            next.map(|at| at.saturating_duration_since(clock::monotonic()))
        } else {
            Some(Duration::ZERO)
        };
        self.poll(events, timeout);
    }

    fn poll(&mut self, events: &mut Vec<Event>, timeout: Option<Duration>) {
        let timeout = timeout.map(|timeout| timeout.try_into().expect("no timer is that far off"));
        match epoll::wait(&self.desk.poller, spare_capacity(events), timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => panic!("a poller failed: {error}"),
        }
        self.desk.now = clock::monotonic();
        if self.rest_until <= self.desk.now {
            self.wake_listeners();
        }
    }

    fn pay_debts(&mut self) {
        while let Some(key) = self.desk.debts.take() {
            self.attend(key, Connection::pay);
        }
    }

    /// False when it is time to stop.
    fn read_mail(&mut self) -> bool {
        for message in self.mailbox.take() {
            match message {
                Message::Listen(listening) => self.listen(listening),
                Message::Unlisten(id) => self.unlisten(id),
                Message::Seat(key, seat) => self.attend(key, |to, desk| to.seated(seat, desk)),
                Message::Recall(key) => self.attend(key, Connection::choose),
                Message::Review(service) => self.review(&service),
                // For those that serve HTTP.
                Message::Client(_) | Message::Retire => {}
                Message::Freeze(to) => self.freeze(&to),
                Message::Thaw(frozen) => self.thaw(frozen),
                Message::Arrive(arrival) => self.arrive(*arrival),
                Message::Stop => return false,
            }
        }
        true
    }

    fn event(&mut self, key: Key, side: Side, flags: EventFlags) {
        self.attend(key, |connection, desk| connection.event(side, flags, desk));
    }

    /// Lets a connection act, and sees to what comes of it.
    fn attend(&mut self, key: Key, act: impl FnOnce(&mut Connection, &mut Desk) -> Fate) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let desk = &mut self.desk;
        match catch_unwind(AssertUnwindSafe(|| act(connection, desk))) {
            Ok(Fate::Lives) => self.timers.keep(key, connection.due, &mut connection.armed),
            Ok(Fate::Ends(why)) => self.end(key, why),
            Ok(Fate::Leaves) => self.hand_over(key),
            Err(_) => {
                connection.service().counts.panics.add(1);
                error!(service = %connection.service().name, "a connection's handling panicked");
                self.end(key, Ending::Panicked);
            }
        }
    }

    fn hand_over(&mut self, key: Key) {
        if let Some(client) = self.take_out(key).and_then(|connection| connection.into_client()) {
            // It could only not be there, and then there is nothing to take out.
            let _ = epoll::delete(&self.desk.poller, &client.socket);
            self.http.send(Message::Client(Box::new(client)));
        }
    }

    fn end(&mut self, key: Key, why: Ending) {
        if let Some(connection) = self.take_out(key) {
            connection.tell(why, self.desk.now);
        }
    }

    /// From here on the worker knows nothing of it.
    fn take_out(&mut self, key: Key) -> Option<Box<Connection>> {
        let mut connection = self.connections.remove(key)?;
        self.members.remove(&(connection.service().serial, key));
        self.timers.keep(key, None, &mut connection.armed);
        Some(connection)
    }

    /// Looks at every connection of a service whose configuration has changed.
    fn review(&mut self, service: &Service) {
        let all = (service.serial, Key::MIN)..=(service.serial, Key::MAX);
        let keys: Vec<Key> = self.members.range(all).map(|(_, key)| *key).collect();
        for key in keys {
            self.attend(key, Connection::review);
        }
    }

    fn ring_timers(&mut self) {
        while let Some(key) = self.timers.pop(self.desk.now) {
            self.attend(key, |connection, desk| {
                connection.armed = None;
                connection.ring(desk)
            });
        }
    }

    fn listen(&mut self, listening: Listening) {
        let key = self.listeners.next_key();
        let token = EventData::new_u64(key.pack(LISTENER));
        match epoll::add(&self.desk.poller, &*listening.socket, token, EventFlags::IN) {
            Ok(()) => {
                self.by_id.insert(listening.id, key);
                self.listeners.insert(listening);
            }
            Err(error) => {
                error!(service = %listening.service.name, %error, "listener cannot be polled");
            }
        }
    }

    fn unlisten(&mut self, id: ListenerId) {
        let Some(key) = self.by_id.remove(&id) else { return };
        if let Some(listening) = self.listeners.remove(key) {
            // The plane may hold the socket open for a moment longer.
            let _ = epoll::delete(&self.desk.poller, &*listening.socket);
        }
    }

    fn accept(&mut self, listener: Key) {
        for _ in 0..ACCEPTS {
            let Some(listening) = self.listeners.get_mut(listener) else { return };
            match socket::accept(&listening.socket) {
                Ok(Some((client, peer))) => self.welcome(listener, client, peer),
                Ok(None) | Err(Errno::INVAL) => return,
                Err(error @ (Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM)) => {
                    warn!(service = %listening.service.name, %error, "cannot accept, pausing");
                    self.rest(listener);
                    return;
                }
                // The client has gone before it was accepted.
                Err(_) => {}
            }
        }
    }

    fn welcome(&mut self, listener: Key, client: OwnedFd, peer: SocketAddr) {
        let Some(listening) = self.listeners.get_mut(listener) else { return };
        let key = self.connections.next_key();
        let token = EventData::new_u64(key.pack(CLIENT));
        if let Err(error) = epoll::add(&self.desk.poller, &client, token, INTEREST) {
            warn!(service = %listening.service.name, %error, "client cannot be polled");
            socket::reset_on_close(&client);
            return;
        }
        let connection = Connection::new(listening, key, client, peer, self.desk.now);
        self.members.insert((listening.service.serial, key));
        self.connections.insert(Box::new(connection));
        self.attend(key, Connection::begin);
    }

    /// Stops polling a listener that cannot accept: it would be ready for ever.
    fn rest(&mut self, listener: Key) {
        if self.poll_listener(listener, EventFlags::empty()) {
            self.resting.push(listener);
            self.rest_until = self.desk.now + REST;
        }
    }

    fn wake_listeners(&mut self) {
        for listener in std::mem::take(&mut self.resting) {
            self.poll_listener(listener, EventFlags::IN);
        }
    }

    fn poll_listener(&mut self, listener: Key, interest: EventFlags) -> bool {
        let Some(listening) = self.listeners.get_mut(listener) else { return false };
        let token = EventData::new_u64(listener.pack(LISTENER));
        epoll::modify(&self.desk.poller, &*listening.socket, token, interest).is_ok()
    }
}

impl std::fmt::Debug for Worker {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Worker").field("number", &self.desk.worker).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
