//! Instants in the future, whatever duration is configured.

use std::time::{Duration, Instant};

/// Longer than any connection lasts, and short enough to be added to any instant.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 3600);

/// All attempts to connect for one client together may take this many times the connect timeout.
const DIAL_TIMEOUTS: u32 = 3;

/// `patience` after `now`, or as good as never.
pub(crate) fn after(now: Instant, patience: Duration) -> Instant {
    now + patience.min(LONGEST)
}

/// When no further server is tried for who began at `now`, where each may take `patience`.
pub(crate) fn after_dials(now: Instant, patience: Duration) -> Instant {
    after(now, patience.saturating_mul(DIAL_TIMEOUTS))
}
