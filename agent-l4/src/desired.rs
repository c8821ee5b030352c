//! What the kernel is to hold for one virtual service: worked out from its plan, from what is known of
//! its servers, and from nothing else.
//!
//! A service has one kernel service for each of its ports, or one for its mark. Every real server that
//! is not out is a destination of each; who gets no new clients has the weight 0. Of a layer 7 service
//! only the address is wanted here, and perhaps that answers come back to it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use gantry_model::address;
use gantry_model::name::ServerName;
use gantry_model::plan::ServicePlan;
use gantry_model::port::Port;
use gantry_model::server::{AdminState, RealServer};
use gantry_model::service::{
    Encapsulation, Endpoint, Forwarding, Interface, Layer4, Method, Protocol, Scheduler, Strategy,
    VirtualService,
};
use jiff::Timestamp;

use crate::host::nft::{PortKey, Rules};
use crate::ipvs::{self, Checksum, Destination, DestinationKey, Family, ServiceKey, Tunnel};

/// A kernel service and its destinations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Programmed {
    pub service: ipvs::Service,
    pub destinations: BTreeMap<DestinationKey, Destination>,
}

/// All that one virtual service wants of the machine.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Form {
    pub services: BTreeMap<ServiceKey, Programmed>,
    /// Whose a destination is; the fallback is nobody's.
    pub servers: BTreeMap<DestinationKey, ServerName>,
    pub rules: Rules,
    pub addresses: Vec<Address>,
    /// Absent: it is not layer 4's.
    pub method: Option<Method>,
    pub idle_timeout: Duration,
    pub protocol: Option<Protocol>,
    /// Checks come by way of the virtual address.
    pub checked_through: bool,
}

impl Form {
    /// Whether `other` asks the same of the machine beside IPVS and the rules of nft.
    pub fn needs_the_same(&self, other: &Self) -> bool {
        self.addresses == other.addresses
            && self.method == other.method
            && self.idle_timeout == other.idle_timeout
            && self.protocol == other.protocol
            && self.checked_through == other.checked_through
    }
}

/// A virtual address, and the interface that is to bring it up, if somebody said which.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    pub address: IpAddr,
    pub interface: Option<Interface>,
    /// The field that it stands in.
    pub field: &'static str,
}

/// What the checks say of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// It answers, or nobody has asked it yet.
    Serves,
    /// It has failed, and its connections may go on for now.
    Failing,
    /// It has failed for good.
    Gone,
}

/// The longest time that every kernel counts right, in ticks of 32 bits at 1000 a second.
const LONGEST: Duration = Duration::from_secs(49 * 24 * 3600);

/// What `plan` wants at `now`, where `health` says how each server is.
pub fn form(plan: &ServicePlan, now: Timestamp, health: impl Fn(&ServerName) -> Health) -> Form {
    let service = &plan.service;
    if service.disabled {
        return Form::default();
    }
    let listener = &service.listener;
    let mut addresses = vec![Address {
        address: listener.address,
        interface: listener.interface.clone(),
        field: "listener.address",
    }];
    let layer4 = match &service.forwarding {
        Forwarding::Layer4(layer4) => layer4,
        Forwarding::Layer7(layer7) => {
            let rules = Rules { transparent: layer7.transparent_source, ..Rules::default() };
            return Form { addresses, rules, ..Form::default() };
        }
    };
    if let Some(address) = layer4.snat_address
        && address != listener.address
    {
        addresses.push(Address { address, interface: None, field: "layer4.snat_address" });
    }
    let view = View { plan, layer4, now };
    let keys = view.keys();
    let mut form = Form {
        addresses,
        rules: view.rules(),
        method: Some(layer4.method),
        idle_timeout: layer4.idle_timeout,
        protocol: Some(listener.protocol),
        checked_through: service.check.through_virtual_address,
        ..Form::default()
    };
    for (key, port) in keys {
        let (destinations, servers) = view.destinations(port, &health);
        form.servers.extend(servers);
        form.services.insert(key, Programmed { service: view.service(key), destinations });
    }
    form
}

/// Where a server of `service` is reached by a kernel service for `port`, or for a mark without one.
pub fn destination_key(endpoint: &Endpoint, port: Option<Port>) -> DestinationKey {
    let port = port.map(|port| endpoint.port.unwrap_or(port));
    DestinationKey { address: endpoint.address, port: port.map_or(0, Port::get) }
}

/// How packets reach a server, in the kernel's terms.
pub fn method(method: Method) -> ipvs::Method {
    match method {
        Method::DirectRouting => ipvs::Method::DirectRouting,
        Method::Nat | Method::Snat => ipvs::Method::Masquerade,
        Method::Tunnel(Encapsulation::Ipip) => ipvs::Method::Tunnel(Tunnel::Ipip),
        Method::Tunnel(Encapsulation::Gue(port)) => {
            ipvs::Method::Tunnel(Tunnel::Gue { port: port.get(), checksum: Checksum::None })
        }
        Method::Tunnel(Encapsulation::Gre) => {
            ipvs::Method::Tunnel(Tunnel::Gre { checksum: Checksum::None })
        }
    }
}

/// Whole seconds, rounded up, that the kernel can count.
pub fn seconds(duration: Duration) -> u32 {
    let duration = duration.min(LONGEST);
    let part = u64::from(duration.subsec_nanos() > 0);
    u32::try_from(duration.as_secs() + part).unwrap_or(u32::MAX)
}

/// One plan, looked at.
struct View<'a> {
    plan: &'a ServicePlan,
    layer4: &'a Layer4,
    now: Timestamp,
}

impl View<'_> {
    fn config(&self) -> &VirtualService {
        &self.plan.service
    }

    /// The kernel services, each with the port that it is for; a mark is for all.
    fn keys(&self) -> Vec<(ServiceKey, Option<Port>)> {
        let listener = &self.config().listener;
        let (address, protocol) = (listener.address, listener.protocol);
        if let Some(mark) = self.plan.mark {
            let family = Family::of(address);
            return vec![(ServiceKey::Mark { family, mark: mark.get() }, None)];
        }
        let key = |port: Port| ServiceKey::Address { protocol, address, port: port.get() };
        listener.ports.iter().map(|port| (key(port), Some(port))).collect()
    }

    fn service(&self, key: ServiceKey) -> ipvs::Service {
        let config = self.config();
        let host = address::bits(config.listener.address);
        let persistence = config.persistence.map(|persistence| ipvs::Persistence {
            timeout: seconds(persistence.timeout).max(1),
            prefix: persistence.prefix.map_or(host, std::num::NonZeroU8::get),
        });
        let scheduler = match config.strategy {
            Strategy::Failover => ipvs::Scheduler::Failover,
            Strategy::Balance => scheduler(self.layer4.scheduler),
        };
        let hashes = matches!(scheduler, ipvs::Scheduler::SourceHash | ipvs::Scheduler::MaglevHash);
        ipvs::Service {
            key,
            scheduler,
            hash_ports: hashes && self.layer4.hash_ports,
            // Without it, clients whose hash falls on a server that is out are refused.
            hash_fallback: hashes,
            one_packet: self.layer4.one_packet,
            persistence,
        }
    }

    fn rules(&self) -> Rules {
        let listener = &self.config().listener;
        let ranges = || {
            listener.ports.ranges().iter().map(|range| PortKey {
                address: listener.address,
                protocol: listener.protocol,
                first: range.first().get(),
                last: range.last().get(),
            })
        };
        let mut rules = Rules::default();
        if let Some(mark) = self.plan.mark {
            rules.marks = ranges().map(|key| (key, mark.get())).collect();
        }
        if self.layer4.method == Method::Snat {
            let source = self.layer4.snat_address.unwrap_or(listener.address);
            rules.sources = ranges().map(|key| (key, source)).collect();
        }
        rules
    }

    /// The destinations of one kernel service, and whose they are. The fallback is one of weight 0
    /// until no other has any.
    fn destinations(
        &self,
        port: Option<Port>,
        health: &impl Fn(&ServerName) -> Health,
    ) -> (BTreeMap<DestinationKey, Destination>, BTreeMap<DestinationKey, ServerName>) {
        let (mut destinations, mut servers) = (BTreeMap::new(), BTreeMap::new());
        for server in &self.plan.servers {
            let Some(weight) = self.weight(server, health(&server.name)) else { continue };
            let key = destination_key(&server.endpoint, port);
            let (upper, lower) = (server.max_connections, server.min_connections);
            destinations.insert(key, self.destination(key, weight, (upper, lower)));
            servers.insert(key, server.name.clone());
        }
        if let Some(fallback) = &self.config().fallback {
            let left = destinations.values().all(|destination| destination.weight == 0);
            let key = destination_key(fallback, port);
            destinations
                .entry(key)
                .or_insert_with(|| self.destination(key, u32::from(left), (0, 0)));
        }
        (destinations, servers)
    }

    fn destination(
        &self,
        key: DestinationKey,
        weight: u32,
        (upper, lower): (u32, u32),
    ) -> Destination {
        Destination { key, method: method(self.layer4.method), weight, upper, lower }
    }

    /// The weight of a server, or none if it is to be no destination at all.
    fn weight(&self, server: &RealServer, health: Health) -> Option<u32> {
        match (server.admin_state.at(self.now), health) {
            (AdminState::Halt, _) | (_, Health::Gone) => None,
            (AdminState::Drain { .. }, _) | (_, Health::Failing) => Some(0),
            (AdminState::Online, Health::Serves) => Some(self.share(server)),
        }
    }

    /// In failover mode the kernel takes the heaviest, so weights tell the order there.
    fn share(&self, server: &RealServer) -> u32 {
        let configured = u32::from(server.weight.get());
        if configured == 0 || self.config().strategy == Strategy::Balance {
            return configured;
        }
        let place = |server: &RealServer| (server.priority, server.name.server.clone());
        let behind = self.plan.servers.iter().filter(|other| place(other) > place(server));
        1 + u32::try_from(behind.count()).unwrap_or(0)
    }
}

fn scheduler(scheduler: Scheduler) -> ipvs::Scheduler {
    match scheduler {
        Scheduler::WeightedLeastConnection => ipvs::Scheduler::WeightedLeastConnection,
        Scheduler::LeastConnection => ipvs::Scheduler::LeastConnection,
        Scheduler::WeightedRoundRobin => ipvs::Scheduler::WeightedRoundRobin,
        Scheduler::RoundRobin => ipvs::Scheduler::RoundRobin,
        Scheduler::SourceHash => ipvs::Scheduler::SourceHash,
        Scheduler::MaglevHash => ipvs::Scheduler::MaglevHash,
        Scheduler::DestinationHash => ipvs::Scheduler::DestinationHash,
        Scheduler::ShortestExpectedDelay => ipvs::Scheduler::ShortestExpectedDelay,
        Scheduler::NeverQueue => ipvs::Scheduler::NeverQueue,
        Scheduler::WeightedOverflow => ipvs::Scheduler::Overflow,
    }
}

#[cfg(test)]
mod tests;
