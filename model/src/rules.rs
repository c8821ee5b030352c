//! Rules that hold between resources: a service and its servers, a service and its neighbours.

mod fit;

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use crate::name::{ServerName, ServiceName};
use crate::port::{Port, PortRange};
use crate::server::RealServer;
use crate::service::{Forwarding, Listener, Method, Protocol, VirtualService};
use crate::violation::Violations;

pub use self::fit::check_service;
use self::fit::{check_address, comes_back, effective_port};

/// Checks what a service and its servers can only be wrong about together. Each server comes with
/// the path of the field that it stands in.
pub fn check_together<'a>(
    violations: &mut Violations,
    service: &VirtualService,
    servers: impl IntoIterator<Item = (String, &'a RealServer)>,
) {
    let mut before = Siblings::default();
    for (field, server) in servers {
        violations.within(field, |violations| {
            check_server(violations, service, server);
            before.check(violations, service, server);
        });
        before.add(service, server);
    }
}

/// The other servers of a service, by what each must have for itself.
#[derive(Debug, Default)]
pub struct Siblings<'a> {
    labels: HashMap<&'a str, &'a ServerName>,
    endpoints: HashMap<(IpAddr, Option<Port>), &'a ServerName>,
}

impl<'a> Siblings<'a> {
    pub fn new(
        service: &VirtualService,
        servers: impl IntoIterator<Item = &'a RealServer>,
    ) -> Self {
        let mut siblings = Self::default();
        for server in servers {
            siblings.add(service, server);
        }
        siblings
    }

    fn add(&mut self, service: &VirtualService, server: &'a RealServer) {
        self.labels.insert(&server.label, &server.name);
        let port = effective_port(&service.listener, &server.endpoint);
        self.endpoints.insert((server.endpoint.address, port), &server.name);
    }

    /// Checks that `server` has nothing that one of these has.
    pub fn check(
        &self,
        violations: &mut Violations,
        service: &VirtualService,
        server: &RealServer,
    ) {
        if !server.label.is_empty()
            && let Some(twin) = self.labels.get(server.label.as_str())
        {
            let what = format!("{:?} is the label of {} already", server.label, twin.server);
            violations.add("display_name", "DUPLICATE", what);
        }
        let port = effective_port(&service.listener, &server.endpoint);
        if let Some(twin) = self.endpoints.get(&(server.endpoint.address, port)) {
            let what = format!(
                "is that of {} already, which would get the share of both: give one of them a \
                 greater weight",
                twin.server
            );
            violations.add("endpoint", "DUPLICATE", what);
        }
    }
}

/// Checks one server against its service.
pub fn check_server(violations: &mut Violations, service: &VirtualService, server: &RealServer) {
    let listener = &service.listener;
    if let Some(port) = server.endpoint.port
        && !listener.ports.is_single()
    {
        let what = format!(
            "{port} would be the target of all the ports {}: leave it out, so that each port goes \
             to the same port, or make a virtual service for each port",
            listener.ports
        );
        violations.add("endpoint.port", "PORT_TRANSLATION", what);
    }
    if let Forwarding::Layer4(layer4) = &service.forwarding {
        let other_port = server
            .endpoint
            .port
            .filter(|port| listener.ports.is_single() && *port != listener.ports.first());
        if let Some(port) = other_port
            && layer4.method.keeps_address()
        {
            let what = format!(
                "{port} is not the port {} that clients connect to, and this method cannot \
                 translate ports: use NAT, SNAT or layer7",
                listener.ports
            );
            violations.add("endpoint.port", "PORT_TRANSLATION", what);
        }
        let tunnelled = matches!(layer4.method, Method::Tunnel(_));
        if server.endpoint.address.is_ipv4() != listener.address.is_ipv4() && !tunnelled {
            let what = "is not of the listener's address family, which layer 4 cannot translate";
            violations.add("endpoint.address", "ADDRESS_FAMILY", what);
        }
    }
    if let Some(pool) = &server.pool {
        let is_routed = match &service.forwarding {
            Forwarding::Layer7(layer7) => layer7.pools().any(|routed| routed == pool),
            Forwarding::Layer4(_) => false,
        };
        if !is_routed {
            let what = format!(
                "{pool} is in no route, so nobody would come here: add a route to it to layer7.routes, \
                 in DICOM_MODE to layer7.dicom.routes, or leave the pool out"
            );
            violations.add("pool", "NEEDS_ROUTE", what);
        }
    }
    if let Forwarding::Layer7(layer7) = &service.forwarding
        && let Some(source) = layer7.source_address
        && source.is_ipv4() != server.endpoint.address.is_ipv4()
    {
        let what = format!(
            "is not of the address family of layer7.source_address {source}, from which it could \
             not be connected to: use an address of that family, or change that one"
        );
        violations.add("endpoint.address", "ADDRESS_FAMILY", what);
    }
    if let Forwarding::Layer7(layer7) = &service.forwarding
        && layer7.transparent_source
        && listener.address.is_ipv4() != server.endpoint.address.is_ipv4()
    {
        let what = "is not of the listener's address family, of which clients are, and with \
                    layer7.transparent_source it is connected to from their addresses: use an address \
                    of that family, or leave that out";
        violations.add("endpoint.address", "ADDRESS_FAMILY", what);
    }
    if comes_back(listener, &server.endpoint) {
        let what = "is the virtual service's own: connections would come back for ever";
        violations.add("endpoint", "LOOP", what);
    }
    violations.within("endpoint", |violations| {
        check_address(violations, server.endpoint.address);
    });
    if let Some(fallback) = &service.fallback
        && fallback.address == server.endpoint.address
        && effective_port(listener, fallback) == effective_port(listener, &server.endpoint)
    {
        let what = "is the fallback of its own service, which is for when no real server is left: \
                    take another machine for one of the two";
        violations.add("endpoint", "IS_FALLBACK", what);
    }
}

/// A conflict between services of one cluster.
#[derive(Debug, PartialEq, Eq)]
pub struct Conflict<'a> {
    /// The service that would have to change.
    pub service: &'a ServiceName,
    pub field: &'static str,
    pub reason: &'static str,
    pub message: String,
}

/// Finds listeners that want the same address, port and protocol, and labels given twice, among the
/// services of one cluster. Conflicts are reported at the services in `changed`; those among others
/// are not looked for.
pub fn conflicts<'a>(
    all: impl IntoIterator<Item = &'a VirtualService>,
    changed: &HashSet<&ServiceName>,
) -> Vec<Conflict<'a>> {
    let mut listeners: HashMap<(IpAddr, Protocol), Vec<Claim<'a>>> = HashMap::new();
    let mut labels: HashMap<&str, &ServiceName> = HashMap::new();
    let mut found = Vec::new();
    let mut report = |one, other, field, reason, message: &dyn Fn(&ServiceName) -> String| {
        let (service, holder) = if changed.contains(one) { (one, other) } else { (other, one) };
        if changed.contains(service) {
            found.push(Conflict { service, field, reason, message: message(holder) });
        }
    };
    for service in all {
        let name = &service.name;
        let Listener { address, ports, protocol, .. } = &service.listener;
        let claims = listeners.entry((*address, *protocol)).or_default();
        claims.extend(ports.ranges().iter().map(|range| (*range, name)));
        if service.label.is_empty() {
            continue;
        }
        if let Some(holder) = labels.insert(&service.label, name) {
            let what = |holder: &ServiceName| {
                format!("{:?} is the label of {holder} already", service.label)
            };
            report(name, holder, "display_name", "DUPLICATE", &what);
        }
    }
    for ((address, _), claims) in listeners {
        for (port, one, other) in overlaps(claims) {
            let what = |holder: &ServiceName| format!("{address} port {port} is taken by {holder}");
            report(one, other, "listener.ports", "OVERLAP", &what);
        }
    }
    found.sort_by_key(|conflict| conflict.service);
    found
}

type Claim<'a> = (PortRange, &'a ServiceName);

/// Which claims on one address overlap, each with the widest one before it, and where.
fn overlaps(mut claims: Vec<Claim<'_>>) -> Vec<(Port, &ServiceName, &ServiceName)> {
    claims.sort_by_key(|(range, _)| range.first());
    let mut found = Vec::new();
    let mut widest: Option<Claim<'_>> = None;
    for (range, name) in claims {
        match widest {
            Some((other, holder)) if range.first() <= other.last() => {
                found.push((range.first(), name, holder));
                if range.last() > other.last() {
                    widest = Some((range, name));
                }
            }
            _ => widest = Some((range, name)),
        }
    }
    found
}

#[cfg(test)]
mod tests;
