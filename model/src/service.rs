//! A virtual service: the address and ports that modalities, viewers and interface engines connect
//! to, and how their connections reach the real servers.

use std::net::IpAddr;
use std::num::NonZeroU8;
use std::time::Duration;

use crate::check::HealthCheck;
use crate::name::{Id, ServiceName};
use crate::port::{Port, PortSet};

/// The configuration of one virtual service.
#[derive(Clone, Debug, PartialEq)]
pub struct VirtualService {
    pub name: ServiceName,
    /// The label people know it by; unique in its cluster. Empty: it has none.
    pub label: String,
    pub listener: Listener,
    pub forwarding: Forwarding,
    pub strategy: Strategy,
    pub persistence: Option<Persistence>,
    pub check: HealthCheck,
    pub fallback: Option<Endpoint>,
    /// Taken out as a whole: it listens nowhere.
    pub disabled: bool,
}

/// Where clients connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    pub address: IpAddr,
    pub ports: PortSet,
    pub protocol: Protocol,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    Tcp,
    Udp,
}

/// Where a server listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    pub address: IpAddr,
    /// Absent: the port that the client connected to.
    pub port: Option<Port>,
}

/// The data path that carries the traffic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Forwarding {
    Layer4(Layer4),
    Layer7(Layer7),
}

/// Forwarding in the kernel by IPVS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer4 {
    pub method: Method,
    pub scheduler: Scheduler,
    /// How long a silent connection is remembered.
    pub idle_timeout: Duration,
}

/// How packets reach the real server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    DirectRouting,
    Nat,
    Snat,
    Tunnel(Encapsulation),
}

/// What a tunnelled packet is wrapped in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encapsulation {
    Ipip,
    Gue,
    Gre,
}

/// IPVS's own schedulers (`net/netfilter/ipvs` in the kernel), by what they do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheduler {
    WeightedLeastConnection,
    LeastConnection,
    WeightedRoundRobin,
    RoundRobin,
    SourceHash,
    MaglevHash,
    DestinationHash,
    ShortestExpectedDelay,
    NeverQueue,
    WeightedOverflow,
}

/// Forwarding through the proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer7 {
    pub mode: Mode,
    pub algorithm: Algorithm,
    /// Terminate TLS with this certificate.
    pub certificate: Option<Id>,
    /// Speak TLS to the real servers.
    pub reencrypt: bool,
    /// Tell real servers the client's address in a PROXY protocol version 2 header.
    pub send_proxy_protocol: bool,
    pub timeouts: Timeouts,
}

/// What the proxy understands of the traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Tcp,
    Http,
    Dicom,
    Mllp,
}

/// How the proxy chooses among the real servers in service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    WeightedLeastConnection,
    WeightedRoundRobin,
    SourceHash,
}

/// How long the proxy waits for what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// For a real server to take a connection.
    pub connect: Duration,
    /// For a client that is silent while it is its turn to send or to read.
    pub client: Duration,
    /// The same for a real server.
    pub server: Duration,
    /// In the queue, when every real server is at its maximum of connections.
    pub queue: Duration,
}

/// Whether load is spread, or goes to the first server that works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strategy {
    Balance,
    Failover,
}

/// What keeps one client on one real server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Persistence {
    pub key: PersistenceKey,
    /// How long a client is remembered after its last connection ended.
    pub timeout: Duration,
    /// Clients within one prefix of this length count as one. Absent: one address is one client.
    pub prefix: Option<NonZeroU8>,
}

/// What identifies a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PersistenceKey {
    SourceIp,
    Cookie,
    RdpCookie,
    CallingAeTitle,
}

impl Timeouts {
    /// The reference deployment's: a DICOM association and an HL7 feed may be silent for long.
    pub const DEFAULT: Self = Self {
        connect: Duration::from_secs(4),
        client: Duration::from_secs(3600),
        server: Duration::from_secs(3600),
        queue: Duration::from_secs(60),
    };
}
