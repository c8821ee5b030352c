//! A message on its way to a server: which one gets it, and how it is sent.

use std::sync::Arc;

use rustix::event::epoll::{self, EventData, EventFlags};

use crate::ending::Ending;
use crate::mllp::Inlet;
use crate::queue::Place;
use crate::relay::{INTEREST, Side};
use crate::seat::Visitor;
use crate::worker::search::{Find, Search, Target};
use crate::worker::{Desk, SERVER};

use super::{Go, Lane, Link, Moved, PAUSE, Parked, Work};

impl Lane {
    /// Sends the message that is held, once there is a server for it.
    pub(super) fn deliver(&mut self, place: Place, desk: &mut Desk) -> Moved {
        let Work::Held(held) = &self.work else { return Moved::On };
        if held.search.is_some() || held.again.is_some() {
            return Moved::Stuck;
        }
        let mut visitor = Visitor::new(self.sender.client);
        visitor.tried.clone_from(&held.order.doubtful);
        if let Some(link) = &self.link {
            let server = link.target.server();
            let doubtful = server.is_some_and(|server| visitor.has_tried(server));
            if link.fresh || !doubtful && self.service.keeps(link.target.place(), &visitor) {
                return self.send(desk);
            }
            if !link.owed.is_empty() {
                return Moved::Stuck;
            }
            self.leave();
        }
        let mut search =
            Search::new(Arc::clone(&self.service), self.sender.port, self.sender.client);
        search.visitor = visitor;
        search.header.clone_from(&self.sender.header);
        search.known = self.parked.iter().map(|parked| Arc::clone(&parked.server)).collect();
        let found = search.choose(place, desk);
        if let Work::Held(held) = &mut self.work {
            held.search = Some(Box::new(search));
        }
        self.take(found, place, desk)
    }

    pub(super) fn find(&mut self, found: Find, place: Place, desk: &mut Desk) -> Go {
        let moved = self.take(found, place, desk);
        self.go_on(moved, place, desk)
    }

    /// Goes on with what a search has found.
    pub(super) fn take(&mut self, found: Find, place: Place, desk: &mut Desk) -> Moved {
        let Work::Held(held) = &mut self.work else { return Moved::On };
        let longest = self.service.routing().layer7.mllp.longest_message;
        match found {
            Find::Pending => return Moved::Stuck,
            Find::Found(reached) => {
                let (leg, target, early) = reached.into_leg(&mut desk.bench);
                target.traffic(&self.service).connections.add(1);
                self.link = Some(Link::new(leg, Inlet::new(longest, early), target, desk.now));
            }
            Find::Seated(seat) => {
                let same = |parked: &Parked| Arc::ptr_eq(&parked.server, &seat.server);
                if let Some(at) = self.parked.iter().position(same) {
                    let Parked { mut leg, inlet, .. } = self.parked.swap_remove(at);
                    // Whether the server has left meanwhile is known after a look.
                    leg.notice(EventFlags::IN | EventFlags::OUT);
                    let token = EventData::new_u64(place.key.pack(SERVER));
                    if epoll::add(&desk.poller, leg.socket(), token, INTEREST).is_ok() {
                        let target = Target::Server(seat);
                        self.link = Some(Link::new(leg, inlet, target, desk.now));
                    }
                }
            }
            Find::Nobody(
                why @ (Ending::ServiceClosed | Ending::QueueTimeout | Ending::Trouble),
            ) => {
                return Moved::Over(why);
            }
            // Better a server that may have it than none.
            Find::Nobody(_) if !held.order.doubtful.is_empty() => held.order.doubtful.clear(),
            Find::Nobody(why) => {
                held.why = why;
                held.again = Some(desk.now + PAUSE);
                held.search = None;
                return Moved::Stuck;
            }
        }
        held.search = None;
        Moved::On
    }

    /// Sends the message that is held to the server that there is. From here on it is in doubt.
    pub(super) fn send(&mut self, desk: &mut Desk) -> Moved {
        let Some(link) = &mut self.link else { return Moved::On };
        let held = match std::mem::replace(&mut self.work, Work::Idle) {
            Work::Held(held) => held,
            work => {
                self.work = work;
                return Moved::On;
            }
        };
        let order = held.order;
        let bytes = order.letter.bytes();
        (link.used, link.fresh) = (desk.now, false);
        link.leg.write(bytes, &mut desk.bench.sealed);
        if let Some(server) = link.target.server() {
            server.mllp().message(&order.letter.kind);
        }
        link.target.traffic(&self.service).from_clients.add(bytes.len() as u64);
        self.carried[Side::Client as usize] += bytes.len() as u64;
        link.target.name().clone_into(&mut self.last_server);
        self.work = Work::Sent(Box::new(order));
        Moved::On
    }
}
