//! Carries out a change: what is new is made first, what is old goes last.

use std::collections::{BTreeMap, BTreeSet};

use gantry_runtime::agent::Rejection;
use gantry_runtime::clock;
use rustix::io::Errno;
use tracing::{debug, warn};

use super::table::key_of;
use super::{Director, Draft, Moment, Outcomes};
use crate::desired::Programmed;
use crate::diff::Steps;
use crate::ipvs::{Failure, Operation, ServiceKey};
use crate::kernel::{Kernel, Trouble, rejection};
use crate::owned::Thing;

impl<K: Kernel> Director<K> {
    /// Leads the machine to what the services want now, where `draft` touches it. Services that
    /// could not be put in force are added to `outcomes`, and are as they were before.
    pub(super) fn carry_out(&mut self, mut draft: Draft, outcomes: &mut Outcomes, now: Moment) {
        let settled = self.is_settled(&draft);
        let others = !settled && self.see_to_settings();
        let refused = self.build(&draft.keys);
        self.put_back(&refused, &mut draft);
        outcomes.extend(refused);
        if draft.rules {
            self.lead_rules(&draft, outcomes);
        }
        self.bring_up(&draft.addresses, outcomes, now);
        // Some are for the interfaces that addresses are on now, and some come with the rules.
        if !settled && !self.see_to_settings() && others {
            self.make_settings();
        }
        self.clear(&draft.keys);
        self.take_down(&draft.addresses);
    }

    /// What leads the kernel services named to what is wanted.
    pub(super) fn steps(&self, keys: &BTreeSet<ServiceKey>) -> Steps {
        let mut steps = Steps::default();
        for key in keys {
            steps.lead(*key, self.table.held().get(key), self.wanted(key).as_ref());
        }
        steps
    }

    fn wanted(&self, key: &ServiceKey) -> Option<Programmed> {
        let Some(name) = self.claims.get(key) else { return self.checks.wanted(key) };
        self.services.get(name)?.form.services.get(key).cloned()
    }

    /// Makes and changes. What failed is looked at and tried once more: somebody else may have
    /// been at it. Gives the services that are still not as wanted.
    pub(super) fn build(&mut self, keys: &BTreeSet<ServiceKey>) -> Outcomes {
        let mut refused = Outcomes::new();
        for _ in 0..2 {
            let steps = self.steps(keys).build;
            if steps.is_empty() {
                return Outcomes::new();
            }
            if let Err(rejection) = self.own(&steps) {
                return self.everybody(keys, &rejection);
            }
            let failures = match self.program(&steps) {
                Ok(failures) if failures.is_empty() => return Outcomes::new(),
                Ok(failures) => failures,
                Err(trouble) => return self.everybody(keys, &trouble.rejection("layer4")),
            };
            refused = self.blame(&failures);
            let failed: BTreeSet<_> =
                failures.iter().map(|(operation, _)| key_of(operation)).collect();
            self.read_again(&failed);
        }
        refused
    }

    /// Takes away what is not wanted any more.
    pub(super) fn clear(&mut self, keys: &BTreeSet<ServiceKey>) {
        let steps = self.steps(keys).clear;
        match self.program(&steps) {
            Ok(failures) => {
                let failed: BTreeSet<_> =
                    failures.iter().map(|(operation, _)| key_of(operation)).collect();
                self.read_again(&failed);
            }
            Err(trouble) => warn!(why = gantry_runtime::rpc::causes(&trouble), "not taken out"),
        }
        let deleted = steps.iter().filter_map(|step| match step {
            Operation::DeleteService(key) => Some(Thing::Ipvs(*key)),
            _ => None,
        });
        let gone = deleted.filter(|thing| !self.holds(thing)).collect();
        if let Err(why) = self.owned.remove(gone) {
            Self::warn_not_noted(&why);
        }
    }

    fn holds(&self, thing: &Thing) -> bool {
        matches!(thing, Thing::Ipvs(key) if self.table.held().contains_key(key))
    }

    /// Notes as owned what is about to be made.
    fn own(&mut self, steps: &[Operation]) -> Result<(), Rejection> {
        let things = steps.iter().filter_map(|step| match step {
            Operation::AddService(service) => {
                let whose = self.claims.get(&service.key).map(ToString::to_string);
                Some((Thing::Ipvs(service.key), whose.unwrap_or_default()))
            }
            _ => None,
        });
        let things = things.collect();
        self.owned.add(things).map_err(|why| {
            let why = gantry_runtime::rpc::causes(&why);
            let message = format!(
                "what agent-l4 makes it has to note first, and cannot ({why}): make room on the disk"
            );
            rejection("STATE_NOT_WRITTEN", "", message)
        })
    }

    /// Carries operations out; gives those that failed.
    pub(super) fn program(
        &mut self,
        operations: &[Operation],
    ) -> Result<Vec<(Operation, Failure)>, Trouble> {
        if operations.is_empty() {
            return Ok(Vec::new());
        }
        let began = clock::monotonic();
        let failures = self.kernel.program(operations).inspect_err(|_| self.table.doubt())?;
        let milliseconds = (clock::monotonic() - began).as_millis();
        debug!(
            operations = operations.len(),
            failures = failures.len(),
            milliseconds,
            "programmed"
        );
        let mut failures: BTreeMap<usize, Failure> =
            failures.into_iter().map(|failure| (failure.at, failure)).collect();
        let mut failed = Vec::new();
        for (at, operation) in operations.iter().enumerate() {
            match failures.remove(&at) {
                Some(failure) => failed.push((*operation, failure)),
                None => self.table.note(operation),
            }
        }
        Ok(failed)
    }

    /// Whose services failed, and why; the first failure of each says it.
    fn blame(&mut self, failures: &[(Operation, Failure)]) -> Outcomes {
        let mut outcomes = Outcomes::new();
        for (operation, failure) in failures {
            let key = key_of(operation);
            let made = matches!(operation, Operation::AddService(_));
            if made && failure.errno == Errno::EXIST {
                self.table.disown(key);
                if let Err(why) = self.owned.remove(vec![Thing::Ipvs(key)]) {
                    Self::warn_not_noted(&why);
                }
            }
            let Some(name) = self.claims.get(&key) else { continue };
            let entry = outcomes.entry(name.clone());
            entry.or_insert_with(|| refusal(operation, failure));
        }
        outcomes
    }

    fn read_again(&mut self, keys: &BTreeSet<ServiceKey>) {
        if keys.is_empty() {
            return;
        }
        let read = self.kernel.services().and_then(|entries| {
            let own = keys.iter().filter(|key| !self.table.is_foreign(key)).copied();
            let own: Vec<_> = own.collect();
            own.into_iter()
                .try_for_each(|key| self.table.read_again(&mut self.kernel, &entries, key))
        });
        if let Err(trouble) = read {
            warn!(why = gantry_runtime::rpc::causes(&trouble), "the kernel cannot be read");
            self.table.doubt();
        }
    }

    /// The same rejection for every service that claims one of the keys.
    fn everybody(&self, keys: &BTreeSet<ServiceKey>, rejection: &Rejection) -> Outcomes {
        let names = keys.iter().filter_map(|key| self.claims.get(key));
        names.map(|name| (name.clone(), rejection.clone())).collect()
    }

    /// Gives services their form from before the change, or takes them out if they had none.
    fn put_back(&mut self, refused: &Outcomes, draft: &mut Draft) {
        if refused.is_empty() {
            return;
        }
        for name in refused.keys() {
            self.unclaim(name);
            match draft.former.get(name).cloned().flatten() {
                Some(former) => self.deploy(former, draft),
                None => self.forget(name),
            }
        }
        for (name, rejection) in self.build(&draft.keys) {
            warn!(%name, message = rejection.message, "its former form is not in force either");
        }
    }
}

fn refusal(operation: &Operation, failure: &Failure) -> Rejection {
    let (key, why) = (key_of(operation), &failure.message);
    match (operation, failure.errno) {
        (Operation::AddService(_), Errno::EXIST) => foreign(&key),
        (Operation::AddService(service) | Operation::SetService(service), Errno::NOENT) => {
            let name = service.scheduler.name();
            let message = format!(
                "the kernel has no scheduler {name:?} (module ip_vs_{name}): choose another, or \
                 install that module"
            );
            rejection("NO_SCHEDULER", "layer4.scheduler", message)
        }
        _ => rejection(
            "IPVS_FAILED",
            "layer4",
            format!("the kernel refuses {key}: {why}; see the log of agent-l4"),
        ),
    }
}

/// The rejection of a service whose place in the kernel is somebody else's.
pub(super) fn foreign(key: &ServiceKey) -> Rejection {
    let message = format!(
        "{key} is in the kernel already, and Gantry has not put it there: take it out (see `ipvsadm \
         -Ln`), or start agent-l4 with --adopt to take it over as it is"
    );
    rejection("FOREIGN_SERVICE", "listener", message)
}
