//! TLS with the client, before a server is searched for it.

use tracing::debug;

use crate::deadline::after;
use crate::ending::Ending;
use crate::queue::Place;
use crate::tls::{SHAKING, Session, ShakeError, Shaken};
use crate::worker::Desk;

use super::{Setup, State, Step};

impl Setup {
    /// Hears the client, once it has agreed on keys where it must.
    pub(super) fn agree(&mut self, place: Place, desk: &mut Desk) -> Step {
        let Some(tls) = self.service.routing().secrecy.clients.clone() else {
            return self.hear(place, desk);
        };
        self.state = State::Shaking { until: after(desk.now, SHAKING) };
        match Session::with_client(&tls.config) {
            Ok(session) => self.session = Some(Box::new(session)),
            Err(error) => return self.unshaken(Ending::Unshaken, &error.to_string()),
        }
        self.shake(place, desk)
    }

    pub(super) fn shake(&mut self, place: Place, desk: &mut Desk) -> Step {
        let (Some(client), Some(session)) = (&self.client.0, &mut self.session) else {
            return Step::Failed(Ending::Trouble);
        };
        match session.shake(client, &mut desk.bench.buffer, &mut self.early) {
            Ok(Shaken::Pending) => Step::Pending,
            Ok(Shaken::Done) => self.hear(place, desk),
            Err(error @ ShakeError::Tls(_)) => self.unshaken(Ending::Unshaken, &error.to_string()),
            Err(error) => self.unshaken(Ending::ClientLeft, &error.to_string()),
        }
    }

    pub(super) fn unshaken(&mut self, ending: Ending, why: &str) -> Step {
        debug!(service = %self.service.name, peer = %self.peer, why, "no TLS with a client");
        self.service.counts.unshaken.add(1);
        // The alert that says why would be lost behind a reset.
        self.client.0 = None;
        Step::Failed(ending)
    }
}
