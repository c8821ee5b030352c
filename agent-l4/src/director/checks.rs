//! Ways by which healthd reaches a virtual address through one real server.
//!
//! Packets of a check have a mark of their own, and the kernel a service for that mark with the one
//! server behind it, so they come to it exactly as clients' packets do.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use gantry_model::mark::Mark;
use gantry_model::name::ServerName;
use gantry_model::service::Forwarding;
use gantry_runtime::agent::Rejection;

use super::Director;
use super::machine::own_address;
use crate::desired::{Programmed, method};
use crate::ipvs::{self, Destination, DestinationKey, Family, Method, Scheduler, ServiceKey};
use crate::kernel::{Kernel, rejection};

/// How a connection gets to the virtual address by way of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way {
    pub mark: u32,
    /// What the connection has to come from.
    pub source: IpAddr,
}

/// The kernel services that carry checks.
#[derive(Debug, Default)]
pub(super) struct Checks {
    ways: BTreeMap<ServiceKey, (IpAddr, Method)>,
}

impl Checks {
    /// What a kernel service is to be, if it carries checks.
    pub(super) fn wanted(&self, key: &ServiceKey) -> Option<Programmed> {
        let (address, method) = *self.ways.get(key)?;
        let at = DestinationKey { address, port: 0 };
        let destination = Destination { key: at, method, weight: 1, upper: 0, lower: 0 };
        let service = ipvs::Service {
            key: *key,
            scheduler: Scheduler::RoundRobin,
            hash_ports: false,
            hash_fallback: false,
            one_packet: false,
            persistence: None,
        };
        Some(Programmed { service, destinations: [(at, destination)].into() })
    }

    fn to(&self, family: Family, to: (IpAddr, Method)) -> Option<ServiceKey> {
        let found = self.ways.iter().find(|(key, way)| key.family() == family && **way == to);
        found.map(|(key, _)| *key)
    }

    fn free(&self, family: Family, taken: impl Fn(&ServiceKey) -> bool) -> Option<ServiceKey> {
        let keys = (0..).map_while(Mark::of_check);
        let mut keys = keys.map(|mark| ServiceKey::Mark { family, mark: mark.get() });
        keys.find(|key| !self.ways.contains_key(key) && !taken(key))
    }
}

impl<K: Kernel> Director<K> {
    /// Makes, or finds, the way to the virtual address of a server's service through that server.
    pub fn way_to(&mut self, server: &ServerName) -> Result<Way, Rejection> {
        let refuse = |reason, message: &str| rejection(reason, "", message);
        let unknown = || refuse("NOT_IN_FORCE", "the virtual service is not in force here");
        let deployed = self.services.get(&server.service).ok_or_else(unknown)?;
        let Forwarding::Layer4(layer4) = &deployed.plan.service.forwarding else {
            return Err(refuse("NOT_LAYER4", "the virtual service is not at layer 4"));
        };
        if !layer4.method.keeps_address() {
            let what = "real servers of this method do not have the virtual address";
            return Err(refuse("NOT_DIRECT_ROUTING", what));
        }
        let family = Family::of(deployed.plan.service.listener.address);
        let found = deployed.plan.servers.iter().find(|known| known.name == *server);
        let address = found.ok_or_else(unknown)?.endpoint.address;
        let to = (address, method(layer4.method));
        let listener = deployed.plan.service.listener.address;
        let source =
            self.source_for(if family == Family::of(address) { address } else { listener })?;
        let key = match self.checks.to(family, to) {
            Some(key) => key,
            None => self.open_way(family, to)?,
        };
        let ServiceKey::Mark { mark, .. } = key else { return Err(unknown()) };
        Ok(Way { mark, source })
    }

    fn source_for(&mut self, server: IpAddr) -> Result<IpAddr, Rejection> {
        let interfaces = self.kernel.interfaces().map_err(|trouble| trouble.rejection(""))?;
        let is_virtual = |address: &IpAddr| {
            self.addresses.up().get(address).is_some_and(|place| place.ours)
                || self.services.values().any(|deployed| deployed.wants(*address))
        };
        own_address(&interfaces, server, is_virtual).ok_or_else(|| {
            let what = "the appliance has no address of its own in the network of the real server";
            rejection("NO_OWN_ADDRESS", "", what)
        })
    }

    fn open_way(&mut self, family: Family, to: (IpAddr, Method)) -> Result<ServiceKey, Rejection> {
        let none = || rejection("NO_MARK", "", "there is no mark left for another check");
        let key = self.checks.free(family, |key| self.table.is_foreign(key)).ok_or_else(none)?;
        self.checks.ways.insert(key, to);
        let keys = BTreeSet::from([key]);
        self.build(&keys);
        if self.steps(&keys).is_empty() {
            return Ok(key);
        }
        self.checks.ways.remove(&key);
        self.clear(&keys);
        Err(rejection("IPVS_FAILED", "", "the kernel refuses the way: see the log of agent-l4"))
    }

    /// Closes the ways that no service needs any more.
    pub(super) fn close_ways(&mut self) {
        let needed: BTreeSet<IpAddr> = self
            .services
            .values()
            .filter(|deployed| deployed.form.checked_through)
            .flat_map(|deployed| deployed.plan.servers.iter().map(|server| server.endpoint.address))
            .collect();
        let gone: BTreeSet<ServiceKey> = self
            .checks
            .ways
            .iter()
            .filter(|(_, (address, _))| !needed.contains(address))
            .map(|(key, _)| *key)
            .collect();
        self.checks.ways.retain(|key, _| !gone.contains(key));
        self.clear(&gone);
    }
}
