//! Rules that hold between resources: a service and its servers, a service and its neighbours.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use crate::name::ServiceName;
use crate::port::PortRange;
use crate::server::RealServer;
use crate::service::{Forwarding, Listener, Method, Protocol, VirtualService};
use crate::violation::Violations;

/// Checks what a service and its servers can only be wrong about together. Field paths are those
/// of the server at fault, under `servers_field` (`real_servers`, say).
pub fn check_together<'a>(
    violations: &mut Violations,
    service: &VirtualService,
    servers: impl IntoIterator<Item = &'a RealServer>,
    servers_field: &str,
) {
    let mut labels = HashSet::new();
    for (at, server) in servers.into_iter().enumerate() {
        violations.within(format!("{servers_field}[{at}]"), |violations| {
            check_server(violations, service, server);
            if !server.label.is_empty() && !labels.insert(&server.label) {
                let what = format!("another server of this service is called {:?}", server.label);
                violations.add("display_name", "DUPLICATE", what);
            }
        });
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
            && matches!(layer4.method, Method::DirectRouting | Method::Tunnel(_))
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
    let itself = server.endpoint.address == listener.address
        && server.endpoint.port.is_none_or(|port| listener.ports.iter().any(|own| own == port));
    if itself {
        let what = "is the virtual service's own: connections would come back for ever";
        violations.add("endpoint", "LOOP", what);
    }
}

/// Finds listeners that want the same address, port and protocol, and labels given twice, among the
/// services of one cluster. Only conflicts with a service in `changed` are reported, and by it:
/// `report` is given the service at fault, the field and what is wrong.
pub fn check_neighbours<'a>(
    all: impl IntoIterator<Item = &'a VirtualService>,
    changed: &HashSet<&ServiceName>,
    mut report: impl FnMut(&ServiceName, &'static str, &'static str, String),
) {
    let mut listeners: HashMap<(IpAddr, Protocol), Vec<(PortRange, &ServiceName)>> = HashMap::new();
    let mut labels: HashMap<&str, Vec<&ServiceName>> = HashMap::new();
    for service in all {
        let Listener { address, ports, protocol } = &service.listener;
        let taken = listeners.entry((*address, *protocol)).or_default();
        taken.extend(ports.ranges().iter().map(|range| (*range, &service.name)));
        if !service.label.is_empty() {
            labels.entry(&service.label).or_default().push(&service.name);
        }
    }
    for ((address, _), mut ranges) in listeners {
        ranges.sort_by_key(|(range, _)| range.first());
        let mut widest: Option<(PortRange, &ServiceName)> = None;
        for (range, name) in ranges {
            if let Some((other, holder)) = widest
                && range.first() <= other.last()
            {
                let at_fault = if changed.contains(name) { name } else { holder };
                let neighbour = if at_fault == name { holder } else { name };
                if changed.contains(at_fault) {
                    let port = range.first();
                    let what = format!("{address} port {port} is taken by {neighbour}");
                    report(at_fault, "listener.ports", "OVERLAP", what);
                }
            }
            if widest.is_none_or(|(other, _)| range.last() > other.last()) {
                widest = Some((range, name));
            }
        }
    }
    for (label, names) in labels.iter().filter(|(_, names)| names.len() > 1) {
        let other = names.iter().find(|name| !changed.contains(**name));
        for name in
            names.iter().filter(|name| changed.contains(**name)).skip(usize::from(other.is_none()))
        {
            let holder = other.unwrap_or(&names[0]);
            let what = format!("{label:?} is the label of {holder} already");
            report(name, "display_name", "DUPLICATE", what);
        }
    }
}

#[cfg(test)]
mod tests;
