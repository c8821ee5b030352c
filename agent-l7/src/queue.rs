//! The line of clients that wait for a real server of one service, first come, first served.
//!
//! Only the order is kept here. Whether a waiter can be served is for the [`service`] to say,
//! which holds the line locked while it hands out what became free.
//!
//! [`service`]: crate::service

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Instant;

use parking_lot::{Mutex, MutexGuard};

use crate::seat::Visitor;
use crate::slab::Key;

#[derive(Debug, Default)]
pub(crate) struct Queue {
    /// How many wait: read without the lock, changed under it.
    waiting: AtomicUsize,
    line: Mutex<Line>,
}

/// The place of one waiter in one line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ticket(u64);

#[derive(Debug)]
pub(crate) struct Waiter {
    pub(crate) visitor: Visitor,
    pub(crate) place: Place,
    pub(crate) since: Instant,
}

/// Where a connection lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) worker: usize,
    pub(crate) key: Key,
}

#[derive(Debug, Default)]
struct Line {
    next: u64,
    waiters: BTreeMap<Ticket, Waiter>,
}

/// The line, held.
pub(crate) struct Held<'queue> {
    waiting: &'queue AtomicUsize,
    line: MutexGuard<'queue, Line>,
}

impl Queue {
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(SeqCst)
    }

    pub(crate) fn hold(&self) -> Held<'_> {
        Held { waiting: &self.waiting, line: self.line.lock() }
    }

    /// Since when the one waits who has waited longest.
    pub(crate) fn longest(&self) -> Option<Instant> {
        if self.waiting() == 0 {
            return None;
        }
        self.line.lock().waiters.values().next().map(|first| first.since)
    }

    /// Whether the waiter was still in line. If not, something is on its way to it.
    pub(crate) fn leave(&self, ticket: Ticket) -> bool {
        self.hold().take(ticket).is_some()
    }
}

impl Held<'_> {
    pub(crate) fn join(&mut self, waiter: Waiter) -> Ticket {
        let ticket = Ticket(self.line.next);
        self.line.next += 1;
        self.line.waiters.insert(ticket, waiter);
        self.waiting.fetch_add(1, SeqCst);
        ticket
    }

    pub(crate) fn take(&mut self, ticket: Ticket) -> Option<Waiter> {
        let waiter = self.line.waiters.remove(&ticket)?;
        self.waiting.fetch_sub(1, SeqCst);
        Some(waiter)
    }

    pub(crate) fn in_order(&self) -> impl Iterator<Item = (Ticket, &Waiter)> {
        self.line.waiters.iter().map(|(ticket, waiter)| (*ticket, waiter))
    }
}
