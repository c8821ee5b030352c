//! What was counted between two descriptions of a service.

use super::format::{Counts, Server, Service, Traffic};

impl Service {
    /// What is new since `before`; of servers with their connections now.
    pub(crate) fn since(mut self, before: &Self) -> Self {
        let counts = self.counts.unwrap_or_default().all();
        let earlier = before.counts.unwrap_or_default().all();
        let new = std::array::from_fn(|at| counts[at].saturating_sub(earlier[at]));
        self.counts = Some(Counts::from(new));
        self.other = Some(self.other.unwrap_or_default().since(before.other.unwrap_or_default()));
        for server in &mut self.servers {
            let same = |one: &&Server| one.id == server.id;
            let earlier = before.servers.iter().find(same).and_then(|one| one.traffic);
            let now = server.traffic.unwrap_or_default();
            server.traffic = Some(now.since(earlier.unwrap_or_default()));
        }
        self
    }
}

impl Traffic {
    fn since(self, before: Self) -> Self {
        Self {
            connections: self.connections.saturating_sub(before.connections),
            connect_failures: self.connect_failures.saturating_sub(before.connect_failures),
            from_clients: self.from_clients.saturating_sub(before.from_clients),
            to_clients: self.to_clients.saturating_sub(before.to_clients),
        }
    }
}

impl Counts {
    /// All of them in the order of their numbers.
    pub(crate) fn all(self) -> [u64; 7] {
        let Self { accepted, queue_timeouts, unserved, malformed, unshaken, idle_timeouts, panics } =
            self;
        [accepted, queue_timeouts, unserved, malformed, unshaken, idle_timeouts, panics]
    }
}

impl From<[u64; 7]> for Counts {
    fn from(all: [u64; 7]) -> Self {
        let [accepted, queue_timeouts, unserved, malformed, unshaken, idle_timeouts, panics] = all;
        Self { accepted, queue_timeouts, unserved, malformed, unshaken, idle_timeouts, panics }
    }
}
