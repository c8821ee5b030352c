//! Samples of one test, and the table that they make.

use std::fmt;

use super::Test;
use super::load::Kind;

/// One measurement of one target.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    /// Gbit/s of bulk; exchanges a second; KiB of memory for each idle connection.
    pub(super) rate: f64,
    /// Processor seconds of the target for each GB, or for each 100,000 exchanges.
    pub(super) cpu: f64,
    /// Of the exchanges, in microseconds.
    pub(super) p99: f64,
    /// Processors that others took.
    pub(super) foreign: f64,
}

/// All samples of one test. The first target is the one of interest.
#[derive(Debug)]
pub(super) struct Table {
    test: Test,
    targets: Vec<(&'static str, Vec<Sample>)>,
}

/// One figure of a sample: its name, its place, and whether more of it is better.
struct Figure {
    name: &'static str,
    of: fn(&Sample) -> f64,
    more_is_better: bool,
}

const RATE: Figure = Figure { name: "Gbit/s", of: |sample| sample.rate, more_is_better: true };
const PER_SECOND: Figure = Figure { name: "a second", ..RATE };
const MEMORY: Figure = Figure { name: "KiB each", more_is_better: false, ..RATE };
const CPU_GB: Figure = Figure { name: "CPU s/GB", of: |sample| sample.cpu, more_is_better: false };
const CPU_100K: Figure = Figure { name: "CPU s/100k", ..CPU_GB };
const P99: Figure = Figure { name: "p99 us", of: |sample| sample.p99, more_is_better: false };

impl Table {
    pub(super) fn new(test: Test, targets: impl Iterator<Item = &'static str>) -> Self {
        Self { test, targets: targets.map(|name| (name, Vec::new())).collect() }
    }

    pub(super) fn add(&mut self, target: usize, sample: Sample) {
        self.targets[target].1.push(sample);
    }

    pub(super) fn test(&self) -> Test {
        self.test
    }

    /// Each figure's name, whether more of it is better, and the first target's as a multiple of the
    /// best peer's: its median, and the least and the most of single rounds.
    pub(super) fn ratios(&self) -> impl Iterator<Item = (&'static str, bool, [f64; 3])> {
        self.figures().iter().map(|figure| {
            let best = self.best_peer(figure);
            let each = self.targets[0].1.iter().map(|sample| (figure.of)(sample) / best);
            let (least, most) = each.fold((f64::INFINITY, 0.0_f64), |(least, most), ratio| {
                (least.min(ratio), most.max(ratio))
            });
            (figure.name, figure.more_is_better, [self.ratio(figure), least, most])
        })
    }

    fn figures(&self) -> &'static [Figure] {
        match self.test.kind {
            Kind::Up | Kind::Down => &[RATE, CPU_GB],
            Kind::Message | Kind::Connect | Kind::Http => &[PER_SECOND, CPU_100K, P99],
            Kind::Idle => &[MEMORY],
        }
    }

    /// The first target's figure as a multiple of the best peer's.
    fn ratio(&self, figure: &Figure) -> f64 {
        median(&self.targets[0].1, figure.of) / self.best_peer(figure)
    }

    fn best_peer(&self, figure: &Figure) -> f64 {
        let better = if figure.more_is_better { f64::max } else { f64::min };
        let peers = self.targets[1..].iter().map(|(_, samples)| median(samples, figure.of));
        peers.reduce(better).unwrap_or(f64::NAN)
    }
}

impl fmt::Display for Table {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let figures = self.figures();
        write!(formatter, "\n{:<10}", self.test.to_string())?;
        for figure in figures {
            write!(formatter, "{:>30}", figure.name)?;
        }
        writeln!(formatter, "{:>10}", "foreign")?;
        for (name, samples) in &self.targets {
            write!(formatter, "  {name:<8}")?;
            for figure in figures {
                let [least, most] = [f64::min, f64::max]
                    .map(|better| samples.iter().map(figure.of).reduce(better).unwrap_or(f64::NAN));
                let spread = format!("({} to {})", short(least), short(most));
                write!(formatter, "{:>10}{spread:>20}", short(median(samples, figure.of)))?;
            }
            writeln!(formatter, "{:>10}", short(median(samples, |sample| sample.foreign)))?;
        }
        write!(formatter, "  {:<8}", "ratio")?;
        for figure in figures {
            write!(formatter, "{:>10}{:>20}", format!("{:.2}", self.ratio(figure)), "")?;
        }
        Ok(())
    }
}

fn median(samples: &[Sample], of: fn(&Sample) -> f64) -> f64 {
    let mut values: Vec<f64> = samples.iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        count if count % 2 == 1 => values[count / 2],
        count => f64::midpoint(values[count / 2 - 1], values[count / 2]),
    }
}

/// Three digits, or all before the point.
fn short(value: f64) -> String {
    match value.abs() {
        large if large >= 100.0 => format!("{value:.0}"),
        middle if middle >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.3}"),
    }
}
