//! Telling a network who has an address, and hearing what others say.
//!
//! Gratuitous ARP and ARP probes (RFC 826, RFC 5227) for IPv4, unsolicited neighbour advertisements
//! (RFC 4861) for IPv6. It sends and hears single frames; when and how often is decided elsewhere.

mod frame;
mod link;

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::OwnedFd;

use frame::{Arp, Operation};
use link::Destination;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, eth, recvfrom, sendto,
    socket_with,
};

/// Two packet sockets: one to send, one that hears the ARP packets of all interfaces (packet(7)).
#[derive(Debug)]
pub struct Announcer {
    sender: OwnedFd,
    listener: OwnedFd,
}

/// Somebody on the link of interface `index` says that it has `address`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Claim {
    pub index: u32,
    pub address: Ipv4Addr,
    pub hardware: [u8; 6],
}

/// Packets taken from the listener in one call. A storm must not hold up the caller; the kernel
/// drops what does not fit its buffer.
const DRAIN: usize = 4096;

impl Announcer {
    /// Needs `CAP_NET_RAW`.
    pub fn open() -> io::Result<Self> {
        // A socket of no protocol hears nothing. One of datagrams hears packets without their frame.
        let sender = open(SocketType::RAW, None)?;
        let listener = open(SocketType::DGRAM, Some(eth::ARP))?;
        Ok(Self { sender, listener })
    }

    /// Says to everybody on the link that `address` is at `hardware`: an ARP announcement in the
    /// request form (RFC 5227 section 2.3), and one in the reply form for those who heed only that.
    pub fn gratuitous_arp(
        &self,
        index: u32,
        hardware: [u8; 6],
        address: Ipv4Addr,
    ) -> io::Result<()> {
        for operation in [Operation::Request, Operation::Reply] {
            self.send(index, &frame::announcement(operation, hardware, address))?;
        }
        Ok(())
    }

    /// The same for IPv6: an unsolicited neighbour advertisement that overrides what the hearers
    /// know (RFC 4861 section 7.2.6).
    pub fn unsolicited_advertisement(
        &self,
        index: u32,
        hardware: [u8; 6],
        address: Ipv6Addr,
    ) -> io::Result<()> {
        self.send(index, &frame::advertisement(hardware, address))
    }

    /// Asks who has `address`, without claiming anything (RFC 5227 section 1.1).
    pub fn probe(&self, index: u32, hardware: [u8; 6], address: Ipv4Addr) -> io::Result<()> {
        self.send(index, &frame::probe(hardware, address))
    }

    /// What others have claimed since the last call. It does not wait.
    ///
    /// This machine's own frames are left out, except where they come back through another of its
    /// interfaces: compare `hardware`. A probe claims nothing.
    pub fn heard(&mut self) -> io::Result<Vec<Claim>> {
        let mut claims = Vec::new();
        let mut buffer = [0; 64];
        for _ in 0..DRAIN {
            let (length, from) = match recvfrom(&self.listener, &mut buffer, RecvFlags::empty()) {
                Ok((_, length, from)) => (length.min(buffer.len()), from),
                Err(Errno::AGAIN) => break,
                // An interface went down, which a packet socket is told once. Or a signal came.
                Err(Errno::NETDOWN | Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            };
            let origin = from.as_ref().and_then(link::origin).filter(|origin| !origin.outgoing);
            let arp = Arp::parse(&buffer[..length]);
            if let (Some(origin), Some(arp)) = (origin, arp)
                && let Some((address, hardware)) = arp.claim()
            {
                claims.push(Claim { index: origin.index, address, hardware });
            }
        }
        Ok(claims)
    }

    fn send(&self, index: u32, frame: &[u8]) -> io::Result<()> {
        sendto(&self.sender, frame, SendFlags::empty(), &Destination { index })?;
        Ok(())
    }
}

fn open(kind: SocketType, protocol: Option<Protocol>) -> io::Result<OwnedFd> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    Ok(socket_with(AddressFamily::PACKET, kind, flags, protocol)?)
}

#[cfg(test)]
mod tests;
