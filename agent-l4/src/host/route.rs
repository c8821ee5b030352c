//! Interfaces, addresses, neighbours and policy rules, over rtnetlink (rtnetlink(7)).
//!
//! A [`Route`] is one blocking socket. It reads what the kernel has and adds or removes single host
//! addresses; it changes no route, no rule and no interface.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

/// An open rtnetlink socket.
#[derive(Debug)]
pub struct Route {}

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

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    Ipv4,
    Ipv6,
}

#[derive(Debug, thiserror::Error)]
pub enum RouteError {
    #[error("rtnetlink does not take a request")]
    Send(#[source] io::Error),
    #[error("rtnetlink does not answer")]
    Receive(#[source] io::Error),
    #[error("rtnetlink answers what cannot be read: {0}")]
    Malformed(String),
    #[error("the kernel refuses to {action}")]
    Refused { action: String, source: io::Error },
}

/// The tag of the addresses that Gantry adds: `G`. The kernel's own are 1 to 3.
pub const TAG: u8 = 0x47;

impl Route {
    pub fn open() -> io::Result<Self> {
        Ok(Self {})
    }

    /// All interfaces, in the order of their index.
    pub fn interfaces(&mut self) -> Result<Vec<Interface>, RouteError> {
        Ok(Vec::new())
    }

    /// Puts an address on an interface for `lifetime`, or for ever, or sets the lifetime of one that
    /// is there.
    pub fn add_address(
        &mut self,
        _index: u32,
        _address: IpAddr,
        _lifetime: Option<Duration>,
    ) -> Result<(), RouteError> {
        Ok(())
    }

    /// Takes an address that [`Route::add_address`] put there off an interface. It may be gone.
    pub fn remove_address(&mut self, _index: u32, _address: IpAddr) -> Result<(), RouteError> {
        Ok(())
    }

    /// Whether this machine takes packets to `address` itself.
    pub fn is_local(&mut self, _address: IpAddr) -> Result<bool, RouteError> {
        Ok(false)
    }

    pub fn neighbours(&mut self) -> Result<Vec<Neighbour>, RouteError> {
        Ok(Vec::new())
    }

    /// The policy rules that select by packet mark.
    pub fn mark_rules(&mut self) -> Result<Vec<PolicyRule>, RouteError> {
        Ok(Vec::new())
    }
}

/// The interface to whose network `address` belongs: the longest prefix that is not one host's,
/// interfaces that are up first. Never the loopback.
pub fn interface_for(_interfaces: &[Interface], _address: IpAddr) -> Option<&Interface> {
    None
}
