//! A real server: one endpoint behind a virtual service.

use jiff::Timestamp;

use crate::name::{Id, ServerName};
use crate::service::Endpoint;

/// The configuration of one real server.
#[derive(Clone, Debug, PartialEq)]
pub struct RealServer {
    pub name: ServerName,
    /// The label people know it by; unique in its virtual service. Empty: it has none.
    pub label: String,
    pub endpoint: Endpoint,
    pub weight: Weight,
    /// Order in failover mode: lowest first, then by name.
    pub priority: u16,
    /// A server that has reached `max_connections` gets new ones only below this many again.
    /// 0: as soon as it is below its maximum.
    pub min_connections: u32,
    /// At most this many connections at a time; 0: no limit.
    pub max_connections: u32,
    pub admin_state: AdminState,
    /// Absent: it serves what no route sends to a pool.
    pub pool: Option<Id>,
}

/// A server's share of the traffic, 0 to 256. A server of weight 0 gets no new clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Weight(u16);

/// What an operator asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdminState {
    /// In service while healthy.
    Online,
    /// No new clients; what is left is halted at `halt_at`, if that is set.
    Drain { halt_at: Option<Timestamp> },
    /// No connections at all.
    Halt,
}

impl Weight {
    pub const DEFAULT: Self = Self(100);
    pub const MAX: Self = Self(256);

    pub fn new(weight: u16) -> Option<Self> {
        (weight <= Self::MAX.0).then_some(Self(weight))
    }

    pub fn get(self) -> u16 {
        self.0
    }
}

impl AdminState {
    /// What is asked for at `now`: a drain past its deadline is a halt.
    pub fn at(self, now: Timestamp) -> Self {
        match self {
            Self::Drain { halt_at: Some(deadline) } if deadline <= now => Self::Halt,
            other => other,
        }
    }
}
