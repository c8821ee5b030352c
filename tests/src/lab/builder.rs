//! What a lab shall be, and how it comes up: few calls of `ip`, for each is slow on an emulated machine.

use std::sync::atomic::{AtomicU32, Ordering};

use super::node::{Node, batch};
use super::{Lab, raze};

/// The last part of the nodes' addresses in the ready-made labs.
pub(super) const BALANCERS: [(&str, u8); 2] = [("lb1", 11), ("lb2", 12)];
pub(super) const REAL_SERVERS: [(&str, u8); 3] = [("rs1", 21), ("rs2", 22), ("rs3", 23)];
const CLIENTS: [(&str, u8); 2] = [("c1", 201), ("c2", 211)];
/// So many addresses has each client.
const ADDRESSES: u8 = 9;

/// The namespace with the bridges.
const SWITCH: &str = "sw";
/// A namespace inherits some of these from the machine: here is what a lab means.
const SYSCTLS: [(&str, &str); 10] = [
    ("net/ipv4/conf/all/rp_filter", "0"),
    ("net/ipv4/conf/default/rp_filter", "0"),
    ("net/ipv4/conf/all/arp_ignore", "0"),
    ("net/ipv4/conf/all/arp_announce", "0"),
    ("net/ipv4/conf/all/send_redirects", "0"),
    ("net/ipv4/conf/default/send_redirects", "0"),
    ("net/ipv4/ip_forward", "0"),
    ("net/ipv6/conf/all/forwarding", "0"),
    ("net/ipv6/conf/all/accept_dad", "0"),
    ("net/ipv6/conf/default/accept_dad", "0"),
];
const FORWARDING: [(&str, &str); 3] = [
    ("net/ipv4/ip_forward", "1"),
    ("net/ipv6/conf/all/forwarding", "1"),
    ("net/ipv4/ip_nonlocal_bind", "1"),
];

/// Networks and nodes that are not there yet.
#[derive(Debug, Default)]
pub struct LabBuilder {
    networks: Vec<String>,
    nodes: Vec<Plan>,
}

#[derive(Debug)]
struct Plan {
    name: String,
    /// eth0, eth1 and so on: the network, and the addresses.
    interfaces: Vec<(String, Vec<String>)>,
    routes: Vec<String>,
    forwards: bool,
}

impl LabBuilder {
    /// A network that nodes can be on.
    pub fn network(mut self, name: &str) -> Self {
        self.networks.push(name.to_owned());
        self
    }

    /// A node, with an interface (eth0, eth1 and so on) for each network and its addresses there:
    /// `.node("dicom1", &[("back", &["10.12.1.110/24"])])`.
    pub fn node(self, name: &str, interfaces: &[(&str, &[&str])]) -> Self {
        let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        let interfaces =
            interfaces.iter().map(|(on, addresses)| ((*on).to_owned(), owned(addresses)));
        self.plan(name, interfaces.collect())
    }

    /// A route of a node: `.route("dicom1", "default", "10.12.1.1")`.
    pub fn route(mut self, node: &str, to: &str, via: &str) -> Self {
        self.find(node).routes.push(format!("route add {to} via {via}"));
        self
    }

    /// Makes a node pass on what is not for itself, and bind addresses that it does not have.
    pub fn forwards(mut self, node: &str) -> Self {
        self.find(node).forwards = true;
        self
    }

    /// Builds it.
    pub fn up(self) -> Lab {
        assert!(rustix::process::geteuid().is_root(), "a lab can be built by root only");
        raze::raze_left_behind();
        let prefix = next_prefix();
        let nodes: Vec<_> = self.nodes.iter().map(|plan| plan.name.as_str()).collect();
        let names = nodes.iter().chain(&[SWITCH]).map(|name| format!("{prefix}{name}"));
        batch(None, &names.map(|name| format!("netns add {name}")).collect::<Vec<_>>());
        let open = |plan: &Plan| Node::open(&prefix, &plan.name, plan.interfaces.len());
        let nodes = self.nodes.iter().map(open).collect();
        let lab = Lab { switch: Node::open(&prefix, SWITCH, 0), nodes, prefix };
        // From here on what goes wrong takes the lab away again.
        lab.switch.ip(&self.cabling(&lab));
        for (plan, node) in self.nodes.iter().zip(&lab.nodes) {
            node.ip(&plan.lines());
        }
        lab
    }

    /// A host with the same number on each network.
    pub(super) fn host(self, name: &str, on: &[(&str, u8)], host: u8) -> Self {
        self.hosts(name, on, host..=host)
    }

    fn hosts(self, name: &str, on: &[(&str, u8)], hosts: std::ops::RangeInclusive<u8>) -> Self {
        let both =
            |net: u8, host: u8| [format!("10.{net}.0.{host}/24"), format!("fd{net}::{host}/64")];
        let interfaces = on.iter().map(|(network, net)| {
            ((*network).to_owned(), hosts.clone().flat_map(|host| both(*net, host)).collect())
        });
        let interfaces = interfaces.collect();
        self.plan(name, interfaces)
    }

    fn plan(mut self, name: &str, interfaces: Vec<(String, Vec<String>)>) -> Self {
        assert!(name.len() <= 11 && name != SWITCH, "{name} is no name for a node");
        let name = name.to_owned();
        self.nodes.push(Plan { name, interfaces, routes: Vec::new(), forwards: false });
        self
    }

    fn find(&mut self, node: &str) -> &mut Plan {
        let found = self.nodes.iter_mut().find(|plan| plan.name == node);
        found.unwrap_or_else(|| panic!("add the node {node} first"))
    }

    /// What makes the bridges, and the cables to the nodes. The nodes are told first how they
    /// shall treat the interfaces that come.
    fn cabling(&self, lab: &Lab) -> Vec<String> {
        for (plan, node) in self.nodes.iter().zip(&lab.nodes) {
            node.sysctl(&SYSCTLS);
            if plan.forwards {
                node.sysctl(&FORWARDING);
            }
        }
        let mut lines = Vec::new();
        for network in &self.networks {
            let bridge = bridge(network);
            lines.push(format!("link add {bridge} type bridge forward_delay 0 stp_state 0"));
            lines.push(format!("link set {bridge} up"));
        }
        for (plan, node) in self.nodes.iter().zip(&lab.nodes) {
            for (at, (network, _)) in plan.interfaces.iter().enumerate() {
                assert!(self.networks.contains(network), "there is no network {network}");
                let (port, other) = (port(&plan.name, at), node.namespace());
                lines.push(format!("link add {port} type veth peer name eth{at} netns {other}"));
                lines.push(format!("link set {port} master {} up", bridge(network)));
            }
        }
        lines
    }
}

/// Adds the clients, which have nine addresses each.
pub(super) fn clients(lab: LabBuilder, network: &str, net: u8) -> LabBuilder {
    CLIENTS.iter().fold(lab, |lab, (name, first)| {
        lab.hosts(name, &[(network, net)], *first..=first + ADDRESSES - 1)
    })
}

/// The name of a node's cable in the switch. Names of interfaces have 15 characters at most.
pub(super) fn port(node: &str, interface: usize) -> String {
    format!("{node}-{interface}")
}

fn bridge(network: &str) -> String {
    assert!(network.len() <= 12, "{network} is too long a name for a network");
    format!("br-{network}")
}

fn next_prefix() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{}{}-", raze::own_prefix(), NEXT.fetch_add(1, Ordering::Relaxed))
}

impl Plan {
    /// What makes the node's interfaces what they shall be.
    fn lines(&self) -> Vec<String> {
        let mut lines = vec!["link set lo up".to_owned()];
        for (at, (_, addresses)) in self.interfaces.iter().enumerate() {
            lines.push(format!("link set eth{at} up"));
            for address in addresses {
                let nodad = if address.contains(':') { " nodad" } else { "" };
                lines.push(format!("addr add {address} dev eth{at}{nodad}"));
            }
        }
        lines.extend(self.routes.iter().cloned());
        lines
    }
}
