//! Connections that owe a side an acknowledgement.
//!
//! They are paid when the worker has nothing else to do, which is at once for one that is alone.
//! While there is much to do an answer mostly comes before that, and saves a call and a packet.

use std::time::{Duration, Instant};

use crate::slab::Key;

#[derive(Debug, Default)]
pub(super) struct Debts {
    debtors: Vec<Key>,
    /// Since when the first has been among them.
    since: Option<Instant>,
}

/// How long an acknowledgement may be owed while the worker has other things to do.
const PATIENCE: Duration = Duration::from_millis(5);

impl Debts {
    pub(super) fn owe(&mut self, debtor: Key, now: Instant) {
        self.debtors.push(debtor);
        self.since.get_or_insert(now);
    }

    pub(super) fn are_none(&self) -> bool {
        self.debtors.is_empty()
    }

    pub(super) fn are_due(&self, now: Instant) -> bool {
        self.since.is_some_and(|since| now.duration_since(since) >= PATIENCE)
    }

    /// Takes one off; none when all have been.
    pub(super) fn take(&mut self) -> Option<Key> {
        let debtor = self.debtors.pop();
        if debtor.is_none() {
            self.since = None;
        }
        debtor
    }
}
