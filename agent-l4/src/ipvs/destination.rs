//! A real server of a service, and how packets reach it.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use super::Statistics;

/// What tells one server of a service from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DestinationKey {
    pub address: IpAddr,
    pub port: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Method {
    Masquerade,
    /// Up this machine's own stack. Some kernels report it in place of any other method for an
    /// address of this machine, where it makes no difference.
    Local,
    Tunnel(Tunnel),
    DirectRouting,
    /// Straight on to where the packet was going.
    Bypass,
    /// One of another's making that no kernel has a name for.
    Unknown(u8),
}

/// What a tunnelled packet is wrapped in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Tunnel {
    Ipip,
    /// UDP to this port, which is not 0.
    Gue {
        port: u16,
        checksum: Checksum,
    },
    Gre {
        checksum: Checksum,
    },
    /// One of another's making, by the kernel's number.
    Unknown(u8),
}

/// What a tunnel header says of the sum of its packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Checksum {
    #[default]
    None,
    Full,
    /// The receiver fills in the inner sum (GUE only).
    Remote,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Destination {
    pub key: DestinationKey,
    pub method: Method,
    /// 0: no new clients. At most `i32::MAX`.
    pub weight: u32,
    /// With this many connections, closing ones among them, the server takes no more; 0 for no
    /// limit. At most `i32::MAX`.
    pub upper: u32,
    /// With fewer than this many it takes some again; 0 for three quarters of the upper limit,
    /// which it must not exceed.
    pub lower: u32,
}

/// A real server that the kernel holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DestinationEntry {
    pub destination: Destination,
    pub active: u32,
    pub inactive: u32,
    /// Clients that the server is kept for.
    pub persistent: u32,
    pub statistics: Statistics,
}

impl fmt::Display for DestinationKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        SocketAddr::new(self.address, self.port).fmt(f)
    }
}
