//! What the kernel's load balancer holds, as far as it was read and changed since.

use std::collections::{BTreeMap, BTreeSet};

use crate::desired::Programmed;
use crate::ipvs::{DestinationEntry, Operation, ServiceEntry, ServiceKey};
use crate::kernel::{Kernel, Trouble};
use crate::owned::{Owned, Thing};

/// Ours, with all that is in them, and the names of the others.
#[derive(Debug, Default)]
pub(super) struct Table {
    held: BTreeMap<ServiceKey, Programmed>,
    foreign: BTreeSet<ServiceKey>,
    /// As they were found at the start, until they are changed.
    adopted: BTreeSet<ServiceKey>,
    read: bool,
}

impl Table {
    /// Reads what is there, once. What is owned is adopted as it is.
    pub(super) fn read(&mut self, kernel: &mut impl Kernel, owned: &Owned) -> Result<(), Trouble> {
        if self.read {
            return Ok(());
        }
        let entries = kernel.services()?;
        self.foreign.clear();
        self.held.clear();
        for entry in entries {
            if owned.has(&Thing::Ipvs(entry.key)) {
                self.adopt(kernel, entry)?;
            } else {
                self.foreign.insert(entry.key);
            }
        }
        self.read = true;
        Ok(())
    }

    /// Takes one service over with all that is in it.
    pub(super) fn adopt(
        &mut self,
        kernel: &mut impl Kernel,
        entry: ServiceEntry,
    ) -> Result<(), Trouble> {
        let destinations = kernel.destinations(&entry.key)?;
        let found = programmed(&entry, &destinations);
        self.foreign.remove(&entry.key);
        self.adopted.insert(entry.key);
        self.held.insert(entry.key, found);
        Ok(())
    }

    /// Reads one service anew; it may be gone.
    pub(super) fn read_again(
        &mut self,
        kernel: &mut impl Kernel,
        entries: &[ServiceEntry],
        key: ServiceKey,
    ) -> Result<(), Trouble> {
        let found = match entries.iter().find(|entry| entry.key == key) {
            None => None,
            Some(entry) => Some(programmed(entry, &kernel.destinations(&key)?)),
        };
        self.found(key, found);
        Ok(())
    }

    pub(super) fn held(&self) -> &BTreeMap<ServiceKey, Programmed> {
        &self.held
    }

    /// What was adopted and not changed since.
    pub(super) fn adopted(&self, key: &ServiceKey) -> Option<&Programmed> {
        self.held.get(key).filter(|_| self.adopted.contains(key))
    }

    /// What is held, and whom it was made for.
    pub(super) fn held_for(&self, owned: &Owned) -> Vec<(ServiceKey, String)> {
        let whose = |key: &ServiceKey| owned.things().get(&Thing::Ipvs(*key)).cloned();
        self.held.keys().map(|key| (*key, whose(key).unwrap_or_default())).collect()
    }

    pub(super) fn is_foreign(&self, key: &ServiceKey) -> bool {
        self.foreign.contains(key)
    }

    pub(super) fn set_foreign(&mut self, foreign: BTreeSet<ServiceKey>) {
        self.foreign = foreign;
    }

    /// Somebody else has made it.
    pub(super) fn disown(&mut self, key: ServiceKey) {
        self.held.remove(&key);
        self.foreign.insert(key);
    }

    /// A service of somebody else's is there no more.
    pub(super) fn is_gone(&mut self, key: &ServiceKey) {
        self.foreign.remove(key);
    }

    /// Nothing is known for sure any more: all is to be read again.
    pub(super) fn doubt(&mut self) {
        self.read = false;
    }

    /// What was found in the kernel is what is held.
    pub(super) fn found(&mut self, key: ServiceKey, found: Option<Programmed>) {
        match found {
            Some(found) => drop(self.held.insert(key, found)),
            None => drop(self.held.remove(&key)),
        }
    }

    /// An operation was carried out.
    pub(super) fn note(&mut self, operation: &Operation) {
        let key = key_of(operation);
        self.adopted.remove(&key);
        match *operation {
            Operation::AddService(service) => {
                let destinations = BTreeMap::new();
                self.held.insert(key, Programmed { service, destinations });
            }
            Operation::DeleteService(_) => drop(self.held.remove(&key)),
            Operation::SetService(service) => self.edit(key, |held| held.service = service),
            Operation::AddDestination(_, destination)
            | Operation::SetDestination(_, destination) => {
                self.edit(key, |held| held.destinations.extend([(destination.key, destination)]));
            }
            Operation::DeleteDestination(_, at) => {
                self.edit(key, |held| held.destinations.retain(|other, _| *other != at));
            }
        }
    }

    fn edit(&mut self, key: ServiceKey, edit: impl FnOnce(&mut Programmed)) {
        if let Some(held) = self.held.get_mut(&key) {
            edit(held);
        }
    }
}

/// Which service an operation is about.
pub(super) fn key_of(operation: &Operation) -> ServiceKey {
    match operation {
        Operation::AddService(service) | Operation::SetService(service) => service.key,
        Operation::DeleteService(key)
        | Operation::AddDestination(key, _)
        | Operation::SetDestination(key, _)
        | Operation::DeleteDestination(key, _) => *key,
    }
}

/// What was found, in the form in which things are wanted. A service in a form that Gantry never makes
/// becomes one that differs from every form it makes.
pub(super) fn programmed(entry: &ServiceEntry, destinations: &[DestinationEntry]) -> Programmed {
    let unlike = crate::ipvs::Service {
        key: entry.key,
        scheduler: crate::ipvs::Scheduler::RoundRobin,
        hash_ports: true,
        hash_fallback: false,
        one_packet: true,
        persistence: None,
    };
    let service = entry.service.unwrap_or(unlike);
    let by_key = |entry: &DestinationEntry| (entry.destination.key, entry.destination);
    Programmed { service, destinations: destinations.iter().map(by_key).collect() }
}
