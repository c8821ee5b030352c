//! Figures: quantiles of durations, and what the kernel says of a process and its connections.

use std::process::Command;
use std::time::Duration;

use anyhow::Context;

/// Durations of one kind of thing.
#[derive(Clone, Debug, Default)]
pub(super) struct Durations(Vec<Duration>);

impl Durations {
    pub(super) fn push(&mut self, took: Duration) {
        self.0.push(took);
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The duration that this share of all does not exceed.
    pub(super) fn quantile(&self, share: f64) -> Duration {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_precision_loss,
            clippy::cast_sign_loss,
            reason = "a rank between 0 and the number of samples"
        )]
        let rank = (sorted.len() as f64 * share).ceil() as usize;
        sorted.get(rank.clamp(1, sorted.len().max(1)) - 1).copied().unwrap_or_default()
    }

    pub(super) fn median(&self) -> Duration {
        self.quantile(0.5)
    }

    /// "median 3.1 ms, 2.9 ms to 12.0 ms (n = 5)", for a few.
    pub(super) fn spread(&self) -> String {
        let [median, least, most] = [0.5, 0.0, 1.0].map(|share| millis(self.quantile(share)));
        format!("median {median}, {least} to {most} (n = {})", self.len())
    }

    /// "median 3.1 ms, p99 7.9 ms, most 12.0 ms (n = 1000)"
    pub(super) fn summary(&self) -> String {
        let [median, p99, most] = [0.5, 0.99, 1.0].map(|share| millis(self.quantile(share)));
        format!("median {median}, p99 {p99}, most {most} (n = {})", self.len())
    }
}

pub(super) fn millis(took: Duration) -> String {
    format!("{:.1} ms", took.as_secs_f64() * 1e3)
}

/// The median of `ours` as a multiple of that of `theirs`.
pub(super) fn ratio(ours: &Durations, theirs: &Durations) -> f64 {
    ours.median().as_secs_f64() / theirs.median().as_secs_f64()
}

/// Memory of a process that is in use now, in MiB.
pub(super) fn resident_mib(process: u32) -> anyhow::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
    let kib: u64 = kib.context("the kernel tells no VmRSS")?.trim().parse()?;
    Ok(kib / 1024)
}

/// Bytes that the server on `port` has sent on the connections it has now.
pub(super) fn bytes_sent(port: u16) -> anyhow::Result<u64> {
    let filter = format!("sport = :{port}");
    let output = Command::new("ss").args(["-tinH", "state", "established", &filter]).output();
    let text = String::from_utf8(output.context("starting ss, of iproute2")?.stdout)?;
    let sent = text.split_whitespace().filter_map(|word| word.strip_prefix("bytes_sent:"));
    sent.map(|number| number.parse::<u64>().context("reading what ss prints")).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_samples() {
        let mut durations = Durations::default();
        (1..=100).rev().for_each(|ms| durations.push(Duration::from_millis(ms)));
        assert_eq!(durations.quantile(0.5), Duration::from_millis(50));
        assert_eq!(durations.quantile(0.99), Duration::from_millis(99));
        assert_eq!(durations.quantile(1.0), Duration::from_millis(100));
        assert_eq!(Durations::default().quantile(0.99), Duration::ZERO);
    }
}
