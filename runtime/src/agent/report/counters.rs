//! Which counters the controller has been told, so that it is told of changes only: thousands of
//! services that stand still cost nothing on the way.

use std::collections::HashMap;

use gantry_proto::agent::v1 as pb;

/// What was told on one stream.
#[derive(Debug, Default)]
pub(super) struct Counters {
    changes: bool,
    told: HashMap<String, Told>,
    /// Grows with each message.
    round: u64,
}

#[derive(Debug)]
struct Told {
    sample: pb::Sample,
    /// The last round in which it was there.
    round: u64,
}

impl Counters {
    /// The controller can add changes up.
    pub(super) fn send_changes(&mut self) {
        self.changes = true;
    }

    /// All of them.
    pub(super) fn whole(&mut self, samples: Vec<pb::Sample>) -> pb::Samples {
        self.told.clear();
        if self.changes {
            self.difference(&samples);
        }
        pb::Samples { samples, ..Default::default() }
    }

    /// What is new since they were told last; all of them where changes would not be understood.
    pub(super) fn news(&mut self, samples: Vec<pb::Sample>) -> pb::Samples {
        if self.told.is_empty() {
            return self.whole(samples);
        }
        let moved = self.difference(&samples);
        let gone = self.gone(samples.len());
        pb::Samples { samples: moved, changes_only: true, gone }
    }

    /// Notes `samples` as told; gives those that were not told like this before.
    fn difference(&mut self, samples: &[pb::Sample]) -> Vec<pb::Sample> {
        self.round += 1;
        let round = self.round;
        let mut moved = Vec::new();
        for sample in samples {
            let told = self.told.get_mut(&sample.name);
            if let Some(told) = told {
                told.round = round;
                if told.sample != *sample {
                    told.sample = sample.clone();
                    moved.push(sample.clone());
                }
            } else {
                let told = Told { sample: sample.clone(), round };
                self.told.insert(sample.name.clone(), told);
                moved.push(sample.clone());
            }
        }
        moved
    }

    /// Forgets those that were not among the `count` of this round; gives their names.
    fn gone(&mut self, count: usize) -> Vec<String> {
        if self.told.len() == count {
            return Vec::new();
        }
        let round = self.round;
        self.told.extract_if(|_, told| told.round != round).map(|(name, _)| name).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(name: &str, connections_total: i64) -> pb::Sample {
        pb::Sample { name: name.to_owned(), connections_total, ..Default::default() }
    }

    fn told(samples: &pb::Samples) -> (Vec<&str>, bool, Vec<&str>) {
        let names = samples.samples.iter().map(|sample| sample.name.as_str()).collect();
        (names, samples.changes_only, samples.gone.iter().map(String::as_str).collect())
    }

    #[test]
    fn an_older_controller_is_told_everything() {
        let mut counters = Counters::default();
        for _ in 0..3 {
            let news = counters.news(vec![sample("a", 1), sample("b", 1)]);
            assert_eq!(told(&news), (vec!["a", "b"], false, vec![]));
        }
    }

    #[test]
    fn only_what_moved_came_or_went_is_told() {
        let mut counters = Counters::default();
        counters.whole(vec![sample("a", 1)]);
        counters.send_changes();
        let first = counters.news(vec![sample("a", 1), sample("b", 1)]);
        assert_eq!(told(&first), (vec!["a", "b"], false, vec![]), "all, to begin with");
        let still = counters.news(vec![sample("a", 1), sample("b", 1)]);
        assert_eq!(told(&still), (vec![], true, vec![]));
        let moved = counters.news(vec![sample("a", 1), sample("b", 2), sample("c", 0)]);
        assert_eq!(told(&moved), (vec!["b", "c"], true, vec![]));
        let gone = counters.news(vec![sample("b", 2), sample("d", 0)]);
        let (names, changes_only, mut names_gone) = told(&gone);
        names_gone.sort_unstable();
        assert_eq!((names, changes_only, names_gone), (vec!["d"], true, vec!["a", "c"]));
    }
}
