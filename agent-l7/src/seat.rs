//! A connection's hold on a real server, and who asks for one.

use std::net::IpAddr;
use std::sync::Arc;

use gantry_model::name::Id;
use gantry_model::service::{Endpoint, PersistenceKey};

use crate::ending::Taken;
use crate::pick;
use crate::server::{Server, Tenure};
use crate::service::Service;
use crate::sticky::{Identity, Lease};

/// A client that is to be given a server.
#[derive(Clone, Debug)]
pub(crate) struct Visitor {
    pub(crate) client: IpAddr,
    /// What it calls itself, where persistence goes by that and it has said so.
    pub(crate) called: Option<Identity>,
    /// The pool that serves it.
    pub(crate) pool: Option<Id>,
    /// The server that it asks for: where it was served before, or was sent to.
    pub(crate) home: Option<Id>,
    /// The servers that this connection tried and that failed it.
    pub(crate) tried: Vec<Arc<Server>>,
}

/// One of a server's slots. It is given back when the seat is dropped, wherever that happens, and
/// goes to the first in line that may use it.
#[derive(Debug)]
pub(crate) struct Seat {
    pub(crate) server: Arc<Server>,
    /// Where the server was when it was chosen.
    pub(crate) endpoint: Endpoint,
    service: Arc<Service>,
    lease: Option<Lease>,
    /// The connection is in another process now, and its slot with it.
    left: bool,
}

impl Visitor {
    pub(crate) fn new(client: IpAddr) -> Self {
        Self {
            client: client.to_canonical(),
            called: None,
            pool: None,
            home: None,
            tried: Vec::new(),
        }
    }

    pub(crate) fn has_tried(&self, server: &Arc<Server>) -> bool {
        self.tried.iter().any(|tried| Arc::ptr_eq(tried, server))
    }

    pub(crate) fn hash(&self) -> u64 {
        pick::hash_address(self.client)
    }

    /// What it is known by where clients are known by `key`.
    pub(crate) fn known_by(&self, key: PersistenceKey) -> Option<Identity> {
        match key {
            PersistenceKey::SourceIp => Some(Identity::Address(self.client)),
            _ => self.called.clone(),
        }
    }
}

impl Seat {
    /// Wraps a slot of `server` that has been taken.
    pub(crate) fn new(
        service: Arc<Service>,
        server: Arc<Server>,
        endpoint: Endpoint,
        lease: Option<Lease>,
    ) -> Self {
        Self { server, endpoint, service, lease, left: false }
    }

    /// Whom persistence counts it for.
    pub(crate) fn remembered_as(&self) -> Option<&Identity> {
        self.lease.as_ref().map(Lease::client)
    }

    /// The connection goes on in another process. Its slot is not free for that.
    pub(crate) fn leave(mut self) {
        self.left = true;
    }

    /// What becomes of the connection that sits here.
    pub(crate) fn tenure(&self) -> Tenure {
        self.service.tenure(&self.server)
    }

    /// Why that connection may not stay.
    pub(crate) fn taken(&self) -> Taken {
        self.service.taken(&self.server)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        // The lease first: who gets the slot may be the same client.
        self.lease = None;
        if self.left {
            self.server.left.add(1);
            return;
        }
        self.server.slots.release();
        self.service.hand_out();
    }
}
