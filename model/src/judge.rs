//! Rise and fall: how many answers in a row it takes to change one's mind about a server.

use std::num::NonZeroU32;

/// Judges one real server from the results of its checks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judge {
    opinion: Option<bool>,
    against: u32,
}

/// How many results in a row it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thresholds {
    pub rise: NonZeroU32,
    pub fall: NonZeroU32,
}

impl Judge {
    /// Knows nothing yet: the first result decides.
    pub fn new() -> Self {
        Self { opinion: None, against: 0 }
    }

    /// Begins with an opinion from before, so that a restart does not change anyone's state.
    pub fn with_opinion(healthy: bool) -> Self {
        Self { opinion: Some(healthy), against: 0 }
    }

    /// Takes one result; gives the opinion if this result changed it.
    pub fn hear(&mut self, healthy: bool, thresholds: Thresholds) -> Option<bool> {
        if self.opinion == Some(healthy) {
            self.against = 0;
            return None;
        }
        self.against += 1;
        let needed = match (self.opinion, healthy) {
            (None, _) => 1,
            (Some(_), true) => thresholds.rise.get(),
            (Some(_), false) => thresholds.fall.get(),
        };
        if self.against < needed {
            return None;
        }
        self.opinion = Some(healthy);
        self.against = 0;
        self.opinion
    }

    pub fn opinion(&self) -> Option<bool> {
        self.opinion
    }
}

impl Default for Judge {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn thresholds(rise: u32, fall: u32) -> Thresholds {
        Thresholds { rise: rise.try_into().unwrap(), fall: fall.try_into().unwrap() }
    }

    /// Feeds `results` ('+' and '-') and writes what the judge said after each: '.', 'U' or 'D'.
    fn trace(mut judge: Judge, thresholds: Thresholds, results: &str) -> String {
        let say = |change| match change {
            None => '.',
            Some(true) => 'U',
            Some(false) => 'D',
        };
        results.chars().map(|result| say(judge.hear(result == '+', thresholds))).collect()
    }

    #[test]
    fn table() {
        let cases = [
            (Judge::new(), 2, 3, "+---", "U..D"),
            (Judge::new(), 2, 3, "-++", "D.U"),
            (Judge::new(), 2, 3, "+--+---", "U.....D"),
            (Judge::new(), 2, 2, "+-+-+-", "U....."),
            (Judge::new(), 1, 1, "+-+-", "UDUD"),
            (Judge::with_opinion(true), 2, 2, "--++", ".D.U"),
            (Judge::with_opinion(false), 3, 1, "++-+++", ".....U"),
        ];
        for (judge, rise, fall, results, expected) in cases {
            assert_eq!(trace(judge, thresholds(rise, fall), results), expected, "{results}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

        /// The opinion changes only after the last `fall` (or `rise`) results all said so.
        #[test]
        fn a_change_is_earned(rise in 1u32..5, fall in 1u32..5, results in proptest::collection::vec(any::<bool>(), 0..60)) {
            let mut judge = Judge::new();
            for (at, result) in results.iter().enumerate() {
                let had_opinion = judge.opinion().is_some();
                if let Some(opinion) = judge.hear(*result, thresholds(rise, fall)) {
                    let needed = if !had_opinion { 1 } else if opinion { rise } else { fall } as usize;
                    prop_assert!(results[at + 1 - needed..=at].iter().all(|r| *r == opinion));
                }
            }
        }
    }
}
