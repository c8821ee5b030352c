//! Virtual services.

use std::num::NonZeroU8;
use std::time::Duration;

use gantry_proto::v1 as pb;
use pb::layer4::{Encapsulation as WireEncapsulation, Method as WireMethod};
use pb::virtual_service::{
    Forwarding as WireForwarding, Preset as WirePreset, Strategy as WireStrategy,
};

use super::check::{health_check, health_check_message};
use super::layer7::{layer7, layer7_message};
use super::preset::filled;
use super::{
    address, choice, duration, duration_message, endpoint, endpoint_message, label, port,
    port_message,
};
use crate::check::HealthCheck;
use crate::name::ServiceName;
use crate::port::{Port, PortRange, PortSet};
use crate::service::{
    Encapsulation, Forwarding, GUE_PORT, Layer4, Listener, Method, Mode, Persistence,
    PersistenceKey, Protocol, Scheduler, Strategy, VirtualService,
};
use crate::violation::Violations;

const HOUR: Duration = Duration::from_secs(3600);

/// Sockets that one service may listen on at layer 7, where each port is a socket of its own.
const MOST_LAYER7_PORTS: usize = 1024;

/// Reads the configuration of the virtual service `name`; what the message calls itself is
/// ignored.
pub fn virtual_service(
    violations: &mut Violations,
    name: ServiceName,
    message: &pb::VirtualService,
) -> Option<VirtualService> {
    let preset = choice::<WirePreset>(violations, "preset", message.preset)?;
    let message = &*filled(message, preset);
    let label = label(violations, &message.display_name);
    let listener = match &message.listener {
        Some(given) => violations.within("listener", |violations| listener(violations, given)),
        None => {
            let what = "is required: give the address and the ports that clients connect to";
            violations.add("listener", "REQUIRED", what);
            None
        }
    };
    let protocol = listener.as_ref().map_or(Protocol::Tcp, |listener| listener.protocol);
    let forwarding = forwarding(violations, message.forwarding.as_ref());
    let strategy = strategy(violations, message.strategy);
    let persistence = message
        .persistence
        .as_ref()
        .map(|given| violations.within("persistence", |violations| persistence(violations, given)));
    let check = match &message.health_check {
        Some(given) => violations
            .within("health_check", |violations| health_check(violations, protocol, given)),
        None => Some(HealthCheck::default_for(protocol)),
    };
    let fallback = message
        .fallback
        .as_ref()
        .map(|given| violations.within("fallback", |violations| endpoint(violations, given)));
    let service = VirtualService {
        name,
        label,
        listener: listener?,
        forwarding: forwarding?,
        strategy: strategy?,
        persistence: match persistence {
            Some(persistence) => Some(persistence?),
            None => None,
        },
        check: check?,
        fallback: match fallback {
            Some(fallback) => Some(fallback?),
            None => None,
        },
        disabled: message.disabled,
    };
    fits_together(violations, &service);
    Some(service)
}

/// Writes the configuration of a virtual service.
pub fn virtual_service_message(service: &VirtualService) -> pb::VirtualService {
    pb::VirtualService {
        name: service.name.to_string(),
        display_name: service.label.clone(),
        listener: Some(listener_message(&service.listener)),
        forwarding: Some(forwarding_message(&service.forwarding)),
        strategy: match service.strategy {
            Strategy::Balance => WireStrategy::Balance,
            Strategy::Failover => WireStrategy::Failover,
        }
        .into(),
        persistence: service.persistence.as_ref().map(persistence_message),
        health_check: Some(health_check_message(&service.check)),
        fallback: service.fallback.as_ref().map(endpoint_message),
        disabled: service.disabled,
        ..Default::default()
    }
}

fn listener(violations: &mut Violations, message: &pb::Listener) -> Option<Listener> {
    let address = address(violations, "address", &message.address);
    let mut ranges = Vec::new();
    for (at, text) in message.ports.iter().enumerate() {
        let field = format!("ports[{at}]");
        ranges.extend(violations.check(&field, "INVALID_PORT", text.trim().parse::<PortRange>()));
    }
    let ports = if ranges.len() == message.ports.len() {
        violations.check("ports", "INVALID_PORT", PortSet::new(ranges))
    } else {
        None
    };
    let protocol = choice::<pb::listener::Protocol>(violations, "protocol", message.protocol)?;
    let protocol = match protocol {
        pb::listener::Protocol::Udp => Protocol::Udp,
        pb::listener::Protocol::Unspecified | pb::listener::Protocol::Tcp => Protocol::Tcp,
    };
    let interface = match message.interface.as_str() {
        "" => None,
        name => Some(violations.check("interface", "INVALID_INTERFACE", name.parse())?),
    };
    Some(Listener { address: address?, ports: ports?, protocol, interface })
}

fn listener_message(listener: &Listener) -> pb::Listener {
    pb::Listener {
        address: listener.address.to_string(),
        ports: listener.ports.ranges().iter().map(ToString::to_string).collect(),
        protocol: match listener.protocol {
            Protocol::Tcp => pb::listener::Protocol::Tcp,
            Protocol::Udp => pb::listener::Protocol::Udp,
        }
        .into(),
        interface: listener.interface.as_ref().map(ToString::to_string).unwrap_or_default(),
    }
}

fn strategy(violations: &mut Violations, value: i32) -> Option<Strategy> {
    Some(match choice::<WireStrategy>(violations, "strategy", value)? {
        WireStrategy::Unspecified | WireStrategy::Balance => Strategy::Balance,
        WireStrategy::Failover => Strategy::Failover,
    })
}

fn forwarding(violations: &mut Violations, message: Option<&WireForwarding>) -> Option<Forwarding> {
    match message {
        Some(WireForwarding::Layer4(given)) => violations
            .within("layer4", |violations| layer4(violations, given))
            .map(Forwarding::Layer4),
        Some(WireForwarding::Layer7(given)) => violations
            .within("layer7", |violations| layer7(violations, given))
            .map(|layer7| Forwarding::Layer7(Box::new(layer7))),
        None => {
            let what = "is required: give layer4 (with a method) or layer7 (with a mode)";
            violations.add("forwarding", "REQUIRED", what);
            None
        }
    }
}

fn forwarding_message(forwarding: &Forwarding) -> WireForwarding {
    match forwarding {
        Forwarding::Layer4(layer4) => WireForwarding::Layer4(layer4_message(layer4)),
        Forwarding::Layer7(layer7) => WireForwarding::Layer7(layer7_message(layer7)),
    }
}

fn layer4(violations: &mut Violations, message: &pb::Layer4) -> Option<Layer4> {
    let encapsulation =
        choice::<WireEncapsulation>(violations, "encapsulation", message.encapsulation);
    let tunnel_port = port(violations, "tunnel_port", message.tunnel_port)?;
    let method = match choice::<WireMethod>(violations, "method", message.method)? {
        WireMethod::Unspecified => {
            violations.add("method", "REQUIRED", "is required: DR, NAT, SNAT or TUNNEL");
            return None;
        }
        WireMethod::Dr => Method::DirectRouting,
        WireMethod::Nat => Method::Nat,
        WireMethod::Snat => Method::Snat,
        WireMethod::Tunnel => Method::Tunnel(match encapsulation? {
            WireEncapsulation::Unspecified | WireEncapsulation::Ipip => Encapsulation::Ipip,
            WireEncapsulation::Gue => Encapsulation::Gue(tunnel_port.or(Port::new(GUE_PORT))?),
            WireEncapsulation::Gre => Encapsulation::Gre,
        }),
    };
    let tunnelled = matches!(method, Method::Tunnel(_));
    if !tunnelled && encapsulation? != WireEncapsulation::Unspecified {
        violations.add("encapsulation", "NEEDS_TUNNEL", "is only for method TUNNEL");
    }
    if message.tunnel_port != 0 && !matches!(method, Method::Tunnel(Encapsulation::Gue(_))) {
        violations.add("tunnel_port", "NEEDS_GUE", "is only for method TUNNEL, encapsulation GUE");
    }
    let scheduler = scheduler(choice(violations, "scheduler", message.scheduler)?);
    let idle_timeout =
        duration(violations, "idle_timeout", message.idle_timeout, Duration::from_secs(1))
            .unwrap_or(HOUR);
    let snat_address = match message.snat_address.as_str() {
        "" => None,
        given => Some(address(violations, "snat_address", given)?),
    };
    let default = Layer4::new(method);
    let grace = duration(violations, "failure_grace", message.failure_grace, Duration::ZERO);
    Some(Layer4 {
        scheduler,
        idle_timeout,
        hash_ports: message.hash_ports,
        one_packet: message.one_packet,
        snat_address,
        failure_grace: grace.unwrap_or(default.failure_grace),
        ..default
    })
}

fn scheduler(message: pb::layer4::Scheduler) -> Scheduler {
    use pb::layer4::Scheduler as Wire;
    match message {
        Wire::Unspecified | Wire::WeightedLeastConnection => Scheduler::WeightedLeastConnection,
        Wire::WeightedRoundRobin => Scheduler::WeightedRoundRobin,
        Wire::SourceHash => Scheduler::SourceHash,
        Wire::LeastConnection => Scheduler::LeastConnection,
        Wire::RoundRobin => Scheduler::RoundRobin,
        Wire::MaglevHash => Scheduler::MaglevHash,
        Wire::DestinationHash => Scheduler::DestinationHash,
        Wire::ShortestExpectedDelay => Scheduler::ShortestExpectedDelay,
        Wire::NeverQueue => Scheduler::NeverQueue,
        Wire::WeightedOverflow => Scheduler::WeightedOverflow,
    }
}

fn layer4_message(layer4: &Layer4) -> pb::Layer4 {
    use pb::layer4::Scheduler as Wire;
    let (method, encapsulation) = match layer4.method {
        Method::DirectRouting => (WireMethod::Dr, WireEncapsulation::Unspecified),
        Method::Nat => (WireMethod::Nat, WireEncapsulation::Unspecified),
        Method::Snat => (WireMethod::Snat, WireEncapsulation::Unspecified),
        Method::Tunnel(Encapsulation::Ipip) => (WireMethod::Tunnel, WireEncapsulation::Ipip),
        Method::Tunnel(Encapsulation::Gue(_)) => (WireMethod::Tunnel, WireEncapsulation::Gue),
        Method::Tunnel(Encapsulation::Gre) => (WireMethod::Tunnel, WireEncapsulation::Gre),
    };
    let scheduler = match layer4.scheduler {
        Scheduler::WeightedLeastConnection => Wire::WeightedLeastConnection,
        Scheduler::LeastConnection => Wire::LeastConnection,
        Scheduler::WeightedRoundRobin => Wire::WeightedRoundRobin,
        Scheduler::RoundRobin => Wire::RoundRobin,
        Scheduler::SourceHash => Wire::SourceHash,
        Scheduler::MaglevHash => Wire::MaglevHash,
        Scheduler::DestinationHash => Wire::DestinationHash,
        Scheduler::ShortestExpectedDelay => Wire::ShortestExpectedDelay,
        Scheduler::NeverQueue => Wire::NeverQueue,
        Scheduler::WeightedOverflow => Wire::WeightedOverflow,
    };
    let tunnel_port = match layer4.method {
        Method::Tunnel(Encapsulation::Gue(port)) => Some(port),
        _ => None,
    };
    pb::Layer4 {
        method: method.into(),
        scheduler: scheduler.into(),
        encapsulation: encapsulation.into(),
        idle_timeout: Some(duration_message(layer4.idle_timeout)),
        hash_ports: layer4.hash_ports,
        one_packet: layer4.one_packet,
        tunnel_port: port_message(tunnel_port),
        snat_address: layer4.snat_address.map(|address| address.to_string()).unwrap_or_default(),
        failure_grace: Some(duration_message(layer4.failure_grace)),
    }
}

fn persistence(violations: &mut Violations, message: &pb::Persistence) -> Option<Persistence> {
    use pb::persistence::Key;
    let key = match choice::<Key>(violations, "key", message.key)? {
        Key::Unspecified | Key::SourceIp => PersistenceKey::SourceIp,
        Key::Cookie => PersistenceKey::Cookie,
        Key::CallingAeTitle => PersistenceKey::CallingAeTitle,
        Key::RdpCookie => PersistenceKey::RdpCookie,
    };
    let timeout = duration(violations, "timeout", message.timeout, Duration::from_secs(1));
    let prefix = u8::try_from(message.prefix_length).ok().filter(|length| *length <= 128);
    if prefix.is_none() {
        let what = "is out of range: use 1 to 32 for IPv4, 1 to 128 for IPv6, or 0";
        violations.add("prefix_length", "OUT_OF_RANGE", what);
    }
    Some(Persistence { key, timeout: timeout.unwrap_or(HOUR), prefix: NonZeroU8::new(prefix?) })
}

fn persistence_message(persistence: &Persistence) -> pb::Persistence {
    use pb::persistence::Key;
    let key = match persistence.key {
        PersistenceKey::SourceIp => Key::SourceIp,
        PersistenceKey::Cookie => Key::Cookie,
        PersistenceKey::RdpCookie => Key::RdpCookie,
        PersistenceKey::CallingAeTitle => Key::CallingAeTitle,
    };
    pb::Persistence {
        key: key.into(),
        timeout: Some(duration_message(persistence.timeout)),
        prefix_length: persistence.prefix.map_or(0, |prefix| i32::from(prefix.get())),
    }
}

/// What single fields cannot tell: parts that exclude each other.
fn fits_together(violations: &mut Violations, service: &VirtualService) {
    let listener = &service.listener;
    let mode = match &service.forwarding {
        Forwarding::Layer4(_) => None,
        Forwarding::Layer7(layer7) => Some(layer7.mode),
    };
    if mode.is_some() && listener.protocol == Protocol::Udp {
        let what = "UDP needs layer4: the proxy carries TCP only";
        violations.add("listener.protocol", "NEEDS_LAYER4", what);
    }
    if mode.is_some() && listener.ports.count() > MOST_LAYER7_PORTS {
        let what = format!(
            "{} ports are more than the {MOST_LAYER7_PORTS} a layer 7 service may have; use layer4",
            listener.ports.count()
        );
        violations.add("listener.ports", "TOO_MANY_PORTS", what);
    }
    if let Some(persistence) = &service.persistence {
        persistence_fits(violations, persistence, mode, listener);
    }
    if let Some(fallback) = &service.fallback
        && fallback.address.is_ipv4() != listener.address.is_ipv4()
        && mode.is_none()
    {
        let what = "is not of the listener's address family, which layer 4 cannot translate";
        violations.add("fallback.address", "ADDRESS_FAMILY", what);
    }
}

fn persistence_fits(
    violations: &mut Violations,
    persistence: &Persistence,
    mode: Option<Mode>,
    listener: &Listener,
) {
    let needs = match persistence.key {
        PersistenceKey::SourceIp => None,
        PersistenceKey::Cookie => Some((Mode::Http, "COOKIE needs layer7 with HTTP_MODE")),
        PersistenceKey::RdpCookie => Some((Mode::Tcp, "RDP_COOKIE needs layer7 with TCP_MODE")),
        PersistenceKey::CallingAeTitle => {
            Some((Mode::Dicom, "CALLING_AE_TITLE needs layer7 with DICOM_MODE"))
        }
    };
    if let Some((needed, what)) = needs
        && mode != Some(needed)
    {
        violations.add("persistence.key", "NEEDS_OTHER_MODE", what);
    }
    let longest = crate::address::bits(listener.address);
    if let Some(prefix) = persistence.prefix
        && prefix.get() > longest
    {
        let what = format!("{prefix} is out of range for this listener: use 1 to {longest}, or 0");
        violations.add("persistence.prefix_length", "OUT_OF_RANGE", what);
    }
}
