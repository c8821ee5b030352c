//! A connection that is over, and whose sides are yet to learn why.
//!
//! What they are told goes out, and then the end of the stream. What they still send is read and dropped
//! until they have ended, too: a close with bytes unread is a reset, and that would take from them what
//! they were told (PS3.8, state 13 of table 9-10, waits so as well). All of it is bounded in time.

use std::time::{Duration, Instant};

use rustix::event::epoll::EventFlags;

use crate::ending::{Ending, Phase};
use crate::leg::{Last, Leg};
use crate::relay::{Bench, Side};

pub(super) struct Parting {
    legs: [Option<Leg>; 2],
    pub(super) until: Instant,
    pub(super) why: Ending,
    pub(super) phase: Phase,
    pub(super) summary: Summary,
}

/// What the log is told of a connection that is over.
#[derive(Debug)]
pub(super) struct Summary {
    pub(super) server: String,
    pub(super) carried: [u64; 2],
}

/// How long a side may take to hear why.
const PARTING: Duration = Duration::from_secs(5);
/// Reads of one side before others get their turn.
const READS: usize = 8;

impl Parting {
    pub(super) fn new(
        legs: [Option<Leg>; 2],
        (why, phase): (Ending, Phase),
        summary: Summary,
        now: Instant,
    ) -> Self {
        Self { legs, until: now + PARTING, why, phase, summary }
    }

    pub(super) fn notice(&mut self, side: Side, flags: EventFlags) {
        if let Some(leg) = &mut self.legs[side as usize] {
            leg.notice(flags);
        }
    }

    /// Does what can be done now; true if there is more.
    pub(super) fn turn(&mut self, bench: &mut Bench) -> bool {
        for leg in &mut self.legs {
            if leg.as_mut().is_some_and(|leg| !part(leg, bench)) {
                *leg = None;
            }
        }
        self.legs.iter().flatten().any(Leg::may_read)
    }

    pub(super) fn is_over(&self) -> bool {
        self.legs.iter().all(Option::is_none)
    }
}

/// False once the side has heard all, or cannot.
fn part(leg: &mut Leg, bench: &mut Bench) -> bool {
    if leg.flush() {
        leg.tell(Last::End, false);
    }
    for _ in 0..READS {
        if !leg.may_read() {
            break;
        }
        let _dropped = leg.read(&mut bench.buffer, &mut bench.plain);
    }
    let heard = leg.was_told() && leg.last().is_some();
    if heard {
        leg.let_go();
    }
    !heard && !leg.is_broken()
}
