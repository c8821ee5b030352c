//! The marks by which the kernel knows packets of one service, whatever their port.
//!
//! IPVS compares the whole mark of a packet, all 32 bits, so nobody else on the appliance may use the
//! same numbers. Gantry keeps to `0x47000000` to `0x48ffffff` ("G" and the letter after it).

use std::fmt;
use std::ops::RangeInclusive;

/// The mark of one virtual service, or of the checks of one real server.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mark(u32);

/// A number that is not the mark of a virtual service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:#010x} is not the mark of a virtual service: they are {first:#010x} to {last:#010x}", first = SERVICES.start(), last = SERVICES.end())]
pub struct MarkError(u32);

/// The controller gives these to virtual services, the same on every appliance.
const SERVICES: RangeInclusive<u32> = 0x4700_0001..=0x47ff_ffff;
/// What comes back for connections that the proxy makes from its clients' addresses.
pub const RETURNING: u32 = 0x4700_0000;
/// agent-l4 gives these to the checks it carries through a real server; they mean nothing elsewhere.
const CHECKS: RangeInclusive<u32> = 0x4800_0001..=0x48ff_ffff;

impl Mark {
    /// The first that a virtual service may have.
    pub const FIRST: Self = Self(*SERVICES.start());

    /// The mark `number`, if virtual services have such.
    pub fn of_service(number: u32) -> Result<Self, MarkError> {
        SERVICES.contains(&number).then_some(Self(number)).ok_or(MarkError(number))
    }

    /// The mark for the `at`th server that is checked through; none when there are too many.
    pub fn of_check(at: u32) -> Option<Self> {
        let number = CHECKS.start().checked_add(at)?;
        CHECKS.contains(&number).then_some(Self(number))
    }

    /// Whether `number` is one that only checks have.
    pub fn is_of_check(number: u32) -> bool {
        CHECKS.contains(&number)
    }

    /// The mark after this one; after the last comes the first.
    pub fn next(self) -> Self {
        Self::of_service(self.0.wrapping_add(1)).unwrap_or(Self::FIRST)
    }

    pub fn get(self) -> u32 {
        self.0
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:#010x}", self.0)
    }
}

impl fmt::Debug for Mark {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_and_checks_have_marks_of_their_own() {
        assert_eq!(Mark::FIRST.to_string(), "0x47000001");
        assert_eq!(Mark::FIRST.next().get(), 0x4700_0002);
        assert_eq!(Mark::of_service(0x47ff_ffff).unwrap().next(), Mark::FIRST);
        assert_eq!(Mark::of_check(0).unwrap().get(), 0x4800_0001);
        assert_eq!(Mark::of_check(0x00ff_ffff), None);
        for odd in [0, 1, 0x4700_0000, 0x4800_0001] {
            assert!(Mark::of_service(odd).is_err(), "{odd:#x}");
        }
        assert!(Mark::is_of_check(0x4800_0001) && !Mark::is_of_check(0x4700_0001));
    }
}
