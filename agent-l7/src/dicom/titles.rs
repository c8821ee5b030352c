//! Counts of associations by calling AE title.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::stats::{DicomCounts, DicomSample};

/// The AE titles that have asked a service for associations.
#[derive(Debug, Default)]
pub(crate) struct Titles(Mutex<BTreeMap<Arc<str>, Arc<DicomCounts>>>);

/// Titles that are counted: anybody may call himself anything.
const MOST: usize = 1000;

impl Titles {
    /// Those of this title; where there are as many titles as are counted, of nobody.
    pub(crate) fn counts_of(&self, title: &str) -> Arc<DicomCounts> {
        let mut titles = self.0.lock();
        if let Some(counts) = titles.get(title) {
            return Arc::clone(counts);
        }
        let counts = Arc::<DicomCounts>::default();
        if titles.len() < MOST {
            titles.insert(title.into(), Arc::clone(&counts));
        }
        counts
    }

    /// What is counted, in the order of the titles.
    pub(crate) fn samples(&self) -> Vec<(Arc<str>, DicomSample)> {
        let titles = self.0.lock();
        titles.iter().map(|(title, counts)| (Arc::clone(title), counts.sample())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_invents_titles_costs_no_more_than_so_many() {
        let titles = Titles::default();
        for at in 0..2 * MOST {
            titles.counts_of(&format!("CT{at}")).requested.add(1);
            titles.counts_of("CT0").accepted.add(1);
        }
        let samples = titles.samples();
        assert_eq!(samples.len(), MOST);
        let (title, first) = &samples[0];
        assert_eq!((&**title, first.requested, first.accepted), ("CT0", 1, 2 * MOST as u64));
    }
}
