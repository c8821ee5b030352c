//! Netlink attributes: a length, a kind, a value, padded to four bytes.
//!
//! Values are in the machine's byte order but for ports and addresses. Reading takes whatever
//! bytes there are, and leaves out kinds that it has no number for, as a newer kernel may send.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::uapi::{AF_INET, AF_INET6, ATTRIBUTE_KIND, NESTED};
use super::{Error, Family};

const HEADER: usize = 4;
const ALIGNMENT: usize = 4;

/// The kernel's `union nf_inet_addr`.
const ADDRESS: usize = 16;

/// One more than the greatest kind that is read.
const KINDS: usize = 16;

/// Appends attributes to bytes.
pub(super) struct Writer<'a>(&'a mut Vec<u8>);

/// The attributes of one message or nest; of several of a kind the last, as in the kernel.
pub(super) struct Table<'a>([Option<&'a [u8]>; KINDS]);

const TRUNCATED: Error = Error::Malformed("an attribute is longer than what holds it");
const MISSING: Error = Error::Malformed("an attribute is missing");

/// The bytes up to the next whose position in the message is a multiple of four.
pub(super) const fn aligned(length: usize) -> usize {
    length.next_multiple_of(ALIGNMENT)
}

impl<'a> Writer<'a> {
    pub(super) fn new(bytes: &'a mut Vec<u8>) -> Self {
        Self(bytes)
    }

    pub(super) fn bytes(&mut self, kind: u16, value: &[u8]) {
        let start = self.begin(kind);
        self.0.extend_from_slice(value);
        self.end(start);
    }

    pub(super) fn u8(&mut self, kind: u16, value: u8) {
        self.bytes(kind, &[value]);
    }

    pub(super) fn u16(&mut self, kind: u16, value: u16) {
        self.bytes(kind, &value.to_ne_bytes());
    }

    pub(super) fn u32(&mut self, kind: u16, value: u32) {
        self.bytes(kind, &value.to_ne_bytes());
    }

    pub(super) fn port(&mut self, kind: u16, port: u16) {
        self.bytes(kind, &port.to_be_bytes());
    }

    pub(super) fn family(&mut self, kind: u16, family: Family) {
        let number = match family {
            Family::V4 => AF_INET,
            Family::V6 => AF_INET6,
        };
        self.u16(kind, number);
    }

    pub(super) fn address(&mut self, kind: u16, address: IpAddr) {
        let mut value = [0; ADDRESS];
        match address {
            IpAddr::V4(address) => value[..4].copy_from_slice(&address.octets()),
            IpAddr::V6(address) => value = address.octets(),
        }
        self.bytes(kind, &value);
    }

    /// With the NUL at its end that the kernel's `NLA_NUL_STRING` wants.
    pub(super) fn text(&mut self, kind: u16, text: &str) {
        let start = self.begin(kind);
        self.0.extend_from_slice(text.as_bytes());
        self.0.push(0);
        self.end(start);
    }

    pub(super) fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Writer<'_>)) {
        let start = self.begin(kind | NESTED);
        fill(&mut Writer(self.0));
        self.end(start);
    }

    fn begin(&mut self, kind: u16) -> usize {
        let start = self.0.len();
        self.0.extend_from_slice(&[0; 2]);
        self.0.extend_from_slice(&kind.to_ne_bytes());
        start
    }

    fn end(&mut self, start: usize) {
        let length = self.0.len() - start;
        let length = u16::try_from(length).expect("an attribute is a few hundred bytes");
        self.0[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        self.0.resize(aligned(self.0.len()), 0);
    }
}

impl<'a> Table<'a> {
    pub(super) fn read(mut bytes: &'a [u8]) -> Result<Self, Error> {
        let mut values = [None; KINDS];
        while !bytes.is_empty() {
            let length = usize::from(u16::from_ne_bytes(array(bytes.get(..2))?));
            let kind = u16::from_ne_bytes(array(bytes.get(2..HEADER))?) & ATTRIBUTE_KIND;
            let value = bytes.get(HEADER..length).ok_or(TRUNCATED)?;
            if let Some(slot) = values.get_mut(usize::from(kind)) {
                *slot = Some(value);
            }
            // The last one may lack its padding.
            bytes = bytes.get(aligned(length)..).unwrap_or_default();
        }
        Ok(Self(values))
    }

    pub(super) fn get(&self, kind: u16) -> Option<&'a [u8]> {
        self.0.get(usize::from(kind)).copied().flatten()
    }

    pub(super) fn u8(&self, kind: u16) -> Result<u8, Error> {
        Ok(u8::from_ne_bytes(array(self.get(kind))?))
    }

    pub(super) fn u16(&self, kind: u16) -> Result<u16, Error> {
        Ok(u16::from_ne_bytes(array(self.get(kind))?))
    }

    pub(super) fn u32(&self, kind: u16) -> Result<u32, Error> {
        Ok(u32::from_ne_bytes(array(self.get(kind))?))
    }

    pub(super) fn u64(&self, kind: u16) -> Result<u64, Error> {
        Ok(u64::from_ne_bytes(array(self.get(kind))?))
    }

    pub(super) fn port(&self, kind: u16) -> Result<u16, Error> {
        Ok(u16::from_be_bytes(array(self.get(kind))?))
    }

    pub(super) fn array<const N: usize>(&self, kind: u16) -> Result<[u8; N], Error> {
        array(self.get(kind))
    }

    pub(super) fn family(&self, kind: u16) -> Result<Family, Error> {
        match self.u16(kind)? {
            AF_INET => Ok(Family::V4),
            AF_INET6 => Ok(Family::V6),
            _ => Err(Error::Malformed("an address family other than IPv4 and IPv6")),
        }
    }

    pub(super) fn address(&self, kind: u16, family: Family) -> Result<IpAddr, Error> {
        let value: [u8; ADDRESS] = self.array(kind)?;
        Ok(match family {
            Family::V4 => Ipv4Addr::from(array(value.get(..4))?).into(),
            Family::V6 => Ipv6Addr::from(value).into(),
        })
    }

    pub(super) fn text(&self, kind: u16) -> Result<String, Error> {
        let value = self.get(kind).ok_or(MISSING)?;
        let end = value.iter().position(|byte| *byte == 0).unwrap_or(value.len());
        Ok(String::from_utf8_lossy(&value[..end]).into_owned())
    }

    pub(super) fn nest(&self, kind: u16) -> Result<Table<'a>, Error> {
        Table::read(self.get(kind).ok_or(MISSING)?)
    }
}

fn array<const N: usize>(value: Option<&[u8]>) -> Result<[u8; N], Error> {
    let value = value.ok_or(MISSING)?;
    value.try_into().map_err(|_| Error::Malformed("an attribute is of another size"))
}
