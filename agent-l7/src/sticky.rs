//! Which real server a client belongs to: source-address persistence.
//!
//! A client is remembered from its first connection until the timeout has passed since its last
//! one ended. The table is sharded; each operation locks one shard and, while there, looks at a
//! few of its entries in turn and drops those that have expired, so that no operation is long and
//! no other clock is needed. The table does not know whether a server works: the chooser decides.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU8;
use std::sync::Arc;
use std::time::{Duration, Instant};

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

#[derive(Debug)]
struct Memory {
    server: Id,
    open: u32,
    /// When the client was last seen.
    seen: Instant,
}

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
                choose(Some(&memory.server))?
            }
            None => choose(None)?,
        };
        shard.remember(client, server, now);
        Ok((chosen, Lease { table: Arc::clone(self), client }))
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
            self.clients.insert(client, Memory { server, open: 1, seen: now });
            self.round.push_back(client);
            return;
        };
        memory.server = server;
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
    fn expired(&self, timeout: Duration, now: Instant) -> bool {
        self.open == 0 && now.saturating_duration_since(self.seen) >= timeout
    }
}

/// The first `prefix` bits of an address; an IPv4 address in IPv6 clothing counts as IPv4.
fn masked(client: IpAddr, prefix: Option<NonZeroU8>) -> IpAddr {
    let bits = prefix.map_or(128, |bits| u32::from(bits.get()));
    match client.to_canonical() {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32_u32.saturating_sub(bits)).unwrap_or(0);
            Ipv4Addr::from(u32::from(address) & mask).into()
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128_u32.saturating_sub(bits)).unwrap_or(0);
            Ipv6Addr::from(u128::from(address) & mask).into()
        }
    }
}

#[cfg(test)]
mod tests;
