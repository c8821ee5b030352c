//! A network lab: hosts and switches of one test, made of network namespaces on one kernel.
//!
//! Every node is a namespace; its cables end at bridges in one more namespace, the switch. The machine's
//! own interfaces, routes and firewall are not touched, and labs live side by side. A lab that is
//! dropped, also by a test that panics, ends every process in its namespaces and deletes them. Needs root.
//!
//! Both ready-made labs have the nodes c1 and c2 (clients with nine addresses each), lb1, lb2, rs1, rs2
//! and rs3. Hosts are .11 and .12 (lb), .21 to .23 (rs), .201 to .209 (c1), .211 to .219 (c2);
//! virtual services are .100 and up. In IPv6 the same numbers follow `fd77::` and `fd78::`.

mod builder;
mod client;
mod node;
mod raze;
mod real_server;
mod server;

pub use builder::LabBuilder;
pub use client::{Answer, Client, End};
pub use node::Node;
pub use raze::raze_all;
pub use real_server::Tunnel;
pub use server::Server;

/// A lab that is up.
#[derive(Debug)]
pub struct Lab {
    prefix: String,
    switch: Node,
    nodes: Vec<Node>,
}

impl Lab {
    /// Everything on one network, 10.77.0.0/24 and fd77::/64.
    pub fn one_arm() -> Self {
        let mut lab = Self::build().network("lan");
        lab = builder::clients(lab, "lan", 77);
        for (name, host) in builder::BALANCERS {
            lab = lab.host(name, &[("lan", 77)], host).forwards(name);
        }
        for (name, host) in builder::REAL_SERVERS {
            lab = lab.host(name, &[("lan", 77)], host);
        }
        lab.up()
    }

    /// Clients in front, on 10.78.0.0/24 and fd78::/64 with the balancers' eth1; real servers behind,
    /// on 10.77.0.0/24 and fd77::/64 with the balancers' eth0. The real servers' default gateway,
    /// 10.77.0.1 and fd77::1, is on lb1.
    pub fn two_arm() -> Self {
        let mut lab = Self::build().network("back").network("front");
        lab = builder::clients(lab, "front", 78);
        for (name, host) in builder::BALANCERS {
            lab = lab.host(name, &[("back", 77), ("front", 78)], host).forwards(name);
        }
        for (name, host) in builder::REAL_SERVERS {
            lab = lab.host(name, &[("back", 77)], host);
            lab = lab.route(name, "default", "10.77.0.1").route(name, "default", "fd77::1");
        }
        let lab = lab.up();
        lab.node("lb1")
            .ip(&["addr add 10.77.0.1/32 dev eth0", "addr add fd77::1/128 dev eth0 nodad"]);
        lab
    }

    /// Any nodes on any networks.
    pub fn build() -> LabBuilder {
        LabBuilder::default()
    }

    pub fn node(&self, name: &str) -> &Node {
        let found = self.nodes.iter().find(|node| node.name() == name);
        found.unwrap_or_else(|| panic!("the lab has no node {name}"))
    }

    /// Pulls the node's cables at the switch: its own interfaces stay as they are.
    pub fn cut(&self, node: &str) {
        self.plug(node, "down");
    }

    /// Plugs them in again.
    pub fn join(&self, node: &str) {
        self.plug(node, "up");
    }

    fn plug(&self, node: &str, state: &str) {
        let ports = 0..self.node(node).interfaces();
        let lines = ports.map(|at| format!("link set {} {state}", builder::port(node, at)));
        self.switch.ip(&lines.collect::<Vec<_>>());
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        raze::raze(&self.prefix);
    }
}
