//! The worker's part in handing its connections to another process.

use std::sync::mpsc;

use rustix::event::epoll;

use super::{Arrival, Connection, Frozen, Key, Worker};

impl Worker {
    /// Between two events nothing is half done: what may move is taken off the poller as it is.
    pub(super) fn freeze(&mut self, to: &mpsc::Sender<Vec<Frozen>>) {
        self.resting.clear();
        for (_, key) in std::mem::take(&mut self.by_id) {
            if let Some(listening) = self.listeners.remove(key) {
                // Others have the socket as well, so that closing it here would not do.
                let _ = epoll::delete(&self.desk.poller, &*listening.socket);
            }
        }
        let keys: Vec<Key> = self.members.iter().map(|(_, key)| *key).collect();
        let frozen = keys.into_iter().filter_map(|key| self.freeze_one(key)).collect();
        // Who asked may have given up: then the connections come to an end.
        let _ = to.send(frozen);
    }

    fn freeze_one(&mut self, key: Key) -> Option<Frozen> {
        self.connections.get_mut(key).filter(|connection| connection.can_move())?;
        Some(self.take_out(key)?.freeze(&self.desk))
    }

    pub(super) fn thaw(&mut self, frozen: Vec<Frozen>) {
        for one in frozen {
            let key = self.connections.next_key();
            self.take_in(one.thaw(key), key);
        }
    }

    pub(super) fn arrive(&mut self, arrival: Arrival) {
        let key = self.connections.next_key();
        self.take_in(Connection::arrive(arrival, key, &self.desk), key);
    }

    fn take_in(&mut self, connection: Connection, key: Key) {
        self.members.insert((connection.service().serial, key));
        self.connections.insert(Box::new(connection));
        self.attend(key, Connection::go_on);
    }
}
