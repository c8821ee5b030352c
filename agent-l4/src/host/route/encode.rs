//! The requests that are made of rtnetlink.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use gantry_model::mark;
use netlink_packet_route::address::{
    AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage, AddressProtocol, CacheInfo,
};
use netlink_packet_route::link::LinkMessage;
use netlink_packet_route::neighbour::NeighbourMessage;
use netlink_packet_route::route::{
    RouteAttribute, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::{RETURN_PRIORITY, RETURN_TABLE, TAG};
use crate::ipvs::Family;

/// The loopback interface has this index in every network namespace.
const LOOPBACK: u32 = 1;
/// A lifetime that does not end (`INFINITY_LIFE_TIME`).
pub(super) const FOR_EVER: u32 = u32::MAX;

pub(super) fn links() -> RouteNetlinkMessage {
    RouteNetlinkMessage::GetLink(LinkMessage::default())
}

pub(super) fn addresses() -> RouteNetlinkMessage {
    RouteNetlinkMessage::GetAddress(AddressMessage::default())
}

pub(super) fn neighbours() -> RouteNetlinkMessage {
    RouteNetlinkMessage::GetNeighbour(NeighbourMessage::default())
}

pub(super) fn rules(family: Family) -> RouteNetlinkMessage {
    let mut message = RuleMessage::default();
    message.header.family = of(family);
    RouteNetlinkMessage::GetRule(message)
}

/// The rule that sends packets with the mark of what comes back to a table of its own.
pub(super) fn return_rule(family: Family) -> RuleMessage {
    let mut message = RuleMessage::default();
    message.header.family = of(family);
    message.header.action = RuleAction::ToTable;
    message.attributes = vec![
        RuleAttribute::Priority(RETURN_PRIORITY),
        RuleAttribute::FwMark(mark::RETURNING),
        RuleAttribute::FwMask(u32::MAX),
        RuleAttribute::Table(RETURN_TABLE),
        RuleAttribute::Protocol(RouteProtocol::Other(TAG)),
    ];
    message
}

/// The one route of that table: all addresses are this machine's.
pub(super) fn return_route(family: Family) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = of(family);
    message.header.protocol = RouteProtocol::Other(TAG);
    message.header.scope = RouteScope::Host;
    message.header.kind = RouteType::Local;
    message.attributes = vec![RouteAttribute::Table(RETURN_TABLE), RouteAttribute::Oif(LOOPBACK)];
    message
}

/// Where a packet with that mark goes, for an address that nobody has.
pub(super) fn return_look_up(family: Family) -> RouteNetlinkMessage {
    let address = match family {
        Family::V4 => IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
        Family::V6 => IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
    };
    let mut message = to(address);
    message.attributes.push(RouteAttribute::Mark(mark::RETURNING));
    RouteNetlinkMessage::GetRoute(message)
}

fn of(family: Family) -> AddressFamily {
    match family {
        Family::V4 => AddressFamily::Inet,
        Family::V6 => AddressFamily::Inet6,
    }
}

pub(super) fn route_to(address: IpAddr) -> RouteNetlinkMessage {
    RouteNetlinkMessage::GetRoute(to(address))
}

fn to(address: IpAddr) -> RouteMessage {
    let mut message = RouteMessage::default();
    let (family, bits) = family(address);
    message.header.address_family = family;
    message.header.destination_prefix_length = bits;
    message.attributes.push(RouteAttribute::Destination(address.into()));
    message
}

/// A host address on an interface, as Gantry holds it.
pub(super) fn held(index: u32, address: IpAddr, lifetime: Option<Duration>) -> AddressMessage {
    let mut message = AddressMessage::default();
    let (family, bits) = family(address);
    message.header.family = family;
    message.header.prefix_len = bits;
    message.header.index = index;
    message.header.flags = AddressHeaderFlags::Nodad;
    let mut life = CacheInfo::default();
    life.ifa_valid = lifetime.map_or(FOR_EVER, seconds);
    // A preferred lifetime of nothing deprecates an IPv6 address; IPv4 knows no such thing.
    life.ifa_preferred = if address.is_ipv6() { 0 } else { life.ifa_valid };
    message.attributes = vec![
        AddressAttribute::Local(address),
        AddressAttribute::Address(address),
        AddressAttribute::Flags(AddressFlags::Nodad | AddressFlags::Noprefixroute),
        AddressAttribute::CacheInfo(life),
        AddressAttribute::Protocol(AddressProtocol::Other(TAG)),
    ];
    message
}

/// Whole seconds, rounded up; an address with none at all would be refused.
fn seconds(lifetime: Duration) -> u32 {
    let whole = lifetime.as_secs().saturating_add(u64::from(lifetime.subsec_nanos() > 0));
    u32::try_from(whole).unwrap_or(FOR_EVER).clamp(1, FOR_EVER - 1)
}

fn family(address: IpAddr) -> (AddressFamily, u8) {
    if address.is_ipv6() { (AddressFamily::Inet6, 128) } else { (AddressFamily::Inet, 32) }
}
