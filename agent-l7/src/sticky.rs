//! Which real server a client belongs to: persistence by what a client is known by.
//!
//! A client is remembered from its first connection until the timeout has passed since its last
//! one ended. The table is sharded; each operation locks one shard and, while there, looks at a
//! few of its entries in turn and drops those that have expired, so that no operation is long and
//! no other clock is needed. The table does not know whether a server works: the chooser decides.

use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU8;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gantry_model::address;
use gantry_model::name::Id;
use gantry_model::service::{Persistence, PersistenceKey};
use gantry_runtime::clock;
use parking_lot::Mutex;

use crate::fading::Fading;
use crate::pick;

/// The clients of one service.
#[derive(Debug)]
pub(crate) struct Sticky {
    key: PersistenceKey,
    prefix: Option<NonZeroU8>,
    shards: [Mutex<Shard>; SHARDS],
}

/// What a client is known by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Identity {
    Address(IpAddr),
    /// What it calls itself.
    Called(Arc<str>),
}

/// One connection of a remembered client: while it is held, the client is not forgotten.
#[derive(Debug)]
pub(crate) struct Lease {
    table: Arc<Sticky>,
    client: Identity,
}

type Shard = Fading<Identity, Memory>;

/// A client as it is remembered at this moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Remembered {
    /// By its address: the first of the network that counts as it.
    pub(crate) client: Identity,
    pub(crate) server: Id,
    /// How long, unless it comes again; all of the time while it is connected.
    pub(crate) left: Duration,
}

#[derive(Debug)]
struct Memory {
    /// None: forgotten, with connections that may be open yet.
    server: Option<Id>,
    open: u32,
    /// When the client was last seen.
    seen: Instant,
}

mod moving;

const SHARDS: usize = 16;

impl Sticky {
    pub(crate) fn new(persistence: &Persistence) -> Self {
        let Persistence { key, prefix, .. } = *persistence;
        Self { key, prefix, shards: Default::default() }
    }

    /// Whether clients are known by this, and counted as one.
    pub(crate) fn knows_by(&self, persistence: &Persistence) -> bool {
        (self.key, self.prefix) == (persistence.key, persistence.prefix)
    }

    /// The client that `text` speaks of, as people and other processes write it; none if no client
    /// can be known by it.
    pub(crate) fn read(&self, text: &str) -> Option<Identity> {
        match self.key {
            PersistenceKey::SourceIp => {
                text.parse().ok().map(|address| Identity::Address(masked(address, self.prefix)))
            }
            _ => Some(Identity::called(text)),
        }
    }

    /// Lets `choose` decide, knowing where the client belongs, and remembers the decision. No
    /// second connection of the same client decides at the same time.
    pub(crate) fn settle<T, E>(
        self: &Arc<Self>,
        client: Identity,
        timeout: Duration,
        choose: impl FnOnce(Option<&Id>) -> Result<(Id, T), E>,
    ) -> Result<(T, Lease), E> {
        let client = self.counted(client);
        let mut shard = self.shard(&client).lock();
        let now = clock::monotonic();
        shard.sweep(|memory| memory.expired(timeout, now));
        let known = shard.get_mut(&client).filter(|memory| !memory.expired(timeout, now));
        let (server, chosen) = match known {
            Some(memory) => {
                memory.seen = now;
                choose(memory.server.as_ref())?
            }
            None => choose(None)?,
        };
        let memory = shard.entry(&client, Memory::new);
        *memory = Memory { server: Some(server), open: memory.open + 1, seen: now };
        Ok((chosen, Lease { table: Arc::clone(self), client }))
    }

    /// Every client, or the one that `only` counts as.
    pub(crate) fn remembered(&self, only: Option<&Identity>, timeout: Duration) -> Vec<Remembered> {
        let now = clock::monotonic();
        if let Some(client) = only {
            let shard = self.shard(client).lock();
            let known = shard.get(client);
            return known
                .and_then(|memory| memory.told(client, timeout, now))
                .into_iter()
                .collect();
        }
        let mut found = Vec::new();
        for shard in &self.shards {
            let shard = shard.lock();
            found.extend(
                shard.iter().filter_map(|(client, memory)| memory.told(client, timeout, now)),
            );
        }
        found
    }

    /// Forgets where a client belongs. The entry stays as long as leases count on it.
    pub(crate) fn forget(&self, client: &Identity) {
        if let Some(memory) = self.shard(client).lock().get_mut(client) {
            memory.server = None;
        }
    }

    /// Decides where a client belongs from its next connection on.
    pub(crate) fn assign(&self, client: &Identity, server: Id) {
        let mut shard = self.shard(client).lock();
        let memory = shard.entry(client, Memory::new);
        (memory.server, memory.seen) = (Some(server), clock::monotonic());
    }

    /// How many clients are remembered.
    pub(crate) fn count(&self, timeout: Duration) -> usize {
        let now = clock::monotonic();
        let is_known = |memory: &Memory| memory.server.is_some() && !memory.expired(timeout, now);
        let of_shard = |shard: &Mutex<Shard>| {
            shard.lock().iter().filter(|(_, memory)| is_known(memory)).count()
        };
        self.shards.iter().map(of_shard).sum()
    }

    fn counted(&self, client: Identity) -> Identity {
        match client {
            Identity::Address(address) => Identity::Address(masked(address, self.prefix)),
            Identity::Called(_) => client,
        }
    }

    fn shard(&self, client: &Identity) -> &Mutex<Shard> {
        let hash = match client {
            Identity::Address(address) => pick::hash_address(*address),
            Identity::Called(name) => pick::hash(name.as_bytes()),
        };
        let at = usize::from(hash.to_be_bytes()[0]) % SHARDS;
        &self.shards[at]
    }
}

impl Identity {
    /// Of a client that calls itself so.
    pub(crate) fn called(name: &str) -> Self {
        Self::Called(name.to_lowercase().into())
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut shard = self.table.shard(&self.client).lock();
        if let Some(memory) = shard.get_mut(&self.client) {
            memory.open -= 1;
            memory.seen = clock::monotonic();
        }
    }
}

impl Memory {
    /// Of a client that nobody knows yet.
    fn new() -> Self {
        Self { server: None, open: 0, seen: clock::monotonic() }
    }

    fn told(&self, client: &Identity, timeout: Duration, now: Instant) -> Option<Remembered> {
        if self.expired(timeout, now) {
            return None;
        }
        let silent = match self.open {
            0 => now.saturating_duration_since(self.seen),
            _ => Duration::ZERO,
        };
        let server = self.server.clone()?;
        Some(Remembered { client: client.clone(), server, left: timeout.saturating_sub(silent) })
    }

    fn expired(&self, timeout: Duration, now: Instant) -> bool {
        self.open == 0 && now.saturating_duration_since(self.seen) >= timeout
    }
}

/// The first `prefix` bits of an address; an IPv4 address in IPv6 clothing counts as IPv4.
fn masked(client: IpAddr, prefix: Option<NonZeroU8>) -> IpAddr {
    let client = client.to_canonical();
    address::network(client, prefix.map_or(address::bits(client), NonZeroU8::get))
}

impl fmt::Display for Identity {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(out),
            Self::Called(name) => out.write_str(name),
        }
    }
}

#[cfg(test)]
mod tests;
