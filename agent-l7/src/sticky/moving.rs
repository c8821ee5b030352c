//! A table that goes on in another process.

use std::sync::Arc;
use std::time::Duration;

use gantry_model::name::Id;
use gantry_runtime::clock;

use super::{Identity, Lease, Memory, Sticky};

impl Sticky {
    /// Remembers a client that another process remembered, for as long as was `left` of `timeout`.
    /// What is known here is newer, and stays.
    pub(crate) fn put_back(
        &self,
        client: &Identity,
        server: Id,
        left: Duration,
        timeout: Duration,
    ) {
        let now = clock::monotonic();
        let seen = now.checked_sub(timeout.saturating_sub(left)).unwrap_or(now);
        let mut shard = self.shard(client).lock();
        shard.entry(client, || Memory { server: Some(server), open: 0, seen });
    }

    /// Counts one more connection of a client, which another process opened. If it was forgotten
    /// meanwhile, it stays so.
    pub(crate) fn rejoin(self: &Arc<Self>, client: Identity) -> Lease {
        let mut shard = self.shard(&client).lock();
        let memory = shard.entry(&client, Memory::new);
        (memory.open, memory.seen) = (memory.open + 1, clock::monotonic());
        drop(shard);
        Lease { table: Arc::clone(self), client }
    }
}

impl Lease {
    /// Whom it counts for.
    pub(crate) fn client(&self) -> &Identity {
        &self.client
    }
}
