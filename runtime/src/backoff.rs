//! How long to wait before trying again: longer each time, and never the same as one's neighbour.

use std::time::Duration;

/// Exponential backoff with full jitter, so that hundreds of agents do not come back at once.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    most: Duration,
    attempt: u32,
    random: u64,
}

impl Backoff {
    pub fn new(first: Duration, most: Duration) -> Self {
        let mut seed = [0; 8];
        // Without randomness all wait alike, which is slower and no worse.
        let _alike = getrandom::fill(&mut seed);
        Self::seeded(first, most, u64::from_ne_bytes(seed))
    }

    /// One that waits the same times whenever it has the same seed.
    pub fn seeded(first: Duration, most: Duration, seed: u64) -> Self {
        Self { first, most, attempt: 0, random: seed }
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
        let share = 0.1 + 0.9 * self.random_share();
        ceiling.mul_f64(share)
    }

    /// The next random number from 0 to 1 (SplitMix64).
    fn random_share(&mut self) -> f64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let [.., a, b, c, d] = (mixed ^ (mixed >> 31)).to_be_bytes();
        f64::from(u32::from_be_bytes([a, b, c, d])) / f64::from(u32::MAX)
    }
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
