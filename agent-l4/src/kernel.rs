//! The machine as the [`crate::director`] sees it: everything that it reads and changes, behind one
//! trait, so that its rules are tested without a machine.

use std::io;
use std::net::{IpAddr, Ipv4Addr};

use gantry_runtime::agent::Rejection;
use gantry_runtime::rpc;

use crate::host::nft::{Listed, NftError, Rules};
use crate::host::packet::Claim;
use crate::host::route::{Interface, Neighbour, PolicyRule, RouteError};
use crate::host::sysctl::{Outcome, Setting};
use crate::ipvs::{
    self, DestinationEntry, Failure, OpenError, Operation, ServiceEntry, ServiceKey, Timeouts,
};

#[cfg(test)]
pub(crate) mod fake;
pub mod linux;

/// One machine, or what stands for it in tests. Calls block, and come from one thread.
pub trait Kernel: Send + 'static {
    /// Every service of IPVS, others' included.
    fn services(&mut self) -> Result<Vec<ServiceEntry>, Trouble>;
    fn destinations(&mut self, key: &ServiceKey) -> Result<Vec<DestinationEntry>, Trouble>;
    /// Carries out operations in their order, each whether or not others fail.
    fn program(&mut self, operations: &[Operation]) -> Result<Vec<Failure>, Trouble>;
    fn timeouts(&mut self) -> Result<Timeouts, Trouble>;
    fn set_timeouts(&mut self, timeouts: Timeouts) -> Result<(), Trouble>;

    fn interfaces(&mut self) -> Result<Vec<Interface>, Trouble>;
    fn is_local(&mut self, address: IpAddr) -> Result<bool, Trouble>;
    fn add_address(&mut self, index: u32, address: IpAddr) -> Result<(), Trouble>;
    fn remove_address(&mut self, index: u32, address: IpAddr) -> Result<(), Trouble>;
    fn neighbours(&mut self) -> Result<Vec<Neighbour>, Trouble>;
    /// Policy routing that goes by packet marks.
    fn mark_rules(&mut self) -> Result<Vec<PolicyRule>, Trouble>;

    /// The own table of nft; none if it is not there.
    fn rules(&mut self) -> Result<Option<Listed>, Trouble>;
    fn change_rules(&mut self, before: Option<&Rules>, after: &Rules) -> Result<(), Trouble>;
    /// Rules of others that set marks.
    fn foreign_marks(&mut self) -> Result<Vec<String>, Trouble>;

    fn ensure(&mut self, settings: &[Setting]) -> Vec<Outcome>;

    /// Tells the link where an address is now.
    fn announce(&mut self, interface: &Interface, address: IpAddr) -> Result<(), Trouble>;
    /// Asks the link who has an address.
    fn probe(&mut self, interface: &Interface, address: Ipv4Addr) -> Result<(), Trouble>;
    /// What others on the links said since the last call.
    fn heard(&mut self) -> Result<Vec<Claim>, Trouble>;
}

/// The machine cannot do what it is asked for.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    #[error("IPVS cannot be used")]
    NoIpvs(#[source] OpenError),
    #[error("IPVS")]
    Ipvs(#[source] ipvs::Error),
    #[error("addresses and routes")]
    Route(#[source] RouteError),
    #[error("packet filter")]
    Nft(#[source] NftError),
    #[error("packets to the link")]
    Packet(#[source] io::Error),
}

impl Trouble {
    /// The same as an answer to a service that needs it, with the way out.
    pub fn rejection(&self, field: &str) -> Rejection {
        let (reason, advice) = match self {
            Self::NoIpvs(OpenError::NotInKernel) => (
                "NO_IPVS",
                "install a kernel with IPVS (Debian's linux-image-amd64 has it), or use layer7",
            ),
            Self::NoIpvs(_) | Self::Ipvs(_) => ("IPVS_FAILED", "see the log of agent-l4"),
            Self::Nft(NftError::Missing) => (
                "NO_NFT",
                "install nft (apt-get install nftables), or do without what needs it: several ports at \
                 layer4 with persistence, method SNAT, layer7.transparent_source",
            ),
            Self::Nft(_) => ("NFT_FAILED", "see the log of agent-l4"),
            Self::Route(_) | Self::Packet(_) => ("NETWORK_FAILED", "see the log of agent-l4"),
        };
        rejection(reason, field, format!("{}: {advice}", rpc::causes(self)))
    }
}

/// A rejection of a service.
pub(crate) fn rejection(reason: &str, field: &str, message: impl Into<String>) -> Rejection {
    Rejection { reason: reason.to_owned(), field: field.to_owned(), message: message.into() }
}
