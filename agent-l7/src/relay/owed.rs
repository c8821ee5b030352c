//! Acknowledgements that a side may wait for.
//!
//! A sender that writes in small pieces under Nagle's algorithm, as DICOM peers do, waits for the
//! acknowledgement of each before it sends the next, and the kernel takes up to 40 ms for one. What is
//! sent back carries it at no cost. So who has been answered after each single piece of late, as senders
//! of messages are, is given time to be answered; anybody else is acknowledged as soon as the worker has
//! nothing else to do.

use std::time::{Duration, Instant};

/// What one side has sent and may wait for.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Owed {
    /// Since when something is not acknowledged, as far as is known here.
    pub(super) since: Option<Instant>,
    /// Small pieces since something was last sent back.
    pieces: u8,
    /// Single pieces in a row that were each answered.
    answered: u8,
}

/// So many make a habit: an association is opened with one, and goes on in pieces.
const HABIT: u8 = 3;
/// How long an answer may take that brings the acknowledgement.
const PATIENCE: Duration = Duration::from_millis(20);

impl Owed {
    /// The side has sent a small piece.
    pub(super) fn hear(&mut self, now: Instant) {
        self.since.get_or_insert(now);
        self.pieces = self.pieces.saturating_add(1);
        if self.pieces > 1 {
            self.answered = 0;
        }
    }

    /// Something was sent to the side.
    pub(super) fn answer(&mut self) {
        if self.pieces == 1 {
            self.answered = self.answered.saturating_add(1);
        }
        (self.since, self.pieces) = (None, 0);
    }

    /// When the side should wait no longer.
    pub(super) fn due(&self) -> Option<Instant> {
        let since = self.since?;
        Some(if self.answered >= HABIT { since + PATIENCE } else { since })
    }
}
