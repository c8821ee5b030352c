//! A virtual service: the address and ports that modalities, viewers and interface engines connect
//! to, and how their connections reach the real servers.

use std::fmt;
use std::net::IpAddr;
use std::num::{NonZeroU8, NonZeroU32};
use std::str::FromStr;
use std::time::Duration;

use crate::check::HealthCheck;
use crate::dicom::Dicom;
use crate::http::{Http, Route};
use crate::mllp::Mllp;
use crate::name::{Id, ServiceName};
use crate::port::{Port, PortSet};

/// A layer 4 service with more ports than this is known by a mark, persistence or not.
const MOST_PORTS_BY_ADDRESS: usize = 16;

/// The port of Generic UDP Encapsulation when none is given, the one of the kernel's own examples.
pub const GUE_PORT: u16 = 6080;

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
    /// Which interface brings the address up. Absent: the one in the same network.
    pub interface: Option<Interface>,
}

/// The name of a network interface, as `dev_valid_name` in the kernel's `net/core/dev.c` has it: 1 to
/// 15 bytes without a slash, a colon or white space.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Interface(String);

/// Why text is not the name of a network interface.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not the name of a network interface: use 1 to 15 characters, such as \"eth0\"")]
pub struct InterfaceError(String);

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
    Layer7(Box<Layer7>),
}

/// Forwarding in the kernel by IPVS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer4 {
    pub method: Method,
    pub scheduler: Scheduler,
    /// How long a silent connection is remembered.
    pub idle_timeout: Duration,
    /// Schedulers that hash a client's address hash its port, too.
    pub hash_ports: bool,
    /// Each UDP datagram is scheduled for itself.
    pub one_packet: bool,
    /// What real servers see connections come from, with method SNAT. Absent: the listener's address.
    pub snat_address: Option<IpAddr>,
    /// How long the connections of a server that failed may go on.
    pub failure_grace: Duration,
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
    /// Generic UDP encapsulation, to this port of the real servers.
    Gue(Port),
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
    /// TLS with clients ends here.
    pub tls: Option<Tls>,
    /// TLS is spoken to the real servers.
    pub server_tls: Option<ServerTls>,
    /// Tell real servers the client's address in a PROXY protocol header of this version.
    pub send_proxy_protocol: Option<ProxyVersion>,
    /// Clients begin with a PROXY protocol header.
    pub accept_proxy_protocol: bool,
    pub tcp: Tcp,
    /// A real server that fails its check loses its connections at once.
    pub close_on_failure: bool,
    /// Write a line about each connection into the log when it ends.
    pub log_connections: bool,
    pub timeouts: Timeouts,
    pub routes: Vec<Route>,
    pub http: Http,
    pub dicom: Dicom,
    pub mllp: Mllp,
    /// Where connections to real servers and the fallback come from. Absent: the kernel's choice.
    pub source_address: Option<IpAddr>,
    /// Connections to real servers come from the client's address.
    pub transparent_source: bool,
    /// How long the weight of a real server grows that has come back. Absent: it does not.
    pub slow_start: Option<Duration>,
    pub passive_health: PassiveHealth,
    /// How many connections each client may have. Absent: any number.
    pub client_limits: Option<ClientLimits>,
}

/// How TLS is spoken with clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// Shown to all who ask for no name that another one covers.
    pub certificate: Id,
    pub more_certificates: Vec<Id>,
    pub clients: Option<ClientCertificates>,
    pub minimum_version: TlsVersion,
}

/// The certificates that clients show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificates {
    /// Clients without one are refused.
    pub required: bool,
    /// Certificates of those who sign them, PEM.
    pub authorities: String,
}

/// Versions of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsVersion {
    Tls12,
    Tls13,
}

/// How TLS is spoken to real servers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerTls {
    /// Certificates of those who sign the real servers', PEM. Empty: any will do.
    pub authorities: String,
    /// What their certificates must cover, and what they are asked for. Absent: their address.
    pub server_name: Option<String>,
    /// Shown to real servers that ask for one.
    pub certificate: Option<Id>,
}

/// How the proxy treats its connections; what is absent is the kernel's to decide.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tcp {
    pub congestion_control: Option<CongestionControl>,
    /// When a silent peer is first asked whether it is there, in whole seconds.
    pub keepalive: Option<Duration>,
    /// How long what was sent may stay unacknowledged.
    pub user_timeout: Option<Duration>,
}

/// What comes of connections to a real server that fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PassiveHealth {
    /// So many in a row leave the server aside.
    pub failures: NonZeroU8,
    /// For so long after the last of them.
    pub hold: Duration,
    /// No server is left aside.
    pub disabled: bool,
}

/// How many connections one client may have; what is absent is not limited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClientLimits {
    pub connections: Option<NonZeroU32>,
    /// New ones in a second.
    pub per_second: Option<NonZeroU32>,
}

/// The name of a congestion control, as the kernel knows it: 1 to 15 letters, digits, `_` and `-`
/// (`TCP_CA_NAME_MAX` in `include/net/tcp.h`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CongestionControl(String);

/// Versions of the PROXY protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyVersion {
    V1,
    V2,
}

impl Layer7 {
    /// Bytes untouched, and nothing else asked for.
    pub fn plain() -> Self {
        Self {
            mode: Mode::Tcp,
            algorithm: Algorithm::WeightedLeastConnection,
            tls: None,
            server_tls: None,
            send_proxy_protocol: None,
            accept_proxy_protocol: false,
            tcp: Tcp::default(),
            close_on_failure: false,
            log_connections: false,
            timeouts: Timeouts::DEFAULT,
            routes: Vec::new(),
            http: Http::default(),
            dicom: Dicom::default(),
            mllp: Mllp::default(),
            source_address: None,
            transparent_source: false,
            slow_start: None,
            passive_health: PassiveHealth::DEFAULT,
            client_limits: None,
        }
    }

    /// The pools that routes go to.
    pub(crate) fn pools(&self) -> impl Iterator<Item = &Id> {
        let of_dicom = self.dicom.routes.iter().map(|route| &route.pool);
        self.routes.iter().map(|route| &route.pool).chain(of_dicom).flatten()
    }

    fn certificates(&self) -> impl Iterator<Item = &Id> {
        let shown = self
            .tls
            .iter()
            .flat_map(|tls| std::iter::once(&tls.certificate).chain(&tls.more_certificates));
        shown.chain(self.server_tls.iter().filter_map(|tls| tls.certificate.as_ref()))
    }
}

impl CongestionControl {
    /// None if it can be no such name.
    pub fn new(name: &str) -> Option<Self> {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
        let good = (1..=15).contains(&name.len()) && name.bytes().all(fits);
        good.then(|| Self(name.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
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

impl VirtualService {
    /// The certificates that it needs the keys of; one may come twice.
    pub fn certificates(&self) -> impl Iterator<Item = &Id> {
        let layer7 = match &self.forwarding {
            Forwarding::Layer7(layer7) => Some(layer7),
            Forwarding::Layer4(_) => None,
        };
        layer7.into_iter().flat_map(|layer7| layer7.certificates())
    }

    /// Whether the kernel knows its packets by a mark and not by address and port: persistence holds
    /// over all ports of a service only so, and one mark is lighter than many ports.
    pub fn needs_mark(&self) -> bool {
        let ports = self.listener.ports.count();
        matches!(self.forwarding, Forwarding::Layer4(_))
            && (ports > MOST_PORTS_BY_ADDRESS || ports > 1 && self.persistence.is_some())
    }
}

impl Method {
    /// Whether packets keep the virtual address as where they go, and their port: real servers must
    /// have that address themselves, and answer from it.
    pub fn keeps_address(self) -> bool {
        matches!(self, Self::DirectRouting | Self::Tunnel(_))
    }
}

impl Listener {
    /// The port that a connection reaches when a server names none: the only one, if there is one.
    pub fn only_port(&self) -> Option<Port> {
        self.ports.is_single().then(|| self.ports.first())
    }
}

impl Interface {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Interface {
    type Err = InterfaceError;

    fn from_str(text: &str) -> Result<Self, InterfaceError> {
        let odd = |c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control();
        let good =
            (1..=15).contains(&text.len()) && !text.contains(odd) && !matches!(text, "." | "..");
        let shown = || InterfaceError(text.chars().take(40).collect());
        good.then(|| Self(text.to_owned())).ok_or_else(shown)
    }
}

impl fmt::Display for Interface {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl Layer4 {
    /// As it is when nothing but the method is said.
    pub fn new(method: Method) -> Self {
        Self {
            method,
            scheduler: Scheduler::WeightedLeastConnection,
            idle_timeout: Duration::from_secs(3600),
            hash_ports: false,
            one_packet: false,
            snat_address: None,
            failure_grace: Duration::from_secs(60),
        }
    }
}

impl PassiveHealth {
    /// One failure costs other clients nothing but a second without this server.
    pub const DEFAULT: Self =
        Self { failures: NonZeroU8::MIN, hold: Duration::from_secs(1), disabled: false };
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
