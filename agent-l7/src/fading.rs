//! A map that forgets by itself what is over.
//!
//! Each sweep looks at a few entries in turn, so that no operation is long and no clock is needed for it. A sweep
//! with each arrival keeps up: two are looked at for one that comes.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

#[derive(Debug)]
pub(crate) struct Fading<K, V> {
    entries: HashMap<K, V>,
    /// Every key once, in the order in which they are looked at.
    round: VecDeque<K>,
}

/// Entries looked at in each sweep.
const SWEEP: usize = 2;

impl<K: Clone + Eq + Hash, V> Fading<K, V> {
    pub(crate) fn get(&self, key: &K) -> Option<&V> {
        self.entries.get(key)
    }

    pub(crate) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        self.entries.get_mut(key)
    }

    /// The value of `key`, made if there is none.
    pub(crate) fn entry(&mut self, key: &K, make: impl FnOnce() -> V) -> &mut V {
        let round = &mut self.round;
        self.entries.entry(key.clone()).or_insert_with_key(|key| {
            round.push_back(key.clone());
            make()
        })
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.entries.iter()
    }

    /// Drops those of a few entries that are over.
    pub(crate) fn sweep(&mut self, is_over: impl Fn(&V) -> bool) {
        for _ in 0..SWEEP.min(self.round.len()) {
            let key = self.round.pop_front().expect("the round is that long");
            if self.entries.get(&key).is_some_and(&is_over) {
                self.entries.remove(&key);
            } else {
                self.round.push_back(key);
            }
        }
    }
}

impl<K, V> Default for Fading<K, V> {
    fn default() -> Self {
        Self { entries: HashMap::new(), round: VecDeque::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_over_goes_and_all_else_stays() {
        let mut map = Fading::default();
        for key in 0..10 {
            *map.entry(&key, || 0) += key;
            *map.entry(&key, || panic!("it is there")) += 1;
        }
        for _ in 0..5 {
            map.sweep(|value| value % 3 == 0);
        }
        let mut left: Vec<i32> = map.iter().map(|(key, _)| *key).collect();
        left.sort_unstable();
        assert_eq!(left, [0, 1, 3, 4, 6, 7, 9]);
        assert_eq!(map.round.len(), 7);
    }
}
