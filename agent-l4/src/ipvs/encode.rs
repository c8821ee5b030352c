//! What is sent to the kernel, as attributes.

use std::net::IpAddr;

use gantry_model::service::Protocol;

use super::attribute::Writer;
use super::uapi::{self, command, daemon, dest, svc, top};
use super::{
    Checksum, Destination, DestinationKey, Family, Method, Operation, Service, ServiceKey,
    SyncDaemon, SyncRole, Timeouts, Tunnel,
};

pub(super) fn command_of(operation: &Operation) -> u8 {
    match operation {
        Operation::AddService(_) => command::NEW_SERVICE,
        Operation::SetService(_) => command::SET_SERVICE,
        Operation::DeleteService(_) => command::DEL_SERVICE,
        Operation::AddDestination(..) => command::NEW_DEST,
        Operation::SetDestination(..) => command::SET_DEST,
        Operation::DeleteDestination(..) => command::DEL_DEST,
    }
}

pub(super) fn operation(message: &mut Writer<'_>, operation: &Operation) {
    match operation {
        Operation::AddService(service) | Operation::SetService(service) => {
            message.nest(top::SERVICE, |nest| whole_service(nest, service));
        }
        Operation::DeleteService(key) => service(message, key),
        Operation::AddDestination(key, destination)
        | Operation::SetDestination(key, destination) => {
            service(message, key);
            message.nest(top::DEST, |nest| whole_destination(nest, destination));
        }
        Operation::DeleteDestination(key, destination) => {
            service(message, key);
            message.nest(top::DEST, |nest| destination_key(nest, destination));
        }
    }
}

/// Says which service a message is about.
pub(super) fn service(message: &mut Writer<'_>, key: &ServiceKey) {
    message.nest(top::SERVICE, |nest| service_key(nest, key));
}

pub(super) fn timeouts(message: &mut Writer<'_>, timeouts: &Timeouts) {
    message.u32(top::TIMEOUT_TCP, timeouts.tcp);
    message.u32(top::TIMEOUT_TCP_FIN, timeouts.tcp_fin);
    message.u32(top::TIMEOUT_UDP, timeouts.udp);
}

pub(super) fn daemon(message: &mut Writer<'_>, daemon: &SyncDaemon) {
    message.nest(top::DAEMON, |nest| {
        nest.u32(daemon::STATE, state(daemon.role));
        nest.text(daemon::MCAST_IFN, &daemon.interface);
        nest.u32(daemon::SYNC_ID, daemon.sync_id.into());
        daemon.max_len.inspect(|length| nest.u16(daemon::SYNC_MAXLEN, *length));
        match daemon.group {
            Some(IpAddr::V4(group)) => nest.bytes(daemon::MCAST_GROUP, &group.octets()),
            Some(IpAddr::V6(group)) => nest.bytes(daemon::MCAST_GROUP6, &group.octets()),
            None => {}
        }
        // Unlike the other ports, in the machine's byte order.
        daemon.port.inspect(|port| nest.u16(daemon::MCAST_PORT, *port));
        daemon.ttl.inspect(|ttl| nest.u8(daemon::MCAST_TTL, *ttl));
    });
}

pub(super) fn role(message: &mut Writer<'_>, role: SyncRole) {
    message.nest(top::DAEMON, |nest| nest.u32(daemon::STATE, state(role)));
}

fn service_key(nest: &mut Writer<'_>, key: &ServiceKey) {
    nest.family(svc::AF, key.family());
    match *key {
        ServiceKey::Address { protocol, address, port } => {
            let protocol = match protocol {
                Protocol::Tcp => uapi::IPPROTO_TCP,
                Protocol::Udp => uapi::IPPROTO_UDP,
            };
            nest.u16(svc::PROTOCOL, protocol);
            nest.address(svc::ADDR, address);
            nest.port(svc::PORT, port);
        }
        ServiceKey::Mark { mark, .. } => nest.u32(svc::FWMARK, mark),
    }
}

fn whole_service(nest: &mut Writer<'_>, service: &Service) {
    service_key(nest, &service.key);
    nest.text(svc::SCHED_NAME, service.scheduler.name());
    nest.bytes(svc::FLAGS, &flags(service));
    nest.u32(svc::TIMEOUT, service.persistence.map_or(0, |persistence| persistence.timeout));
    let family = service.key.family();
    let prefix = service.persistence.map(|persistence| persistence.prefix);
    match family {
        Family::V4 => nest.bytes(svc::NETMASK, &mask(prefix.unwrap_or(32)).to_be_bytes()),
        // No mask here, but the length itself.
        Family::V6 => nest.u32(svc::NETMASK, prefix.unwrap_or(128).into()),
    }
}

/// `struct ip_vs_flags`: flags, and which of them are meant. All are, so that setting a service
/// leaves no flag behind.
fn flags(service: &Service) -> [u8; 8] {
    let flags = [
        (service.persistence.is_some(), svc::F_PERSISTENT),
        (service.one_packet, svc::F_ONEPACKET),
        (service.hash_fallback, svc::F_SCHED1),
        (service.hash_ports, svc::F_SCHED2),
    ];
    let flags = flags.iter().filter(|(set, _)| *set).fold(0, |flags, (_, flag)| flags | flag);
    let mut value = [0xff; 8];
    value[..4].copy_from_slice(&u32::to_ne_bytes(flags));
    value
}

fn mask(prefix: u8) -> u32 {
    u32::MAX.checked_shl(32_u32.saturating_sub(prefix.into())).unwrap_or(0)
}

fn destination_key(nest: &mut Writer<'_>, key: &DestinationKey) {
    nest.family(dest::ADDR_FAMILY, Family::of(key.address));
    nest.address(dest::ADDR, key.address);
    nest.port(dest::PORT, key.port);
}

fn whole_destination(nest: &mut Writer<'_>, destination: &Destination) {
    destination_key(nest, &destination.key);
    let method = match destination.method {
        Method::Masquerade => dest::MASQUERADE,
        Method::Local => dest::LOCAL,
        Method::Tunnel(_) => dest::TUNNEL,
        Method::DirectRouting => dest::DIRECT_ROUTING,
        Method::Bypass => dest::BYPASS,
        Method::Unknown(number) => number,
    };
    nest.u32(dest::FWD_METHOD, method.into());
    nest.u32(dest::WEIGHT, destination.weight);
    nest.u32(dest::U_THRESH, destination.upper);
    nest.u32(dest::L_THRESH, destination.lower);
    if let Method::Tunnel(wrap) = destination.method {
        tunnel(nest, wrap);
    }
}

/// Without these the kernel takes IPIP.
fn tunnel(nest: &mut Writer<'_>, tunnel: Tunnel) {
    let (kind, port, checksum) = match tunnel {
        Tunnel::Ipip => (dest::IPIP, 0, Checksum::None),
        Tunnel::Gue { port, checksum } => (dest::GUE, port, checksum),
        Tunnel::Gre { checksum } => (dest::GRE, 0, checksum),
        Tunnel::Unknown(number) => (number, 0, Checksum::None),
    };
    nest.u8(dest::TUN_TYPE, kind);
    nest.port(dest::TUN_PORT, port);
    let flags = match checksum {
        Checksum::None => 0,
        Checksum::Full => dest::CSUM,
        Checksum::Remote => dest::REMCSUM,
    };
    nest.u16(dest::TUN_FLAGS, flags);
}

fn state(role: SyncRole) -> u32 {
    match role {
        SyncRole::Master => daemon::MASTER,
        SyncRole::Backup => daemon::BACKUP,
    }
}
