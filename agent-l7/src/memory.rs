//! Whom a service remembers by persistence: looked at, and forgotten, by whoever asks.
//!
//! Asking copies what is there and holds no lock of the data path for longer than one part of it.

use std::net::IpAddr;
use std::num::NonZeroU8;
use std::sync::Arc;
use std::time::Duration;

use gantry_model::address;
use gantry_model::name::Id;
use gantry_model::service::Endpoint;

use crate::service::Routing;
use crate::sticky::Remembered;

/// The memory of one service, as it is configured now.
#[derive(Clone, Debug)]
pub struct Memory(Arc<Routing>);

/// A client, or the network that counts as one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// `10.12.2.7`, `10.12.2.0/24`
    pub network: String,
    pub server: Id,
    /// None: the service has the server no more.
    pub endpoint: Option<Endpoint>,
    /// How long it is remembered yet; all of the time while it is connected.
    pub left: Duration,
}

impl Memory {
    pub(crate) fn new(routing: Arc<Routing>) -> Self {
        Self(routing)
    }

    /// All clients, or the one that `only` counts as; those remembered longest first.
    pub fn clients(&self, only: Option<IpAddr>) -> Vec<Client> {
        let Some((persistence, table)) = self.0.sticky() else { return Vec::new() };
        let mut found = table.remembered(only, persistence.timeout);
        found.sort_by(|a, b| b.left.cmp(&a.left).then(a.client.cmp(&b.client)));
        let client = |one: Remembered| Client {
            network: network(one.client, persistence.prefix),
            endpoint: self.0.endpoint(&one.server),
            server: one.server,
            left: one.left,
        };
        found.into_iter().map(client).collect()
    }

    /// Lets the next connection of `client` go anywhere. Those that are open go on.
    pub fn forget(&self, client: IpAddr) {
        if let Some((_, table)) = self.0.sticky() {
            table.forget(client);
        }
    }
}

fn network(first: IpAddr, prefix: Option<NonZeroU8>) -> String {
    address::network_text(first, prefix.map_or(address::bits(first), NonZeroU8::get))
}
