//! Connections that owe a side an acknowledgement.
//!
//! Those that are due are paid when the worker has nothing else to do, which is at once for one that
//! is alone; the others when they have become due.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::slab::Key;

#[derive(Debug, Default)]
pub(super) struct Debts {
    due: Vec<Key>,
    /// Since when the first of those has been due.
    since: Option<Instant>,
    /// Those that become due later, and when: in about that order.
    later: VecDeque<(Instant, Key)>,
}

/// How long one that is due may wait while the worker has other things to do.
const PATIENCE: Duration = Duration::from_millis(5);

impl Debts {
    /// Notes a connection that has to be paid from `due` on.
    pub(super) fn owe(&mut self, debtor: Key, due: Instant, now: Instant) {
        if due > now {
            self.later.push_back((due, debtor));
        } else {
            self.due.push(debtor);
            self.since.get_or_insert(now);
        }
    }

    /// Some are due.
    pub(super) fn are_due(&self) -> bool {
        !self.due.is_empty()
    }

    /// Some have been due for so long that nothing else comes first.
    pub(super) fn are_overdue(&self, now: Instant) -> bool {
        self.since.is_some_and(|since| now.duration_since(since) >= PATIENCE)
    }

    /// When the next of the others becomes due.
    pub(super) fn next(&self) -> Option<Instant> {
        self.later.front().map(|(due, _)| *due)
    }

    /// Takes one that has become due only now.
    pub(super) fn take_ripe(&mut self, now: Instant) -> Option<Key> {
        self.later.pop_front_if(|(due, _)| *due <= now).map(|(_, debtor)| debtor)
    }

    /// Takes one that is due; none when all have been taken.
    pub(super) fn take(&mut self) -> Option<Key> {
        let debtor = self.due.pop();
        if debtor.is_none() {
            self.since = None;
        }
        debtor
    }
}
