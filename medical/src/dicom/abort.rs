//! The end of an association without release: A-ABORT (PS3.8, 9.3.8, table 9-26).

use std::fmt;

use super::item::{Item, Malformed};
use super::pdu::{Kind, body, short};

/// Who aborts an association, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Abort {
    /// Source 0: the service user. It gives no reason.
    User,
    /// Source 2: the service provider.
    Provider(AbortReason),
    /// Another source.
    Reserved { source: u8, reason: u8 },
}

/// Why a service provider aborts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AbortReason {
    /// 0
    NotSpecified,
    /// 1
    UnrecognizedPdu,
    /// 2
    UnexpectedPdu,
    /// 4
    UnrecognizedPduParameter,
    /// 5
    UnexpectedPduParameter,
    /// 6
    InvalidPduParameterValue,
    /// What is not in the table, or reserved there.
    Reserved(u8),
}

impl Abort {
    /// The whole PDU, with its header.
    pub fn to_bytes(self) -> [u8; 10] {
        let (source, reason) = match self {
            Self::User => (0, 0),
            Self::Provider(reason) => (2, reason.number()),
            Self::Reserved { source, reason } => (source, reason),
        };
        short(Kind::Abort, [0, source, reason])
    }

    /// Reads a whole PDU, with its header.
    pub fn read(pdu: &[u8]) -> Result<Self, Malformed> {
        let body = body(pdu, Kind::Abort)?;
        body.try_into().map_err(|_| Malformed::Length(Item::Pdu)).map(Self::from_body)
    }

    pub(super) fn from_body([_, _, source, reason]: [u8; 4]) -> Self {
        match source {
            0 => Self::User,
            2 => Self::Provider(AbortReason::new(reason)),
            _ => Self::Reserved { source, reason },
        }
    }
}

impl AbortReason {
    fn new(number: u8) -> Self {
        match number {
            0 => Self::NotSpecified,
            1 => Self::UnrecognizedPdu,
            2 => Self::UnexpectedPdu,
            4 => Self::UnrecognizedPduParameter,
            5 => Self::UnexpectedPduParameter,
            6 => Self::InvalidPduParameterValue,
            other => Self::Reserved(other),
        }
    }

    fn number(self) -> u8 {
        match self {
            Self::NotSpecified => 0,
            Self::UnrecognizedPdu => 1,
            Self::UnexpectedPdu => 2,
            Self::UnrecognizedPduParameter => 4,
            Self::UnexpectedPduParameter => 5,
            Self::InvalidPduParameterValue => 6,
            Self::Reserved(number) => number,
        }
    }
}

impl fmt::Display for Abort {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User => out.write_str("by the user"),
            Self::Provider(reason) => write!(out, "by the provider: {reason}"),
            Self::Reserved { source, reason } => write!(out, "source {source}, reason {reason}"),
        }
    }
}

impl fmt::Display for AbortReason {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::NotSpecified => "reason not specified",
            Self::UnrecognizedPdu => "unrecognized PDU",
            Self::UnexpectedPdu => "unexpected PDU",
            Self::UnrecognizedPduParameter => "unrecognized PDU parameter",
            Self::UnexpectedPduParameter => "unexpected PDU parameter",
            Self::InvalidPduParameterValue => "invalid PDU parameter value",
            Self::Reserved(number) => return write!(out, "reason {number}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aborts_are_those_of_table_9_26() {
        let cases = [
            (Abort::User, [0, 0]),
            (Abort::Provider(AbortReason::NotSpecified), [2, 0]),
            (Abort::Provider(AbortReason::UnrecognizedPdu), [2, 1]),
            (Abort::Provider(AbortReason::UnexpectedPdu), [2, 2]),
            (Abort::Provider(AbortReason::UnrecognizedPduParameter), [2, 4]),
            (Abort::Provider(AbortReason::UnexpectedPduParameter), [2, 5]),
            (Abort::Provider(AbortReason::InvalidPduParameterValue), [2, 6]),
        ];
        for (abort, [source, reason]) in cases {
            let bytes = [7, 0, 0, 0, 0, 4, 0, 0, source, reason];
            assert_eq!(abort.to_bytes(), bytes, "{abort}");
            assert_eq!(Abort::read(&bytes), Ok(abort));
        }
    }

    #[test]
    fn every_abort_is_read() {
        for (source, reason) in (0..=255).flat_map(|source| (0..=255).map(move |at| (source, at))) {
            let read = Abort::read(&[7, 0, 0, 0, 0, 4, 9, 9, source, reason]).unwrap();
            let reason = if source == 0 { 0 } else { reason };
            assert_eq!(read.to_bytes(), [7, 0, 0, 0, 0, 4, 0, 0, source, reason]);
        }
        for bytes in [&[7, 0, 0, 0, 0, 3, 0, 0, 2][..], &[7, 0, 0, 0, 0, 4, 0, 0, 2]] {
            assert_eq!(Abort::read(bytes), Err(Malformed::Length(Item::Pdu)));
        }
    }
}
