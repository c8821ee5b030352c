//! The one nft table that is Gantry's own: `inet gantry_l4`.
//!
//! It gives packets to a virtual address the mark by which IPVS knows a service of several ports,
//! counts them by port, translates the source address of services by SNAT, and marks what comes back
//! for connections that the proxy makes from its clients' addresses. It is read and
//! changed by the program `nft`; a change is one transaction. Tables of others are read to find
//! those that set marks too, and never touched.

mod decode;
mod encode;
mod foreign;
mod program;
mod skeleton;

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;

use gantry_model::service::Protocol;

/// What the table does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// The packet mark by which IPVS knows the service.
    pub marks: BTreeMap<PortKey, u32>,
    /// The source address that real servers see.
    pub sources: BTreeMap<PortKey, IpAddr>,
    /// Answers come back to sockets with addresses of others (IP_TRANSPARENT of ip(7)).
    pub transparent: bool,
}

/// A range of ports of a virtual address. Ranges of one map do not overlap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortKey {
    pub address: IpAddr,
    pub protocol: Protocol,
    pub first: u16,
    pub last: u16,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counter {
    pub packets: u64,
    pub bytes: u64,
}

/// The table as it was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listed {
    pub rules: Rules,
    /// What came in, by key of `rules.marks`.
    pub counters: BTreeMap<PortKey, Counter>,
    /// The TCP connections that clients opened, by key of `rules.marks`: packets with SYN alone.
    pub connections: BTreeMap<PortKey, u64>,
    /// The table's maps, chains and rules are as [`change`] makes them. Otherwise somebody has
    /// changed them: let [`change`] begin from nothing.
    pub whole: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum NftError {
    #[error("the program nft is not installed")]
    Missing,
    #[error("nft cannot be run")]
    Run(#[source] io::Error),
    /// In nft's own words.
    #[error("nft: {0}")]
    Refused(String),
    #[error("nft prints what cannot be read: {0}")]
    Malformed(String),
}

impl Rules {
    /// The field of a virtual service that these are for.
    pub fn field(&self) -> &'static str {
        match self {
            Self { transparent: true, .. } => "layer7.transparent_source",
            Self { marks, .. } if marks.is_empty() => "layer4.method",
            _ => "listener.ports",
        }
    }
}

/// The table as it is. Absent: it is not there.
pub fn read() -> Result<Option<Listed>, NftError> {
    match program::run(&["-n", "-j", "list", "table", skeleton::FAMILY, skeleton::TABLE], None) {
        Ok(listed) => decode::listed(&listed).map(Some),
        Err(NftError::Refused(words)) if words.contains(NO_SUCH) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Makes the table do `after`, in one transaction. `before` is what it does now; absent, the table is
/// made anew, whatever was there. Counters of what stays go on counting.
///
/// The chain that translates sources is there only while there are sources: with it, the kernel
/// tracks every connection of the machine.
pub fn change(before: Option<&Rules>, after: &Rules) -> Result<(), NftError> {
    let Some(transaction) = encode::transaction(before, after) else { return Ok(()) };
    program::run(&["-j", "-f", "-"], Some(transaction.to_string().as_bytes())).map(drop)
}

/// The rules in tables of others that set the packet mark before IPVS sees the packet, in nft's
/// words: `table inet firewall, chain pre: meta mark set 0x00000001`.
///
/// What the old iptables (`iptables-legacy`) has set does not show.
pub fn foreign_marks() -> Result<Vec<String>, NftError> {
    let ruleset = program::run(&["-n", "-s", "list", "ruleset"], None)?;
    Ok(foreign::marks(&ruleset))
}

/// What nft says of a table that is not there: `strerror(ENOENT)`.
const NO_SUCH: &str = "No such file or directory";

#[cfg(test)]
mod tests;
