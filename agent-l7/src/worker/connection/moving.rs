//! A connection that changes its process, or comes back because that failed.
//!
//! Plain relays move, and clients that wait to be served. Where TLS is spoken, the keys are here: such
//! connections stay.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::epoll::{self, EventData};

use crate::ending::Ending;
use crate::handover::{format, milliseconds};
use crate::limits::Pass;
use crate::relay::{self, Carrier, INTEREST, Relay};
use crate::service::Service;
use crate::slab::Key;
use crate::worker::lane::Lane;
use crate::worker::search::Target;
use crate::worker::setup::{Moved as MovedSetup, Setup};
use crate::worker::{CLIENT, Desk, SERVER};

use super::{Connection, Debt, Fate, Guest, Record, Relaying, Stage};

/// A connection that stands still, off its worker.
pub(crate) struct Frozen(Box<Connection>);

/// A connection that came from another process, with its seat taken. Dropped, it is left to that.
#[derive(Debug)]
pub(crate) struct Arrival {
    guest: Guest,
    record: Option<Box<Record>>,
    stage: Arriving,
}

#[derive(Debug)]
enum Arriving {
    Newcomer(MovedSetup),
    Relay(Box<Relayed>),
}

#[derive(Debug)]
struct Relayed {
    moved: relay::Moved,
    target: Target,
    pass: Option<Box<Pass>>,
}

impl Connection {
    /// Whether nothing of it is known to this process alone.
    pub(in crate::worker) fn can_move(&self) -> bool {
        match &self.stage {
            Stage::Setup(setup) => setup.can_move(),
            Stage::Relaying(relaying) => matches!(relaying.relay, Carrier::Plain(_)),
            Stage::Lane(lane) => lane.can_move(),
            Stage::Parting(_) | Stage::Over => false,
        }
    }

    /// Takes it off the poller.
    pub(in crate::worker) fn freeze(mut self: Box<Self>, desk: &Desk) -> Frozen {
        // What is not known to the poller any more need not be taken off it.
        let forget = |socket: &OwnedFd| {
            let _ = epoll::delete(&desk.poller, socket);
        };
        match &mut self.stage {
            Stage::Setup(setup) => {
                setup.client().into_iter().for_each(forget);
                setup.forget();
            }
            Stage::Relaying(relaying) => {
                relaying.relay.plain().into_iter().flat_map(Relay::sockets).for_each(forget);
            }
            Stage::Lane(lane) => {
                forget(lane.client());
                lane.forget();
            }
            Stage::Parting(_) | Stage::Over => {}
        }
        (self.ready, self.debt, self.due, self.armed) = (false, Debt::None, None, None);
        Frozen(self)
    }

    /// Begins anew, or goes on, where the poller says what there is to do.
    pub(in crate::worker) fn go_on(&mut self, desk: &mut Desk) -> Fate {
        let (key, poller) = (self.key, &desk.poller);
        let add = |socket: &OwnedFd, side| {
            epoll::add(poller, socket, EventData::new_u64(key.pack(side)), INTEREST)
        };
        match &self.stage {
            Stage::Setup(setup) => match setup.client().map(|client| add(client, CLIENT)) {
                Some(Ok(())) => self.set_up(desk, Setup::go_on),
                _ => Fate::Ends(Ending::Trouble),
            },
            Stage::Relaying(relaying) => {
                let sockets = relaying.relay.plain().map(Relay::sockets);
                let added = sockets
                    .map(|[client, server]| add(client, CLIENT).and_then(|()| add(server, SERVER)));
                match added {
                    Some(Ok(())) => self.reckon(desk),
                    _ => Fate::Ends(Ending::Trouble),
                }
            }
            Stage::Lane(lane) => match add(lane.client(), CLIENT) {
                Ok(()) => self.go(desk, Lane::turn),
                Err(_) => Fate::Ends(Ending::Trouble),
            },
            Stage::Parting(_) | Stage::Over => Fate::Ends(Ending::Trouble),
        }
    }

    /// What goes on here under `key`.
    pub(in crate::worker) fn arrive(arrival: Arrival, key: Key, desk: &Desk) -> Self {
        let Arrival { guest, record, stage } = arrival;
        let stage = match stage {
            Arriving::Newcomer(moved) => {
                let setup = Setup::resume(moved, Arc::clone(&guest.0), desk.now);
                Stage::Setup(Box::new(setup))
            }
            Arriving::Relay(relayed) => {
                let Relayed { moved, target, pass } = *relayed;
                let traffic = Arc::clone(target.traffic(&guest.0));
                let relay = Relay::resume(moved, traffic, &desk.bench, desk.now);
                let relay = Carrier::Plain(relay);
                Stage::Relaying(Box::new(Relaying { relay, target, pass }))
            }
        };
        let (ready, debt, due, armed) = (false, Debt::None, None, None);
        Self { key, record, stage, guest, ready, debt, due, armed }
    }
}

impl Frozen {
    /// What another process has to know to go on, with the descriptors; none if it cannot move.
    pub(crate) fn describe(
        &self,
        now: Instant,
    ) -> Option<(format::Connection, Vec<BorrowedFd<'_>>)> {
        let connection = &*self.0;
        let (stage, descriptors) = match &connection.stage {
            Stage::Setup(setup) => {
                let newcomer = format::Stage::Newcomer(setup.describe(now));
                (newcomer, vec![setup.client()?.as_fd()])
            }
            Stage::Relaying(relaying) => {
                let (mut said, descriptors) = relaying.relay.plain()?.describe(now);
                if let Target::Server(seat) = &relaying.target {
                    said.server = seat.server.name.server.to_string();
                    said.remembered_as =
                        seat.remembered_as().map(ToString::to_string).unwrap_or_default();
                }
                let pass = relaying.pass.as_ref();
                said.counted_for = pass.map(|pass| pass.client().to_string()).unwrap_or_default();
                (format::Stage::Relay(said), descriptors)
            }
            Stage::Lane(lane) => {
                let newcomer = format::Stage::Newcomer(lane.newcomer().clone());
                (newcomer, vec![lane.client().as_fd()])
            }
            Stage::Parting(_) | Stage::Over => return None,
        };
        let record = connection.record.as_ref().map(|record| format::Record {
            peer: record.peer.to_string(),
            age_ms: milliseconds(now.saturating_duration_since(record.since)),
        });
        let service = connection.service().name.to_string();
        Some((format::Connection { service, record, stage: Some(stage), number: 0 }, descriptors))
    }

    /// Another process has the connection now. Its seat stays taken here: it is the same one.
    pub(crate) fn leave(mut self) {
        match self.0.leave_stage() {
            Stage::Setup(mut setup) => setup.leave(),
            Stage::Relaying(relaying) => {
                let Relaying { mut relay, target, .. } = *relaying;
                if let Carrier::Plain(relay) = &mut relay {
                    relay.leave();
                }
                if let Target::Server(seat) = target {
                    seat.leave();
                }
            }
            Stage::Lane(lane) => lane.give_away(),
            Stage::Parting(_) | Stage::Over => {}
        }
    }

    pub(in crate::worker) fn thaw(self, key: Key) -> Connection {
        Connection { key, ..*self.0 }
    }
}

impl Arrival {
    /// Reads what another process says of a connection of `service`, and takes its seat; none if it
    /// cannot be carried here.
    pub(crate) fn read(
        service: &Arc<Service>,
        said: format::Connection,
        mut descriptors: Vec<OwnedFd>,
        now: Instant,
    ) -> Option<Self> {
        let record = match said.record {
            None => None,
            Some(told) => {
                let peer: SocketAddr = told.peer.parse().ok()?;
                let age = Duration::from_millis(told.age_ms);
                Some(Box::new(Record {
                    peer,
                    since: now.checked_sub(age).unwrap_or(now),
                    story: None,
                }))
            }
        };
        let stage = match said.stage? {
            format::Stage::Newcomer(newcomer) => {
                Arriving::Newcomer(MovedSetup::read(newcomer, descriptors.pop()?)?)
            }
            format::Stage::Relay(relayed) => {
                let target = target(service, &relayed)?;
                let client: Option<IpAddr> = relayed.counted_for.parse().ok();
                let pass = client.map(|client| Box::new(Pass::reissue(service, client, now)));
                let moved = relay::Moved::read(relayed, descriptors)?;
                Arriving::Relay(Box::new(Relayed { moved, target, pass }))
            }
        };
        Some(Self { guest: Guest::once_more(Arc::clone(service)), record, stage })
    }
}

fn target(service: &Arc<Service>, relayed: &format::Relay) -> Option<Target> {
    if relayed.server.is_empty() {
        return Some(Target::Fallback);
    }
    let client = Some(relayed.remembered_as.as_str()).filter(|client| !client.is_empty());
    service.occupy(&relayed.server.parse().ok()?, client).map(Target::Server)
}

impl fmt::Debug for Frozen {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Frozen").field("service", &self.0.service().name).finish_non_exhaustive()
    }
}
