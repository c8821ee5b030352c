//! The difference between what the kernel holds and what it is to hold, as operations in an order
//! that never leaves a service without its servers.
//!
//! First everything is made and changed, then everything is taken away. What changes is edited in
//! place: a destination that is deleted and added again loses its connections, a service its
//! counters too.

use std::collections::BTreeMap;

use crate::desired::Programmed;
use crate::ipvs::{Destination, DestinationKey, Method, Operation, ServiceKey};

/// What leads from one state to another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Steps {
    /// Makes and changes. Service by service: each is complete before the next begins.
    pub build: Vec<Operation>,
    /// Takes away: servers first, then services.
    pub clear: Vec<Operation>,
}

impl Steps {
    pub fn is_empty(&self) -> bool {
        self.build.is_empty() && self.clear.is_empty()
    }

    /// Adds what leads one kernel service from `have` to `want`.
    pub fn lead(&mut self, key: ServiceKey, have: Option<&Programmed>, want: Option<&Programmed>) {
        match (have, want) {
            (None, None) => {}
            (None, Some(want)) => {
                self.build.push(Operation::AddService(want.service));
                let add = |destination| Operation::AddDestination(key, destination);
                self.build.extend(want.destinations.values().copied().map(add));
            }
            // Its destinations go with it.
            (Some(_), None) => self.clear.push(Operation::DeleteService(key)),
            (Some(have), Some(want)) => {
                self.lead_destinations(key, &have.destinations, &want.destinations);
                // A scheduler that is set finds all servers there.
                if have.service != want.service {
                    self.build.push(Operation::SetService(want.service));
                }
            }
        }
    }

    fn lead_destinations(
        &mut self,
        key: ServiceKey,
        have: &BTreeMap<DestinationKey, Destination>,
        want: &BTreeMap<DestinationKey, Destination>,
    ) {
        let mut less = Vec::new();
        for (at, wanted) in want {
            match have.get(at) {
                None => self.build.push(Operation::AddDestination(key, *wanted)),
                Some(held) if same(held, wanted) => {}
                Some(held) if wanted.weight < held.weight => less.push(*wanted),
                Some(_) => self.build.push(Operation::SetDestination(key, *wanted)),
            }
        }
        // Who gets more gets it before others get less, so that somebody always takes clients.
        self.build.extend(less.into_iter().map(|wanted| Operation::SetDestination(key, wanted)));
        let gone = have.keys().filter(|at| !want.contains_key(at));
        self.clear.extend(gone.map(|at| Operation::DeleteDestination(key, *at)));
    }
}

/// Whether `held` needs no change to be `wanted`. The kernel reports its own method for addresses of
/// this machine, whatever it was told.
pub fn same(held: &Destination, wanted: &Destination) -> bool {
    let method = held.method == wanted.method || held.method == Method::Local;
    method && Destination { method: wanted.method, ..*held } == *wanted
}

/// Whether `held` needs no change to be `wanted`.
pub fn same_whole(held: &Programmed, wanted: &Programmed) -> bool {
    let mut steps = Steps::default();
    steps.lead(wanted.service.key, Some(held), Some(wanted));
    steps.is_empty()
}

#[cfg(test)]
mod tests;
