//! The frames, byte by byte. ARP (RFC 826) and neighbour advertisement (RFC 4861), on Ethernet.

use std::net::{Ipv4Addr, Ipv6Addr};

/// An ARP packet for IPv4 on Ethernet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Arp {
    pub(super) operation: u16,
    pub(super) sender: Station,
    pub(super) target: Station,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Station {
    pub(super) hardware: [u8; 6],
    pub(super) address: Ipv4Addr,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    Request = 1,
    Reply = 2,
}

const BROADCAST: [u8; 6] = [0xff; 6];
const NOBODY: [u8; 6] = [0; 6];
const ETHERTYPE_ARP: [u8; 2] = [0x08, 0x06];
const ETHERTYPE_IPV6: [u8; 2] = [0x86, 0xdd];
/// Ethernet, IPv4, and the lengths of their addresses.
const ARP_HEAD: [u8; 6] = [0x00, 0x01, 0x08, 0x00, 6, 4];
/// The shortest Ethernet frame, without its checksum.
const SHORTEST: usize = 60;

const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
/// The Ethernet group of all nodes (RFC 2464 section 7).
const ALL_NODES_GROUP: [u8; 6] = [0x33, 0x33, 0, 0, 0, 1];
const ICMPV6: u8 = 58;
const ADVERTISEMENT: u8 = 136;
const OVERRIDE: u8 = 0x20;
/// Option 2, of one unit of eight bytes.
const TARGET_LINK_LAYER_ADDRESS: [u8; 2] = [2, 1];
/// A router on the way would have made it less, so that it proves a neighbour (RFC 4861 section 7.1.2).
const HOP_LIMIT: u8 = 255;
const ADVERTISEMENT_LENGTH: usize = 32;

/// Tells everybody that `address` is at `hardware` (RFC 5227 section 2.3).
pub(super) fn announcement(operation: Operation, hardware: [u8; 6], address: Ipv4Addr) -> Vec<u8> {
    // Nobody looks at the target of an announcement. A reply has its sender there, by custom.
    let target = if operation == Operation::Reply { hardware } else { NOBODY };
    arp(operation, Station { hardware, address }, Station { hardware: target, address })
}

/// Asks who has `address`, from nobody's address (RFC 5227 section 2.1.1).
pub(super) fn probe(hardware: [u8; 6], address: Ipv4Addr) -> Vec<u8> {
    let sender = Station { hardware, address: Ipv4Addr::UNSPECIFIED };
    arp(Operation::Request, sender, Station { hardware: NOBODY, address })
}

/// Tells everybody that `address` is at `hardware` now (RFC 4861 sections 4.4 and 7.2.6).
pub(super) fn advertisement(hardware: [u8; 6], address: Ipv6Addr) -> Vec<u8> {
    let message = advertisement_message(hardware, address);
    let mut frame = ethernet(ALL_NODES_GROUP, hardware, ETHERTYPE_IPV6);
    // Version 6, no traffic class, no flow label; the length of what follows.
    frame.extend([0x60, 0, 0, 0, 0, 32, ICMPV6, HOP_LIMIT]);
    frame.extend(address.octets());
    frame.extend(ALL_NODES.octets());
    frame.extend(message);
    frame
}

impl Arp {
    pub(super) fn parse(packet: &[u8]) -> Option<Self> {
        let (head, rest) = packet.split_first_chunk::<6>()?;
        let (operation, rest) = rest.split_first_chunk::<2>()?;
        let (sender, rest) = station(rest)?;
        let (target, _) = station(rest)?;
        let operation = u16::from_be_bytes(*operation);
        (*head == ARP_HEAD).then_some(Self { operation, sender, target })
    }

    /// The address that the sender says it has, in requests and replies alike (RFC 5227 section 1.1).
    pub(super) fn claim(&self) -> Option<(Ipv4Addr, [u8; 6])> {
        let Station { hardware, address } = self.sender;
        let spoken = self.operation == Operation::Request as u16
            || self.operation == Operation::Reply as u16;
        let real = !address.is_unspecified() && hardware != NOBODY && hardware != BROADCAST;
        (spoken && real).then_some((address, hardware))
    }
}

fn station(bytes: &[u8]) -> Option<(Station, &[u8])> {
    let (hardware, rest) = bytes.split_first_chunk::<6>()?;
    let (address, rest) = rest.split_first_chunk::<4>()?;
    Some((Station { hardware: *hardware, address: Ipv4Addr::from(*address) }, rest))
}

fn arp(operation: Operation, sender: Station, target: Station) -> Vec<u8> {
    let mut frame = ethernet(BROADCAST, sender.hardware, ETHERTYPE_ARP);
    frame.extend(ARP_HEAD);
    frame.extend((operation as u16).to_be_bytes());
    for Station { hardware, address } in [sender, target] {
        frame.extend(hardware);
        frame.extend(address.octets());
    }
    frame.resize(SHORTEST, 0);
    frame
}

fn ethernet(destination: [u8; 6], source: [u8; 6], kind: [u8; 2]) -> Vec<u8> {
    [&destination[..], &source, &kind].concat()
}

fn advertisement_message(hardware: [u8; 6], address: Ipv6Addr) -> [u8; ADVERTISEMENT_LENGTH] {
    let mut message = [0; ADVERTISEMENT_LENGTH];
    message[0] = ADVERTISEMENT;
    message[4] = OVERRIDE;
    message[8..24].copy_from_slice(&address.octets());
    message[24..26].copy_from_slice(&TARGET_LINK_LAYER_ADDRESS);
    message[26..].copy_from_slice(&hardware);
    let sum = checksum(address, ALL_NODES, &message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    message
}

/// Of ICMPv6, with the pseudo-header (RFC 8200 section 8.1, RFC 4443 section 2.3).
fn checksum(source: Ipv6Addr, destination: Ipv6Addr, message: &[u8; ADVERTISEMENT_LENGTH]) -> u16 {
    let addresses = [source.segments(), destination.segments()];
    let words = addresses.as_flattened().iter().copied();
    let pairs = message.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]]));
    let length_and_next = [32, u16::from(ICMPV6)];
    let sum = words.chain(pairs).chain(length_and_next).fold(0_u16, add_with_carry);
    // Nothing is sent as zero, which would say that there is no checksum; it cannot be here.
    !sum
}

/// Addition in ones' complement (RFC 1071).
fn add_with_carry(left: u16, right: u16) -> u16 {
    let (sum, carry) = left.overflowing_add(right);
    sum + u16::from(carry)
}
