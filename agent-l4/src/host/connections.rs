//! The connections and persistence templates that IPVS knows: `/proc/net/ip_vs_conn`.
//!
//! The kernel prints them, a page at a time and not as of one moment; nothing else tells them
//! (`ip_vs_conn_seq_show` in its `net/netfilter/ipvs/ip_vs_conn.c`). For every page it walks the
//! table from its beginning: ten times the entries take a hundred times as long, so that a reader
//! has to say when it has had enough.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use gantry_runtime::clock;

/// One connection, or one client's persistence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub protocol: Carried,
    pub client: SocketAddr,
    pub virtual_address: SocketAddr,
    pub destination: SocketAddr,
    /// As the kernel names it: `ESTABLISHED`.
    pub state: String,
    pub expires: Duration,
    /// It is no connection: it keeps a client at its server.
    pub template: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Carried {
    Tcp,
    Udp,
    /// What the template of a service by packet mark has.
    Any,
}

/// The table as it was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Connections {
    pub entries: Vec<Entry>,
    /// Lines that are none of the above, such as those of SCTP.
    pub skipped: usize,
    /// There were more than were asked for, or than could be had in [`PATIENCE`].
    pub cut: bool,
}

/// The thread's own: `/proc/net` is that of the process, whatever namespace the thread is in.
const TABLE: &str = "/proc/thread-self/net/ip_vs_conn";
/// How long the table is read.
pub const PATIENCE: Duration = Duration::from_secs(5);
const HEADING: &[u8] = b"Pro ";

impl Entry {
    /// The packet mark of the service, if this is the template of a service by packet mark.
    pub fn mark(&self) -> Option<u32> {
        // The mark stands in the place of the address, in the first four bytes.
        let mark = match self.virtual_address.ip() {
            IpAddr::V4(address) => address.to_bits(),
            IpAddr::V6(address) => u32::try_from(address.to_bits() >> 96).ok()?,
        };
        (self.template && self.protocol == Carried::Any).then_some(mark)
    }
}

/// At most `limit` entries, and no more than can be read in [`PATIENCE`]. Those that come or go
/// meanwhile may be left out or be there twice.
///
/// `NotFound`: IPVS is not loaded.
pub fn read(limit: usize) -> io::Result<Connections> {
    let end = clock::monotonic() + PATIENCE;
    collect(BufReader::new(File::open(TABLE)?), limit, || clock::monotonic() >= end)
}

fn collect(
    mut table: impl BufRead,
    limit: usize,
    late: impl Fn() -> bool,
) -> io::Result<Connections> {
    let mut connections = Connections::default();
    let mut line = Vec::new();
    while table.read_until(b'\n', &mut line)? > 0 {
        if connections.entries.len() >= limit || late() {
            connections.cut = true;
            break;
        }
        // What a persistence engine has added may be any bytes.
        match entry(&String::from_utf8_lossy(&line)) {
            Some(entry) => connections.entries.push(entry),
            None if line.starts_with(HEADING) => {}
            None => connections.skipped += 1,
        }
        line.clear();
    }
    Ok(connections)
}

fn entry(line: &str) -> Option<Entry> {
    let mut words = line.split_ascii_whitespace();
    let protocol = match words.next()? {
        "TCP" => Carried::Tcp,
        "UDP" => Carried::Udp,
        "IP" => Carried::Any,
        _ => return None,
    };
    let mut socket = || Some(SocketAddr::new(address(words.next()?)?, port(words.next()?)?));
    let (client, virtual_address, destination) = (socket()?, socket()?, socket()?);
    let state = words.next()?.to_owned();
    let expires = Duration::from_secs(words.next()?.parse().ok()?);
    // Only a template is for whatever port a client comes from.
    let template = client.port() == 0;
    Some(Entry { protocol, client, virtual_address, destination, state, expires, template })
}

/// Eight hexadecimal digits, or an IPv6 address written out in full.
fn address(word: &str) -> Option<IpAddr> {
    match word.len() {
        8 => Some(Ipv4Addr::from(u32::from_str_radix(word, 16).ok()?).into()),
        _ => Some(word.parse::<Ipv6Addr>().ok()?.into()),
    }
}

fn port(word: &str) -> Option<u16> {
    u16::from_str_radix(word, 16).ok()
}

#[cfg(test)]
mod tests;
