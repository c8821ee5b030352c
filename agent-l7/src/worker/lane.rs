//! A sender of HL7 messages, and the real servers behind it that come and go.
//!
//! One message is under way at a time, and the sender's next one is not looked at before it has its answer.
//! So the order of a sender holds whichever server gets what, and between an answer and the next message the
//! lane may leave its server for another.
//!
//! What a sender is told is always a server's own answer to the message that it sent, or to the same message
//! when it came before. Nothing is acknowledged here. From the first byte that a server was sent on, it is not
//! known whether it has the message; what comes of that is the service's choice. Before, any other will do.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gantry_model::mllp::Mllp;
use gantry_model::port::Port;
use gantry_model::service::Endpoint;
use rustix::event::epoll::{self, EventFlags};
use rustix::net::sockopt;
use tracing::{info, warn};

use crate::deadline::after;
use crate::ending::{Ending, Phase};
use crate::handover::format;
use crate::leg::{Last, Leg};
use crate::limits::Pass;
use crate::mllp::{Inlet, Inward, Letter, Standing};
use crate::queue::Place;
use crate::relay::{End, Side};
use crate::seat::{Seat, Visitor};
use crate::server::{Server, Tenure};
use crate::service::Service;

use super::Desk;
use super::search::{Search, Target};

mod answers;
mod delivery;

pub(super) struct Lane {
    service: Arc<Service>,
    sender: Sender,
    _pass: Option<Box<Pass>>,
    client: Leg,
    /// The client has reset the connection.
    gone: bool,
    incoming: Inlet,
    /// When the client last sent something.
    heard: Instant,
    work: Work,
    link: Option<Link>,
    /// Connections to servers that have no message now, where each message may get another one.
    parked: Vec<Parked>,
    carried: [u64; 2],
    /// The server that had the last message.
    last_server: String,
}

/// Who sends.
pub(super) struct Sender {
    pub(super) port: Port,
    pub(super) client: IpAddr,
    /// What servers are told of it before all else.
    pub(super) header: Vec<u8>,
    /// The same for a process that takes over.
    pub(super) newcomer: format::Newcomer,
}

/// What the lane is about.
enum Work {
    /// The client's next message.
    Idle,
    /// A message that no server was sent.
    Held(Box<Held>),
    /// A message that a server was sent.
    Sent(Box<Order>),
}

struct Held {
    order: Order,
    search: Option<Box<Search>>,
    /// When a server is searched again; there was none.
    again: Option<Instant>,
    /// Why there was none.
    why: Ending,
}

/// A message to be delivered.
struct Order {
    letter: Letter,
    since: Instant,
    /// When its answer is waited for no longer.
    until: Instant,
    /// Servers that may have it.
    doubtful: Vec<Arc<Server>>,
}

/// A connection to a real server.
struct Link {
    leg: Leg,
    inlet: Inlet,
    target: Target,
    /// When it last had a message.
    used: Instant,
    /// It was made for the message that is held.
    fresh: bool,
    /// Application acknowledgements that are to follow commit acknowledgements: by control id, until when.
    owed: VecDeque<(Box<[u8]>, Instant)>,
}

/// A connection to a real server that has no message.
struct Parked {
    server: Arc<Server>,
    endpoint: Endpoint,
    leg: Leg,
    inlet: Inlet,
}

/// Where the lane stands.
#[derive(Debug)]
pub(super) enum Go {
    Waiting,
    /// There is more to do: others first.
    More,
    Ends(Ending),
}

/// What came of one step.
enum Moved {
    On,
    /// Nothing more until something happens.
    Stuck,
    /// There is more to read, after others.
    Later,
    Over(Ending),
}

/// Steps of one lane before others get their turn.
const STEPS: usize = 64;
/// How long a message waits that no server takes, before all are tried again.
const PAUSE: Duration = Duration::from_millis(250);
/// Application acknowledgements that one server may owe.
const MOST_OWED: usize = 1000;

impl Lane {
    pub(super) fn new(
        service: Arc<Service>,
        sender: Sender,
        client: Leg,
        (early, pass): (Vec<u8>, Option<Box<Pass>>),
        now: Instant,
    ) -> Self {
        let longest = service.routing().layer7.mllp.longest_message;
        Self {
            service,
            sender,
            _pass: pass,
            client,
            gone: false,
            incoming: Inlet::new(longest, early),
            heard: now,
            work: Work::Idle,
            link: None,
            parked: Vec::new(),
            carried: [0; 2],
            last_server: String::new(),
        }
    }

    /// Takes in what the poller says of one side.
    pub(super) fn notice(
        &mut self,
        side: Side,
        flags: EventFlags,
        place: Place,
        desk: &mut Desk,
    ) -> Go {
        match (side, &mut self.link, &mut self.work) {
            (Side::Client, ..) => {
                self.client.notice(flags);
                self.gone |= flags.intersects(EventFlags::ERR | EventFlags::HUP);
            }
            (Side::Server, Some(link), _) => link.leg.notice(flags),
            (Side::Server, None, Work::Held(held)) => {
                if let Some(search) = &mut held.search {
                    let found = search.event(flags, place, desk);
                    return self.find(found, place, desk);
                }
            }
            (Side::Server, None, _) => {}
        }
        Go::More
    }

    /// Does what can be done, within a budget that keeps the other connections alive.
    pub(super) fn turn(&mut self, place: Place, desk: &mut Desk) -> Go {
        for _ in 0..STEPS {
            match self.step(place, desk) {
                Moved::On => {}
                Moved::Stuck => return Go::Waiting,
                Moved::Later => return Go::More,
                Moved::Over(why) => return Go::Ends(self.end(why)),
            }
        }
        Go::More
    }

    /// The same, after something was done out of turn.
    fn go_on(&mut self, moved: Moved, place: Place, desk: &mut Desk) -> Go {
        match moved {
            Moved::On => self.turn(place, desk),
            Moved::Stuck => Go::Waiting,
            Moved::Later => Go::More,
            Moved::Over(why) => Go::Ends(self.end(why)),
        }
    }

    /// A seat has come free for the message that waited for one.
    pub(super) fn seated(&mut self, seat: Seat, place: Place, desk: &mut Desk) -> Go {
        let Work::Held(held) = &mut self.work else { return Go::Waiting };
        let Some(search) = &mut held.search else { return Go::Waiting };
        let found = search.seated(seat, place, desk);
        self.find(found, place, desk)
    }

    /// The message was taken out of the line.
    pub(super) fn recalled(&mut self, place: Place, desk: &mut Desk) -> Go {
        let Work::Held(held) = &mut self.work else { return Go::Waiting };
        let Some(search) = &mut held.search else { return Go::Waiting };
        let found = search.choose(place, desk);
        self.find(found, place, desk)
    }

    /// The configuration has changed.
    pub(super) fn review(&mut self, place: Place, desk: &mut Desk) -> Go {
        if self.service.is_closed() {
            return Go::Ends(self.end(Ending::ServiceClosed));
        }
        if let Work::Held(held) = &mut self.work
            && let Some(search) = &mut held.search
        {
            let found = search.review(place, desk);
            return self.find(found, place, desk);
        }
        self.ring(place, desk)
    }

    /// When something has to be done without an event.
    pub(super) fn due(&self) -> Option<Instant> {
        let layer7 = &self.service.routing().layer7;
        let owed = self.link.as_ref().and_then(|link| link.owed.front()).map(|(_, until)| *until);
        let own = match &self.work {
            Work::Idle => {
                let silent = after(self.heard, layer7.timeouts.client);
                // Who owes something is not idle: what is due then is the end of that.
                let link = self.link.as_ref().filter(|link| link.owed.is_empty());
                let idle = link.map(|link| after(link.used, layer7.timeouts.server));
                idle.map_or(silent, |idle| idle.min(silent))
            }
            Work::Held(held) => {
                let search = held.search.as_ref().and_then(|search| search.due());
                search.into_iter().chain(held.again).fold(held.order.until, Instant::min)
            }
            Work::Sent(order) => match self.link.as_ref().map(|link| link.target.tenure()) {
                Some(Tenure::Until(end)) => order.until.min(end),
                _ => order.until,
            },
        };
        Some(owed.map_or(own, |owed| owed.min(own)))
    }

    /// Something may be due.
    pub(super) fn ring(&mut self, place: Place, desk: &mut Desk) -> Go {
        let now = desk.now;
        let timeouts = self.service.routing().layer7.timeouts;
        if let Some(link) = &mut self.link {
            link.owed.retain(|(_, until)| *until > now);
        }
        match &mut self.work {
            Work::Idle if after(self.heard, timeouts.client) <= now => {
                self.service.counts.idle_timeouts.add(1);
                return Go::Ends(self.end(Ending::Relayed(End::Idle(Side::Client))));
            }
            Work::Idle => {
                let idle = |link: &Link| after(link.used, timeouts.server) <= now;
                if self.link.as_ref().is_some_and(|link| idle(link) && link.owed.is_empty()) {
                    self.leave();
                }
                self.leave_unfit();
            }
            Work::Held(held) if held.order.until <= now => {
                let why = held.why;
                return Go::Ends(self.end(why));
            }
            Work::Held(held) => {
                if held.again.is_some_and(|again| again <= now) {
                    held.again = None;
                } else if let Some(search) = &mut held.search {
                    let found = search.ring(place, desk);
                    return self.find(found, place, desk);
                }
            }
            Work::Sent(order) if order.until <= now => {
                let moved = self.doubt("no acknowledgement in time", Ending::InDoubt, desk);
                return self.go_on(moved, place, desk);
            }
            Work::Sent(_) => {
                let target = self.link.as_ref().map(|link| &link.target);
                let over = target.filter(|target| match target.tenure() {
                    Tenure::Stay => false,
                    Tenure::Until(end) => end <= now,
                    Tenure::Over => true,
                });
                if let Some(why) = over.map(Target::taken) {
                    let moved = self.doubt("it is taken out of service", why, desk);
                    return self.go_on(moved, place, desk);
                }
            }
        }
        self.turn(place, desk)
    }

    /// How far it has come.
    pub(super) fn phase(&self) -> Phase {
        match &self.work {
            Work::Held(held) => {
                held.search.as_ref().map_or(Phase::Connect, |search| search.phase())
            }
            Work::Idle | Work::Sent(_) => {
                Phase::relayed([matches!(self.client.last(), Some(Last::End | Last::Cut)), false])
            }
        }
    }

    /// Bytes carried from the client and to it.
    pub(super) fn carried(&self) -> [u64; 2] {
        self.carried
    }

    /// The server that had the last message; empty if none had any.
    pub(super) fn last_server(&self) -> &str {
        &self.last_server
    }

    /// Nothing of it is known to this process alone.
    pub(super) fn can_move(&self) -> bool {
        let owes = self.link.as_ref().is_some_and(|link| !link.owed.is_empty());
        let idle = matches!(self.work, Work::Idle) && self.incoming.is_empty() && !owes;
        idle && self.client.is_plain() && self.client.has_taken_all()
    }

    /// The client, for another process or for another poller.
    pub(super) fn client(&self) -> &OwnedFd {
        self.client.socket()
    }

    /// The client as one that has just come, which it is to another process.
    pub(super) fn newcomer(&self) -> &format::Newcomer {
        &self.sender.newcomer
    }

    /// Gives up connections that the client does not know of.
    pub(super) fn forget(&mut self) {
        self.leave();
        self.parked.clear();
    }

    /// Another process has the client now.
    pub(super) fn give_away(mut self) {
        self.forget();
        self.client.let_go();
    }

    fn step(&mut self, place: Place, desk: &mut Desk) -> Moved {
        if let Some(moved) = self.hear_server(desk) {
            return moved;
        }
        let takes = self.client.flush();
        match &self.work {
            Work::Sent(order) => {
                let link = self.link.as_ref();
                if !order.letter.is_answered() && link.is_some_and(|it| it.leg.has_taken_all()) {
                    // It asked for no answer, and is on its way.
                    self.finish(desk);
                    return Moved::On;
                }
                Moved::Stuck
            }
            // A message that no server was sent is its sender's to send again. One that is under way is
            // waited for, so that its answer is known when it comes again.
            Work::Held(_) | Work::Idle if self.gone || self.client.is_broken() => {
                Moved::Over(Ending::Relayed(End::Reset(Side::Client)))
            }
            Work::Held(_) => self.deliver(place, desk),
            // Who does not take answers has no further messages taken from it.
            Work::Idle if !takes => Moved::Stuck,
            Work::Idle => self.hear_client(desk),
        }
    }

    /// Takes the client's next message.
    fn hear_client(&mut self, desk: &mut Desk) -> Moved {
        match self.incoming.next(&mut self.client, &mut desk.bench) {
            Ok(Inward::Frame(frame)) => {
                self.heard = desk.now;
                self.receive(Letter::read(frame), desk);
                Moved::On
            }
            Ok(Inward::More) => Moved::Later,
            Err(why) => {
                warn!(service = %self.service.name, client = %self.sender.client, %why, "closed");
                self.service.counts.malformed.add(1);
                Moved::Over(Ending::TooLong)
            }
            Ok(Inward::Dry) => match self.client.last() {
                None => {
                    if self.incoming.is_amid() {
                        self.heard = desk.now;
                        hurry(&self.client);
                    }
                    Moved::Stuck
                }
                Some(Last::Reset) => Moved::Over(Ending::Relayed(End::Reset(Side::Client))),
                Some(Last::End | Last::Cut) => Moved::Over(Ending::Relayed(End::Complete)),
            },
        }
    }

    /// A message has come.
    fn receive(&mut self, letter: Letter, desk: &mut Desk) {
        if letter.is_acknowledgement() {
            // It is for whoever has sent an application acknowledgement.
            if let Some(link) = &mut self.link {
                link.leg.write(letter.bytes(), &mut desk.bench.sealed);
            }
            return;
        }
        self.service.counts.mllp.message(&letter.kind);
        let settings = self.settings();
        let mut doubtful = Vec::new();
        match self.standing(&letter, &settings, desk.now) {
            Standing::New => {}
            Standing::Acknowledged(answer) => {
                self.service.counts.mllp.replayed.add(1);
                self.tell(&answer, desk);
                return;
            }
            Standing::InDoubt(server) => doubtful.push(server),
            Standing::Reused => {
                self.service.counts.mllp.reused.add(1);
                info!(
                    service = %self.service.name, client = %self.sender.client,
                    control_id = %shown(&letter), "a control id came again with another content"
                );
            }
        }
        let until = after(desk.now, settings.acknowledgement_timeout);
        let order = Order { letter, since: desk.now, until, doubtful };
        self.work = Work::Held(Box::new(Held::new(order)));
    }

    fn standing(&self, letter: &Letter, settings: &Mllp, now: Instant) -> Standing {
        let window = settings.replay_window.unwrap_or(Mllp::REPLAY_WINDOW);
        match &letter.name {
            Some(name) => self.service.ledger().lock().standing(name, window, now),
            None => Standing::New,
        }
    }

    /// Leaves servers that are to have no further message, as far as the lane is at a boundary.
    fn leave_unfit(&mut self) {
        let visitor = Visitor::new(self.sender.client);
        if let Some(link) = &self.link
            && link.owed.is_empty()
            && !self.service.keeps(link.target.place(), &visitor)
        {
            self.leave();
        }
        self.parked.retain(|it| self.service.keeps(Some((&it.server, it.endpoint)), &visitor));
    }

    /// Closes the connection to the server.
    fn leave(&mut self) {
        if let Some(mut link) = self.link.take() {
            link.leg.say_goodbye();
            link.leg.let_go();
        }
    }

    /// Keeps the connection to the server, and gives its seat back.
    fn park(&mut self, desk: &Desk) {
        let Some(link) = self.link.take_if(|link| link.owed.is_empty()) else { return };
        let Link { mut leg, inlet, target, .. } = link;
        leg.let_go();
        if let Some((server, endpoint)) = target.place()
            // The poller could not tell it from the one that has the next message.
            && epoll::delete(&desk.poller, leg.socket()).is_ok()
        {
            self.parked.push(Parked { server: Arc::clone(server), endpoint, leg, inlet });
        }
    }

    fn settings(&self) -> Mllp {
        self.service.routing().layer7.mllp.clone()
    }

    /// Ends the lane, in the way that tells the truth about `why`.
    fn end(&mut self, why: Ending) -> Ending {
        let at_boundary = matches!(self.work, Work::Idle);
        if let Ending::Unserved(_) = why {
            self.service.counts.unserved.add(1);
        }
        if matches!(why, Ending::Relayed(End::Complete | End::Idle(_))) && at_boundary {
            self.client.say_goodbye();
            self.client.let_go();
        }
        if at_boundary {
            self.leave();
        }
        why
    }
}

impl Held {
    fn new(order: Order) -> Self {
        Self { order, search: None, again: None, why: Ending::Unserved(None) }
    }
}

impl Link {
    fn new(leg: Leg, inlet: Inlet, target: Target, now: Instant) -> Self {
        Self { leg, inlet, target, used: now, fresh: true, owed: VecDeque::new() }
    }
}

/// Has the kernel acknowledge at once what has come of a message: its sender may wait for that with the rest
/// of it (Nagle's algorithm).
fn hurry(leg: &Leg) {
    // A kernel that refuses costs milliseconds, nothing more.
    let _ = sockopt::set_tcp_quickack(leg.socket(), true);
}

/// The control id as it may be logged.
fn shown(letter: &Letter) -> String {
    letter.control_id().map(|id| id.escape_ascii().to_string()).unwrap_or_default()
}
