//! A virtual service: what clients connect to, and how they are spread.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use gantry_model::service::Protocol;

use super::{Family, Statistics};

/// What tells one service from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ServiceKey {
    /// Port 0 stands for every port that has no service of its own; the service must then be
    /// persistent.
    Address { protocol: Protocol, address: IpAddr, port: u16 },
    /// Packets with exactly this firewall mark. The two families of one mark are two services.
    Mark { family: Family, mark: u32 },
}

/// How a service chooses among its servers (`net/netfilter/ipvs` in the kernel).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scheduler {
    RoundRobin,
    WeightedRoundRobin,
    LeastConnection,
    WeightedLeastConnection,
    SourceHash,
    MaglevHash,
    ShortestExpectedDelay,
    NeverQueue,
    DestinationHash,
    /// All to the server with the highest weight.
    Failover,
    /// To the server with the highest weight, until it has as many connections as weight.
    Overflow,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Service {
    pub key: ServiceKey,
    pub scheduler: Scheduler,
    /// Source and Maglev hash: the client's port counts as well as its address.
    pub hash_ports: bool,
    /// Source and Maglev hash: clients of a server that takes none go to another.
    pub hash_fallback: bool,
    /// UDP: every packet is scheduled by itself.
    pub one_packet: bool,
    pub persistence: Option<Persistence>,
}

/// One client stays with one server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Persistence {
    /// Seconds since the client's last new connection. The kernel counts them in timer ticks in
    /// 32 bits: more than 49 days may overflow.
    pub timeout: u32,
    /// Clients within one prefix of this length count as one: 1 to 32, or to 128 for IPv6.
    pub prefix: u8,
}

/// A service that the kernel holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceEntry {
    pub key: ServiceKey,
    /// Absent for a service in a form that [`Service`] cannot tell, and that Gantry never makes:
    /// with a scheduler of another's, with none, with a persistence engine, a netmask with
    /// holes. Setting the service replaces all of that.
    pub service: Option<Service>,
    /// The kernel's name, `none` if there is none.
    pub scheduler: String,
    pub statistics: Statistics,
}

impl ServiceKey {
    pub fn family(&self) -> Family {
        match self {
            Self::Address { address, .. } => Family::of(*address),
            Self::Mark { family, .. } => *family,
        }
    }
}

impl fmt::Display for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Address { protocol, address, port } => {
                let protocol = match protocol {
                    Protocol::Tcp => "tcp",
                    Protocol::Udp => "udp",
                };
                write!(f, "{protocol} {}", SocketAddr::new(address, port))
            }
            Self::Mark { family, mark } => write!(f, "mark {mark:#x} ({family})"),
        }
    }
}

impl Scheduler {
    pub const ALL: [Self; 11] = [
        Self::RoundRobin,
        Self::WeightedRoundRobin,
        Self::LeastConnection,
        Self::WeightedLeastConnection,
        Self::SourceHash,
        Self::MaglevHash,
        Self::ShortestExpectedDelay,
        Self::NeverQueue,
        Self::DestinationHash,
        Self::Failover,
        Self::Overflow,
    ];

    /// The kernel's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::RoundRobin => "rr",
            Self::WeightedRoundRobin => "wrr",
            Self::LeastConnection => "lc",
            Self::WeightedLeastConnection => "wlc",
            Self::SourceHash => "sh",
            Self::MaglevHash => "mh",
            Self::ShortestExpectedDelay => "sed",
            Self::NeverQueue => "nq",
            Self::DestinationHash => "dh",
            Self::Failover => "fo",
            Self::Overflow => "ovf",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scheduler| scheduler.name() == name)
    }
}
