//! The only place that reads a clock.

use std::time::Instant;

use jiff::Timestamp;

/// Monotonic time, for deadlines and durations.
#[expect(clippy::disallowed_methods, reason = "this is the clock")]
pub fn monotonic() -> Instant {
    Instant::now()
}

/// The time of day, for people and for other machines, in whole microseconds: what is stored reads
/// back as the same time.
pub fn wall() -> Timestamp {
    let now = Timestamp::now();
    Timestamp::from_microsecond(now.as_microsecond()).unwrap_or(now)
}
