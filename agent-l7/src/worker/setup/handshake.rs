//! TLS while a connection is set up: with the client before a server is chosen, and with the server as a
//! part of connecting.

use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use tracing::{debug, warn};

use crate::deadline::after;
use crate::ending::Ending;
use crate::queue::Place;
use crate::tls::{SHAKING, Session, ShakeError, Shaken, WithServers};
use crate::worker::Desk;

use super::{Securing, Setup, State, Step};

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

    /// Begins to agree on keys with the server that has taken the connection.
    pub(super) fn begin_securing(
        &mut self,
        tls: &WithServers,
        seen: EventFlags,
        place: Place,
        desk: &mut Desk,
    ) -> Step {
        let state = std::mem::replace(&mut self.state, State::Choosing);
        let (State::Dialling { socket, target, until }, Some(client)) = (state, &self.client.0)
        else {
            return Step::Failed(Ending::Trouble);
        };
        let session = target
            .address(&self.service)
            .map(|address| Session::with_server(&tls.config, tls.name(address)));
        let Some(Ok(mut session)) = session else { return Step::Failed(Ending::Trouble) };
        session.out_mut().push(&self.header(client));
        let session = Box::new(session);
        let securing = Securing { socket, target, session, early: Vec::new(), seen, until };
        self.state = State::Securing(Box::new(securing));
        self.secure(place, desk)
    }

    pub(super) fn secure(&mut self, place: Place, desk: &mut Desk) -> Step {
        let State::Securing(it) = &mut self.state else { return Step::Pending };
        match it.session.shake(&it.socket, &mut desk.bench.buffer, &mut it.early) {
            Ok(Shaken::Pending) => Step::Pending,
            Ok(Shaken::Done) => {
                let seen = it.seen;
                self.taken_up(seen, place, desk)
            }
            Err(ShakeError::Io(error)) => self.dial_failed(error, place, desk),
            Err(ShakeError::Closed) => self.dial_failed(Errno::CONNRESET, place, desk),
            Err(ShakeError::Tls(error)) => {
                let (service, server) = (&self.service.name, it.target.name());
                warn!(%service, server, %error, "no TLS with a real server");
                self.dial_failed(Errno::PROTO, place, desk)
            }
        }
    }
}
