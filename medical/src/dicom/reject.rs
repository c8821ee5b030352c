//! A-ASSOCIATE-RJ: an association that does not come about (PS3.8, section 9.3.4, table 9-21).

/// Why an association is refused, by whom, and whether it may be asked for again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reject {
    result: u8,
    source: u8,
    reason: u8,
}

/// The reasons that a proxy has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RejectReason {
    /// The application entity that is asked for is not known here.
    CalledNotRecognized,
    /// Who asks is not known here.
    CallingNotRecognized,
    /// Nobody is there to serve it, for now.
    TemporaryCongestion,
    /// There are as many associations as there may be.
    LocalLimitExceeded,
    /// It cannot be read.
    ProtocolVersionNotSupported,
}

const PERMANENT: u8 = 1;
const TRANSIENT: u8 = 2;
/// The sources: the service user, and its provider's two layers.
const USER: u8 = 1;
const ACSE: u8 = 2;
const PRESENTATION: u8 = 3;

impl Reject {
    pub fn new(reason: RejectReason) -> Self {
        let (result, source, reason) = match reason {
            RejectReason::CallingNotRecognized => (PERMANENT, USER, 3),
            RejectReason::CalledNotRecognized => (PERMANENT, USER, 7),
            RejectReason::ProtocolVersionNotSupported => (PERMANENT, ACSE, 2),
            RejectReason::TemporaryCongestion => (TRANSIENT, PRESENTATION, 1),
            RejectReason::LocalLimitExceeded => (TRANSIENT, PRESENTATION, 2),
        };
        Self { result, source, reason }
    }

    /// Reads a whole protocol data unit; none if it is no such.
    pub fn read(unit: &[u8]) -> Option<Self> {
        let [3, _, 0, 0, 0, 4, _, result, source, reason] = *unit else { return None };
        Some(Self { result, source, reason })
    }

    pub fn write(self) -> [u8; 10] {
        [3, 0, 0, 0, 0, 4, 0, self.result, self.source, self.reason]
    }

    /// Another real server, or the same one later, may take it.
    pub fn is_transient(self) -> bool {
        self.result == TRANSIENT
    }
}

/// As its three numbers are usually told: `2/3/1`.
impl std::fmt::Display for Reject {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}/{}/{}", self.result, self.source, self.reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_have_the_numbers_of_the_standard() {
        use RejectReason::*;
        for (reason, numbers, is_transient) in [
            (CallingNotRecognized, "1/1/3", false),
            (CalledNotRecognized, "1/1/7", false),
            (ProtocolVersionNotSupported, "1/2/2", false),
            (TemporaryCongestion, "2/3/1", true),
            (LocalLimitExceeded, "2/3/2", true),
        ] {
            let reject = Reject::new(reason);
            assert_eq!(
                (reject.to_string().as_str(), reject.is_transient()),
                (numbers, is_transient)
            );
            assert_eq!(Reject::read(&reject.write()), Some(reject));
        }
        assert_eq!(Reject::read(&[3, 0, 0, 0, 0, 4, 0, 1, 1]), None);
        assert_eq!(Reject::read(&[7, 0, 0, 0, 0, 4, 0, 1, 1, 3]), None);
    }
}
