//! The flags that describe virtual services and real servers, and the messages they make.

mod kernel;

use std::net::IpAddr;
use std::str::FromStr;

use anyhow::{Context as _, Result, bail};
use clap::{Args, ValueEnum};
use gantry_proto::v1;
use gantry_proto::v1::health_check::{DicomEcho, Http, Mllp, None as NoCheck, Probe, TcpConnect};
use gantry_proto::v1::virtual_service::{Forwarding, Strategy};

use crate::document::human_duration;
use kernel::KernelFlags;

const CHECKS: &str = "tcp, dicom-echo[:CALLED_AE], mllp, http:/PATH, https:/PATH or none";
const SERVER: &str = "NAME=ADDRESS[:PORT][,weight=N][,max-connections=N]; may be repeated";

#[derive(Args, Debug)]
#[group(id = "path", args = ["layer4", "layer7"])]
pub(crate) struct ServiceFlags {
    /// Address that clients connect to
    #[arg(long, required_unless_present = "file")]
    address: Option<IpAddr>,
    /// Port or range that clients connect to; may be repeated: 104, 8000-8010
    #[arg(
        long = "port",
        value_name = "PORT",
        required_unless_present_any = ["file", "preset"],
        value_delimiter = ','
    )]
    ports: Vec<String>,
    /// Listen on UDP and not TCP
    #[arg(long, conflicts_with = "layer7")]
    udp: bool,
    /// Network interface that brings the address up; without it, the one in the same network
    #[arg(long, value_name = "NAME")]
    interface: Option<String>,
    /// A label for people: "DICOM-Modalities"
    #[arg(long)]
    label: Option<String>,
    /// Sensible settings for a kind of real servers; what else is given counts
    #[arg(long, value_enum, value_name = "KIND")]
    preset: Option<Preset>,
    /// Forward in the kernel
    #[arg(
        long,
        value_enum,
        value_name = "METHOD",
        required_unless_present_any = ["file", "layer7", "preset"]
    )]
    layer4: Option<Method>,
    #[command(flatten)]
    kernel: KernelFlags,
    /// Forward through the proxy
    #[arg(long, conflicts_with = "layer4")]
    layer7: bool,
    /// What the proxy understands of the traffic
    #[arg(long, value_enum, requires = "layer7")]
    mode: Option<Mode>,
    /// Send all to the first real server in service, and to the next only when it fails
    #[arg(long)]
    failover: bool,
    /// Keep a client on its real server for this long after its last connection: 1h
    #[arg(long, value_name = "DURATION", value_parser = human_duration)]
    persistence: Option<prost_types::Duration>,
    #[arg(long, value_name = "CHECK", help = CHECKS)]
    check: Option<Check>,
    /// Check by way of the virtual address, as clients' packets come: for DR and tunnel
    #[arg(long, requires = "layer4", conflicts_with = "layer7")]
    check_through_virtual_address: bool,
    /// Keep a connection open to each server, and check at once when the server closes it
    #[arg(long)]
    hold_connection: bool,
    #[arg(long = "server", value_name = "SERVER", help = SERVER)]
    servers: Vec<ServerArgument>,
}

#[derive(Args, Debug)]
pub(crate) struct ServerFlags {
    /// Address it listens on
    #[arg(long, required_unless_present = "file")]
    address: Option<IpAddr>,
    /// Port it listens on; without it, the port the client connected to
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    port: Option<u16>,
    /// A label for people
    #[arg(long)]
    label: Option<String>,
    /// Share of the traffic, 0 to 256
    #[arg(long)]
    weight: Option<i32>,
    /// Order in failover mode, lowest first
    #[arg(long)]
    priority: Option<i32>,
    /// No more than this many connections at a time
    #[arg(long)]
    max_connections: Option<i32>,
    /// Once full, no new connections until there are fewer than this many
    #[arg(long)]
    min_connections: Option<i32>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Method {
    /// Direct routing: replies bypass the appliance
    Dr,
    /// The appliance is the real servers' gateway
    Nat,
    /// Source and destination are translated
    Snat,
    /// Tunnelled to real servers in other networks
    Tunnel,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Mode {
    /// Bytes, untouched
    Tcp,
    /// HTTP/1.1 and HTTP/2
    Http,
    /// DICOM associations
    Dicom,
    /// HL7 messages
    Mllp,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Preset {
    /// Archives, by associations: ports 104 and 11112
    Dicom,
    /// Receivers of HL7, by messages: port 2575
    Hl7,
    /// Viewers that speak HTTPS themselves: port 443
    HttpsViewer,
}

/// What `--check` says.
#[derive(Clone, Debug, PartialEq)]
struct Check(Probe);

/// What `--server` says.
#[derive(Clone, Debug, PartialEq)]
struct ServerArgument(v1::RealServer);

impl ServiceFlags {
    pub(crate) fn into_service(self) -> Result<v1::config::Service> {
        use v1::listener::Protocol;
        let protocol = if self.udp { Protocol::Udp } else { Protocol::Unspecified };
        let listener = v1::Listener {
            address: self.address.context("--address is required")?.to_string(),
            ports: self.ports,
            protocol: protocol.into(),
            interface: self.interface.unwrap_or_default(),
        };
        let strategy = if self.failover { Strategy::Failover } else { Strategy::Unspecified };
        let persistence = self
            .persistence
            .map(|timeout| v1::Persistence { timeout: Some(timeout), ..Default::default() });
        let health_check = v1::HealthCheck {
            probe: self.check.map(|Check(probe)| probe),
            through_virtual_address: self.check_through_virtual_address,
            hold_connection: self.hold_connection,
            ..Default::default()
        };
        let health_check = (health_check != v1::HealthCheck::default()).then_some(health_check);
        let forwarding = match self.layer4 {
            Some(method) => Some(Forwarding::Layer4(self.kernel.into_layer4(method.into()))),
            None if self.preset.is_some() && !self.layer7 => None,
            None => Some(layer7(self.mode)),
        };
        let preset = match self.preset {
            None => v1::virtual_service::Preset::Unspecified,
            Some(Preset::Dicom) => v1::virtual_service::Preset::Dicom,
            Some(Preset::Hl7) => v1::virtual_service::Preset::Hl7,
            Some(Preset::HttpsViewer) => v1::virtual_service::Preset::HttpsViewer,
        };
        let virtual_service = v1::VirtualService {
            display_name: self.label.unwrap_or_default(),
            listener: Some(listener),
            forwarding,
            preset: preset.into(),
            strategy: strategy.into(),
            persistence,
            health_check,
            ..Default::default()
        };
        let real_servers = self.servers.into_iter().map(|ServerArgument(server)| server).collect();
        Ok(v1::config::Service { virtual_service: Some(virtual_service), real_servers })
    }
}

impl ServerFlags {
    pub(crate) fn into_server(self) -> Result<v1::RealServer> {
        let address = self.address.context("--address is required")?.to_string();
        let endpoint = v1::Endpoint { address, port: self.port.unwrap_or(0).into() };
        Ok(v1::RealServer {
            display_name: self.label.unwrap_or_default(),
            endpoint: Some(endpoint),
            weight: self.weight,
            priority: self.priority.unwrap_or(0),
            max_connections: self.max_connections.unwrap_or(0),
            min_connections: self.min_connections.unwrap_or(0),
            ..Default::default()
        })
    }
}

fn layer7(mode: Option<Mode>) -> Forwarding {
    use v1::layer7::Mode as Wire;
    let mode = match mode {
        None => Wire::Unspecified,
        Some(Mode::Tcp) => Wire::TcpMode,
        Some(Mode::Http) => Wire::HttpMode,
        Some(Mode::Dicom) => Wire::DicomMode,
        Some(Mode::Mllp) => Wire::MllpMode,
    };
    Forwarding::Layer7(v1::Layer7 { mode: mode.into(), ..Default::default() })
}

impl From<Method> for v1::layer4::Method {
    fn from(method: Method) -> Self {
        match method {
            Method::Dr => Self::Dr,
            Method::Nat => Self::Nat,
            Method::Snat => Self::Snat,
            Method::Tunnel => Self::Tunnel,
        }
    }
}

impl FromStr for Check {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let (kind, rest) = text.split_once(':').map_or((text, None), |(a, b)| (a, Some(b)));
        let probe = match (kind, rest) {
            ("tcp", None) => Probe::TcpConnect(TcpConnect {}),
            ("none", None) => Probe::None(NoCheck {}),
            ("mllp", None) => Probe::Mllp(Mllp::default()),
            ("dicom-echo", called) => Probe::DicomEcho(DicomEcho {
                called_ae_title: called.unwrap_or_default().to_owned(),
                ..Default::default()
            }),
            ("http" | "https", Some(path)) if path.starts_with('/') && !path.starts_with("//") => {
                Probe::Http(Http {
                    path: path.to_owned(),
                    tls: kind == "https",
                    ..Default::default()
                })
            }
            _ => bail!(
                "use tcp, dicom-echo, dicom-echo:CALLED_AE, mllp, http:/path, https:/path or none"
            ),
        };
        Ok(Self(probe))
    }
}

impl FromStr for ServerArgument {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut parts = text.split(',');
        let first = parts.next().unwrap_or_default();
        let (name, address) = first.split_once('=').context("use NAME=ADDRESS[:PORT]")?;
        name.parse::<gantry_model::name::Id>()?;
        let mut server = v1::RealServer {
            name: name.to_owned(),
            endpoint: Some(endpoint(address)?),
            ..Default::default()
        };
        for part in parts {
            let (key, value) = part.split_once('=').context("use weight=N or max-connections=N")?;
            let value: i32 = value.parse().with_context(|| format!("{value:?} is not a number"))?;
            match key {
                "weight" => server.weight = Some(value),
                "priority" => server.priority = value,
                "max-connections" => server.max_connections = value,
                "min-connections" => server.min_connections = value,
                _ => bail!("{key:?} is none of weight, priority, max-connections, min-connections"),
            }
        }
        Ok(Self(server))
    }
}

/// `10.0.0.1`, `10.0.0.1:104`, `fd00::1` or `[fd00::1]:104`.
fn endpoint(text: &str) -> Result<v1::Endpoint> {
    if let Ok(socket) = text.parse::<std::net::SocketAddr>() {
        let address = socket.ip().to_string();
        return Ok(v1::Endpoint { address, port: socket.port().into() });
    }
    let address: IpAddr = text
        .trim_matches(['[', ']'])
        .parse()
        .with_context(|| format!("{text:?} is not an address, nor an address and a port"))?;
    Ok(v1::Endpoint { address: address.to_string(), port: 0 })
}

#[cfg(test)]
mod tests;
