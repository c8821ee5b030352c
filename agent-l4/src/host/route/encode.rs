//! The requests that are made of rtnetlink.

use std::net::IpAddr;
use std::time::Duration;

use netlink_packet_route::address::{
    AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage, AddressProtocol, CacheInfo,
};
use netlink_packet_route::link::LinkMessage;
use netlink_packet_route::neighbour::NeighbourMessage;
use netlink_packet_route::route::{RouteAttribute, RouteMessage};
use netlink_packet_route::rule::RuleMessage;
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::TAG;
use crate::ipvs::Family;

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
    message.header.family = match family {
        Family::V4 => AddressFamily::Inet,
        Family::V6 => AddressFamily::Inet6,
    };
    RouteNetlinkMessage::GetRule(message)
}

pub(super) fn route_to(address: IpAddr) -> RouteNetlinkMessage {
    let mut message = RouteMessage::default();
    let (family, bits) = family(address);
    message.header.address_family = family;
    message.header.destination_prefix_length = bits;
    message.attributes.push(RouteAttribute::Destination(address.into()));
    RouteNetlinkMessage::GetRoute(message)
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
