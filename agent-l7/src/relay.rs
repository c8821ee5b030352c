//! Bytes between two connected sockets, until both directions have ended.
//!
//! Whoever sets a connection up hands in a [`Pair`] and learns in the end how it [`End`]ed; the
//! relay neither chooses nor connects, and understands nothing of what it carries. It owns no
//! poller: its owner registers the sockets edge-triggered, passes on what the poller says
//! ([`Relay::notice`]) and gives it turns.
//!
//! How connections end, after the manner of TCP itself:
//! - An end of stream is carried to the other side once all bytes before it have been written;
//!   the other direction goes on.
//! - A reset of one side becomes a reset of the other, behind what was read before it. What a side
//!   that can no longer be written to has still sent is delivered first.
//! - A relay that is dropped before its end cuts both sides off.
//! - A side that is silent for too long ends the connection: cleanly if no byte was held for
//!   anyone, or else by resets, so that nobody takes a cut stream for a whole one.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::epoll::EventFlags;

use crate::socket;
use crate::stats::Traffic;

pub(crate) use carrier::Carrier;
use copying::CopyingRelay;
pub(crate) use copying::{Associated, Secrets};
use direction::{Direction, Phase};
pub(crate) use moving::Moved;
pub(crate) use pipes::Pipes;
use pulse::Pulse;

mod carrier;
mod copying;
mod direction;
mod moving;
mod owed;
mod pipes;
mod pulse;

/// One side of a relayed connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Client = 0,
    Server = 1,
}

/// Two connected sockets, to be relayed: non-blocking, and without Nagle's algorithm.
#[derive(Debug)]
pub(crate) struct Pair {
    pub(crate) client: OwnedFd,
    pub(crate) server: OwnedFd,
    /// What the set-up read already: to be written before anything else.
    pub(crate) early: Early,
    pub(crate) patience: Patience,
    pub(crate) traffic: Arc<Traffic>,
}

/// Bytes that were read before the relay began.
#[derive(Debug, Default)]
pub(crate) struct Early {
    pub(crate) from_client: Vec<u8>,
    pub(crate) from_server: Vec<u8>,
}

/// How long a side may neither send nor take a byte.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    pub(crate) client: Duration,
    pub(crate) server: Duration,
}

/// How a relayed connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Both sides ended their streams, and each has the other's.
    Complete,
    /// This side reset the connection, or could not be reached any more.
    Reset(Side),
    /// This side was silent for too long.
    Idle(Side),
    /// This side left in mid-association.
    Left(Side),
}

/// Where a relay stands after a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// Nothing more to do until the poller speaks.
    Waiting,
    /// There is more to do: others first, then another turn.
    More,
    Ended(End),
}

/// What every relay of one worker uses in its turn.
#[derive(Debug)]
pub(crate) struct Bench {
    pub(crate) buffer: Box<[u8]>,
    pipes: Pipes,
    /// What was decrypted, and what was encrypted; made when they are first needed.
    pub(crate) plain: Vec<u8>,
    pub(crate) sealed: Vec<u8>,
}

#[derive(Debug)]
pub(crate) struct Relay {
    sockets: [OwnedFd; 2],
    /// From each side to the other.
    directions: [Direction; 2],
    pulse: Pulse,
    ended: bool,
}

/// What a relay has to be told of: the poller registers both sockets for it.
pub(crate) const INTEREST: EventFlags =
    EventFlags::IN.union(EventFlags::OUT).union(EventFlags::RDHUP).union(EventFlags::ET);

/// One read of a turn at most. As large as a socket's buffer usually is.
const BUFFER: usize = 256 * 1024;

impl Bench {
    pub(crate) fn new(pipes: Pipes) -> Self {
        Self {
            buffer: vec![0; BUFFER].into_boxed_slice(),
            pipes,
            plain: Vec::new(),
            sealed: Vec::new(),
        }
    }
}

impl Side {
    pub(crate) fn other(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }
}

impl Relay {
    pub(crate) fn new(pair: Pair, now: Instant) -> Self {
        Self {
            sockets: [pair.client, pair.server],
            directions: [
                Direction::new(pair.early.from_client),
                Direction::new(pair.early.from_server),
            ],
            pulse: Pulse::new(pair.patience, pair.traffic, now),
            ended: false,
        }
    }

    /// Takes in what the poller says of one side.
    pub(crate) fn notice(&mut self, side: Side, flags: EventFlags) {
        let broken = flags.intersects(EventFlags::ERR | EventFlags::HUP);
        let ending = broken || flags.contains(EventFlags::RDHUP);
        if ending || flags.contains(EventFlags::IN) {
            self.directions[side as usize].notice_readable(ending);
        }
        if broken || flags.contains(EventFlags::OUT) {
            self.directions[side.other() as usize].notice_writable();
        }
        if flags.contains(EventFlags::ERR) && self.directions[side as usize].is_read_out() {
            // Nothing is left to be read there, so that no read will say it.
            self.directions[side.other() as usize].break_off();
        }
    }

    /// Moves what can be moved, within a budget that keeps the other connections alive.
    pub(crate) fn turn(&mut self, bench: &mut Bench, now: Instant) -> Progress {
        let mut more = self.run(Side::Client, bench, now);
        more |= self.run(Side::Server, bench, now);
        match self.end() {
            Some(end) => Progress::Ended(end),
            None if more => Progress::More,
            None => Progress::Waiting,
        }
    }

    /// Bytes carried from the client and to it.
    pub(crate) fn carried(&self) -> [u64; 2] {
        self.pulse.carried()
    }

    /// Which sides have ended their streams.
    pub(crate) fn ended(&self) -> [bool; 2] {
        self.directions.each_ref().map(Direction::has_ended)
    }

    /// From when on a side should not have to wait for an acknowledgement; none if none does.
    pub(crate) fn owes_since(&self) -> Option<Instant> {
        self.pulse.owes_since()
    }

    /// Has the kernel acknowledge at once what is due.
    pub(crate) fn acknowledge(&mut self, now: Instant) {
        self.pulse.acknowledge(self.sockets.each_ref(), now);
    }

    /// When the first side will have been silent for too long, if nothing happens.
    pub(crate) fn deadline(&self) -> Instant {
        self.pulse.deadline()
    }

    pub(crate) fn expired(&self, now: Instant) -> Option<End> {
        self.pulse.expired(now)
    }

    /// Has both sockets closed, when this is dropped, in the way that tells the truth about `end`.
    pub(crate) fn close(&mut self, end: End) {
        self.ended = true;
        match end {
            End::Complete => {}
            // Who has the whole stream and its end is not robbed of what is still under way.
            End::Reset(by) if self.directions[by as usize].phase() == Phase::Closed => {}
            End::Reset(by) => socket::reset_on_close(&self.sockets[by.other() as usize]),
            End::Idle(_) if self.directions.iter().all(Direction::is_empty) => {}
            End::Idle(_) | End::Left(_) => self.ended = false,
        }
    }

    /// Lets the direction from `side` do what it can; true if it could do more.
    fn run(&mut self, side: Side, bench: &mut Bench, now: Instant) -> bool {
        let (from, to) = (side as usize, side.other() as usize);
        let last = self.directions[to].phase() == Phase::Closed;
        let sockets = (&self.sockets[from], &self.sockets[to]);
        let moved = self.directions[from].run(sockets, last, bench);
        if moved.read > 0 {
            self.pulse.hear(side, moved.small, now);
        }
        if moved.written > 0 {
            self.pulse.carry(side, moved.written, now);
        }
        let broken = self.directions[from].phase() == Phase::Broken;
        moved.more | (broken && self.directions[to].last_words())
    }

    fn end(&self) -> Option<End> {
        let phases = self.directions.each_ref().map(Direction::phase);
        match phases {
            [Phase::Closed, Phase::Closed] => Some(End::Complete),
            [Phase::Reset, _] => Some(End::Reset(Side::Client)),
            [_, Phase::Reset] => Some(End::Reset(Side::Server)),
            [Phase::Broken, Phase::Closed | Phase::Broken] => Some(End::Reset(Side::Server)),
            [Phase::Closed, Phase::Broken] => Some(End::Reset(Side::Client)),
            _ => None,
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        if !self.ended {
            self.sockets.iter().for_each(socket::reset_on_close);
        }
    }
}

#[cfg(test)]
mod tests;
