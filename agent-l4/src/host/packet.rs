//! Telling a network who has an address, and hearing what others say.
//!
//! Gratuitous ARP and ARP probes (RFC 826, RFC 5227) for IPv4, unsolicited neighbour advertisements
//! (RFC 4861) for IPv6. It sends and hears single frames; when and how often is decided elsewhere.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};

/// Two packet sockets: one to send, one that hears the ARP packets of all interfaces.
#[derive(Debug)]
pub struct Announcer {}

/// Somebody on the link of interface `index` says that it has `address`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Claim {
    pub index: u32,
    pub address: Ipv4Addr,
    pub hardware: [u8; 6],
}

impl Announcer {
    /// Needs `CAP_NET_RAW`.
    pub fn open() -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Says to everybody on the link that `address` is at `hardware`: an ARP announcement in the
    /// request form (RFC 5227 section 2.3), and one in the reply form for those who heed only that.
    pub fn gratuitous_arp(
        &self,
        _index: u32,
        _hardware: [u8; 6],
        _address: Ipv4Addr,
    ) -> io::Result<()> {
        Ok(())
    }

    /// The same for IPv6: an unsolicited neighbour advertisement that overrides what the hearers
    /// know (RFC 4861 section 7.2.6).
    pub fn unsolicited_advertisement(
        &self,
        _index: u32,
        _hardware: [u8; 6],
        _address: Ipv6Addr,
    ) -> io::Result<()> {
        Ok(())
    }

    /// Asks who has `address`, without claiming anything (RFC 5227 section 1.1).
    pub fn probe(&self, _index: u32, _hardware: [u8; 6], _address: Ipv4Addr) -> io::Result<()> {
        Ok(())
    }

    /// What others have claimed since the last call. It does not wait.
    ///
    /// This machine's own frames are left out, except where they come back through another of its
    /// interfaces: compare `hardware`.
    pub fn heard(&mut self) -> io::Result<Vec<Claim>> {
        Ok(Vec::new())
    }
}
