//! When connections want to be looked at again: one instant each, or none.

use std::collections::BTreeSet;
use std::time::Instant;

use crate::slab::Key;

#[derive(Debug, Default)]
pub(super) struct Timers {
    due: BTreeSet<(Instant, Key)>,
}

impl Timers {
    /// Arms the timer of `key` for `due`, where `armed` is what it is armed for.
    pub(super) fn keep(&mut self, key: Key, due: Option<Instant>, armed: &mut Option<Instant>) {
        if *armed == due {
            return;
        }
        if let Some(armed) = armed.take() {
            self.due.remove(&(armed, key));
        }
        if let Some(due) = due {
            self.due.insert((due, key));
            *armed = Some(due);
        }
    }

    pub(super) fn next(&self) -> Option<Instant> {
        self.due.first().map(|(due, _)| *due)
    }

    /// Takes out the first that is due.
    pub(super) fn pop(&mut self, now: Instant) -> Option<Key> {
        self.next().filter(|due| *due <= now)?;
        self.due.pop_first().map(|(_, key)| key)
    }
}
