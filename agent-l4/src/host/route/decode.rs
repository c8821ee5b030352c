//! What rtnetlink answers.
//!
//! Of interfaces only what is needed is looked at: they have a hundred attributes, new ones with
//! every kernel, and one that is not understood must not hide an interface.

use std::net::IpAddr;

use netlink_packet_core::{DecodeError, NlasIterator, Parseable};
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{LinkFlags, LinkHeader, LinkLayerType};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::{RouteHeader, RouteType};
use netlink_packet_route::rule::{RuleAttribute, RuleMessage};

use super::encode::FOR_EVER;
use super::{Held, Interface, Neighbour, PolicyRule, RouteError};
use crate::ipvs::Family;

/// `struct ifinfomsg`
const LINK_HEADER: usize = 16;
const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;

pub(super) fn interface(body: &[u8]) -> Result<Interface, RouteError> {
    let header = LinkHeader::parse(body).map_err(malformed)?;
    let (mut name, mut hardware) = (String::new(), None);
    for attribute in NlasIterator::new(body.get(LINK_HEADER..).unwrap_or_default()) {
        let attribute = attribute.map_err(malformed)?;
        match attribute.kind() {
            IFLA_IFNAME => name = text(attribute.value()),
            IFLA_ADDRESS if header.link_layer_type == LinkLayerType::Ether => {
                hardware = attribute.value().try_into().ok();
            }
            _ => {}
        }
    }
    Ok(Interface {
        index: header.index,
        name,
        hardware,
        up: header.flags.contains(LinkFlags::Up),
        // The kernel notes a lost carrier at once, and draws its conclusions up to a second later.
        running: header.flags.contains(LinkFlags::Running | LinkFlags::LowerUp),
        loopback: header.flags.contains(LinkFlags::Loopback),
        addresses: Vec::new(),
    })
}

/// An address and the index of its interface.
pub(super) fn held(body: &[u8]) -> Result<Option<(u32, Held)>, RouteError> {
    let message = AddressMessage::parse(body).map_err(malformed)?;
    let (mut address, mut local, mut tag, mut valid_for) = (None, None, None, None);
    for attribute in message.attributes {
        match attribute {
            AddressAttribute::Address(given) => address = Some(given),
            AddressAttribute::Local(given) => local = Some(given),
            AddressAttribute::Protocol(given) => tag = Some(given.into()).filter(|tag| *tag != 0),
            AddressAttribute::CacheInfo(life) => {
                valid_for = Some(life.ifa_valid).filter(|valid| *valid != FOR_EVER);
            }
            _ => {}
        }
    }
    // On a link between two, `Address` is the other's (rtnetlink(7)).
    let Some(address) = local.or(address) else { return Ok(None) };
    let prefix = message.header.prefix_len;
    Ok(Some((message.header.index, Held { address, prefix, tag, valid_for })))
}

pub(super) fn is_local(body: &[u8]) -> Result<bool, RouteError> {
    Ok(RouteHeader::parse(body).map_err(malformed)?.kind == RouteType::Local)
}

/// Entries that no machine stands behind, such as those of multicast, are left out.
pub(super) fn neighbour(body: &[u8]) -> Result<Option<Neighbour>, RouteError> {
    let message = NeighbourMessage::parse(body).map_err(malformed)?;
    if matches!(message.header.state, NeighbourState::Noarp | NeighbourState::None) {
        return Ok(None);
    }
    let (mut address, mut hardware) = (None, None);
    for attribute in message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(given)) => {
                address = Some(IpAddr::V4(given));
            }
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(given)) => {
                address = Some(IpAddr::V6(given));
            }
            NeighbourAttribute::LinkLayerAddress(given) => hardware = given.try_into().ok(),
            _ => {}
        }
    }
    // An address that is asked for in vain has the zeros, or the last that was known.
    let silent = [NeighbourState::Incomplete, NeighbourState::Failed];
    let hardware = hardware.filter(|_| !silent.contains(&message.header.state));
    Ok(address.map(|address| Neighbour { index: message.header.ifindex, address, hardware }))
}

/// A rule, if it selects by mark.
pub(super) fn mark_rule(family: Family, body: &[u8]) -> Result<Option<PolicyRule>, RouteError> {
    let message = RuleMessage::parse(body).map_err(malformed)?;
    let (mut mark, mut mask, mut priority) = (None, None, 0);
    for attribute in message.attributes {
        match attribute {
            RuleAttribute::FwMark(given) => mark = Some(given),
            RuleAttribute::FwMask(given) => mask = Some(given),
            RuleAttribute::Priority(given) => priority = given,
            _ => {}
        }
    }
    if mark.is_none() && mask.is_none() {
        return Ok(None);
    }
    let (mark, mask) = (mark.unwrap_or(0), mask.unwrap_or(u32::MAX));
    Ok(Some(PolicyRule { family, priority, mark, mask }))
}

/// A name, without the zero at its end.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim_end_matches('\0').to_owned()
}

fn malformed(error: DecodeError) -> RouteError {
    RouteError::Malformed(error.to_string())
}
