//! Headers of the PROXY protocol, versions 1 and 2: who the client is, told before its first byte.
//!
//! Source: "The PROXY protocol", versions 1 and 2, section 2, as published with HAProxy
//! (`doc/proxy-protocol.txt`). Of version 2, streams over IPv4 and IPv6 are told; what comes with
//! another family, or of the sender's own accord (`LOCAL`), is a connection like any other.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use gantry_model::service::ProxyVersion;

/// What a header says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// From where the client connected and to where; none: the sender speaks for itself.
    pub(crate) ends: Option<Ends>,
    /// What version 2 has to add, as it came: type, length and value, one after the other.
    pub(crate) additions: Vec<u8>,
}

/// Both ends of a client's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ends {
    pub(crate) client: SocketAddr,
    pub(crate) listener: SocketAddr,
}

/// These bytes can never become a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Malformed {
    #[error("no PROXY protocol header")]
    NoHeader,
    #[error("a PROXY protocol header of version 1 that is longer than 107 bytes")]
    TooLong,
    #[error("a PROXY protocol header with an address that is none")]
    Address,
    #[error("a PROXY protocol header of version 2 with an unknown version or command")]
    Command,
}

/// The longest header of version 2 that is taken: addresses, and room for what may be added.
pub(crate) const LONGEST: usize = 4096;
const LONGEST_V1: usize = 107;

const V1: &[u8] = b"PROXY ";
const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, version and command, family, length.
const FIXED: usize = 16;
const PROXY: u8 = 0x21;
const LOCAL: u8 = 0x20;
const STREAM_V4: u8 = 0x11;
const STREAM_V6: u8 = 0x21;
/// An addition that covers the whole header, and would be wrong in another one.
const CHECKSUM: u8 = 0x03;

impl Header {
    /// Reads the header that `bytes` begin with, and gives its length; none if more is needed.
    pub(crate) fn read(bytes: &[u8]) -> Result<Option<(Self, usize)>, Malformed> {
        if is_beginning(bytes, V2) {
            return Self::read_v2(bytes);
        }
        if is_beginning(bytes, V1) {
            return Self::read_v1(bytes);
        }
        Err(Malformed::NoHeader)
    }

    fn read_v1(bytes: &[u8]) -> Result<Option<(Self, usize)>, Malformed> {
        let line = bytes.windows(2).take(LONGEST_V1 - 1).position(|two| two == b"\r\n");
        let Some(end) = line else {
            return if bytes.len() < LONGEST_V1 { Ok(None) } else { Err(Malformed::TooLong) };
        };
        let text = std::str::from_utf8(&bytes[..end]).map_err(|_| Malformed::Address)?;
        let words: Vec<&str> = text.split(' ').collect();
        let ends = match words.as_slice() {
            ["PROXY", "UNKNOWN", ..] => None,
            ["PROXY", family @ ("TCP4" | "TCP6"), client, listener, from, to] => {
                let end = |address: &str, port: &str| {
                    let address: IpAddr = address.parse().ok()?;
                    let fits = address.is_ipv4() == (*family == "TCP4");
                    fits.then_some(SocketAddr::new(address, port.parse().ok()?))
                };
                let ends = end(client, from).zip(end(listener, to));
                let (client, listener) = ends.ok_or(Malformed::Address)?;
                Some(Ends { client, listener })
            }
            _ => return Err(Malformed::Address),
        };
        Ok(Some((Self { ends, additions: Vec::new() }, end + 2)))
    }

    fn read_v2(bytes: &[u8]) -> Result<Option<(Self, usize)>, Malformed> {
        let Some(fixed) = bytes.first_chunk::<FIXED>() else { return Ok(None) };
        let length = FIXED + usize::from(u16::from_be_bytes([fixed[14], fixed[15]]));
        if length > LONGEST {
            return Err(Malformed::TooLong);
        }
        let Some(rest) = bytes.get(FIXED..length) else { return Ok(None) };
        let (ends, additions) = match (fixed[12], fixed[13]) {
            (LOCAL, _) => (None, &[][..]),
            (PROXY, STREAM_V4) => Ends::read::<4>(rest)?,
            (PROXY, STREAM_V6) => Ends::read::<16>(rest)?,
            (PROXY, _) => (None, &[][..]),
            _ => return Err(Malformed::Command),
        };
        Ok(Some((Self { ends, additions: without_checksum(additions) }, length)))
    }
}

impl Ends {
    /// Reads two addresses of so many bytes and two ports; gives what follows.
    fn read<const N: usize>(bytes: &[u8]) -> Result<(Option<Self>, &[u8]), Malformed>
    where
        IpAddr: From<[u8; N]>,
    {
        let read = || {
            let (client, rest) = bytes.split_first_chunk::<N>()?;
            let (listener, rest) = rest.split_first_chunk::<N>()?;
            let (from, rest) = rest.split_first_chunk()?;
            let (to, rest) = rest.split_first_chunk()?;
            let end = |address: &[u8; N], port: &[u8; 2]| {
                SocketAddr::new(IpAddr::from(*address), u16::from_be_bytes(*port))
            };
            Some((Self { client: end(client, from), listener: end(listener, to) }, rest))
        };
        let (ends, rest) = read().ok_or(Malformed::Address)?;
        Ok((Some(ends), rest))
    }

    /// The header that tells a real server of this client. `additions` go with version 2 only.
    pub(crate) fn header(&self, version: ProxyVersion, additions: &[u8]) -> Vec<u8> {
        match version {
            ProxyVersion::V1 => self.header_v1(),
            ProxyVersion::V2 => self.header_v2(additions),
        }
    }

    fn header_v1(&self) -> Vec<u8> {
        let (client, listener) = self.of_one_family();
        let family = if client.is_ipv4() { "TCP4" } else { "TCP6" };
        let (from, to) = (self.client.port(), self.listener.port());
        format!("PROXY {family} {client} {listener} {from} {to}\r\n").into_bytes()
    }

    fn header_v2(&self, additions: &[u8]) -> Vec<u8> {
        let mut header = [V2, &[PROXY]].concat();
        let (family, addresses) = match self.of_one_family() {
            (IpAddr::V4(client), IpAddr::V4(listener)) => {
                (STREAM_V4, [client.octets(), listener.octets()].concat())
            }
            (client, listener) => {
                (STREAM_V6, [mapped(client).octets(), mapped(listener).octets()].concat())
            }
        };
        let ports = [self.client.port(), self.listener.port()].map(u16::to_be_bytes).concat();
        let length = addresses.len() + ports.len() + additions.len();
        header.push(family);
        header.extend(u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes());
        [header, addresses, ports, additions.to_vec()].concat()
    }

    /// Addresses of one family: IPv4 ones are mapped where only one of them is.
    fn of_one_family(&self) -> (IpAddr, IpAddr) {
        match (self.client.ip(), self.listener.ip()) {
            (client, listener) if client.is_ipv4() == listener.is_ipv4() => (client, listener),
            (client, listener) => (mapped(client).into(), mapped(listener).into()),
        }
    }
}

fn mapped(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => Ipv4Addr::to_ipv6_mapped(&address),
        IpAddr::V6(address) => address,
    }
}

/// What was added, without a checksum and without what is no addition.
fn without_checksum(mut additions: &[u8]) -> Vec<u8> {
    let mut kept = Vec::new();
    while let [kind, high, low, ..] = *additions {
        let length = 3 + usize::from(u16::from_be_bytes([high, low]));
        let Some((one, rest)) = additions.split_at_checked(length) else { break };
        if kind != CHECKSUM {
            kept.extend_from_slice(one);
        }
        additions = rest;
    }
    kept
}

/// Whether `bytes` begin with `whole`, or are its beginning.
fn is_beginning(bytes: &[u8], whole: &[u8]) -> bool {
    let length = bytes.len().min(whole.len());
    bytes[..length] == whole[..length]
}

#[cfg(test)]
mod tests;
