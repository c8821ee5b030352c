//! What carries the bytes of one connection: the plain relay, or the one that sees what it carries.

use std::time::Instant;

use rustix::event::epoll::EventFlags;

use crate::dicom::Association;
use crate::leg::Leg;

use super::{Associated, Bench, CopyingRelay, End, Pair, Progress, Relay, Secrets, Side};

/// How a connection's bytes are carried.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "most are plain, and lie in a box already")]
pub(crate) enum Carrier {
    Plain(Relay),
    Copying(Box<CopyingRelay>),
}

/// Calls the same function of whichever relay there is.
macro_rules! either {
    ($carrier:expr, $relay:ident => $call:expr) => {
        match $carrier {
            Carrier::Plain($relay) => $call,
            Carrier::Copying($relay) => $call,
        }
    };
}

impl Carrier {
    pub(crate) fn new(pair: Pair, secrets: Secrets, bench: &mut Bench, now: Instant) -> Self {
        if secrets.are_none() {
            Self::Plain(Relay::new(pair, now))
        } else {
            Self::Copying(Box::new(CopyingRelay::new(pair, secrets, bench, now)))
        }
    }

    pub(crate) fn associate(parts: Associated, bench: &mut Bench, now: Instant) -> Self {
        Self::Copying(Box::new(CopyingRelay::associate(parts, bench, now)))
    }

    /// The association, where there is one.
    pub(crate) fn association(&self) -> Option<&Association> {
        match self {
            Self::Plain(_) => None,
            Self::Copying(relay) => relay.association(),
        }
    }

    /// Ends an association before its time: gives the sides that can be told of it.
    pub(crate) fn break_off(self, bench: &mut Bench, now: Instant) -> [Option<Leg>; 2] {
        match self {
            Self::Plain(_) => [None, None],
            Self::Copying(relay) => relay.break_off(bench, now),
        }
    }

    /// The relay, if it does not look at what it carries.
    pub(crate) fn plain(&self) -> Option<&Relay> {
        match self {
            Self::Plain(relay) => Some(relay),
            Self::Copying(_) => None,
        }
    }

    /// Takes in what the poller says of one side.
    pub(crate) fn notice(&mut self, side: Side, flags: EventFlags) {
        either!(self, relay => relay.notice(side, flags));
    }

    /// Moves what can be moved, within a budget that keeps the other connections alive.
    pub(crate) fn turn(&mut self, bench: &mut Bench, now: Instant) -> Progress {
        either!(self, relay => relay.turn(bench, now))
    }

    /// Bytes carried from the client and to it.
    pub(crate) fn carried(&self) -> [u64; 2] {
        either!(self, relay => relay.carried())
    }

    /// Which sides have ended their streams.
    pub(crate) fn ended(&self) -> [bool; 2] {
        either!(self, relay => relay.ended())
    }

    /// From when on a side should not have to wait for an acknowledgement; none if none does.
    pub(crate) fn owes_since(&self) -> Option<Instant> {
        either!(self, relay => relay.owes_since())
    }

    /// Has the kernel acknowledge at once what is due.
    pub(crate) fn acknowledge(&mut self, now: Instant) {
        either!(self, relay => relay.acknowledge(now));
    }

    /// When the first side will have been silent for too long, if nothing happens.
    pub(crate) fn deadline(&self) -> Instant {
        either!(self, relay => relay.deadline())
    }

    pub(crate) fn expired(&self, now: Instant) -> Option<End> {
        either!(self, relay => relay.expired(now))
    }

    /// Has both sockets closed, when this is dropped, in the way that tells the truth about `end`.
    pub(crate) fn close(&mut self, end: End) {
        either!(self, relay => relay.close(end));
    }
}
