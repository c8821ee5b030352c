//! The kernel's load balancer, spoken to over generic netlink.
//!
//! A [`Client`] reads what the kernel holds and carries out [`Operation`]s; what is to be held is
//! decided elsewhere. The interface is the one of the kernel's `include/uapi/linux/ip_vs.h`.
//!
//! IPVS belongs to a network namespace: a client sees the one of the thread that opened it, from
//! whichever thread it is used later. Calls block for as long as the kernel works on them, which
//! for thousands of services may be seconds, so a client belongs on a thread of its own.
//!
//! There is deliberately no way to flush the table: it would cut every patient's images off, and
//! takes along the services of others.

mod attribute;
mod batch;
mod client;
mod daemon;
mod decode;
mod destination;
mod encode;
mod error;
mod message;
mod operation;
mod reading;
mod service;
mod socket;
mod uapi;

use std::fmt;
use std::net::IpAddr;

pub use client::Client;
pub use daemon::{SyncDaemon, SyncRole};
pub use destination::{Checksum, Destination, DestinationEntry, DestinationKey, Method, Tunnel};
pub use error::{Error, OpenError};
pub use operation::{Failure, Operation};
pub use service::{Persistence, Scheduler, Service, ServiceEntry, ServiceKey};

/// IPv4 or IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    V4,
    V6,
}

/// What has passed through a service or to a server since it was added or last zeroed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    pub connections: u64,
    /// From clients to servers.
    pub packets_in: u64,
    /// From servers to clients, where they pass through here at all: with masquerading only.
    pub packets_out: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
    /// The same per second, which the kernel works out every two seconds.
    pub connections_per_second: u64,
    pub packets_in_per_second: u64,
    pub packets_out_per_second: u64,
    pub bytes_in_per_second: u64,
    pub bytes_out_per_second: u64,
}

/// How many seconds a silent connection is remembered.
///
/// The kernel takes 0 for "leave it as it is".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    pub tcp: u32,
    /// After both ends have said that they are done.
    pub tcp_fin: u32,
    pub udp: u32,
}

/// What the kernel says of its load balancer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Info {
    pub version: Version,
    /// Buckets of the connection table.
    pub connection_table_size: u32,
}

/// A version of IPVS, such as 1.2.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    pub major: u8,
    pub minor: u8,
    pub patch: u8,
}

impl Family {
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv6() { Self::V6 } else { Self::V4 }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

#[cfg(test)]
mod tests;
