//! What a real server's administrator does, so that it takes packets for a virtual service's address and
//! leaves the answering of ARP to the balancer.

use std::net::IpAddr;

use super::Lab;
use super::node::Node;

/// How packets come to a real server elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tunnel {
    /// IP in IP, IPv4 or IPv6 in the same.
    Ipip,
    /// Generic UDP encapsulation, to this port.
    Gue(u16),
    Gre,
}

/// Quiet about addresses that are not on the interface the question came by.
const QUIET: [(&str, &str); 2] =
    [("net/ipv4/conf/all/arp_ignore", "1"), ("net/ipv4/conf/all/arp_announce", "2")];

impl Lab {
    /// Direct routing: the address is on lo.
    pub fn real_server_for(&self, node: &str, vip: IpAddr) {
        let node = self.node(node);
        node.sysctl(&QUIET);
        own(node, vip, "lo");
    }

    /// Tunnelling: the address is on the tunnel's end.
    pub fn real_server_for_tunnel(&self, node: &str, vip: IpAddr, tunnel: Tunnel) {
        let node = self.node(node);
        node.sysctl(&QUIET);
        let device = tunnel.device(vip);
        load(tunnel.module(vip));
        if let Tunnel::Gue(port) = tunnel {
            load("fou");
            node.ip(&[format!("fou add port {port} gue")]);
        }
        node.ip(&[format!("link set {device} up")]);
        if vip.is_ipv4() {
            node.sysctl(&[(&format!("net/ipv4/conf/{device}/rp_filter"), "0")]);
        }
        own(node, vip, device);
    }

    /// Undoes either; ARP stays quiet, and the tunnel's end open.
    pub fn forget(&self, node: &str, vip: IpAddr) {
        let node = self.node(node);
        let shown = node.run("ip", &["-o", "addr", "show", "to", &vip.to_string()]).output();
        for device in shown.lines().filter_map(|line| line.split_whitespace().nth(1)) {
            node.ip(&[format!("addr del {} dev {device}", alone(vip))]);
        }
    }
}

impl Tunnel {
    /// The device that the kernel makes in every namespace by itself; it takes packets from anywhere.
    fn device(self, vip: IpAddr) -> &'static str {
        match (self, vip) {
            (Self::Gre, IpAddr::V4(_)) => "gre0",
            (Self::Gre, IpAddr::V6(_)) => "ip6gre0",
            (_, IpAddr::V4(_)) => "tunl0",
            (_, IpAddr::V6(_)) => "ip6tnl0",
        }
    }

    fn module(self, vip: IpAddr) -> &'static str {
        match (self, vip) {
            (Self::Gre, IpAddr::V4(_)) => "ip_gre",
            (Self::Gre, IpAddr::V6(_)) => "ip6_gre",
            (_, IpAddr::V4(_)) => "ipip",
            (_, IpAddr::V6(_)) => "ip6_tunnel",
        }
    }
}

fn own(node: &Node, vip: IpAddr, device: &str) {
    // An address that is not preferred is never the source of what the node itself begins.
    let more = if vip.is_ipv6() { " nodad preferred_lft 0" } else { "" };
    node.ip(&[format!("addr replace {} dev {device}{more}", alone(vip))]);
}

/// The address as a network of its own.
fn alone(vip: IpAddr) -> String {
    format!("{vip}/{}", if vip.is_ipv4() { 32 } else { 128 })
}

/// Loads a module of the kernel; it is the same kernel for every node.
fn load(module: &str) {
    let program = crate::process::program("modprobe", "kmod");
    let loaded = std::process::Command::new(program).arg(module).output().unwrap();
    assert!(loaded.status.success(), "{}", String::from_utf8_lossy(&loaded.stderr).trim_end());
}
