//! Leads the kernel to what the virtual services want, and keeps it there.
//!
//! Plans and verdicts go in; what is told of it comes out (rejections, findings, notices, samples). The
//! director owns all state of the agent and lives on one thread. It never flushes, and touches only
//! what is its own: that is what it has noted as made by itself ([`crate::owned`]), or was explicitly
//! told to adopt.

mod addresses;
mod admit;
mod checks;
mod health;
mod machine;
mod program;
mod report;
mod table;
#[cfg(test)]
mod tests;
mod walk;
mod watch;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use gantry_model::name::{ServerName, ServiceName};
use gantry_model::plan::ServicePlan;
use gantry_model::service::Forwarding;
use gantry_runtime::agent::Rejection;
use gantry_runtime::{clock, rpc};
use jiff::Timestamp;
use tracing::{debug, info, warn};

use self::addresses::Addresses;
use self::admit::Look;
use self::checks::Checks;
pub use self::checks::Way;
use self::health::Healths;
use self::machine::Machine;
use self::report::Journal;
use self::table::Table;
use self::walk::Walk;
use self::watch::Watch;
use crate::desired::{self, Form};
use crate::ipvs::ServiceKey;
use crate::kernel::Kernel;
use crate::owned::Owned;

pub use self::report::View;

/// One moment, by both clocks.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    pub at: Instant,
    pub wall: Timestamp,
}

/// How a director goes about its work.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Takes over kernel services that somebody else has made, where a virtual service wants them.
    pub adopt: bool,
    /// Between two looks at the whole kernel, for counters and for what others have changed.
    pub pass: Duration,
}

/// See the head of this file.
#[derive(Debug)]
pub struct Director<K> {
    kernel: K,
    settings: Settings,
    owned: Owned,
    services: BTreeMap<ServiceName, Deployed>,
    claims: BTreeMap<ServiceKey, ServiceName>,
    table: Table,
    healths: Healths,
    checks: Checks,
    addresses: Addresses,
    machine: Machine,
    walk: Walk,
    watch: Watch,
    journal: Journal,
    /// When a service has to be looked at again: a drain or a grace ends.
    due: BTreeMap<ServiceName, Instant>,
    /// The first plans have come: what is owned and in none of them is left over.
    begun: bool,
}

/// A virtual service in force.
#[derive(Clone, Debug)]
struct Deployed {
    plan: ServicePlan,
    form: Form,
}

type Outcomes = BTreeMap<ServiceName, Rejection>;

impl<K> Director<K> {
    /// The plan of a service that is carried here, and what it wants.
    pub fn carried(&self, name: &ServiceName) -> Option<(&ServicePlan, &Form)> {
        let deployed = self.services.get(name)?;
        deployed.form.method.map(|_| (&deployed.plan, &deployed.form))
    }
}

impl<K: Kernel> Director<K> {
    pub fn new(kernel: K, owned: Owned, settings: Settings) -> Self {
        Self {
            kernel,
            settings,
            addresses: Addresses::of(&owned),
            owned,
            services: BTreeMap::new(),
            claims: BTreeMap::new(),
            table: Table::default(),
            healths: Healths::default(),
            checks: Checks::default(),
            machine: Machine::default(),
            walk: Walk::default(),
            watch: Watch::default(),
            journal: Journal::default(),
            due: BTreeMap::new(),
            begun: false,
        }
    }

    /// Takes services out and puts others in force, all together. Gives of each plan whether it is
    /// in force; one that is not keeps its former form, if it had one.
    pub fn change(
        &mut self,
        removed: &[ServiceName],
        plans: Vec<ServicePlan>,
        now: Moment,
    ) -> Vec<Result<(), Rejection>> {
        let names: Vec<ServiceName> = plans.iter().map(|plan| plan.service.name.clone()).collect();
        let mut draft = Draft::default();
        for name in removed.iter().chain(&names) {
            self.release(name, &mut draft);
        }
        removed.iter().for_each(|name| self.forget(name));
        let in_kernel =
            |plan: &ServicePlan| matches!(plan.service.forwarding, Forwarding::Layer4(_));
        if plans.iter().any(in_kernel)
            && let Err(trouble) = self.table.read(&mut self.kernel, &self.owned)
        {
            debug!(why = rpc::causes(&trouble), "each service will be told");
        }
        let mut outcomes = Outcomes::new();
        let mut look = Look::default();
        for plan in plans {
            let name = plan.service.name.clone();
            self.healths.expect(&plan, &self.table, now);
            match self.admit(&plan, &mut look, now) {
                Ok(form) => self.deploy(Deployed { plan, form }, &mut draft),
                Err(rejection) => {
                    self.reclaim(&name);
                    outcomes.insert(name, rejection);
                }
            }
        }
        let first = !self.begun && !names.is_empty();
        if first {
            self.begun = true;
            self.sweep(&names, &mut draft);
        }
        self.carry_out(draft, &mut outcomes, now);
        if first {
            let (services, refused) = (names.len(), outcomes.len());
            let milliseconds = (clock::monotonic() - now.at).as_millis();
            info!(services, refused, milliseconds, "put in force at the start");
        }
        names.iter().for_each(|name| self.set_due(name, now));
        names.iter().map(|name| outcomes.remove(name).map_or(Ok(()), Err)).collect()
    }

    /// Takes in what the checks say of a server; `None`: nothing is known.
    pub fn verdict(&mut self, server: &ServerName, healthy: Option<bool>, now: Moment) {
        if self.healths.hear(server, healthy, now) {
            self.reform(&server.service, now);
        }
    }

    /// Does what has become due.
    pub fn tick(&mut self, now: Moment) {
        let due = self.due.iter().filter(|(_, at)| **at <= now.at);
        let due: Vec<_> = due.map(|(name, _)| name.clone()).collect();
        due.iter().for_each(|name| self.reform(name, now));
        self.keep_watch(now);
    }

    /// When [`Self::tick`] or [`Self::walk`] have something to do again.
    pub fn next(&self, now: Moment) -> Instant {
        let due = self.due.values().min().copied();
        let known = [due, self.watch.due(), Some(self.walk.due(now.at))];
        known.into_iter().flatten().min().unwrap_or(now.at)
    }

    /// Works a service out anew, when what is known of its servers has changed or time has passed.
    fn reform(&mut self, name: &ServiceName, now: Moment) {
        let Some(deployed) = self.services.get(name) else { return };
        let form = self.form(&deployed.plan, now);
        if form != deployed.form {
            let mut draft = Draft::default();
            draft.touch(&deployed.form);
            let deployed = Deployed { plan: deployed.plan.clone(), form };
            self.deploy(deployed, &mut draft);
            let mut outcomes = Outcomes::new();
            self.carry_out(draft, &mut outcomes, now);
            self.journal.ailing.extend(outcomes);
        }
        self.set_due(name, now);
    }

    fn form(&self, plan: &ServicePlan, now: Moment) -> Form {
        desired::form(plan, now.wall, |server| self.healths.of(plan, server, now))
    }

    /// Gives up the claims of a service, so that others of the same change may have them.
    fn release(&mut self, name: &ServiceName, draft: &mut Draft) {
        let Some(deployed) = self.services.get(name) else { return };
        draft.touch(&deployed.form);
        draft.former.insert(name.clone(), Some(deployed.clone()));
        self.unclaim(name);
    }

    fn unclaim(&mut self, name: &ServiceName) {
        let Some(deployed) = self.services.get(name) else { return };
        deployed.form.services.keys().for_each(|key| drop(self.claims.remove(key)));
    }

    /// A plan was not admitted: its former form goes on, but for what others have now.
    fn reclaim(&mut self, name: &ServiceName) {
        let Some(deployed) = self.services.get_mut(name) else { return };
        let claims = &self.claims;
        deployed.form.services.retain(|key, _| !claims.contains_key(key));
        let keys = deployed.form.services.keys();
        self.claims.extend(keys.map(|key| (*key, name.clone())));
    }

    fn deploy(&mut self, deployed: Deployed, draft: &mut Draft) {
        let name = deployed.plan.service.name.clone();
        draft.touch(&deployed.form);
        draft.former.entry(name.clone()).or_insert_with(|| self.services.get(&name).cloned());
        let keys = deployed.form.services.keys();
        self.claims.extend(keys.map(|key| (*key, name.clone())));
        self.addresses.want(&name, &deployed.form.addresses);
        self.services.insert(name, deployed);
    }

    fn forget(&mut self, name: &ServiceName) {
        if let Some(deployed) = self.services.remove(name) {
            self.healths.forget(&deployed.plan);
        }
        self.addresses.leave(name);
        self.due.remove(name);
        self.journal.ailing.remove(name);
    }

    /// What is owned, though no service wants it: made before a restart, and not needed since.
    /// Things of services that were given now and not taken stay as they are.
    fn sweep(&mut self, given: &[ServiceName], draft: &mut Draft) {
        let left = |service: &str| {
            let name = service.parse::<ServiceName>().ok();
            name.is_none_or(|name| !given.contains(&name) || self.services.contains_key(&name))
        };
        for (key, service) in self.table.held_for(&self.owned) {
            if !self.claims.contains_key(&key) && left(&service) {
                info!(%key, service, "taking out what was left over");
                draft.keys.insert(key);
            }
        }
        let unwanted = self.addresses.unwanted().into_iter();
        draft.addresses.extend(unwanted.filter(|(_, service)| left(service)).map(|(at, _)| at));
    }

    fn set_due(&mut self, name: &ServiceName, now: Moment) {
        let due =
            self.services.get(name).and_then(|deployed| self.healths.due(&deployed.plan, now));
        match due {
            Some(due) => drop(self.due.insert(name.clone(), due)),
            None => drop(self.due.remove(name)),
        }
    }

    fn warn_not_noted(why: &crate::owned::OwnedError) {
        warn!(why = rpc::causes(why), "not noted as owned");
    }
}

/// What a change touches, and what was there before.
#[derive(Debug, Default)]
struct Draft {
    keys: BTreeSet<ServiceKey>,
    addresses: BTreeSet<std::net::IpAddr>,
    /// Rules of nft are concerned.
    rules: bool,
    /// Services by their form before the change; none: it is new.
    former: BTreeMap<ServiceName, Option<Deployed>>,
}

impl Draft {
    fn touch(&mut self, form: &Form) {
        self.keys.extend(form.services.keys());
        self.addresses.extend(form.addresses.iter().map(|wanted| wanted.address));
        self.rules |= form.rules != Default::default();
    }
}
