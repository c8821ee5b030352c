//! Looks at the whole kernel again and again: for the counters, and for what somebody else has changed
//! in what is ours. That is put right and told.
//!
//! A pass goes in small steps, so that a verdict or a change never waits for more than one of them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

use gantry_model::name::ServiceName;
use gantry_runtime::{clock, rpc};
use tracing::{debug, warn};

use super::report::{Tally, samples};
use super::table::programmed;
use super::{Director, Moment, Outcomes};
use crate::desired::Programmed;
use crate::diff::{Steps, same_whole};
use crate::host::nft::Listed;
use crate::ipvs::{Operation, ServiceKey, Statistics};
use crate::kernel::{Kernel, Trouble};

/// Where a pass stands.
#[derive(Debug, Default)]
pub(super) struct Walk {
    /// Services that are still to be looked at.
    queue: Vec<ServiceKey>,
    under_way: bool,
    /// When it began, and what it has put right.
    began: Option<Instant>,
    mended: usize,
    statistics: HashMap<ServiceKey, Statistics>,
    tallies: HashMap<ServiceKey, Vec<Tally>>,
    /// When the next pass begins.
    next: Option<Instant>,
    /// When the rest of the machine is looked at next.
    next_machine: Option<Instant>,
    listed: Option<Listed>,
}

/// Services that one step looks at.
const STEP: usize = 64;
/// Between two looks at addresses, rules and settings.
const MACHINE: Duration = Duration::from_secs(5);

impl Walk {
    pub(super) fn due(&self, now: Instant) -> Instant {
        if self.under_way { now } else { self.next.unwrap_or(now) }
    }
}

impl<K: Kernel> Director<K> {
    /// One step of a pass, if one is due; gives whether a pass has come to its end.
    pub fn walk(&mut self, now: Moment) -> bool {
        if self.walk.due(now.at) > now.at {
            return false;
        }
        let done = if self.walk.under_way { self.go_on() } else { self.begin_pass(now) };
        if let Err(trouble) = done {
            warn!(why = rpc::causes(&trouble), "the kernel cannot be looked at");
            self.end_pass(now);
            return false;
        }
        if !self.walk.queue.is_empty() {
            return false;
        }
        self.look_at_machine(now);
        self.end_pass(now);
        true
    }

    fn begin_pass(&mut self, now: Moment) -> Result<(), Trouble> {
        self.walk.under_way = true;
        self.walk.began = Some(now.at);
        self.walk.mended = 0;
        self.walk.statistics.clear();
        self.walk.tallies.clear();
        if self.claims.is_empty() && self.table.held().is_empty() {
            return Ok(());
        }
        self.table.read(&mut self.kernel, &self.owned)?;
        let entries = self.kernel.services()?;
        let mut foreign = BTreeSet::new();
        let mut odd = BTreeSet::new();
        for entry in &entries {
            self.walk.statistics.insert(entry.key, entry.statistics);
            match self.table.held().get(&entry.key) {
                None => drop(foreign.insert(entry.key)),
                Some(held) if entry.service != Some(held.service) => drop(odd.insert(entry.key)),
                Some(_) => {}
            }
        }
        self.table.set_foreign(foreign);
        let gone = self.table.held().keys().filter(|key| !self.walk.statistics.contains_key(key));
        let gone: Vec<_> = gone.copied().collect();
        for key in gone.into_iter().chain(odd) {
            let found = entries.iter().find(|entry| entry.key == key);
            let destinations = match found {
                Some(_) => self.kernel.destinations(&key)?,
                None => Vec::new(),
            };
            self.mend(key, found.map(|entry| programmed(entry, &destinations)));
        }
        self.walk.queue = self.table.held().keys().rev().copied().collect();
        Ok(())
    }

    fn go_on(&mut self) -> Result<(), Trouble> {
        for _ in 0..STEP {
            let Some(key) = self.walk.queue.pop() else { return Ok(()) };
            let Some(held) = self.table.held().get(&key) else { continue };
            let service = held.service;
            let destinations = self.kernel.destinations(&key)?;
            let by_key =
                destinations.iter().map(|entry| (entry.destination.key, entry.destination));
            let found = Programmed { service, destinations: by_key.collect() };
            self.walk.tallies.insert(key, destinations.iter().map(Tally::of).collect());
            if !same_whole(&found, held) {
                self.mend(key, Some(found));
            }
        }
        Ok(())
    }

    fn end_pass(&mut self, now: Moment) {
        self.walk.under_way = false;
        self.walk.queue.clear();
        self.walk.next = Some(now.at + self.settings.pass);
        let forms =
            self.services.iter().map(|(name, deployed)| (name, &deployed.plan, &deployed.form));
        let walk = &self.walk;
        self.journal.samples =
            samples(forms, &walk.statistics, &walk.tallies, walk.listed.as_ref()).into();
        if let Some(began) = walk.began {
            let milliseconds = (clock::monotonic() - began).as_millis();
            let (services, mended) = (walk.tallies.len(), walk.mended);
            debug!(services, mended, milliseconds, "looked at the whole kernel");
        }
    }

    /// Somebody else has changed a service of ours: puts it right, and tells what was undone.
    fn mend(&mut self, key: ServiceKey, found: Option<Programmed>) {
        self.walk.mended += 1;
        self.table.found(key, found);
        let keys = BTreeSet::from([key]);
        let steps = self.steps(&keys);
        let refused = self.build(&keys);
        self.clear(&keys);
        let whose = self.claims.get(&key).cloned();
        let told = format!("somebody else has changed {key} in the kernel: {}", undone(&steps));
        warn!(%key, told, "drift repaired");
        self.journal.notice("DRIFT_REPAIRED", whose.as_ref(), told);
        self.journal.ailing.extend(refused);
    }

    /// Addresses, rules and settings.
    fn look_at_machine(&mut self, now: Moment) {
        if self.walk.next_machine.is_some_and(|next| next > now.at) {
            return;
        }
        self.walk.next_machine = Some(now.at + MACHINE);
        if let Ok(interfaces) = self.kernel.interfaces() {
            for address in self.mend_addresses(&interfaces, now) {
                let whose = self.addresses.users(&address).next().cloned();
                let told = format!("somebody else has taken {address} away: it is up again");
                self.journal.notice("DRIFT_REPAIRED", whose.as_ref(), told);
            }
            self.watch.see(&interfaces);
        }
        let (listed, mended) = self.mend_rules();
        if mended {
            let told = "somebody else has changed the table gantry_l4 of nft: it is as it was";
            self.journal.notice("DRIFT_REPAIRED", None, told);
        }
        self.walk.listed = listed;
        self.see_to_settings();
        self.make_settings();
        self.mend_timeouts();
        self.close_ways();
        self.look_for_mark_users();
    }

    /// Somebody may begin to set marks while services that need them are in force.
    fn look_for_mark_users(&mut self) {
        let marked = self.services.iter().filter(|(_, found)| !found.form.rules.marks.is_empty());
        let marked: Vec<ServiceName> = marked.map(|(name, _)| name.clone()).collect();
        let foreign = if marked.is_empty() { Ok(Vec::new()) } else { self.kernel.foreign_marks() };
        let Ok(foreign) = foreign else { return };
        let found: BTreeMap<ServiceName, String> = match foreign.first() {
            None => BTreeMap::new(),
            Some(rule) => {
                let message = format!(
                    "somebody else has begun to set packet marks ({rule}), by which the kernel knows \
                     the packets of this service: take that rule away"
                );
                marked.into_iter().map(|name| (name, message.clone())).collect()
            }
        };
        self.journal.find("MARK_IN_USE", found);
    }

    /// Services that are in force no more, by no change of the configuration.
    pub fn ailing(&mut self) -> Outcomes {
        std::mem::take(&mut self.journal.ailing)
    }
}

/// What is done to put a service right, in words: the first thing, and how many more.
fn undone(steps: &Steps) -> String {
    let mut all = steps.build.iter().chain(&steps.clear);
    let Some(first) = all.next() else { return "nothing that matters".to_owned() };
    let more = match all.count() {
        0 => String::new(),
        1 => ", and one more change was undone".to_owned(),
        count => format!(", and {count} more changes were undone"),
    };
    let first = match first {
        Operation::AddService(_) => "it was gone, and is back".to_owned(),
        Operation::SetService(_) => {
            "its scheduler, flags or persistence are as they were".to_owned()
        }
        Operation::AddDestination(_, destination) => {
            format!("{} was gone, and is back with weight {}", destination.key, destination.weight)
        }
        Operation::SetDestination(_, destination) => {
            format!("{} has the weight {} again", destination.key, destination.weight)
        }
        Operation::DeleteDestination(_, at) => format!("{at} was added, and is out again"),
        Operation::DeleteService(_) => "it was added, and is out again".to_owned(),
    };
    first + &more
}
