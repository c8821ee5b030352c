//! The relay that sees what it carries: where a side speaks TLS, bytes are decrypted, and encrypted
//! anew for the other side; where the mode is DICOM, its association is watched.
//!
//! It ends connections as the plain relay does, with this added:
//! - What a side says last by TLS (`close_notify`) is said to the other side by TLS, where that
//!   speaks it. A side that only ends its TCP stream, as many peers do, has the other's ended in
//!   the same way, so that who can tell a cut stream from a whole one still can.
//! - What is no TLS counts as a reset.
//! - A side that leaves in mid-association has left, however it does so: the other one is to be told by
//!   an A-ABORT, for which the relay gives its sides away ([`CopyingRelay::break_off`]).

use std::sync::Arc;
use std::time::Instant;

use rustix::event::epoll::EventFlags;

use crate::dicom::Association;
use crate::leg::{Last, Leg};
use crate::stats::Traffic;
use crate::tls::Session;

use super::{Bench, End, Pair, Patience, Progress, Pulse, Side};

/// What the two sides of a connection speak TLS with; none: plain bytes.
#[derive(Debug, Default)]
pub(crate) struct Secrets {
    pub(crate) client: Option<Box<Session>>,
    pub(crate) server: Option<Box<Session>>,
}

/// Two sides with an association, as the set-up leaves them.
#[derive(Debug)]
pub(crate) struct Associated {
    pub(crate) client: Leg,
    pub(crate) server: Leg,
    pub(crate) association: Association,
    pub(crate) patience: Patience,
    pub(crate) traffic: Arc<Traffic>,
    /// What each side has said so far. The server has, or will have, what the client said.
    pub(crate) said: [Vec<u8>; 2],
}

#[derive(Debug)]
pub(crate) struct CopyingRelay {
    legs: [Leg; 2],
    pulse: Pulse,
    association: Option<Box<Association>>,
    /// Who left in mid-association.
    left: Option<Side>,
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

impl CopyingRelay {
    pub(crate) fn new(pair: Pair, secrets: Secrets, bench: &mut Bench, now: Instant) -> Self {
        let Pair { client, server, early, patience, traffic } = pair;
        let mut relay = Self {
            legs: [Leg::new(client, secrets.client), Leg::new(server, secrets.server)],
            pulse: Pulse::new(patience, traffic, now),
            association: None,
            left: None,
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

    pub(crate) fn associate(parts: Associated, bench: &mut Bench, now: Instant) -> Self {
        let Associated { client, server, mut association, patience, traffic, said } = parts;
        let mut relay = Self {
            legs: [client, server],
            pulse: Pulse::new(patience, traffic, now),
            association: None,
            left: None,
        };
        for (from, said) in [Side::Client, Side::Server].into_iter().zip(&said) {
            association.watch(from, said, now);
            relay.pulse.carry(from, said.len() as u64, now);
        }
        relay.association = Some(Box::new(association));
        relay.legs[Side::Client as usize].write(&said[Side::Server as usize], &mut bench.sealed);
        relay
    }

    /// The association, where there is one.
    pub(crate) fn association(&self) -> Option<&Association> {
        self.association.as_deref()
    }

    /// Ends the association before its time: gives the sides that an A-ABORT can tell of it, with that
    /// behind what they have yet to take. The others are reset.
    pub(crate) fn break_off(self, bench: &mut Bench, now: Instant) -> [Option<Leg>; 2] {
        let Self { legs: [client, server], association, left, .. } = self;
        let Some(mut association) = association else { return [None, None] };
        association.break_off(left, now);
        [(Side::Client, client), (Side::Server, server)].map(|(side, mut leg)| {
            let hears = left != Some(side) && !leg.is_broken() && leg.last() != Some(Last::Reset);
            if !hears || !association.may_be_aborted_to(side) {
                return None;
            }
            leg.write(&Association::ABORT.to_bytes(), &mut bench.sealed);
            Some(leg)
        })
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
        match end {
            End::Complete => self.legs.iter_mut().for_each(Leg::let_go),
            End::Reset(by) => {
                let [one, other] = [by, by.other()].map(|side| side as usize);
                self.legs[one].let_go();
                // Who has the whole stream and its end is not robbed of what is still under way.
                if self.legs[other].was_told() {
                    self.legs[other].let_go();
                }
            }
            End::Idle(_) if self.legs.iter().all(Leg::has_taken_all) => {
                self.legs.iter_mut().for_each(Leg::say_goodbye);
                self.legs.iter_mut().for_each(Leg::let_go);
            }
            End::Idle(_) | End::Left(_) => {}
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
                if self.association.as_ref().is_some_and(|association| association.is_open()) {
                    self.left = Some(side);
                    break;
                }
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
                if let Some(association) = &mut self.association {
                    association.watch(side, read.plain, now);
                }
                to.write(read.plain, &mut bench.sealed);
                self.pulse.carry(side, read.plain.len() as u64, now);
            }
        }
        // The protocol itself may have had something to say.
        from.flush();
        to.is_broken() && to.may_read()
    }

    fn end(&self) -> Option<End> {
        if let Some(side) = self.left {
            return Some(End::Left(side));
        }
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
