//! The relay where a side speaks TLS: bytes are decrypted, and encrypted anew for the other side.
//!
//! It ends connections as the plain relay does, with this added:
//! - What a side says last by TLS (`close_notify`) is said to the other side by TLS, where that
//!   speaks it. A side that only ends its TCP stream, as many peers do, has the other's ended in
//!   the same way, so that who can tell a cut stream from a whole one still can.
//! - What is no TLS counts as a reset.

use std::time::Instant;

use rustix::event::epoll::EventFlags;

use crate::socket;
use crate::tls::Session;

use super::{Bench, End, Pair, Progress, Pulse, Side};

use leg::{Last, Leg};

mod leg;

/// What the two sides of a connection speak TLS with; none: plain bytes.
#[derive(Debug, Default)]
pub(crate) struct Secrets {
    pub(crate) client: Option<Box<Session>>,
    pub(crate) server: Option<Box<Session>>,
}

#[derive(Debug)]
pub(crate) struct SecureRelay {
    legs: [Leg; 2],
    pulse: Pulse,
    ended: bool,
}

/// What one direction may read before others get their turn. Encrypting takes longer than copying.
const BUDGET: usize = 512 << 10;
/// Who sends less may wait for its acknowledgement to send more.
const SMALL: usize = 16 << 10;

impl Secrets {
    pub(crate) fn are_none(&self) -> bool {
        self.client.is_none() && self.server.is_none()
    }
}

impl SecureRelay {
    pub(crate) fn new(pair: Pair, secrets: Secrets, bench: &mut Bench, now: Instant) -> Self {
        let Pair { client, server, early, patience, traffic } = pair;
        let mut relay = Self {
            legs: [Leg::new(client, secrets.client), Leg::new(server, secrets.server)],
            pulse: Pulse::new(patience, traffic, now),
            ended: false,
        };
        for (from, bytes) in [(Side::Client, early.from_client), (Side::Server, early.from_server)]
        {
            if !bytes.is_empty() {
                relay.legs[from.other() as usize].write(&bytes, &mut bench.sealed);
                relay.pulse.carry(from, bytes.len() as u64, now);
            }
        }
        relay
    }

    /// Takes in what the poller says of one side.
    pub(crate) fn notice(&mut self, side: Side, flags: EventFlags) {
        self.legs[side as usize].notice(flags);
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

    /// Bytes carried from the client and to it, as they were before they were encrypted.
    pub(crate) fn carried(&self) -> [u64; 2] {
        self.pulse.carried()
    }

    /// Which sides have ended their streams.
    pub(crate) fn ended(&self) -> [bool; 2] {
        self.legs.each_ref().map(|leg| matches!(leg.last(), Some(Last::End | Last::Cut)))
    }

    /// From when on a side should not have to wait for an acknowledgement; none if none does.
    pub(crate) fn owes_since(&self) -> Option<Instant> {
        self.pulse.owes_since()
    }

    /// Has the kernel acknowledge at once what is due.
    pub(crate) fn acknowledge(&mut self, now: Instant) {
        self.pulse.acknowledge(self.legs.each_ref().map(Leg::socket), now);
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
            End::Reset(by) if self.legs[by.other() as usize].was_told() => {}
            End::Reset(by) => socket::reset_on_close(self.legs[by.other() as usize].socket()),
            End::Idle(_) if self.legs.iter().all(Leg::has_taken_all) => {
                self.legs.iter_mut().for_each(Leg::say_goodbye);
            }
            End::Idle(_) => self.ended = false,
        }
    }

    /// Lets the direction from `side` do what it can; true if it could do more.
    fn run(&mut self, side: Side, bench: &mut Bench, now: Instant) -> bool {
        let [client, server] = &mut self.legs;
        let (from, to) = match side {
            Side::Client => (client, server),
            Side::Server => (server, client),
        };
        let mut budget = BUDGET;
        while to.flush() {
            if let Some(last) = from.last() {
                // The close of the socket follows at once if the other direction has ended as well.
                to.tell(last, from.was_told());
                break;
            }
            if !from.may_read() {
                break;
            }
            if budget == 0 {
                return true;
            }
            let read = from.read(&mut bench.buffer, &mut bench.plain);
            if read.wire > 0 {
                self.pulse.hear(side, read.wire < SMALL, now);
                budget = budget.saturating_sub(read.wire);
            }
            if !read.plain.is_empty() {
                to.write(read.plain, &mut bench.sealed);
                self.pulse.carry(side, read.plain.len() as u64, now);
            }
        }
        // The protocol itself may have had something to say.
        from.flush();
        to.is_broken() && to.may_read()
    }

    fn end(&self) -> Option<End> {
        for side in [Side::Client, Side::Server] {
            let (by, other) = (&self.legs[side as usize], &self.legs[side.other() as usize]);
            let passed_on = other.has_taken_all() || other.is_broken();
            let reset = by.last() == Some(Last::Reset) && passed_on;
            let broken = by.is_broken() && (other.was_told() || other.is_broken());
            if reset || broken {
                return Some(End::Reset(side));
            }
        }
        self.legs.iter().all(Leg::was_told).then_some(End::Complete)
    }
}

impl Drop for SecureRelay {
    fn drop(&mut self) {
        if !self.ended {
            self.legs.iter().map(Leg::socket).for_each(socket::reset_on_close);
        }
    }
}
