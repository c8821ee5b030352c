//! What real servers need so that they take traffic for a virtual address and stay silent about it.
//!
//! Pure: a virtual service with its real servers goes in, text for the people who look after those
//! servers comes out. With direct routing and tunnels packets keep the virtual address, so that a
//! real server must have it itself; but only the appliance may answer when somebody asks in the
//! network who has it.

mod linux;
mod others;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::IpAddr;

use anyhow::{Context as _, Result};
use clap::ValueEnum;
use gantry_proto::v1;
use v1::layer4::{Encapsulation, Method};
use v1::virtual_service::Forwarding;

use crate::names;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum System {
    Linux,
    Windows,
    #[value(name = "macos")]
    MacOs,
    #[value(name = "freebsd")]
    FreeBsd,
    Solaris,
}

/// A service whose real servers have to have its address.
struct Case<'a> {
    id: &'a str,
    address: IpAddr,
    /// `104 and 11112 (TCP)`
    ports: String,
    way: Way,
    /// The port that the check has of its own, which stands in the way of one through the address.
    check_port: bool,
    /// By whether packets come to them over IPv4.
    servers: BTreeMap<bool, Vec<&'a v1::RealServer>>,
}

/// How packets reach a real server.
#[derive(Clone, Copy)]
enum Way {
    Direct,
    Ipip,
    Gue(i32),
    Gre,
}

/// Everything to be done on the real servers of `service`, for one system or for Linux and a word on
/// the others.
pub(crate) fn advice(
    service: &v1::VirtualService,
    servers: &[v1::RealServer],
    system: Option<System>,
) -> Result<String> {
    let listener = service.listener.as_ref().context("the service has no listener")?;
    let address: IpAddr =
        listener.address.parse().with_context(|| format!("{:?}", listener.address))?;
    let ports = ports(listener);
    let mut text = head(service, servers, &ports);
    let Some(Forwarding::Layer4(layer4)) = &service.forwarding else {
        text.push_str(LAYER7);
        return Ok(text);
    };
    let way = match layer4.method() {
        Method::Nat | Method::Unspecified => {
            text.push_str(&gateway(address, system));
            return Ok(text);
        }
        Method::Snat => {
            let from = match layer4.snat_address.as_str() {
                "" => &listener.address,
                given => given,
            };
            let _ = write!(
                text,
                "Nothing has to be done on the real servers.\n\n\
                 With method SNAT they see connections come from {from}, an address of the appliance,\n\
                 and answer there. They do not see clients' addresses.\n"
            );
            return Ok(text);
        }
        Method::Dr => Way::Direct,
        Method::Tunnel => match layer4.encapsulation() {
            Encapsulation::Gue => Way::Gue(layer4.tunnel_port),
            Encapsulation::Gre => Way::Gre,
            Encapsulation::Ipip | Encapsulation::Unspecified => Way::Ipip,
        },
    };
    let id = names::last(&service.name);
    let check_port = service.health_check.as_ref().is_some_and(|check| check.port != 0);
    let servers = by_family(servers, address);
    let case = Case { id, address, ports, way, check_port, servers };
    case.introduce(&mut text);
    match system.unwrap_or(System::Linux) {
        System::Linux => linux::advise(&mut text, &case),
        other => others::advise(&mut text, &case, other),
    }
    case.check(&mut text, listener.protocol() == v1::listener::Protocol::Udp);
    if system.is_none() {
        let _ = writeln!(
            text,
            "\nOther systems\n  gantry arp-help {id} --os windows, macos, freebsd or solaris"
        );
    }
    Ok(text)
}

const LAYER7: &str = "\
Nothing has to be done on the real servers.

At layer 7 the appliance itself connects to them: they see its address, answer there, and need no
address of the service.
";

fn head(service: &v1::VirtualService, servers: &[v1::RealServer], ports: &str) -> String {
    let mut text = String::new();
    let name = names::labelled(&service.name, &service.display_name);
    let _ = writeln!(text, "Virtual service  {name}, {}", crate::look::path(service));
    let address = service.listener.as_ref().map_or("", |listener| &listener.address);
    let _ = writeln!(text, "Clients go to    {address}, {ports}");
    for (at, server) in servers.iter().enumerate() {
        let title = if at == 0 { "Real servers" } else { "" };
        let name = names::labelled(&server.name, &server.display_name);
        let _ = writeln!(text, "{title:16} {name}: {}", host(server));
    }
    text.push('\n');
    text
}

fn host(server: &v1::RealServer) -> &str {
    server.endpoint.as_ref().map_or("-", |endpoint| &endpoint.address)
}

/// `port 104 (TCP)`, `ports 104, 11112 (TCP)`
fn ports(listener: &v1::Listener) -> String {
    let protocol = match listener.protocol() {
        v1::listener::Protocol::Udp => "UDP",
        _ => "TCP",
    };
    let many = listener.ports.len() > 1 || listener.ports.iter().any(|range| range.contains('-'));
    let word = if many { "ports" } else { "port" };
    format!("{word} {} ({protocol})", listener.ports.join(", "))
}

/// Those whose address cannot be read are as the service is.
fn by_family(servers: &[v1::RealServer], address: IpAddr) -> BTreeMap<bool, Vec<&v1::RealServer>> {
    let mut families: BTreeMap<bool, Vec<_>> = BTreeMap::new();
    for server in servers {
        let at = host(server).parse().unwrap_or(address);
        families.entry(at.is_ipv4()).or_default().push(server);
    }
    if families.is_empty() {
        families.insert(address.is_ipv4(), Vec::new());
    }
    families
}

/// With NAT, answers have to come back by way of the appliance.
fn gateway(address: IpAddr, system: Option<System>) -> String {
    let v6 = address.is_ipv6();
    let command = match system.unwrap_or(System::Linux) {
        System::Linux if v6 => "ip -6 route replace default via APPLIANCE",
        System::Linux => "ip route replace default via APPLIANCE",
        System::Windows if v6 => {
            "New-NetRoute -DestinationPrefix ::/0 -InterfaceAlias Ethernet -NextHop APPLIANCE"
        }
        System::Windows => {
            "New-NetRoute -DestinationPrefix 0.0.0.0/0 -InterfaceAlias Ethernet -NextHop APPLIANCE"
        }
        System::MacOs | System::FreeBsd if v6 => "route change -inet6 default APPLIANCE",
        System::MacOs | System::FreeBsd => "route change default APPLIANCE",
        System::Solaris if v6 => "route -p add -inet6 default APPLIANCE",
        System::Solaris => "route -p add default APPLIANCE",
    };
    format!(
        "\
The real servers need the appliance as their gateway, and no address of the service.

With method NAT their answers have to come back by way of the appliance, which puts the service's
address into them. So the default route of each real server, or its route to the clients' networks,
leads to the appliance's address in their own network (APPLIANCE below). Where two appliances stand
in for each other, that is an address which moves with the service.

  {command}

Make it last where the system keeps its routes. Clients in the same network as the real servers
are answered directly, and their connections fail: use method SNAT for them.
"
    )
}

impl Case<'_> {
    fn introduce(&self, text: &mut String) {
        let Self { address, ports, way, .. } = self;
        let arrive = match way {
            Way::Direct => "reach a real server as clients sent them".to_owned(),
            Way::Ipip => "reach a real server wrapped in IP (IPIP)".to_owned(),
            Way::Gue(port) => {
                format!("reach a real server wrapped in UDP (GUE) on port {}", gue_port(*port))
            }
            Way::Gre => "reach a real server wrapped in GRE".to_owned(),
        };
        let asked = if address.is_ipv4() { "ARP" } else { "neighbour discovery" };
        let any = if address.is_ipv4() { "0.0.0.0" } else { "::" };
        let _ = write!(
            text,
            "\
Packets {arrive}, to {address}.
They are answered to the client directly. So on each real server
  - {address} is an address of its own,
  - {asked} is not answered for it: only the appliance may,
  - what serves listens on it, or on every address ({any}), {ports},
    since no port is translated.
"
        );
    }

    /// How to see that it works.
    fn check(&self, text: &mut String, udp: bool) {
        let Self { id, address, .. } = self;
        let no_port = if self.check_port { " health_check.port=" } else { "" };
        let _ = write!(text, "\nHow to check that it works\n");
        if !udp {
            let _ = write!(
                text,
                "  gantry set {id} health_check.through_virtual_address=true{no_port}
  gantry get rs {id}
      From then on healthd asks by way of {address}, as clients do (agent-l4 has to run): a real
      server that does not take traffic for it is shown as failed, and gets no clients.
"
            );
        }
        let (ask, seen) = match address {
            IpAddr::V4(_) => {
                (format!("arping -b -I eth0 -c 3 {address}"), format!("ip neigh show {address}"))
            }
            IpAddr::V6(_) => {
                (format!("ndisc6 -m {address} eth0"), format!("ip -6 neigh show {address}"))
            }
        };
        let _ = write!(
            text,
            "  {ask}
  {seen}
      On another Linux machine in the network of {address}. Every answer must come from one
      hardware address, and what is remembered must be the same: that of the appliance. Another
      one is a real server that speaks up.
"
        );
        if address.is_ipv4() {
            let _ = write!(
                text,
                "  arping -D -I eth0 -c 3 {address}
      The same while the service is disabled or the appliance is off: nobody may answer.
"
            );
        }
    }
}

fn gue_port(port: i32) -> i32 {
    if port == 0 { i32::from(gantry_model::service::GUE_PORT) } else { port }
}

#[cfg(test)]
mod tests;
