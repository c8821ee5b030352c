//! What every PDU begins with: type and length (PS3.8, 9.3.1).

use std::fmt;

use super::item::{Item, Malformed};

/// The type of a PDU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    AssociateRequest = 0x01,
    AssociateAccept = 0x02,
    AssociateReject = 0x03,
    /// P-DATA-TF.
    Data = 0x04,
    ReleaseRequest = 0x05,
    /// A-RELEASE-RP.
    ReleaseResponse = 0x06,
    Abort = 0x07,
}

/// Type and length of a PDU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub kind: Kind,
    /// How many bytes follow the header.
    pub length: u32,
}

/// These bytes begin no PDU that is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    #[error("no DICOM: {0:#04x} is no type of PDU")]
    UnknownType(u8),
    #[error("{kind} of {length} bytes, more than {longest}")]
    TooLong { kind: Kind, length: u32, longest: u32 },
}

impl Kind {
    const ALL: [Self; 7] = [
        Self::AssociateRequest,
        Self::AssociateAccept,
        Self::AssociateReject,
        Self::Data,
        Self::ReleaseRequest,
        Self::ReleaseResponse,
        Self::Abort,
    ];

    fn read(byte: u8) -> Result<Self, HeaderError> {
        let kind = Self::ALL.into_iter().find(|kind| kind.byte() == byte);
        kind.ok_or(HeaderError::UnknownType(byte))
    }

    fn byte(self) -> u8 {
        self as u8
    }

    /// The name in the standard, such as `A-ASSOCIATE-RQ`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AssociateRequest => "A-ASSOCIATE-RQ",
            Self::AssociateAccept => "A-ASSOCIATE-AC",
            Self::AssociateReject => "A-ASSOCIATE-RJ",
            Self::Data => "P-DATA-TF",
            Self::ReleaseRequest => "A-RELEASE-RQ",
            Self::ReleaseResponse => "A-RELEASE-RP",
            Self::Abort => "A-ABORT",
        }
    }
}

impl Header {
    /// How many bytes a header has.
    pub const LENGTH: usize = 6;

    /// Reads the header that `bytes` begin with; none if more is needed. What is no DICOM at all is
    /// told from its first byte.
    pub fn read(bytes: &[u8], longest: u32) -> Result<Option<Self>, HeaderError> {
        let Some(first) = bytes.first() else { return Ok(None) };
        let kind = Kind::read(*first)?;
        let Some([_, _, length @ ..]) = bytes.first_chunk::<{ Self::LENGTH }>() else {
            return Ok(None);
        };
        let length = u32::from_be_bytes(*length);
        if length > longest {
            return Err(HeaderError::TooLong { kind, length, longest });
        }
        Ok(Some(Self { kind, length }))
    }

    /// How many bytes the whole PDU has, with its header.
    pub fn whole(self) -> usize {
        usize::try_from(self.length).unwrap_or(usize::MAX).saturating_add(Self::LENGTH)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.as_str())
    }
}

/// What follows the header of a whole PDU of that kind.
pub(super) fn body(pdu: &[u8], kind: Kind) -> Result<&[u8], Malformed> {
    match Header::read(pdu, u32::MAX) {
        Ok(Some(header)) if header.kind == kind && header.whole() == pdu.len() => {
            Ok(&pdu[Header::LENGTH..])
        }
        Ok(Some(header)) if header.kind != kind => Err(Malformed::Value(Item::PduType)),
        Ok(_) => Err(Malformed::Length(Item::Pdu)),
        Err(_) => Err(Malformed::Value(Item::PduType)),
    }
}

/// A PDU of which four bytes follow the header, the first of them reserved: A-ASSOCIATE-RJ, A-ABORT.
pub(super) fn short(kind: Kind, [second, third, fourth]: [u8; 3]) -> [u8; 10] {
    [kind.byte(), 0, 0, 0, 0, 4, 0, second, third, fourth]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_tell_type_and_length() {
        let read = |bytes: &[u8]| Header::read(bytes, 0x0010_0000);
        for (byte, name) in [(1, "A-ASSOCIATE-RQ"), (4, "P-DATA-TF"), (7, "A-ABORT")] {
            let header = read(&[byte, 0xff, 0, 1, 2, 3, b'x']).unwrap().unwrap();
            assert_eq!((header.kind.as_str(), header.length), (name, 0x0001_0203));
            assert_eq!(header.whole(), 0x0001_0209);
        }
        for kind in Kind::ALL {
            assert_eq!(Kind::read(kind.byte()), Ok(kind));
        }
    }

    #[test]
    fn more_may_be_needed() {
        for cut in 0..Header::LENGTH {
            assert_eq!(Header::read(&[1, 0, 0, 0, 0, 9][..cut], 9), Ok(None));
        }
        assert!(matches!(Header::read(&[1, 0, 0, 0, 0, 9], 9), Ok(Some(_))));
    }

    #[test]
    fn what_is_no_pdu_is_told_at_once() {
        for first in [0, 8, 0x16, b'G', 0xff] {
            assert_eq!(Header::read(&[first], 9), Err(HeaderError::UnknownType(first)));
        }
        let told = Header::read(&[2, 0, 0xff, 0xff, 0xff, 0xff], 9).unwrap_err();
        assert_eq!(told.to_string(), "A-ASSOCIATE-AC of 4294967295 bytes, more than 9");
    }

    #[test]
    fn a_body_is_that_of_a_whole_pdu() {
        let body = |pdu| body(pdu, Kind::Abort);
        assert_eq!(body(&[7, 0, 0, 0, 0, 1, 5]), Ok(&[5][..]));
        assert_eq!(body(&[6, 0, 0, 0, 0, 1, 5]), Err(Malformed::Value(Item::PduType)));
        assert_eq!(body(&[9, 0, 0, 0, 0, 1, 5]), Err(Malformed::Value(Item::PduType)));
        for pdu in [&[][..], &[7], &[7, 0, 0, 0, 0, 1], &[7, 0, 0, 0, 0, 1, 5, 6]] {
            assert_eq!(body(pdu), Err(Malformed::Length(Item::Pdu)), "{pdu:?}");
        }
    }
}
