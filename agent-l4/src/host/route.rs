//! Interfaces, addresses, neighbours and policy rules, over rtnetlink (rtnetlink(7)).
//!
//! A [`Route`] is one blocking socket. It reads what the kernel has and adds or removes single host
//! addresses, and one policy rule with its route: by it, packets with the mark [`mark::RETURNING`] are for
//! this machine, whatever their address. It changes no other route or rule, and no interface.

mod decode;
mod encode;
mod socket;

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::time::Duration;

use gantry_model::{address, mark};
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::RouteNetlinkMessage;
use rustix::io::Errno;
use socket::Socket;

use crate::ipvs::Family;

/// An open rtnetlink socket.
#[derive(Debug)]
pub struct Route {
    socket: Socket,
}

/// A network interface and the addresses on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    pub index: u32,
    pub name: String,
    /// Its Ethernet address, if it has such.
    pub hardware: Option<[u8; 6]>,
    /// Switched on by the administrator.
    pub up: bool,
    /// Has a carrier, and is ready to pass packets (RFC 2863).
    pub running: bool,
    pub loopback: bool,
    pub addresses: Vec<Held>,
}

/// An address on an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    pub address: IpAddr,
    pub prefix: u8,
    /// Who put it there (`IFA_PROTO`), where the kernel keeps that: Linux 5.18 and later.
    pub tag: Option<u8>,
    /// Seconds until the kernel takes it away; absent: never.
    pub valid_for: Option<u32>,
}

/// What is known of another machine on the link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Neighbour {
    pub index: u32,
    pub address: IpAddr,
    /// Absent: it was asked for and did not answer.
    pub hardware: Option<[u8; 6]>,
}

/// An entry of `ip rule` that selects by packet mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PolicyRule {
    pub family: Family,
    pub priority: u32,
    pub mark: u32,
    pub mask: u32,
}

#[derive(Debug, thiserror::Error)]
pub enum RouteError {
    #[error("rtnetlink does not take the request")]
    Send(#[source] io::Error),
    #[error("rtnetlink does not answer")]
    Receive(#[source] io::Error),
    #[error("rtnetlink answers what cannot be read: {0}")]
    Malformed(String),
    #[error("the kernel refuses to {action}")]
    Refused { action: &'static str, source: Errno },
}

/// The tag of the addresses that Gantry adds: `G`. The kernel's own are 1 to 3.
pub const TAG: u8 = 0x47;

/// The priority of the own policy rule, and the number of the routing table that it leads to.
pub const RETURN_PRIORITY: u32 = 1071;
pub const RETURN_TABLE: u32 = 1071;

impl Route {
    pub fn open() -> io::Result<Self> {
        Ok(Self { socket: Socket::open()? })
    }

    /// All interfaces, in the order of their index.
    pub fn interfaces(&mut self) -> Result<Vec<Interface>, RouteError> {
        let links = self.socket.dump("list interfaces", &encode::links())?;
        let held = self.socket.dump("list addresses", &encode::addresses())?;
        let mut interfaces = BTreeMap::new();
        for link in links {
            let interface = decode::interface(&link)?;
            interfaces.insert(interface.index, interface);
        }
        for held in held {
            let Some((index, held)) = decode::held(&held)? else { continue };
            // An interface that came between the two lists is seen the next time.
            if let Some(interface) = interfaces.get_mut(&index) {
                interface.addresses.push(held);
            }
        }
        Ok(interfaces.into_values().collect())
    }

    /// Puts an address on an interface for `lifetime`, rounded up to seconds, or for ever. One that
    /// is there gets the new lifetime.
    ///
    /// It is a host address (/32, /128) without a route of its own. An IPv6 address is taken into
    /// use without duplicate address detection (RFC 4862 section 5.4), and deprecated, so that
    /// it is not chosen as a source (RFC 6724 section 5). An address that somebody else has put on
    /// the interface as part of a network stays as it is.
    pub fn add_address(
        &mut self,
        index: u32,
        address: IpAddr,
        lifetime: Option<Duration>,
    ) -> Result<(), RouteError> {
        const ACTION: &str = "add an address";
        let message = RouteNetlinkMessage::NewAddress(encode::held(index, address, lifetime));
        if address.is_ipv6() {
            // IPv6 replaces an address whatever its prefix: look before.
            let added = self.socket.ask(ACTION, &message, NLM_F_CREATE | NLM_F_EXCL);
            match refusal(&added) {
                Some(Errno::EXIST) if self.prefix(index, address)? == Some(128) => {}
                Some(Errno::EXIST) => return Ok(()),
                _ => return added.map(drop),
            }
        }
        self.socket.ask(ACTION, &message, NLM_F_CREATE | NLM_F_REPLACE).map(drop)
    }

    /// Takes an address that [`Route::add_address`] put there off an interface. Both may be gone.
    pub fn remove_address(&mut self, index: u32, address: IpAddr) -> Result<(), RouteError> {
        let message = RouteNetlinkMessage::DelAddress(encode::held(index, address, None));
        let removed = self.socket.ask("remove an address", &message, 0);
        match refusal(&removed) {
            Some(Errno::ADDRNOTAVAIL | Errno::NODEV | Errno::NXIO) => Ok(()),
            _ => removed.map(drop),
        }
    }

    /// Whether this machine takes packets to `address` itself.
    pub fn is_local(&mut self, address: IpAddr) -> Result<bool, RouteError> {
        let found = self.socket.ask("look up a route", &encode::route_to(address), 0);
        match refusal(&found) {
            // No route, one that forbids, and no such family: not local in any case.
            Some(Errno::NETUNREACH | Errno::HOSTUNREACH | Errno::ACCESS | Errno::INVAL) => {
                Ok(false)
            }
            Some(Errno::OPNOTSUPP | Errno::AFNOSUPPORT) => Ok(false),
            _ => found?.iter().try_fold(false, |local, route| Ok(local | decode::is_local(route)?)),
        }
    }

    /// What is known of other machines on the links of this one.
    pub fn neighbours(&mut self) -> Result<Vec<Neighbour>, RouteError> {
        let listed = self.socket.dump("list neighbours", &encode::neighbours())?;
        listed.iter().filter_map(|message| decode::neighbour(message).transpose()).collect()
    }

    /// The policy rules that select by packet mark.
    pub fn mark_rules(&mut self) -> Result<Vec<PolicyRule>, RouteError> {
        let mut rules = Vec::new();
        for family in [Family::V4, Family::V6] {
            let listed = self.socket.dump("list policy rules", &encode::rules(family));
            if let Some(Errno::OPNOTSUPP | Errno::AFNOSUPPORT) = refusal(&listed) {
                continue;
            }
            for message in listed? {
                rules.extend(decode::mark_rule(family, &message)?);
            }
        }
        Ok(rules)
    }

    /// Has packets with the mark [`mark::RETURNING`] come to this machine. What is there stays.
    pub fn add_return(&mut self) -> Result<(), RouteError> {
        for family in [Family::V4, Family::V6] {
            let route = RouteNetlinkMessage::NewRoute(encode::return_route(family));
            let rule = RouteNetlinkMessage::NewRule(encode::return_rule(family));
            let route = self.socket.ask("add a route", &route, NLM_F_CREATE | NLM_F_REPLACE);
            if is_without(family, &route) {
                continue;
            }
            route?;
            let rule = self.socket.ask("add a policy rule", &rule, NLM_F_CREATE | NLM_F_EXCL);
            match refusal(&rule) {
                Some(Errno::EXIST) => {}
                _ => drop(rule?),
            }
        }
        Ok(())
    }

    /// Takes away what [`Route::add_return`] has added. It may be gone.
    pub fn remove_return(&mut self) -> Result<(), RouteError> {
        for family in [Family::V4, Family::V6] {
            let rule = RouteNetlinkMessage::DelRule(encode::return_rule(family));
            let route = RouteNetlinkMessage::DelRoute(encode::return_route(family));
            for (what, message) in [("remove a policy rule", rule), ("remove a route", route)] {
                let removed = self.socket.ask(what, &message, 0);
                match refusal(&removed) {
                    Some(Errno::NOENT | Errno::SRCH) => {}
                    _ if is_without(family, &removed) => {}
                    _ => drop(removed?),
                }
            }
        }
        Ok(())
    }

    /// Whether the rule of [`Route::add_return`] is there, in each family that this machine has, and the
    /// route that it leads to.
    pub fn has_return(&mut self) -> Result<bool, RouteError> {
        let rules = self.mark_rules()?;
        for family in [Family::V4, Family::V6] {
            let found = self.socket.ask("look up a route", &encode::return_look_up(family), 0);
            if is_without(family, &found) {
                continue;
            }
            let is_own = |rule: &PolicyRule| {
                rule.family == family
                    && (rule.priority, rule.mark) == (RETURN_PRIORITY, mark::RETURNING)
            };
            let led = match refusal(&found) {
                Some(_) => false,
                None => found?
                    .iter()
                    .try_fold(false, |local, route| Ok(local | decode::is_local(route)?))?,
            };
            if !led || !rules.iter().any(is_own) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The prefix with which an IPv6 address is on an interface.
    fn prefix(&mut self, index: u32, address: IpAddr) -> Result<Option<u8>, RouteError> {
        let message = RouteNetlinkMessage::GetAddress(encode::held(index, address, None));
        let found = self.socket.ask("look up an address", &message, 0);
        if refusal(&found) == Some(Errno::ADDRNOTAVAIL) {
            // It has gone since: it may be added.
            return Ok(Some(128));
        }
        let found = found?.iter().map(|message| decode::held(message)).next().transpose()?;
        Ok(found.flatten().map(|(_, held)| held.prefix))
    }
}

/// The interface to whose network `address` belongs: the longest prefix that is not one host's,
/// interfaces that are up first. Never the loopback.
pub fn interface_for(interfaces: &[Interface], address: IpAddr) -> Option<&Interface> {
    let near = interfaces.iter().filter(|interface| !interface.loopback).filter_map(|interface| {
        let networks = interface.addresses.iter().filter(|held| held.is_in_network_of(address));
        Some((interface, networks.map(|held| held.prefix).max()?))
    });
    near.max_by_key(|(interface, prefix)| (interface.up, *prefix, Reverse(interface.index)))
        .map(|(interface, _)| interface)
}

impl Held {
    /// Whether a network comes with this address in which others can be reached, too. An address of
    /// one link only does not count.
    pub fn has_network(&self) -> bool {
        let of_link = matches!(self.address, IpAddr::V6(v6) if v6.is_unicast_link_local());
        self.prefix < address::bits(self.address) && !of_link
    }

    /// Whether `address` is in the network that comes with this address. A host address has none.
    fn is_in_network_of(&self, address: IpAddr) -> bool {
        let (bits, differ) = match (self.address, address) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                (32, (own.to_bits() ^ other.to_bits()).leading_zeros())
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                (128, (own.to_bits() ^ other.to_bits()).leading_zeros())
            }
            _ => return false,
        };
        self.prefix < bits && differ >= u32::from(self.prefix)
    }
}

/// IPv6 may be switched off.
fn is_without<T>(family: Family, answer: &Result<T, RouteError>) -> bool {
    let absent = [Errno::OPNOTSUPP, Errno::AFNOSUPPORT, Errno::ACCESS, Errno::NODEV];
    family == Family::V6 && refusal(answer).is_some_and(|errno| absent.contains(&errno))
}

fn refusal<T>(answer: &Result<T, RouteError>) -> Option<Errno> {
    match answer {
        Err(RouteError::Refused { source, .. }) => Some(*source),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
