//! The signs of life of a relayed connection: when each side last did something, what it has sent, and
//! what it may wait for.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::net::sockopt;

use crate::deadline::after;
use crate::handover::{format, milliseconds};
use crate::stats::Traffic;

use super::owed::Owed;
use super::{End, Patience, Side};

#[derive(Debug)]
pub(super) struct Pulse {
    /// When each side last sent or took a byte.
    active: [Instant; 2],
    patience: Patience,
    traffic: Arc<Traffic>,
    /// Bytes written that came from each side.
    carried: [u64; 2],
    /// What each side may wait for.
    pub(super) owed: [Owed; 2],
}

impl Pulse {
    pub(super) fn new(patience: Patience, traffic: Arc<Traffic>, now: Instant) -> Self {
        Self { active: [now; 2], patience, traffic, carried: [0; 2], owed: [Owed::default(); 2] }
    }

    /// Goes on with what came from another process.
    pub(super) fn resume(
        patience: Patience,
        traffic: Arc<Traffic>,
        (carried, silent): ([u64; 2], [Duration; 2]),
        now: Instant,
    ) -> Self {
        let active = silent.map(|silent| now.checked_sub(silent).unwrap_or(now));
        Self { active, carried, ..Self::new(patience, traffic, now) }
    }

    pub(super) fn describe(&self, side: Side, now: Instant) -> format::Pulse {
        let patience = match side {
            Side::Client => self.patience.client,
            Side::Server => self.patience.server,
        };
        format::Pulse {
            silent_ms: milliseconds(now.saturating_duration_since(self.active[side as usize])),
            patience_ms: milliseconds(patience),
            carried: self.carried[side as usize],
        }
    }

    /// `side` has sent something; `small` if it may wait for its acknowledgement to send more.
    pub(super) fn hear(&mut self, side: Side, small: bool, now: Instant) {
        self.active[side as usize] = now;
        if small {
            self.owed[side as usize].hear(now);
        }
    }

    /// So many bytes that came from `side` were written to the other.
    pub(super) fn carry(&mut self, side: Side, bytes: u64, now: Instant) {
        let to = side.other() as usize;
        self.active[to] = now;
        self.owed[to].answer();
        self.carried[side as usize] += bytes;
        match side {
            Side::Client => self.traffic.from_clients.add(bytes),
            Side::Server => self.traffic.to_clients.add(bytes),
        }
    }

    pub(super) fn carried(&self) -> [u64; 2] {
        self.carried
    }

    /// From when on a side should not have to wait for an acknowledgement; none if none does.
    pub(super) fn owes_since(&self) -> Option<Instant> {
        self.owed.iter().filter_map(Owed::due).min()
    }

    /// Has the kernel acknowledge at once what is due.
    pub(super) fn acknowledge(&mut self, sockets: [&OwnedFd; 2], now: Instant) {
        for (socket, owed) in sockets.into_iter().zip(&mut self.owed) {
            if owed.due().is_some_and(|due| due <= now) {
                owed.since = None;
                // A kernel that refuses costs milliseconds, nothing more.
                let _ = sockopt::set_tcp_quickack(socket, true);
            }
        }
    }

    /// When the first side will have been silent for too long, if nothing happens.
    pub(super) fn deadline(&self) -> Instant {
        let [client, server] = self.active;
        after(client, self.patience.client).min(after(server, self.patience.server))
    }

    pub(super) fn expired(&self, now: Instant) -> Option<End> {
        let [client, server] = self.active;
        if after(client, self.patience.client) <= now {
            return Some(End::Idle(Side::Client));
        }
        (after(server, self.patience.server) <= now).then_some(End::Idle(Side::Server))
    }
}
