//! Loopback addresses and ports that one test has for itself.
//!
//! A block is held by a socket bound in it, so that tests of other processes on this machine get
//! others. Its ports are below those that the kernel gives out for outgoing connections; they are for
//! peers that cannot be told which address to listen on. Where a test run that was interrupted left a
//! process behind that still listens, the block is passed over.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicU16, Ordering};

const BLOCKS: u16 = 1000;
const FIRST_PORT: u16 = 20_000;
const PORTS: u16 = 12;
const LOCK_PORT: u16 = 61_999;
/// The state of a listening socket in the kernel's table.
const LISTEN: &str = "0A";

/// The addresses 127.x.y.1 to 127.x.y.254, and a few ports of every address.
#[derive(Debug)]
pub struct Block {
    index: u16,
    next_port: AtomicU16,
    /// Holds the block.
    _lock: UdpSocket,
}

impl Block {
    /// Takes a block that nobody has.
    pub fn take() -> Self {
        let lock = |index| UdpSocket::bind((address(index, 255), LOCK_PORT)).ok();
        let quiet = (0..BLOCKS).filter(|index| !is_busy(*index));
        let taken = quiet.into_iter().find_map(|index| Some((index, lock(index)?)));
        let (index, lock) = taken.expect("a free block of loopback addresses");
        Self { index, next_port: AtomicU16::new(0), _lock: lock }
    }

    /// An address of this block.
    pub fn address(&self, last: u8) -> Ipv4Addr {
        address(self.index, last)
    }

    pub fn socket(&self, last: u8, port: u16) -> SocketAddr {
        (self.address(last), port).into()
    }

    /// A port that is free on every address.
    pub fn port(&self) -> u16 {
        loop {
            let at = self.next_port.fetch_add(1, Ordering::Relaxed);
            assert!(at < PORTS, "this test needs more than {PORTS} ports");
            let port = FIRST_PORT + self.index * PORTS + at;
            if TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok() {
                return port;
            }
        }
    }
}

fn address(index: u16, last: u8) -> Ipv4Addr {
    let [high, low] = (index + (100 << 8)).to_be_bytes();
    Ipv4Addr::new(127, high, low, last)
}

/// Whether a process listens on an address of the block.
fn is_busy(index: u16) -> bool {
    listening().iter().any(|at| at.ip().octets()[..3] == address(index, 0).octets()[..3])
}

/// Where processes of this machine, or of the node of a lab that this thread is in, listen.
pub fn listening() -> Vec<SocketAddrV4> {
    let table = std::fs::read_to_string("/proc/thread-self/net/tcp").unwrap();
    let listener = |line: &str| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let [_, local, _, LISTEN, ..] = fields[..] else { return None };
        let (address, port) = local.split_once(':')?;
        let octets = u32::from_str_radix(address, 16).ok()?.to_ne_bytes();
        Some(SocketAddrV4::new(octets.into(), u16::from_str_radix(port, 16).ok()?))
    };
    table.lines().filter_map(listener).collect()
}
