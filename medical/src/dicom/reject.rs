//! The rejection of an association: A-ASSOCIATE-RJ (PS3.8, 9.3.4, table 9-21).

use std::fmt;

use super::item::{Item, Malformed};
use super::pdu::{Kind, body, short};

/// Why there is no association.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reject {
    pub result: RejectResult,
    pub reason: RejectReason,
}

/// Whether it is worth while to ask again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RejectResult {
    /// 1, rejected-permanent
    Permanent,
    /// 2, rejected-transient
    Transient,
}

/// Source and reason, which belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RejectReason {
    /// Source 1, the service user; reason 1, no-reason-given.
    NoReasonGiven,
    /// Source 1; reason 2.
    ApplicationContextNameNotSupported,
    /// Source 1; reason 3.
    CallingAeTitleNotRecognized,
    /// Source 1; reason 7.
    CalledAeTitleNotRecognized,
    /// Source 2, the service provider (ACSE related function); reason 1, no-reason-given.
    ProviderGivesNoReason,
    /// Source 2; reason 2.
    ProtocolVersionNotSupported,
    /// Source 3, the service provider (presentation related function); reason 1.
    TemporaryCongestion,
    /// Source 3; reason 2.
    LocalLimitExceeded,
    /// What is not in the table, or reserved there.
    Reserved { source: u8, reason: u8 },
}

impl Reject {
    pub fn permanent(reason: RejectReason) -> Self {
        Self { result: RejectResult::Permanent, reason }
    }

    pub fn transient(reason: RejectReason) -> Self {
        Self { result: RejectResult::Transient, reason }
    }

    /// The whole PDU, with its header.
    pub fn to_bytes(self) -> [u8; 10] {
        let result = match self.result {
            RejectResult::Permanent => 1,
            RejectResult::Transient => 2,
        };
        let (source, reason) = self.reason.numbers();
        short(Kind::AssociateReject, [result, source, reason])
    }

    /// Reads a whole PDU, with its header.
    pub fn read(pdu: &[u8]) -> Result<Self, Malformed> {
        let body = body(pdu, Kind::AssociateReject)?;
        body.try_into().map_err(|_| Malformed::Length(Item::Pdu)).and_then(Self::from_body)
    }

    pub(super) fn from_body([_, result, source, reason]: [u8; 4]) -> Result<Self, Malformed> {
        let reason = RejectReason::new(source, reason);
        match result {
            1 => Ok(Self::permanent(reason)),
            2 => Ok(Self::transient(reason)),
            _ => Err(Malformed::Value(Item::RejectResult)),
        }
    }
}

impl RejectReason {
    const ALL: [Self; 8] = [
        Self::NoReasonGiven,
        Self::ApplicationContextNameNotSupported,
        Self::CallingAeTitleNotRecognized,
        Self::CalledAeTitleNotRecognized,
        Self::ProviderGivesNoReason,
        Self::ProtocolVersionNotSupported,
        Self::TemporaryCongestion,
        Self::LocalLimitExceeded,
    ];

    fn new(source: u8, reason: u8) -> Self {
        let named = Self::ALL.into_iter().find(|named| named.numbers() == (source, reason));
        named.unwrap_or(Self::Reserved { source, reason })
    }

    /// Source and reason as they are sent.
    pub fn numbers(self) -> (u8, u8) {
        match self {
            Self::NoReasonGiven => (1, 1),
            Self::ApplicationContextNameNotSupported => (1, 2),
            Self::CallingAeTitleNotRecognized => (1, 3),
            Self::CalledAeTitleNotRecognized => (1, 7),
            Self::ProviderGivesNoReason => (2, 1),
            Self::ProtocolVersionNotSupported => (2, 2),
            Self::TemporaryCongestion => (3, 1),
            Self::LocalLimitExceeded => (3, 2),
            Self::Reserved { source, reason } => (source, reason),
        }
    }
}

impl fmt::Display for RejectReason {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::NoReasonGiven => "no reason given",
            Self::ApplicationContextNameNotSupported => "application context not supported",
            Self::CallingAeTitleNotRecognized => "calling AE title not recognized",
            Self::CalledAeTitleNotRecognized => "called AE title not recognized",
            Self::ProviderGivesNoReason => "no reason given by the provider",
            Self::ProtocolVersionNotSupported => "protocol version not supported",
            Self::TemporaryCongestion => "temporary congestion",
            Self::LocalLimitExceeded => "local limit exceeded",
            Self::Reserved { source, reason } => {
                return write!(out, "source {source}, reason {reason}");
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rejections_are_those_of_table_9_21() {
        let cases = [
            (Reject::permanent(RejectReason::NoReasonGiven), [1, 1, 1]),
            (Reject::permanent(RejectReason::ApplicationContextNameNotSupported), [1, 1, 2]),
            (Reject::permanent(RejectReason::CallingAeTitleNotRecognized), [1, 1, 3]),
            (Reject::permanent(RejectReason::CalledAeTitleNotRecognized), [1, 1, 7]),
            (Reject::permanent(RejectReason::ProviderGivesNoReason), [1, 2, 1]),
            (Reject::permanent(RejectReason::ProtocolVersionNotSupported), [1, 2, 2]),
            (Reject::transient(RejectReason::TemporaryCongestion), [2, 3, 1]),
            (Reject::transient(RejectReason::LocalLimitExceeded), [2, 3, 2]),
        ];
        for (reject, [result, source, reason]) in cases {
            let bytes = [3, 0, 0, 0, 0, 4, 0, result, source, reason];
            assert_eq!(reject.to_bytes(), bytes, "{}", reject.reason);
            assert_eq!(Reject::read(&bytes), Ok(reject));
        }
    }

    #[test]
    fn every_rejection_is_read_and_written_alike() {
        for (source, reason) in (0..=255).flat_map(|source| (0..=255).map(move |at| (source, at))) {
            let bytes = [3, 0, 0, 0, 0, 4, 0, 2, source, reason];
            assert_eq!(Reject::read(&bytes).unwrap().to_bytes(), bytes);
        }
        let reserved = Reject::read(&[3, 9, 0, 0, 0, 4, 9, 1, 1, 4]).unwrap();
        assert_eq!(reserved.reason.to_string(), "source 1, reason 4");
    }

    #[test]
    fn what_is_no_rejection_is_named() {
        let cases: [(&[u8], Malformed); 5] = [
            (&[3, 0, 0, 0, 0, 4, 0, 0, 1, 1], Malformed::Value(Item::RejectResult)),
            (&[3, 0, 0, 0, 0, 4, 0, 3, 1, 1], Malformed::Value(Item::RejectResult)),
            (&[7, 0, 0, 0, 0, 4, 0, 1, 1, 1], Malformed::Value(Item::PduType)),
            (&[3, 0, 0, 0, 0, 3, 0, 1, 1], Malformed::Length(Item::Pdu)),
            (&[3, 0, 0, 0, 0, 4, 0, 1, 1], Malformed::Length(Item::Pdu)),
        ];
        for (bytes, expected) in cases {
            assert_eq!(Reject::read(bytes), Err(expected), "{bytes:?}");
        }
    }
}
