//! How two DICOM nodes come to an association, and how it ends (DICOM PS3.8, section 9.3).
//!
//! A protocol data unit begins with its type, a reserved byte and its length in four bytes, most significant first.

mod abort;
mod associate;
mod reject;
mod watch;

pub use abort::{Abort, AbortSource};
pub use associate::{Context, Malformed, Request};
pub use reject::{Reject, RejectReason};
pub use watch::{Command, Outcome, Seen, Watcher};

/// The types of protocol data units (PS3.8, section 9.3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    AssociateRequest = 1,
    AssociateAccept = 2,
    AssociateReject = 3,
    Data = 4,
    ReleaseRequest = 5,
    ReleaseResponse = 6,
    Abort = 7,
}

/// The first six bytes of a protocol data unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub kind: Kind,
    /// Of what follows.
    pub length: u32,
}

/// A type that no protocol data unit has: this is not DICOM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:#04x} is not the type of a protocol data unit of DICOM")]
pub struct UnknownKind(u8);

impl Header {
    pub const LENGTH: usize = 6;

    /// Reads a header; none if more of it has to come.
    ///
    /// # Errors
    ///
    /// [`UnknownKind`], as soon as the first byte is there.
    pub fn read(bytes: &[u8]) -> Result<Option<Self>, UnknownKind> {
        let Some(&kind) = bytes.first() else { return Ok(None) };
        let kind = Kind::of(kind).ok_or(UnknownKind(kind))?;
        let length = bytes.get(2..6).and_then(|length| length.try_into().ok());
        Ok(length.map(|length| Self { kind, length: u32::from_be_bytes(length) }))
    }
}

impl Kind {
    fn of(byte: u8) -> Option<Self> {
        use Kind::*;
        let all = [
            AssociateRequest,
            AssociateAccept,
            AssociateReject,
            Data,
            ReleaseRequest,
            ReleaseResponse,
            Abort,
        ];
        all.into_iter().find(|kind| *kind as u8 == byte)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_known_by_its_first_byte_and_whole_with_its_sixth() {
        let header = [4, 0, 0, 1, 2, 3, 99];
        assert_eq!(Header::read(&header[..0]), Ok(None));
        assert_eq!(Header::read(&header[..5]), Ok(None));
        let read = Header { kind: Kind::Data, length: 0x0001_0203 };
        assert_eq!(Header::read(&header), Ok(Some(read)));
        for other in [0, 8, b'G', 0x16] {
            assert_eq!(Header::read(&[other]), Err(UnknownKind(other)));
        }
    }
}
