//! Whom a service remembers by persistence: looked at, and changed, by whoever asks.
//!
//! Asking copies what is there and holds no lock of the data path for longer than one part of it.

use std::num::NonZeroU8;
use std::sync::Arc;
use std::time::Duration;

use gantry_model::address;
use gantry_model::name::Id;
use gantry_model::service::{Endpoint, Persistence};

use crate::service::Routing;
use crate::sticky::{Identity, Remembered, Sticky};

/// The memory of one service, as it is configured now.
#[derive(Clone, Debug)]
pub struct Memory(Arc<Routing>);

/// A client, or the network that counts as one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// `10.12.2.7`, `10.12.2.0/24`; what it calls itself where it is known by that.
    pub client: String,
    pub server: Id,
    /// None: the service has the server no more.
    pub endpoint: Option<Endpoint>,
    /// How long it is remembered yet; all of the time while it is connected.
    pub left: Duration,
}

/// Why a client cannot be remembered, or told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unknown {
    /// Clients are known by their addresses.
    #[error("the client is not an IPv4 or IPv6 address")]
    Client,
    /// The service has no such real server.
    #[error("the real server is not in force here yet: repeat the call")]
    Server,
    /// The service remembers nobody, or by cookies that clients keep.
    #[error("no clients are remembered here: the persistence that would is not in force")]
    Nobody,
}

impl Memory {
    pub(crate) fn new(routing: Arc<Routing>) -> Self {
        Self(routing)
    }

    /// All clients, or the one that `only` counts as; those remembered longest first.
    ///
    /// # Errors
    ///
    /// `only` speaks of no client.
    pub fn clients(&self, only: Option<&str>) -> Result<Vec<Client>, Unknown> {
        let Some((persistence, table)) = self.0.sticky() else { return Ok(Vec::new()) };
        let only = only.map(|text| table.read(text).ok_or(Unknown::Client)).transpose()?;
        let mut found = table.remembered(only.as_ref(), persistence.timeout);
        found.sort_by(|a, b| b.left.cmp(&a.left).then_with(|| a.client.cmp(&b.client)));
        let client = |one: Remembered| Client {
            client: text(&one.client, persistence.prefix),
            endpoint: self.0.endpoint(&one.server),
            server: one.server,
            left: one.left,
        };
        Ok(found.into_iter().map(client).collect())
    }

    /// Lets the next connection of `client` go anywhere. Those that are open go on.
    ///
    /// # Errors
    ///
    /// `client` speaks of no client.
    pub fn forget(&self, client: &str) -> Result<(), Unknown> {
        let Some((_, table)) = self.0.sticky() else { return Ok(()) };
        table.forget(&table.read(client).ok_or(Unknown::Client)?);
        Ok(())
    }

    /// Lets the next connection of `client` go to `server`. Those that are open go on.
    ///
    /// # Errors
    ///
    /// `client` speaks of no client, or there is no such server, or no table.
    pub fn assign(&self, client: &str, server: &Id) -> Result<(), Unknown> {
        let (_, table): (Persistence, &Sticky) = self.0.sticky().ok_or(Unknown::Nobody)?;
        let client = table.read(client).ok_or(Unknown::Client)?;
        self.0.live(server).ok_or(Unknown::Server)?;
        table.assign(&client, server.clone());
        Ok(())
    }
}

fn text(client: &Identity, prefix: Option<NonZeroU8>) -> String {
    match client {
        Identity::Called(name) => name.to_string(),
        Identity::Address(first) => {
            let length = prefix.map_or(address::bits(*first), NonZeroU8::get);
            address::network_text(*first, length)
        }
    }
}
