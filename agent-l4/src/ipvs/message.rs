//! Netlink messages: how they are put one behind the other, and what the kernel's verdicts say.

use rustix::io::Errno;

use super::Error;
use super::attribute::{Table, Writer, aligned};
use super::uapi::{ACK_ATTRIBUTES, CAPPED, ERROR_TEXT, IPVS_VERSION};

/// `struct nlmsghdr`.
const HEADER: usize = 16;

/// `struct genlmsghdr`.
const GENERIC_HEADER: usize = 4;

/// Where a message's flags are.
const FLAGS: usize = 6;

const TRUNCATED: Error = Error::Malformed("a message is cut short");

/// What a message is, but for what it holds.
#[derive(Clone, Copy)]
pub(super) struct Envelope {
    pub(super) family: u16,
    pub(super) flags: u16,
    pub(super) sequence: u32,
    pub(super) command: u8,
}

/// A message as received.
#[derive(Clone, Copy)]
pub(super) struct Message<'a> {
    pub(super) kind: u16,
    pub(super) flags: u16,
    pub(super) sequence: u32,
    pub(super) payload: &'a [u8],
}

/// How a request ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    /// Absent: well.
    pub(super) errno: Option<Errno>,
    /// The kernel's own words.
    pub(super) text: Option<String>,
}

/// The messages of a datagram; ends with the first that is broken.
pub(super) struct Messages<'a>(&'a [u8]);

/// Appends a message.
pub(super) fn write(bytes: &mut Vec<u8>, envelope: Envelope, fill: impl FnOnce(&mut Writer<'_>)) {
    let start = bytes.len();
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(&envelope.family.to_ne_bytes());
    bytes.extend_from_slice(&envelope.flags.to_ne_bytes());
    bytes.extend_from_slice(&envelope.sequence.to_ne_bytes());
    // The kernel fills in the port.
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(&[envelope.command, IPVS_VERSION, 0, 0]);
    fill(&mut Writer::new(bytes));
    let length = u32::try_from(bytes.len() - start).expect("a message is a few hundred bytes");
    bytes[start..start + 4].copy_from_slice(&length.to_ne_bytes());
}

/// Adds `flags` to the message that begins at `start`.
pub(super) fn add_flags(bytes: &mut [u8], start: usize, flags: u16) {
    for (byte, more) in bytes[start + FLAGS..].iter_mut().zip(flags.to_ne_bytes()) {
        *byte |= more;
    }
}

impl<'a> Messages<'a> {
    pub(super) fn new(datagram: &'a [u8]) -> Self {
        Self(datagram)
    }

    fn read(&mut self) -> Result<Message<'a>, Error> {
        let length = u32::from_ne_bytes(field(self.0, 0)?);
        let length = usize::try_from(length).map_err(|_| TRUNCATED)?;
        let message = self.0.get(..length).ok_or(TRUNCATED)?;
        let read = Message {
            kind: u16::from_ne_bytes(field(message, 4)?),
            flags: u16::from_ne_bytes(field(message, FLAGS)?),
            sequence: u32::from_ne_bytes(field(message, 8)?),
            payload: message.get(HEADER..).ok_or(TRUNCATED)?,
        };
        self.0 = self.0.get(aligned(length)..).unwrap_or_default();
        Ok(read)
    }
}

impl<'a> Iterator for Messages<'a> {
    type Item = Result<Message<'a>, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let message = self.read();
        if message.is_err() {
            self.0 = &[];
        }
        Some(message)
    }
}

impl<'a> Message<'a> {
    /// What a message of generic netlink holds.
    pub(super) fn table(&self) -> Result<Table<'a>, Error> {
        Table::read(self.payload.get(GENERIC_HEADER..).ok_or(TRUNCATED)?)
    }

    /// Of an `NLMSG_ERROR`, which is also how success is told. It echoes the header of the
    /// request, and all of it unless capped.
    pub(super) fn error(&self) -> Result<Verdict, Error> {
        let echo = if self.flags & CAPPED != 0 {
            HEADER
        } else {
            usize::try_from(u32::from_ne_bytes(field(self.payload, 4)?)).map_err(|_| TRUNCATED)?
        };
        self.verdict(4 + aligned(echo.min(self.payload.len())))
    }

    /// Of an `NLMSG_DONE`.
    pub(super) fn done(&self) -> Result<Verdict, Error> {
        self.verdict(4)
    }

    fn verdict(&self, attributes_at: usize) -> Result<Verdict, Error> {
        let code = i32::from_ne_bytes(field(self.payload, 0)?);
        let errno = match code {
            0 => None,
            -4095..0 => Some(Errno::from_raw_os_error(-code)),
            _ => return Err(Error::Malformed("an error number out of range")),
        };
        let text = match self.payload.get(attributes_at..) {
            Some(attributes) if self.flags & ACK_ATTRIBUTES != 0 => {
                let table = Table::read(attributes)?;
                table.get(ERROR_TEXT).map(|_| table.text(ERROR_TEXT)).transpose()?
            }
            _ => None,
        };
        Ok(Verdict { errno, text })
    }
}

fn field<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N], Error> {
    bytes.get(at..at + N).and_then(|field| field.try_into().ok()).ok_or(TRUNCATED)
}
