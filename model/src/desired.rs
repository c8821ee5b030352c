//! An agent's whole desired state, and the rules by which it changes: what is refused, and how two
//! holders make sure that they hold the same.
//!
//! The plans stay encoded here, so that both sides hash the same bytes.

use std::collections::BTreeMap;

use crate::revision::{ItemHash, Revision, SetHash};

/// The desired state of one agent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Desired<B> {
    revision: Revision,
    hash: SetHash,
    services: BTreeMap<String, B>,
}

/// What an agent is sent: a change, the revision it leads to and the hash of everything after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Update<B> {
    pub revision: Revision,
    pub hash: SetHash,
    pub change: Change<B>,
    /// An operator has approved of what this very snapshot removes.
    pub removals_approved: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change<B> {
    /// This is everything.
    Snapshot(Vec<(String, B)>),
    /// This is the difference from what was sent before.
    Delta { upserts: Vec<(String, B)>, removed: Vec<String> },
    /// Nothing changed.
    Current,
}

/// An update that was checked against the state it changes.
#[derive(Clone, Debug)]
pub struct Prepared<B> {
    revision: Revision,
    hash: SetHash,
    upserts: Vec<(String, B)>,
    removed: Vec<String>,
}

/// What is done with an update that may be taken.
#[derive(Clone, Debug)]
pub enum Offer<B> {
    Take(Prepared<B>),
    /// It removes so much that somebody has to approve of it first.
    Hold {
        removal_count: usize,
    },
}

/// Which services an update changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Touched {
    pub upserted: Vec<String>,
    pub removed: Vec<String>,
}

/// Why an update is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("it comes from epoch {offered}, and epoch {held} is obeyed here")]
    OlderEpoch { held: u64, offered: u64 },
    #[error("revision {offered} is older than revision {held}, which is held")]
    OlderRevision { held: Revision, offered: Revision },
    #[error("revision {revision} is held with other content")]
    OtherContent { revision: Revision },
    #[error("the state does not have the hash that came with it")]
    HashMismatch,
}

/// A snapshot that removes no more than this many services is never held back.
const REMOVALS: usize = 10;
/// And neither is one that removes no more than this part of those held: one in five.
const REMOVALS_SHARE: usize = 5;

/// Whether a snapshot that removes `removal_count` of `held` services needs approval. It comes to that
/// when a controller was restored from an old backup or runs on the wrong database.
pub fn needs_approval(removal_count: usize, held: usize) -> bool {
    removal_count > REMOVALS && removal_count > held / REMOVALS_SHARE
}

impl Refusal {
    /// Stable, for programs.
    pub fn reason(self) -> &'static str {
        match self {
            Self::OlderEpoch { .. } => "OLDER_EPOCH",
            Self::OlderRevision { .. } => "OLDER_REVISION",
            Self::OtherContent { .. } => "OTHER_CONTENT",
            Self::HashMismatch => "HASH_MISMATCH",
        }
    }
}

impl<B: AsRef<[u8]> + Clone + Default> Desired<B> {
    pub fn revision(&self) -> Revision {
        self.revision
    }

    pub fn hash(&self) -> SetHash {
        self.hash
    }

    pub fn services(&self) -> &BTreeMap<String, B> {
        &self.services
    }

    /// Whether `offered` may be taken, going by revision and hash alone.
    pub fn admit(&self, offered: &Update<B>) -> Result<(), Refusal> {
        let held = self.revision;
        if offered.revision.epoch < held.epoch {
            return Err(Refusal::OlderEpoch { held: held.epoch, offered: offered.revision.epoch });
        }
        if offered.revision < held {
            return Err(Refusal::OlderRevision { held, offered: offered.revision });
        }
        if offered.revision == held && offered.hash != self.hash {
            return Err(Refusal::OtherContent { revision: held });
        }
        Ok(())
    }

    /// Checks `update` in full, changing nothing. Costs in proportion to the update.
    pub fn prepare(&self, update: Update<B>) -> Result<Prepared<B>, Refusal> {
        self.admit(&update)?;
        let (upserts, removed) = match update.change {
            Change::Current => (Vec::new(), Vec::new()),
            Change::Delta { upserts, removed } => (upserts, removed),
            Change::Snapshot(services) => self.difference(services),
        };
        if self.hash_after(&upserts, &removed) != update.hash {
            return Err(Refusal::HashMismatch);
        }
        Ok(Prepared { revision: update.revision, hash: update.hash, upserts, removed })
    }

    /// Checks `update` in full and decides what to do with it, changing nothing. Only snapshots
    /// are ever held back: a delta is what an operator asked for one transaction before.
    pub fn judge(&self, update: Update<B>) -> Result<Offer<B>, Refusal> {
        let whole = matches!(update.change, Change::Snapshot(_));
        let approved = update.removals_approved;
        let prepared = self.prepare(update)?;
        let (removal_count, held) = (prepared.removed.len(), self.services.len());
        if whole && !approved && needs_approval(removal_count, held) {
            return Ok(Offer::Hold { removal_count });
        }
        Ok(Offer::Take(prepared))
    }

    /// Makes the change that was prepared on this very state.
    pub fn commit(&mut self, prepared: Prepared<B>) -> Touched {
        self.revision = prepared.revision;
        self.hash = prepared.hash;
        let mut touched = Touched::default();
        for name in prepared.removed {
            if self.services.remove(&name).is_some() {
                touched.removed.push(name);
            }
        }
        for (name, plan) in prepared.upserts {
            touched.upserted.push(name.clone());
            self.services.insert(name, plan);
        }
        touched
    }

    /// Takes `update`, or changes nothing.
    pub fn take(&mut self, update: Update<B>) -> Result<Touched, Refusal> {
        let prepared = self.prepare(update)?;
        Ok(self.commit(prepared))
    }

    /// Everything, as an update that makes it from nothing.
    pub fn snapshot(&self) -> Update<B> {
        let services = self.services.iter().map(|(name, plan)| (name.clone(), plan.clone()));
        Update {
            revision: self.revision,
            hash: self.hash,
            change: Change::Snapshot(services.collect()),
            removals_approved: false,
        }
    }

    /// The delta that leads from here to exactly `services`.
    fn difference(&self, services: Vec<(String, B)>) -> (Vec<(String, B)>, Vec<String>) {
        let wanted: BTreeMap<_, _> = services.into_iter().collect();
        let removed =
            self.services.keys().filter(|name| !wanted.contains_key(*name)).cloned().collect();
        let changed = |name: &String, plan: &B| {
            self.services.get(name).is_none_or(|held| held.as_ref() != plan.as_ref())
        };
        (wanted.into_iter().filter(|(name, plan)| changed(name, plan)).collect(), removed)
    }

    fn hash_after(&self, upserts: &[(String, B)], removed: &[String]) -> SetHash {
        let mut hash = self.hash;
        let drop_held = |hash: &mut SetHash, name: &String| {
            if let Some(held) = self.services.get(name) {
                hash.toggle(&ItemHash::of(name, held.as_ref()));
            }
        };
        for name in removed {
            drop_held(&mut hash, name);
        }
        for (name, plan) in upserts {
            drop_held(&mut hash, name);
            hash.toggle(&ItemHash::of(name, plan.as_ref()));
        }
        hash
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type State = BTreeMap<String, Vec<u8>>;

    fn state(services: &[(&str, &str)]) -> State {
        services.iter().map(|(n, p)| ((*n).to_owned(), p.as_bytes().to_vec())).collect()
    }

    fn hash(state: &State) -> SetHash {
        let mut hash = SetHash::default();
        state.iter().for_each(|(name, plan)| hash.toggle(&ItemHash::of(name, plan)));
        hash
    }

    fn snapshot(epoch: u64, number: u64, state: &State) -> Update<Vec<u8>> {
        let services = state.iter().map(|(n, p)| (n.clone(), p.clone())).collect();
        let revision = Revision { epoch, number };
        let change = Change::Snapshot(services);
        Update { revision, hash: hash(state), change, removals_approved: false }
    }

    fn delta(number: u64, from: &State, to: &State) -> Update<Vec<u8>> {
        let upserts = to.iter().filter(|(n, p)| from.get(*n) != Some(p));
        let upserts = upserts.map(|(n, p)| (n.clone(), p.clone())).collect();
        let removed = from.keys().filter(|n| !to.contains_key(*n)).cloned().collect();
        let change = Change::Delta { upserts, removed };
        let revision = Revision { epoch: 1, number };
        Update { revision, hash: hash(to), change, removals_approved: false }
    }

    fn many(count: usize) -> State {
        (0..count).map(|at| (format!("{at:04}"), b"1".to_vec())).collect()
    }

    /// What becomes of an update after which only the first `left` of `held` services are there.
    fn removals_held_back(
        held: usize,
        left: usize,
        update: fn(&State, &State) -> Update<Vec<u8>>,
    ) -> usize {
        let (before, after) = (many(held), many(left));
        let desired = holding(5, &before);
        let held_back = match desired.judge(update(&before, &after)).unwrap() {
            Offer::Take(_) => 0,
            Offer::Hold { removal_count } => removal_count,
        };
        assert_eq!(desired, holding(5, &before), "judging changes nothing");
        held_back
    }

    #[test]
    fn a_snapshot_that_removes_more_than_ten_and_a_fifth_is_held_back() {
        let newer = |_: &State, after: &State| snapshot(1, 6, after);
        for (held, left, held_back) in [
            (40, 30, 0),
            (40, 29, 11),
            (10, 0, 0),
            (11, 0, 11),
            (100, 80, 0),
            (100, 79, 21),
            (54, 43, 11),
            (55, 44, 0),
            (59, 48, 0),
            (60, 48, 0),
            (60, 47, 13),
            (40, 0, 40),
            (0, 40, 0),
        ] {
            assert_eq!(removals_held_back(held, left, newer), held_back, "{left} of {held} stay");
        }
    }

    #[test]
    fn deltas_approved_snapshots_and_what_is_refused_are_not_held_back() {
        assert_eq!(removals_held_back(40, 0, |before, after| delta(6, before, after)), 0);
        let approved =
            |_: &State, after: &State| Update { removals_approved: true, ..snapshot(2, 1, after) };
        assert_eq!(removals_held_back(40, 5, approved), 0);
        let older = holding(5, &many(40)).judge(snapshot(0, 9, &many(5)));
        assert_eq!(older.unwrap_err().reason(), "OLDER_EPOCH");
    }

    #[test]
    fn what_a_snapshot_renames_or_changes_counts_by_name() {
        let mut changed = many(40);
        changed.values_mut().for_each(|plan| *plan = b"2".to_vec());
        let desired = holding(5, &many(40));
        assert!(matches!(desired.judge(snapshot(1, 6, &changed)), Ok(Offer::Take(_))));
        let renamed: State = many(40).into_iter().map(|(n, p)| (format!("x{n}"), p)).collect();
        let judged = desired.judge(snapshot(1, 6, &renamed));
        assert!(matches!(judged, Ok(Offer::Hold { removal_count: 40 })));
    }

    fn holding(number: u64, held: &State) -> Desired<Vec<u8>> {
        let mut desired = Desired::default();
        desired.take(snapshot(1, number, held)).unwrap();
        desired
    }

    #[test]
    fn refusals() {
        let (held, other) = (state(&[("a", "1")]), state(&[("a", "2")]));
        let cases = [
            (snapshot(0, 9, &other), "OLDER_EPOCH"),
            (snapshot(1, 4, &other), "OLDER_REVISION"),
            (snapshot(1, 5, &other), "OTHER_CONTENT"),
            (Update { hash: hash(&held), ..snapshot(1, 6, &other) }, "HASH_MISMATCH"),
            (delta(6, &state(&[("x", "1")]), &state(&[("y", "1")])), "HASH_MISMATCH"),
        ];
        for (update, reason) in cases {
            let mut desired = holding(5, &held);
            assert_eq!(desired.take(update).unwrap_err().reason(), reason);
            assert_eq!(desired, holding(5, &held), "a refused update changes nothing");
        }
    }

    #[test]
    fn a_newer_epoch_may_count_from_the_start() {
        let mut desired = holding(5, &state(&[("a", "1")]));
        let touched = desired.take(snapshot(2, 1, &state(&[("b", "1")]))).unwrap();
        assert_eq!(touched.removed, ["a"]);
        assert_eq!(touched.upserted, ["b"]);
    }

    #[test]
    fn a_snapshot_touches_only_what_differs() {
        let mut desired = holding(5, &state(&[("a", "1"), ("b", "1"), ("c", "1")]));
        let wanted = state(&[("a", "1"), ("b", "2"), ("d", "1")]);
        let touched = desired.take(snapshot(1, 6, &wanted)).unwrap();
        assert_eq!(touched.upserted, ["b", "d"]);
        assert_eq!(touched.removed, ["c"]);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

        /// Deltas lead to the same state and hash as a snapshot does.
        #[test]
        fn deltas_and_snapshots_agree(states in proptest::collection::vec(
            proptest::collection::btree_map("[a-e]", proptest::collection::vec(0u8..3, 0..2), 0..5), 1..12)
        ) {
            let mut desired = holding(1, &states[0]);
            for (at, pair) in states.windows(2).enumerate() {
                let number = at as u64 + 2;
                desired.take(delta(number, &pair[0], &pair[1])).unwrap();
                prop_assert_eq!(&desired, &holding(number, &pair[1]));
            }
        }
    }
}
