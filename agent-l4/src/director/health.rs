//! What the checks say, and for how long a server that failed keeps its connections.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use gantry_model::name::ServerName;
use gantry_model::plan::ServicePlan;
use gantry_model::server::AdminState;
use gantry_model::service::{Forwarding, Protocol};

use super::Moment;
use super::table::Table;
use crate::desired::{self, Health};
use crate::ipvs::{Family, ServiceKey};

/// What is known of servers.
#[derive(Debug, Default)]
pub(super) struct Healths {
    known: HashMap<ServerName, bool>,
    failed: HashMap<ServerName, Failed>,
}

#[derive(Clone, Copy, Debug)]
struct Failed {
    since: Instant,
    /// Nobody has said so since the agent started: its connections may go on until somebody does.
    presumed: bool,
}

impl Healths {
    /// Gives whether that is news.
    pub(super) fn hear(&mut self, server: &ServerName, healthy: Option<bool>, now: Moment) -> bool {
        match healthy {
            Some(healthy) => self.known.insert(server.clone(), healthy),
            None => self.known.remove(server),
        };
        if healthy != Some(false) {
            return self.failed.remove(server).is_some();
        }
        if self.failed.get(server).is_some_and(|failed| !failed.presumed) {
            return false;
        }
        self.failed.insert(server.clone(), Failed { since: now.at, presumed: false });
        true
    }

    /// Until healthd has spoken, the kernel's own memory counts: a server that has no weight there
    /// had failed when the agent stopped.
    pub(super) fn expect(&mut self, plan: &ServicePlan, table: &Table, now: Moment) {
        let listener = &plan.service.listener;
        let (port, key) = match plan.mark {
            Some(mark) => {
                let family = Family::of(listener.address);
                (None, ServiceKey::Mark { family, mark: mark.get() })
            }
            None => {
                let port = listener.ports.first();
                let (protocol, address) = (listener.protocol, listener.address);
                (Some(port), ServiceKey::Address { protocol, address, port: port.get() })
            }
        };
        let Some(held) = table.adopted(&key) else { return };
        for server in &plan.servers {
            let at = desired::destination_key(&server.endpoint, port);
            let silenced = held.destinations.get(&at).is_some_and(|held| held.weight == 0);
            let meant = server.admin_state != AdminState::Online || server.weight.get() == 0;
            if silenced && !meant && !self.known.contains_key(&server.name) {
                let failed = Failed { since: now.at, presumed: true };
                self.failed.entry(server.name.clone()).or_insert(failed);
            }
        }
    }

    pub(super) fn of(&self, plan: &ServicePlan, server: &ServerName, now: Moment) -> Health {
        match self.failed.get(server) {
            None => Health::Serves,
            Some(Failed { presumed: true, .. }) => Health::Failing,
            Some(Failed { since, .. }) if now.at < *since + grace(plan) => Health::Failing,
            Some(_) => Health::Gone,
        }
    }

    /// When time alone will change something.
    pub(super) fn due(&self, plan: &ServicePlan, now: Moment) -> Option<Instant> {
        let halts = plan.servers.iter().filter_map(|server| match server.admin_state {
            AdminState::Drain { halt_at: Some(at) } if at > now.wall => {
                let left = Duration::try_from(at.duration_since(now.wall)).unwrap_or_default();
                Some(now.at + left)
            }
            _ => None,
        });
        let failed = plan.servers.iter().filter_map(|server| self.failed.get(&server.name));
        let failed = failed.filter(|failed| !failed.presumed);
        let ends = failed.map(|failed| failed.since + grace(plan)).filter(|end| *end > now.at);
        halts.chain(ends).min()
    }

    pub(super) fn forget(&mut self, plan: &ServicePlan) {
        for server in &plan.servers {
            self.failed.remove(&server.name);
            self.known.remove(&server.name);
        }
    }
}

/// A datagram belongs to no connection that could end well.
fn grace(plan: &ServicePlan) -> Duration {
    match &plan.service.forwarding {
        Forwarding::Layer4(layer4) if plan.service.listener.protocol == Protocol::Tcp => {
            layer4.failure_grace
        }
        _ => Duration::ZERO,
    }
}
