//! A site with agent-l4 as well: one node of a lab is the appliance and the controller's host.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::Arc;

use super::{CONTROLLER, Site, agent_options};
use crate::block::Block;
use crate::process::{Process, binary};

impl Site {
    /// A controller on the node's loopback, and the appliance "lb1" with all its agents. To be called
    /// in [`Node::block_on`](crate::lab::Node::block_on), where the site is used, too.
    pub async fn layer4() -> Self {
        Self::layer4_at(Ipv4Addr::LOCALHOST.into()).await
    }

    /// The same with the controller at an address that other nodes can reach.
    pub async fn layer4_at(address: IpAddr) -> Self {
        let address = (address, CONTROLLER.1).into();
        let mut site = Self::controller_at(address, Arc::new(Block::take()), &[]).await;
        site.join_lb1().await;
        site.start_healthd();
        site.start_agent_l7();
        site.start_agent_l4();
        site.agents_report().await;
        site
    }

    pub fn start_agent_l4(&mut self) {
        self.start_agent_l4_with(&[]);
    }

    /// The same with more on its command line.
    pub fn start_agent_l4_with(&mut self, more: &[&str]) {
        let options = self.options_with_control("agent-l4");
        let options = options.into_iter().chain(more.iter().map(|option| (*option).to_owned()));
        let program = binary("gantry-agent-l4");
        self.agent_l4 = Some(Process::start("agent-l4", &program, options, self.dir()));
    }

    /// The options of agent-l4, and of healthd, which asks it for ways through real servers.
    pub(super) fn options_with_control(&self, name: &str) -> Vec<String> {
        let (identity, control) = (self.identity_of("lb1"), self.control());
        let mut options = agent_options(name, &self.url, &identity, self.dir());
        options.extend(["--control".to_owned(), control.to_str().unwrap().to_owned()]);
        options
    }

    /// The Unix socket on which agent-l4 gives ways through real servers.
    pub fn control(&self) -> PathBuf {
        self.dir().join("agent-l4.sock")
    }
}
