//! Instants in the future, whatever duration is configured.

use std::time::{Duration, Instant};

/// Longer than any connection lasts, and short enough to be added to any instant.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 3600);

/// `patience` after `now`, or as good as never.
pub(crate) fn after(now: Instant, patience: Duration) -> Instant {
    now + patience.min(LONGEST)
}
