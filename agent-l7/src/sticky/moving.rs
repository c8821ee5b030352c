//! A table that goes on in another process.

use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use gantry_model::name::Id;
use gantry_runtime::clock;

use super::{Lease, Memory, Sticky, masked};

impl Sticky {
    /// Remembers a client that another process remembered, for as long as was `left` of `timeout`.
    /// What is known here is newer, and stays.
    pub(crate) fn put_back(&self, client: IpAddr, server: Id, left: Duration, timeout: Duration) {
        let client = masked(client, self.prefix);
        let now = clock::monotonic();
        let seen = now.checked_sub(timeout.saturating_sub(left)).unwrap_or(now);
        let mut shard = self.shard(client).lock();
        if let Entry::Vacant(free) = shard.clients.entry(client) {
            free.insert(Memory { server: Some(server), open: 0, seen });
            shard.round.push_back(client);
        }
    }

    /// Counts one more connection of a client, which another process opened. If it was forgotten
    /// meanwhile, it stays so.
    pub(crate) fn rejoin(self: &Arc<Self>, client: IpAddr) -> Lease {
        let client = masked(client, self.prefix);
        let now = clock::monotonic();
        let mut shard = self.shard(client).lock();
        match shard.clients.get_mut(&client) {
            Some(memory) => {
                memory.open += 1;
                memory.seen = now;
            }
            None => {
                shard.clients.insert(client, Memory { server: None, open: 1, seen: now });
                shard.round.push_back(client);
            }
        }
        Lease { table: Arc::clone(self), client }
    }
}

impl Lease {
    /// Whom it counts for.
    pub(crate) fn client(&self) -> IpAddr {
        self.client
    }
}
