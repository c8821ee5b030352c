//! Which real server a client belongs to: source-address persistence.
//!
//! A client is remembered from its first connection until the timeout has passed since its last
//! one ended. The table is sharded; each operation locks one shard and, while there, looks at a
//! few of its entries in turn and drops those that have expired, so that no operation is long and
//! no other clock is needed. The table does not know whether a server works: the chooser decides.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::num::NonZeroU8;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gantry_model::address;
use gantry_model::name::Id;
use gantry_runtime::clock;
use parking_lot::Mutex;

use crate::pick;

/// The clients of one service.
#[derive(Debug)]
pub(crate) struct Sticky {
    prefix: Option<NonZeroU8>,
    shards: [Mutex<Shard>; SHARDS],
}

/// One connection of a remembered client: while it is held, the client is not forgotten.
#[derive(Debug)]
pub(crate) struct Lease {
    table: Arc<Sticky>,
    client: IpAddr,
}

#[derive(Debug, Default)]
struct Shard {
    clients: HashMap<IpAddr, Memory>,
    /// Every client of the shard once, in the order in which they are looked at for expiry.
    round: VecDeque<IpAddr>,
}

/// A client as it is remembered at this moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Remembered {
    /// Its address, or the first of the network that counts as it.
    pub(crate) client: IpAddr,
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
/// Entries looked at for expiry in each operation. Two a time keep up with one arrival a time.
const SWEEP: usize = 2;

impl Sticky {
    pub(crate) fn new(prefix: Option<NonZeroU8>) -> Self {
        Self { prefix, shards: Default::default() }
    }

    /// Whether two clients count as one by the same prefix.
    pub(crate) fn counts_by(&self, prefix: Option<NonZeroU8>) -> bool {
        self.prefix == prefix
    }

    /// Lets `choose` decide, knowing where the client belongs, and remembers the decision. No
    /// second connection of the same client decides at the same time.
    pub(crate) fn settle<T, E>(
        self: &Arc<Self>,
        client: IpAddr,
        timeout: Duration,
        choose: impl FnOnce(Option<&Id>) -> Result<(Id, T), E>,
    ) -> Result<(T, Lease), E> {
        let client = masked(client, self.prefix);
        let mut shard = self.shard(client).lock();
        let now = clock::monotonic();
        shard.sweep(timeout, now);
        let known = shard.clients.get_mut(&client).filter(|memory| !memory.expired(timeout, now));
        let (server, chosen) = match known {
            Some(memory) => {
                memory.seen = now;
                choose(memory.server.as_ref())?
            }
            None => choose(None)?,
        };
        shard.remember(client, server, now);
        Ok((chosen, Lease { table: Arc::clone(self), client }))
    }

    /// Every client, or the one that `only` counts as.
    pub(crate) fn remembered(&self, only: Option<IpAddr>, timeout: Duration) -> Vec<Remembered> {
        let only = only.map(|client| masked(client, self.prefix));
        let now = clock::monotonic();
        if let Some(client) = only {
            let shard = self.shard(client).lock();
            let known = shard.clients.get_key_value(&client);
            return known
                .and_then(|known| known.1.told(*known.0, timeout, now))
                .into_iter()
                .collect();
        }
        let mut found = Vec::new();
        for shard in &self.shards {
            let shard = shard.lock();
            found.extend(
                shard
                    .clients
                    .iter()
                    .filter_map(|(client, memory)| memory.told(*client, timeout, now)),
            );
        }
        found
    }

    /// Forgets where a client belongs. The entry stays as long as leases count on it.
    pub(crate) fn forget(&self, client: IpAddr) {
        let client = masked(client, self.prefix);
        if let Some(memory) = self.shard(client).lock().clients.get_mut(&client) {
            memory.server = None;
        }
    }

    fn shard(&self, client: IpAddr) -> &Mutex<Shard> {
        let hash = match client {
            IpAddr::V4(address) => pick::hash(&address.octets()),
            IpAddr::V6(address) => pick::hash(&address.octets()),
        };
        let at = usize::from(hash.to_be_bytes()[0]) % SHARDS;
        &self.shards[at]
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut shard = self.table.shard(self.client).lock();
        if let Some(memory) = shard.clients.get_mut(&self.client) {
            memory.open -= 1;
            memory.seen = clock::monotonic();
        }
    }
}

impl Shard {
    fn remember(&mut self, client: IpAddr, server: Id, now: Instant) {
        let Some(memory) = self.clients.get_mut(&client) else {
            self.clients.insert(client, Memory { server: Some(server), open: 1, seen: now });
            self.round.push_back(client);
            return;
        };
        memory.server = Some(server);
        memory.open += 1;
        memory.seen = now;
    }

    fn sweep(&mut self, timeout: Duration, now: Instant) {
        for _ in 0..SWEEP.min(self.round.len()) {
            let client = self.round.pop_front().expect("the round is that long");
            let memory = self.clients.get(&client).expect("the round holds known clients");
            if memory.expired(timeout, now) {
                self.clients.remove(&client);
            } else {
                self.round.push_back(client);
            }
        }
    }
}

impl Memory {
    fn told(&self, client: IpAddr, timeout: Duration, now: Instant) -> Option<Remembered> {
        if self.expired(timeout, now) {
            return None;
        }
        let silent = match self.open {
            0 => now.saturating_duration_since(self.seen),
            _ => Duration::ZERO,
        };
        let server = self.server.clone()?;
        Some(Remembered { client, server, left: timeout.saturating_sub(silent) })
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

#[cfg(test)]
mod tests;
