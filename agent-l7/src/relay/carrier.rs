//! What carries the bytes of one connection: the plain relay, or the one that encrypts.

use std::time::Instant;

use rustix::event::epoll::EventFlags;

use super::{Bench, End, Pair, Progress, Relay, Secrets, SecureRelay, Side};

/// How a connection's bytes are carried.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "most are plain, and lie in a box already")]
pub(crate) enum Carrier {
    Plain(Relay),
    Secure(Box<SecureRelay>),
}

/// Calls the same function of whichever relay there is.
macro_rules! either {
    ($carrier:expr, $relay:ident => $call:expr) => {
        match $carrier {
            Carrier::Plain($relay) => $call,
            Carrier::Secure($relay) => $call,
        }
    };
}

impl Carrier {
    pub(crate) fn new(pair: Pair, secrets: Secrets, bench: &mut Bench, now: Instant) -> Self {
        if secrets.are_none() {
            Self::Plain(Relay::new(pair, now))
        } else {
            Self::Secure(Box::new(SecureRelay::new(pair, secrets, bench, now)))
        }
    }

    /// The relay, if it does not encrypt.
    pub(crate) fn plain(&self) -> Option<&Relay> {
        match self {
            Self::Plain(relay) => Some(relay),
            Self::Secure(_) => None,
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
