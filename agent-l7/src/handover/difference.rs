//! What was counted between two descriptions of a service.

use super::format::{Ended, Server, Service, Traffic};

impl Service {
    /// What is new since `before`; of servers with their connections now.
    pub(crate) fn since(mut self, before: &Self) -> Self {
        for (count, earlier) in self.counts.iter_mut().zip(&before.counts) {
            *count = count.saturating_sub(*earlier);
        }
        for ended in &mut self.ended {
            let same = |one: &&Ended| one.reason == ended.reason;
            let earlier = before.ended.iter().find(same).map_or(0, |one| one.connections);
            ended.connections = ended.connections.saturating_sub(earlier);
        }
        // What servers have carried that have left is among the rest now.
        let gone = |one: &&Server| self.servers.iter().all(|server| server.id != one.id);
        let gone = before.servers.iter().filter(gone).filter_map(|one| one.traffic);
        let earlier = gone.fold(before.other.unwrap_or_default(), Traffic::plus);
        self.other = Some(self.other.unwrap_or_default().since(earlier));
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
    fn plus(self, other: Self) -> Self {
        Self {
            connections: self.connections + other.connections,
            connect_failures: self.connect_failures + other.connect_failures,
            from_clients: self.from_clients + other.from_clients,
            to_clients: self.to_clients + other.to_clients,
        }
    }

    fn since(self, before: Self) -> Self {
        Self {
            connections: self.connections.saturating_sub(before.connections),
            connect_failures: self.connect_failures.saturating_sub(before.connect_failures),
            from_clients: self.from_clients.saturating_sub(before.from_clients),
            to_clients: self.to_clients.saturating_sub(before.to_clients),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn traffic(connections: u64) -> Traffic {
        Traffic { connections, from_clients: 10 * connections, ..Traffic::default() }
    }

    fn service(accepted: u64, other: u64, servers: &[(&str, u64)]) -> Service {
        let server = |&(id, connections): &(&str, u64)| Server {
            id: id.to_owned(),
            traffic: Some(traffic(connections)),
            active: 3,
        };
        Service {
            counts: vec![accepted, 0],
            other: Some(traffic(other)),
            servers: servers.iter().map(server).collect(),
            ..Service::default()
        }
    }

    #[test]
    fn only_what_is_new_is_told_and_a_server_that_left_is_not_told_twice() {
        for (now, before, new) in [
            (service(9, 1, &[("a", 5)]), service(7, 1, &[("a", 4)]), service(2, 0, &[("a", 1)])),
            (
                service(9, 1, &[("a", 5), ("b", 2)]),
                service(7, 0, &[("a", 5)]),
                service(2, 1, &[("a", 0), ("b", 2)]),
            ),
            (service(9, 8, &[]), service(9, 1, &[("a", 5)]), service(0, 2, &[])),
            (service(9, 1, &[("a", 5)]), Service::default(), service(9, 1, &[("a", 5)])),
        ] {
            assert_eq!(now.since(&before), new);
        }
    }
}
