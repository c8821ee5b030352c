//! One client's connection, from accept to the end of its relay.
//!
//! It passes events on to the stage it is in, and keeps `due` at the instant at which that stage
//! wants to be looked at again. Its worker arms the timer, and drops the connection when it ends.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Instant;

use rustix::event::epoll::EventFlags;
use tracing::info;

use crate::dicom::{Association, Story};
use crate::ending::{Ending, Phase};
use crate::http::Client;
use crate::leg::Leg;
use crate::limits::Pass;
use crate::queue::Place;
use crate::relay::{Carrier, End, Progress, Side};
use crate::seat::Seat;
use crate::server::Tenure;
use crate::service::Service;
use crate::slab::Key;

use super::lane::{Go, Lane};
use super::parting::{Parting, Summary};
use super::search::{Reached, Target};
use super::setup::{Setup, Step};
use super::{Desk, Listening};

pub(crate) use moving::{Arrival, Frozen};

mod moving;

pub(super) struct Connection {
    key: Key,
    /// What the log is to be told in the end.
    record: Option<Box<Record>>,
    // Dropped in this order: whoever sees that the client has gone finds its seat free.
    stage: Stage,
    guest: Guest,
    /// Has a turn coming.
    ready: bool,
    /// How it is noted among those that owe an acknowledgement.
    debt: Debt,
    /// When the connection wants to be looked at without an event.
    pub(super) due: Option<Instant>,
    /// What the worker's timer is armed for.
    pub(super) armed: Option<Instant>,
}

/// What becomes of a connection that has been attended to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Lives,
    /// It goes on elsewhere, as a client of HTTP.
    Leaves,
    Ends(Ending),
}

enum Stage {
    Setup(Box<Setup>),
    Relaying(Box<Relaying>),
    Parting(Box<Parting>),
    Lane(Box<Lane>),
    Over,
}

struct Relaying {
    relay: Carrier,
    target: Target,
    /// There where the connections of each client are limited.
    pass: Option<Box<Pass>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Debt {
    None,
    Later,
    Due,
}

/// A connection that the log is told of.
#[derive(Debug)]
struct Record {
    peer: SocketAddr,
    since: Instant,
    /// Of its association.
    story: Option<Arc<Story>>,
}

/// Counts a client in its service for as long as it is there.
#[derive(Debug)]
pub(crate) struct Guest(Arc<Service>);

impl Connection {
    pub(super) fn new(
        to: &Listening,
        key: Key,
        client: OwnedFd,
        peer: SocketAddr,
        now: Instant,
    ) -> Self {
        let logged = to.service.routing().layer7.log_connections;
        let setup = Setup::new(Arc::clone(&to.service), to.port, client, peer);
        Self {
            key,
            record: logged.then(|| Box::new(Record { peer, since: now, story: None })),
            stage: Stage::Setup(Box::new(setup)),
            guest: Guest::new(Arc::clone(&to.service)),
            ready: false,
            debt: Debt::None,
            due: None,
            armed: None,
        }
    }

    pub(super) fn service(&self) -> &Service {
        &self.guest.0
    }

    /// The client has just come.
    pub(super) fn begin(&mut self, desk: &mut Desk) -> Fate {
        self.set_up(desk, Setup::begin)
    }

    /// Looks for a server.
    pub(super) fn choose(&mut self, desk: &mut Desk) -> Fate {
        if let Stage::Lane(_) = self.stage {
            return self.go(desk, Lane::recalled);
        }
        self.set_up(desk, |setup, place, desk| setup.choose(place, desk))
    }

    /// The turn in line has come.
    pub(super) fn seated(&mut self, seat: Seat, desk: &mut Desk) -> Fate {
        if let Stage::Lane(_) = self.stage {
            return self.go(desk, |lane, place, desk| lane.seated(seat, place, desk));
        }
        self.set_up(desk, |setup, place, desk| setup.seated(seat, place, desk))
    }

    pub(super) fn event(&mut self, side: Side, flags: EventFlags, desk: &mut Desk) -> Fate {
        match &mut self.stage {
            Stage::Setup(_) => {
                self.set_up(desk, |setup, place, desk| setup.event(side, flags, place, desk))
            }
            Stage::Relaying(relaying) => {
                relaying.relay.notice(side, flags);
                self.want_turn(desk);
                Fate::Lives
            }
            Stage::Parting(parting) => {
                parting.notice(side, flags);
                self.want_turn(desk);
                Fate::Lives
            }
            Stage::Lane(_) => {
                self.go(desk, |lane, place, desk| lane.notice(side, flags, place, desk))
            }
            Stage::Over => Fate::Ends(Ending::Trouble),
        }
    }

    /// Moves bytes.
    pub(super) fn turn(&mut self, desk: &mut Desk) -> Fate {
        self.ready = false;
        match &mut self.stage {
            Stage::Relaying(relaying) => match relaying.relay.turn(&mut desk.bench, desk.now) {
                Progress::Waiting => self.note_debt(desk),
                Progress::More => self.want_turn(desk),
                Progress::Ended(end) => return self.end(end, desk),
            },
            Stage::Parting(parting) => {
                if parting.turn(&mut desk.bench) {
                    self.want_turn(desk);
                } else if parting.is_over() {
                    return Fate::Ends(parting.why);
                }
            }
            Stage::Lane(_) => return self.go(desk, Lane::turn),
            Stage::Setup(_) | Stage::Over => {}
        }
        Fate::Lives
    }

    /// Lets a lane act.
    fn go(&mut self, desk: &mut Desk, act: impl FnOnce(&mut Lane, Place, &mut Desk) -> Go) -> Fate {
        let place = Place { worker: desk.worker, key: self.key };
        let Stage::Lane(lane) = &mut self.stage else { return Fate::Lives };
        let go = act(lane, place, desk);
        self.due = lane.due();
        match go {
            Go::Waiting => {}
            Go::More => self.want_turn(desk),
            Go::Ends(why) => return Fate::Ends(why),
        }
        Fate::Lives
    }

    /// Acknowledges what is due.
    pub(super) fn pay(&mut self, desk: &mut Desk) -> Fate {
        self.debt = Debt::None;
        if let Stage::Relaying(relaying) = &mut self.stage {
            relaying.relay.acknowledge(desk.now);
            self.note_debt(desk);
        }
        Fate::Lives
    }

    /// Has itself paid when it is due, and not twice for the same.
    fn note_debt(&mut self, desk: &mut Desk) {
        let Stage::Relaying(relaying) = &self.stage else { return };
        let Some(due) = relaying.relay.owes_since() else { return };
        let debt = if due > desk.now { Debt::Later } else { Debt::Due };
        if debt > self.debt {
            self.debt = debt;
            desk.debts.owe(self.key, due, desk.now);
        }
    }

    /// The configuration has changed.
    pub(super) fn review(&mut self, desk: &mut Desk) -> Fate {
        match &self.stage {
            Stage::Setup(_) => self.set_up(desk, Setup::review),
            Stage::Relaying(_) => self.reckon(desk),
            Stage::Parting(_) => Fate::Lives,
            Stage::Lane(_) => self.go(desk, Lane::review),
            Stage::Over => Fate::Ends(Ending::Trouble),
        }
    }

    /// The timer rang.
    pub(super) fn ring(&mut self, desk: &mut Desk) -> Fate {
        let relaying = match &self.stage {
            Stage::Setup(_) => return self.set_up(desk, Setup::ring),
            Stage::Parting(parting) if parting.until > desk.now => return Fate::Lives,
            Stage::Parting(parting) => return Fate::Ends(parting.why),
            Stage::Relaying(relaying) => relaying,
            Stage::Lane(_) => return self.go(desk, Lane::ring),
            Stage::Over => return Fate::Ends(Ending::Trouble),
        };
        if let Some(end) = relaying.relay.expired(desk.now) {
            self.service().counts.idle_timeouts.add(1);
            return self.end(end, desk);
        }
        self.reckon(desk)
    }

    fn set_up(
        &mut self,
        desk: &mut Desk,
        act: impl FnOnce(&mut Setup, Place, &mut Desk) -> Step,
    ) -> Fate {
        let place = Place { worker: desk.worker, key: self.key };
        let Stage::Setup(setup) = &mut self.stage else { return Fate::Lives };
        match act(setup, place, desk) {
            Step::Pending => {
                self.due = setup.due();
                Fate::Lives
            }
            Step::Connected(reached) => self.relay(*reached, desk),
            Step::Associated => self.associate(desk),
            Step::Parts(why) => self.part(why, desk),
            Step::Lane => self.open_lane(desk),
            Step::Failed(why) => Fate::Ends(why),
            Step::Http => Fate::Leaves,
        }
    }

    /// What goes on elsewhere.
    pub(super) fn into_client(self) -> Option<Client> {
        let Stage::Setup(setup) = self.stage else { return None };
        setup.into_client(self.guest)
    }

    fn relay(&mut self, reached: Reached, desk: &mut Desk) -> Fate {
        let trouble = Fate::Ends(Ending::Trouble);
        let Stage::Setup(setup) = self.leave_stage() else { return trouble };
        let Some(ready) = setup.finish(reached) else { return trouble };
        let mut relay = Carrier::new(ready.pair, ready.secrets, &mut desk.bench, desk.now);
        relay.notice(Side::Client, ready.client_seen);
        relay.notice(Side::Server, ready.server_seen);
        let (target, pass) = (ready.target, ready.pass);
        self.stage = Stage::Relaying(Box::new(Relaying { relay, target, pass }));
        self.want_turn(desk);
        self.reckon(desk)
    }

    fn open_lane(&mut self, desk: &mut Desk) -> Fate {
        let trouble = Fate::Ends(Ending::Trouble);
        let Stage::Setup(setup) = self.leave_stage() else { return trouble };
        let Some(lane) = setup.into_lane(desk.now) else { return trouble };
        self.stage = Stage::Lane(Box::new(lane));
        self.go(desk, Lane::turn)
    }

    fn associate(&mut self, desk: &mut Desk) -> Fate {
        let trouble = Fate::Ends(Ending::Trouble);
        let Stage::Setup(mut setup) = self.leave_stage() else { return trouble };
        self.take_story(&setup);
        let pass = setup.take_pass();
        let Some((parts, target)) = setup.into_associated() else { return trouble };
        let relay = Carrier::associate(parts, &mut desk.bench, desk.now);
        self.stage = Stage::Relaying(Box::new(Relaying { relay, target, pass }));
        self.want_turn(desk);
        self.reckon(desk)
    }

    /// Tells the client that it is not served.
    fn part(&mut self, why: Ending, desk: &mut Desk) -> Fate {
        let Stage::Setup(mut setup) = self.leave_stage() else { return Fate::Ends(why) };
        self.take_story(&setup);
        let phase = setup.phase();
        let Some((mut client, farewell)) = setup.part() else { return Fate::Ends(why) };
        client.write(&farewell, &mut desk.bench.sealed);
        let summary = Summary { server: NOBODY.to_owned(), carried: [0, 0] };
        self.say_goodbye([Some(client), None], (why, phase), summary, desk)
    }

    fn take_story(&mut self, setup: &Setup) {
        if let Some(record) = &mut self.record {
            record.story = setup.story().cloned();
        }
    }

    /// Whether the connection may stay, and until when.
    fn reckon(&mut self, desk: &mut Desk) -> Fate {
        let Stage::Relaying(relaying) = &self.stage else { return Fate::Lives };
        let Relaying { relay, target, .. } = &**relaying;
        if self.service().is_closed() {
            return self.cut_off(Ending::ServiceClosed, desk);
        }
        self.due = match target.tenure() {
            Tenure::Stay => Some(relay.deadline()),
            Tenure::Until(end) if end > desk.now => Some(relay.deadline().min(end)),
            Tenure::Until(_) | Tenure::Over => {
                let why = target.taken();
                return self.cut_off(why, desk);
            }
        };
        Fate::Lives
    }

    /// Ends what is relayed before its time: an association by A-ABORTs, all else by resets.
    fn cut_off(&mut self, why: Ending, desk: &mut Desk) -> Fate {
        let associated =
            |relaying: &Relaying| relaying.relay.association().is_some_and(Association::is_open);
        match &self.stage {
            Stage::Relaying(relaying) if associated(relaying) => {}
            _ => return Fate::Ends(why),
        }
        let Stage::Relaying(relaying) = self.leave_stage() else { return Fate::Ends(why) };
        let Relaying { relay, target, .. } = *relaying;
        let phase = Phase::relayed(relay.ended());
        let summary = Summary { server: target.name().to_owned(), carried: relay.carried() };
        let legs = relay.break_off(&mut desk.bench, desk.now);
        self.say_goodbye(legs, (why, phase), summary, desk)
    }

    fn say_goodbye(
        &mut self,
        legs: [Option<Leg>; 2],
        told: (Ending, Phase),
        summary: Summary,
        desk: &mut Desk,
    ) -> Fate {
        let parting = Parting::new(legs, told, summary, desk.now);
        self.due = Some(parting.until);
        self.stage = Stage::Parting(Box::new(parting));
        self.want_turn(desk);
        Fate::Lives
    }

    fn end(&mut self, end: End, desk: &mut Desk) -> Fate {
        let Stage::Relaying(relaying) = &mut self.stage else { return Fate::Ends(Ending::Trouble) };
        match relaying.relay.association() {
            Some(association) if association.is_open() => {
                return self.cut_off(Ending::Relayed(end), desk);
            }
            _ => relaying.relay.close(end),
        }
        let aborted = relaying.relay.association().and_then(Association::ending);
        Fate::Ends(aborted.unwrap_or(Ending::Relayed(end)))
    }

    /// How far it has come.
    fn phase(&self) -> Phase {
        match &self.stage {
            Stage::Setup(setup) => setup.phase(),
            Stage::Relaying(relaying) => Phase::relayed(relaying.relay.ended()),
            Stage::Parting(parting) => parting.phase,
            Stage::Lane(lane) => lane.phase(),
            Stage::Over => Phase::Connect,
        }
    }

    /// Counts the end, and tells the log of it where the service wants that.
    pub(super) fn tell(&self, why: Ending, now: Instant) {
        let phase = self.phase();
        let reason = why.termination(phase);
        self.service().counts.ended.count(reason).add(1);
        let Some(record) = &self.record else { return };
        let Record { peer, since, story } = &**record;
        let service = self.service();
        let (server, [from_client, to_client]) = match &self.stage {
            Stage::Relaying(relaying) => (relaying.target.name(), relaying.relay.carried()),
            Stage::Parting(parting) => (parting.summary.server.as_str(), parting.summary.carried),
            Stage::Lane(lane) if !lane.last_server().is_empty() => {
                (lane.last_server(), lane.carried())
            }
            Stage::Lane(lane) => (NOBODY, lane.carried()),
            Stage::Setup(_) | Stage::Over => (NOBODY, [0, 0]),
        };
        let seconds = now.saturating_duration_since(*since).as_secs_f64();
        let story = story.as_deref();
        info!(
            service = %service.name, client = %peer, server, from_client, to_client, seconds,
            called = story.map(|story| &*story.called),
            calling = story.map(|story| &*story.calling),
            stored = story.map(|story| story.stored.get()),
            store_failures = story.map(|story| story.failed.get()),
            phase = phase.as_str(), reason = reason.name(), haproxy = reason.haproxy(),
            why = reason.as_str(), "connection ended"
        );
    }

    fn leave_stage(&mut self) -> Stage {
        std::mem::replace(&mut self.stage, Stage::Over)
    }

    fn want_turn(&mut self, desk: &mut Desk) {
        if !self.ready {
            self.ready = true;
            desk.ready.push_back(self.key);
        }
    }
}

impl Guest {
    fn new(service: Arc<Service>) -> Self {
        service.counts.accepted.add(1);
        Self::once_more(service)
    }

    /// One that was accepted before, by another process.
    pub(crate) fn once_more(service: Arc<Service>) -> Self {
        service.counts.active.add(1);
        Self(service)
    }

    pub(crate) fn service(&self) -> &Arc<Service> {
        &self.0
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.0.counts.active.sub(1);
    }
}

/// What the log calls the real server of a client that has none.
const NOBODY: &str = "none";

/// What a connection that only waits for bytes takes besides itself.
#[cfg(test)]
pub(super) const RELAYING: usize = size_of::<Relaying>();
