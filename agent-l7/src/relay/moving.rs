//! A relay as it is handed from one process to another: between two of its turns, with all that it
//! holds.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::handover::format;
use crate::stats::Traffic;

use super::direction::{Direction, Handed as MovedDirection};
use super::{Bench, Patience, Pulse, Relay, Side};

/// A relay that came from another process. Dropped, it leaves the connection to that.
#[derive(Debug)]
pub(crate) struct Moved {
    sockets: [OwnedFd; 2],
    directions: [MovedDirection; 2],
    silent: [Duration; 2],
    patience: Patience,
    carried: [u64; 2],
}

impl Relay {
    /// Says where the relay stands, and gives its descriptors: the sockets first.
    pub(crate) fn describe(&self, now: Instant) -> (format::Relay, Vec<BorrowedFd<'_>>) {
        let mut descriptors: Vec<_> = self.sockets.iter().map(AsFd::as_fd).collect();
        let [client, server] = &self.directions;
        let said = format::Relay {
            server: String::new(),
            remembered_as: String::new(),
            counted_for: String::new(),
            from_client: Some(client.describe(&mut descriptors)),
            from_server: Some(server.describe(&mut descriptors)),
            client: Some(self.pulse.describe(Side::Client, now)),
            server_side: Some(self.pulse.describe(Side::Server, now)),
        };
        (said, descriptors)
    }

    pub(crate) fn sockets(&self) -> &[OwnedFd; 2] {
        &self.sockets
    }

    /// Another process has the connection now: closing the sockets here means nothing to anybody.
    pub(crate) fn leave(&mut self) {
        self.ended = true;
    }

    /// Goes on with what came from another process.
    pub(crate) fn resume(moved: Moved, traffic: Arc<Traffic>, bench: &Bench, now: Instant) -> Self {
        let Moved { sockets, directions, silent, patience, carried } = moved;
        Self {
            sockets,
            directions: directions.map(|one| Direction::resume(one, &bench.pipes)),
            pulse: Pulse::resume(patience, traffic, (carried, silent), now),
            ended: false,
        }
    }
}

impl Moved {
    /// Reads a description; none if it makes no sense.
    pub(crate) fn read(said: format::Relay, descriptors: Vec<OwnedFd>) -> Option<Self> {
        let mut descriptors = descriptors.into_iter();
        let sockets = [descriptors.next()?, descriptors.next()?];
        let from_client = MovedDirection::read(said.from_client?, &mut descriptors)?;
        let from_server = MovedDirection::read(said.from_server?, &mut descriptors)?;
        let (client, server) = (said.client?, said.server_side?);
        Some(Self {
            sockets,
            directions: [from_client, from_server],
            silent: [client, server].map(|side| Duration::from_millis(side.silent_ms)),
            patience: Patience {
                client: Duration::from_millis(client.patience_ms),
                server: Duration::from_millis(server.patience_ms),
            },
            carried: [client.carried, server.carried],
        })
    }
}
