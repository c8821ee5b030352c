//! Follows one direction of an association: where its protocol data units end, and what the command sets in
//! them say (PS3.7, section 6.3 and annex E; PS3.8, section 9.3.5 and annex E). Of data sets, which hold patients' data, only
//! the length is looked at.
//!
//! It is shown every byte in pieces of any size, and keeps of them a header that is not whole, and a command
//! set until its last fragment. It never holds the bytes up: where they make no sense, it says so once and
//! looks no further.

use super::{Header, Kind};

/// What was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// A protocol data unit has ended.
    Unit(Kind),
    Command(Command),
    /// The bytes are not of DICOM. Nothing more is told.
    Lost,
}

/// A command set, as far as it concerns others than its two nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Command {
    /// (0000,0100), by which a request and its response are told apart: [`Command::STORE_RESPONSE`].
    pub field: u16,
    /// (0000,0900), of responses.
    pub status: Option<u16>,
}

/// What a status means, as far as it matters who is asked next (PS3.4, table B.2-1; PS3.7, annex C).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Success,
    /// It was done, and something was odd.
    Warning,
    /// More responses come.
    Pending,
    Cancelled,
    /// A7xx: the node has no room for it, or not the time. Another one may have.
    OutOfResources,
    /// It was not done, and would hardly be elsewhere.
    Failure,
}

/// Watches one direction.
#[derive(Clone, Debug, Default)]
pub struct Watcher {
    place: Place,
    /// Of the header that has begun.
    begun: Vec<u8>,
    command: Vec<u8>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    /// In the header of a protocol data unit.
    #[default]
    Header,
    /// In a unit that is not of data, with so many bytes to go.
    Body {
        kind: Kind,
        left: u32,
    },
    /// In the header of a presentation data value; `unit`: bytes to go in its unit.
    ValueHeader {
        unit: u32,
    },
    Value {
        unit: u32,
        left: u32,
        fragment: Fragment,
    },
    Lost,
}

/// What a presentation data value holds, by its message control header (PS3.8, section E.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Fragment {
    is_command: bool,
    is_last: bool,
}

/// Length, presentation context and message control header.
const VALUE_HEADER: usize = 6;
/// Of a command set; the standard's own have less than 512 bytes.
const LONGEST_COMMAND: usize = 4096;

impl Watcher {
    pub fn new() -> Self {
        Self::default()
    }

    /// Looks at the next bytes; tells `told` what there is.
    pub fn look(&mut self, bytes: &[u8], mut told: impl FnMut(Seen)) {
        let mut rest = bytes;
        while !rest.is_empty() && self.place != Place::Lost {
            let taken = match self.step(rest, &mut told) {
                Some(taken) => taken,
                None => {
                    (self.place, self.begun, self.command) = (Place::Lost, Vec::new(), Vec::new());
                    return told(Seen::Lost);
                }
            };
            rest = &rest[taken..];
        }
    }

    /// Takes some bytes, one at least; none if they make no sense.
    fn step(&mut self, bytes: &[u8], told: &mut impl FnMut(Seen)) -> Option<usize> {
        match self.place {
            Place::Header => self.header(bytes, told),
            Place::Body { kind, left } => {
                let taken = bytes.len().min(left as usize);
                let left = left - u32::try_from(taken).ok()?;
                self.place = Place::Body { kind, left };
                if left == 0 {
                    self.end(kind, told);
                }
                Some(taken)
            }
            Place::ValueHeader { unit } => self.value_header(bytes, unit, told),
            Place::Value { unit, left, fragment } => {
                let taken = bytes.len().min(left as usize);
                if fragment.is_command {
                    self.gather(&bytes[..taken])?;
                }
                let taken_here = u32::try_from(taken).ok()?;
                let (unit, left) = (unit - taken_here, left - taken_here);
                self.place = Place::Value { unit, left, fragment };
                if left == 0 {
                    self.end_value(unit, fragment, told)?;
                }
                Some(taken)
            }
            Place::Lost => None,
        }
    }

    fn header(&mut self, bytes: &[u8], told: &mut impl FnMut(Seen)) -> Option<usize> {
        let taken = self.fill(bytes, Header::LENGTH);
        if let Some(Header { kind, length }) = Header::read(&self.begun).ok()? {
            self.begun.clear();
            self.place = match kind {
                Kind::Data => Place::ValueHeader { unit: length },
                _ => Place::Body { kind, left: length },
            };
            if length == 0 {
                self.end(kind, told);
            }
        }
        Some(taken)
    }

    fn value_header(
        &mut self,
        bytes: &[u8],
        unit: u32,
        told: &mut impl FnMut(Seen),
    ) -> Option<usize> {
        let taken = self.fill(bytes, VALUE_HEADER);
        let Some(&[a, b, c, d, _, control]) = self.begun.first_chunk::<VALUE_HEADER>() else {
            return Some(taken);
        };
        self.begun.clear();
        // Its length is of all that follows it: the context, the control header, the fragment.
        let unit = unit.checked_sub(u32::try_from(VALUE_HEADER).ok()?)?;
        let left = u32::from_be_bytes([a, b, c, d]).checked_sub(2)?;
        if left > unit {
            return None;
        }
        let fragment = Fragment { is_command: control & 1 != 0, is_last: control & 2 != 0 };
        self.place = Place::Value { unit, left, fragment };
        if left == 0 {
            self.end_value(unit, fragment, told)?;
        }
        Some(taken)
    }

    /// Adds to a header of `length` bytes; gives how many were taken.
    fn fill(&mut self, bytes: &[u8], length: usize) -> usize {
        let taken = bytes.len().min(length - self.begun.len());
        self.begun.extend_from_slice(&bytes[..taken]);
        taken
    }

    fn gather(&mut self, bytes: &[u8]) -> Option<()> {
        if bytes.len() > LONGEST_COMMAND - self.command.len() {
            return None;
        }
        self.command.extend_from_slice(bytes);
        Some(())
    }

    fn end_value(
        &mut self,
        unit: u32,
        fragment: Fragment,
        told: &mut impl FnMut(Seen),
    ) -> Option<()> {
        if fragment.is_command && fragment.is_last {
            told(Seen::Command(Command::read(&std::mem::take(&mut self.command))?));
        }
        self.place = Place::ValueHeader { unit };
        if unit == 0 {
            self.end(Kind::Data, told);
        }
        Some(())
    }

    fn end(&mut self, kind: Kind, told: &mut impl FnMut(Seen)) {
        self.place = Place::Header;
        told(Seen::Unit(kind));
    }
}

impl Command {
    pub const STORE_REQUEST: u16 = 0x0001;
    pub const STORE_RESPONSE: u16 = 0x8001;
    pub const ECHO_RESPONSE: u16 = 0x8030;

    const FIELD: [u8; 4] = [0, 0, 0, 1];
    const STATUS: [u8; 4] = [0, 0, 0, 9];

    /// Reads a whole command set: implicit VR, little endian, whatever the data set has.
    fn read(set: &[u8]) -> Option<Self> {
        let (mut field, mut status) = (None, None);
        let mut rest = set;
        while !rest.is_empty() {
            let (&tag, behind) = rest.split_first_chunk::<4>()?;
            let (&length, behind) = behind.split_first_chunk::<4>()?;
            let length = usize::try_from(u32::from_le_bytes(length)).ok()?;
            let (value, behind) = behind.split_at_checked(length)?;
            let number = || Some(u16::from_le_bytes(value.try_into().ok()?));
            match tag {
                Self::FIELD => field = Some(number()?),
                Self::STATUS => status = Some(number()?),
                _ => {}
            }
            rest = behind;
        }
        Some(Self { field: field?, status })
    }

    /// What became of what was asked; none of a request.
    pub fn outcome(self) -> Option<Outcome> {
        Some(match self.status? {
            0x0000 => Outcome::Success,
            0x0001 | 0x0107 | 0x0116 | 0xb000..=0xbfff => Outcome::Warning,
            0xff00 | 0xff01 => Outcome::Pending,
            0xfe00 => Outcome::Cancelled,
            0xa700..=0xa7ff => Outcome::OutOfResources,
            _ => Outcome::Failure,
        })
    }
}

#[cfg(test)]
mod tests;
