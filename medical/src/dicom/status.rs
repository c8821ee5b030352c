//! What a response says of an operation: the status (0000,0900).
//!
//! Source: PS3.7, annex C, for the classes; PS3.4, table B.2-1, for what C-STORE adds to them.

use std::fmt;

/// A status code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Status(pub u16);

/// What kind of status it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StatusClass {
    /// 0000
    Success,
    /// 0001, 0107, 0116 and Bxxx: done, but not quite as asked. For C-STORE B000 is coercion of data
    /// elements, B006 elements discarded, B007 a data set that does not match the SOP class.
    Warning,
    /// FF00 and FF01: more responses follow.
    Pending,
    /// FE00
    Cancel,
    /// A7xx: refused, out of resources.
    OutOfResources,
    /// A9xx: the data set does not match the SOP class.
    DataSetMismatch,
    /// Cxxx: the data set is not understood.
    NotUnderstood,
    /// What else means failure: other Axxx, 01xx and 02xx.
    Failure,
    /// A code of no class.
    Unknown,
}

impl Status {
    pub fn class(self) -> StatusClass {
        match self.0 {
            0x0000 => StatusClass::Success,
            0x0001 | 0x0107 | 0x0116 | 0xb000..=0xbfff => StatusClass::Warning,
            0xff00 | 0xff01 => StatusClass::Pending,
            0xfe00 => StatusClass::Cancel,
            0xa700..=0xa7ff => StatusClass::OutOfResources,
            0xa900..=0xa9ff => StatusClass::DataSetMismatch,
            0xc000..=0xcfff => StatusClass::NotUnderstood,
            0x0100..=0x02ff | 0xa000..=0xafff => StatusClass::Failure,
            _ => StatusClass::Unknown,
        }
    }
}

impl StatusClass {
    /// Whether the operation was not performed.
    pub fn is_failure(self) -> bool {
        matches!(
            self,
            Self::OutOfResources | Self::DataSetMismatch | Self::NotUnderstood | Self::Failure
        )
    }
}

impl fmt::Display for Status {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:#06x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_those_of_the_standard() {
        let cases: [(StatusClass, &[u16]); 9] = [
            (StatusClass::Success, &[0x0000]),
            (StatusClass::Warning, &[0x0001, 0x0107, 0x0116, 0xb000, 0xb006, 0xb007, 0xbfff]),
            (StatusClass::Pending, &[0xff00, 0xff01]),
            (StatusClass::Cancel, &[0xfe00]),
            (StatusClass::OutOfResources, &[0xa700, 0xa701, 0xa7ff]),
            (StatusClass::DataSetMismatch, &[0xa900, 0xa9ff]),
            (StatusClass::NotUnderstood, &[0xc000, 0xc211, 0xcfff]),
            (StatusClass::Failure, &[0x0105, 0x0110, 0x0122, 0x0211, 0xa801, 0xa000, 0xaaaa]),
            (StatusClass::Unknown, &[0x0002, 0x0300, 0x8000, 0xd000, 0xfe01, 0xff02, 0xffff]),
        ];
        for (class, codes) in cases {
            for code in codes {
                assert_eq!(Status(*code).class(), class, "{}", Status(*code));
            }
        }
    }

    #[test]
    fn failures_have_first_digits_of_their_own() {
        let failures = (0..=u16::MAX).filter(|code| Status(*code).class().is_failure()).count();
        assert_eq!(failures, 0x1000 + 0x1000 + 0x200 - 2);
        assert_eq!(Status(0xa7).to_string(), "0x00a7");
    }
}
