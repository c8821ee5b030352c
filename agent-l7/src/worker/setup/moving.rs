//! A client that is handed on before it was served: whoever takes it looks for a server anew.
//!
//! Only a PROXY protocol header was read of it. Whom it was being connected to learns nothing of it.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gantry_model::port::Port;
use rustix::event::epoll::EventFlags;

use crate::deadline::after;
use crate::handover::{format, milliseconds};
use crate::proxy_header::{Ends, Header};
use crate::queue::Place;
use crate::seat::Visitor;
use crate::service::Service;
use crate::worker::Desk;

use super::{Setup, State, Step};

/// A client that came from another process.
#[derive(Debug)]
pub(in crate::worker) struct Moved {
    client: OwnedFd,
    peer: SocketAddr,
    port: Port,
    greeting: Option<Header>,
    queue_left: Option<Duration>,
}

impl Setup {
    /// Whether everything that the client sent is still to be read, but for its header.
    pub(in crate::worker) fn can_move(&self) -> bool {
        self.client.0.is_some() && self.session.is_none() && self.early.is_empty()
    }

    pub(in crate::worker) fn client(&self) -> Option<&OwnedFd> {
        self.client.0.as_ref()
    }

    /// Gives up what was begun.
    pub(in crate::worker) fn forget(&mut self) {
        self.state = State::Searching;
        self.search.forget();
        self.client_seen = EventFlags::empty();
    }

    pub(in crate::worker) fn describe(&self, now: Instant) -> format::Newcomer {
        let greeting = self.greeting.as_ref().map(|header| format::Greeting {
            client: header.ends.map(|ends| ends.client.to_string()).unwrap_or_default(),
            listener: header.ends.map(|ends| ends.listener.to_string()).unwrap_or_default(),
            additions: header.additions.clone(),
        });
        let left = |until: Instant| milliseconds(until.saturating_duration_since(now));
        format::Newcomer {
            peer: self.peer.to_string(),
            port: self.port.get().into(),
            greeting,
            queue_left_ms: self.search.queue_until.map(left),
        }
    }

    /// Another process has the client now.
    pub(in crate::worker) fn leave(&mut self) {
        self.client.0 = None;
    }

    pub(in crate::worker) fn resume(moved: Moved, service: Arc<Service>, now: Instant) -> Self {
        let Moved { client, peer, port, greeting, queue_left } = moved;
        let mut setup = Self::new(service, port, client, peer);
        if let Some(ends) = greeting.as_ref().and_then(|greeting| greeting.ends) {
            setup.search.visitor = Visitor::new(ends.client.ip());
        }
        setup.greeting = greeting;
        setup.search.queue_until = queue_left.map(|left| after(now, left));
        setup
    }

    /// Looks for a server, or goes on waiting for what the client has to say first.
    pub(in crate::worker) fn go_on(&mut self, place: Place, desk: &mut Desk) -> Step {
        if self.greeting.is_some() { self.meet(place, desk) } else { self.begin(place, desk) }
    }
}

impl Moved {
    /// Reads a description; none if it makes no sense.
    pub(in crate::worker) fn read(said: format::Newcomer, client: OwnedFd) -> Option<Self> {
        let greeting = match said.greeting {
            None => None,
            Some(told) if told.client.is_empty() => {
                Some(Header { ends: None, additions: told.additions })
            }
            Some(told) => {
                let (client, listener) = (told.client.parse().ok()?, told.listener.parse().ok()?);
                Some(Header { ends: Some(Ends { client, listener }), additions: told.additions })
            }
        };
        Some(Self {
            client,
            peer: said.peer.parse().ok()?,
            port: Port::new(u16::try_from(said.port).ok()?)?,
            greeting,
            queue_left: said.queue_left_ms.map(Duration::from_millis),
        })
    }
}
