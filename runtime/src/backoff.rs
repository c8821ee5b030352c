//! How long to wait before trying again: longer each time, and never the same as one's neighbour.

use std::time::Duration;

/// Exponential backoff with full jitter, so that hundreds of agents do not come back at once.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    most: Duration,
    attempt: u32,
}

impl Backoff {
    pub fn new(first: Duration, most: Duration) -> Self {
        Self { first, most, attempt: 0 }
    }

    /// For connections to the controller.
    pub fn for_controller() -> Self {
        Self::new(Duration::from_millis(200), Duration::from_secs(5))
    }

    /// For connections on this machine.
    pub fn for_neighbour() -> Self {
        Self::new(Duration::from_millis(50), Duration::from_secs(1))
    }

    /// It worked: begin anew next time.
    pub fn reset(&mut self) {
        self.attempt = 0;
    }

    /// The next wait: at least a tenth of what it may be, so that it never spins.
    pub fn next_wait(&mut self) -> Duration {
        let ceiling = self.first.saturating_mul(1 << self.attempt.min(16)).min(self.most);
        self.attempt = self.attempt.saturating_add(1);
        let share = 0.1 + 0.9 * random_share();
        ceiling.mul_f64(share)
    }
}

/// A random number from 0 to 1.
pub(crate) fn random_share() -> f64 {
    let mut bytes = [0; 4];
    // Without randomness the wait is the longest, which is safe.
    if getrandom::fill(&mut bytes).is_err() {
        return 1.0;
    }
    f64::from(u32::from_ne_bytes(bytes)) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_to_its_limit_and_begins_anew() {
        let (first, most) = (Duration::from_millis(100), Duration::from_secs(2));
        let mut backoff = Backoff::new(first, most);
        for attempt in 0..40 {
            let ceiling = first.saturating_mul(1 << attempt.min(16)).min(most);
            let wait = backoff.next_wait();
            assert!(wait >= ceiling / 10 && wait <= ceiling, "{attempt}: {wait:?}");
        }
        backoff.reset();
        assert!(backoff.next_wait() <= first);
    }
}
