//! The kernel thread that tells another machine's IPVS of connections, or listens to one.

use std::net::IpAddr;

/// Both may run at once, each at most once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SyncRole {
    /// Sends.
    Master,
    /// Receives.
    Backup,
}

/// Where one is absent, the kernel chooses; what it says of a running daemon is complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyncDaemon {
    pub role: SyncRole,
    /// At most 15 bytes.
    pub interface: String,
    /// Only machines with the same one listen to each other.
    pub sync_id: u8,
    /// Bytes of payload in a packet.
    pub max_len: Option<u16>,
    /// Multicast.
    pub group: Option<IpAddr>,
    pub port: Option<u16>,
    pub ttl: Option<u8>,
}
