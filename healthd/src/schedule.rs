//! When each real server is asked, and what its answers add up to.
//!
//! One small task a server asks, waits and asks again, from start to start the check's interval; so
//! a server never has two checks at a time and none waits behind another. New servers start a
//! millisecond apart and keep that distance: tens of thousands of checks do not beat as one. A task
//! ends when the schedule lets go of its orders. Whether a server is in service, drained or halted
//! is not asked: an operator wants to see that it is healthy before putting it back.

mod round;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use gantry_model::name::{ServerName, ServiceName};
use gantry_model::server::RealServer;
use gantry_model::service::{Forwarding, VirtualService};
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;

use crate::board::Board;
use crate::probe::{Ask, Network, Target};
use round::Order;

/// Between the first checks of two servers that arrive together.
const SPACING: Duration = Duration::from_millis(1);

/// All checks.
#[derive(Debug)]
pub struct Schedule<A = Network> {
    ask: A,
    board: Arc<Board>,
    services: HashMap<ServiceName, HashMap<ServerName, watch::Sender<Order>>>,
    tasks: JoinSet<()>,
    /// When the next new server may be asked for the first time.
    free: Instant,
}

impl Schedule {
    /// A schedule that asks over the network and concludes on `board`; `passage` is where agent-l4
    /// gives ways through real servers.
    pub fn new(board: Arc<Board>, passage: Arc<Path>) -> Self {
        Self::asking(Network { passage }, board)
    }
}

impl<A: Ask> Schedule<A> {
    /// A schedule that asks with `ask`.
    pub fn asking(ask: A, board: Arc<Board>) -> Self {
        let (services, tasks) = (HashMap::new(), JoinSet::new());
        Self { ask, board, services, tasks, free: Instant::now() }
    }

    /// Checks `servers` as `service` says, and no other servers of it any more. A server whose
    /// address and probe are as before keeps its answers; another one is judged anew, and until it
    /// has answered the verdict that stood still stands.
    pub fn put(&mut self, service: &VirtualService, servers: &[RealServer]) {
        self.reap();
        let check = Arc::new(service.check.clone());
        let mut before = self.services.remove(&service.name).unwrap_or_default();
        let mut checked = HashMap::with_capacity(servers.len());
        for server in servers {
            let order = Order { target: target(service, server), check: Arc::clone(&check) };
            let orders = match before.remove(&server.name) {
                Some(orders) => {
                    orders.send_if_modified(|current| replace(current, order));
                    orders
                }
                None => self.start(server.name.clone(), order),
            };
            checked.insert(server.name.clone(), orders);
        }
        before.into_keys().for_each(|server| self.board.forget(&server));
        self.services.insert(service.name.clone(), checked);
    }

    /// Checks no server of `service` any more.
    pub fn remove(&mut self, service: &ServiceName) {
        self.reap();
        let before = self.services.remove(service).unwrap_or_default();
        before.into_keys().for_each(|server| self.board.forget(&server));
    }

    /// Waits, for ever, for a check to panic, and panics with it. Cancel safe: poll it beside the
    /// rest, so that no server goes unchecked in silence.
    pub async fn guard(&mut self) {
        while let Some(ended) = self.tasks.join_next().await {
            raise(ended);
        }
        std::future::pending().await
    }

    fn start(&mut self, server: ServerName, order: Order) -> watch::Sender<Order> {
        let now = Instant::now();
        let first = self.free.max(now);
        self.free = first + SPACING;
        let interval = order.check.interval.max(SPACING).as_nanos();
        let wait = first.duration_since(now).as_nanos() % interval;
        let first = now + Duration::from_nanos(u64::try_from(wait).unwrap_or_default());
        let (orders, received) = watch::channel(order);
        let seat = self.board.seat(server);
        self.tasks.spawn(round::keep_asking(self.ask.clone(), seat, received, first));
        orders
    }

    fn reap(&mut self) {
        while let Some(ended) = self.tasks.try_join_next() {
            raise(ended);
        }
    }
}

/// What is checked: the check's own port, else the server's, else the listener's first; or the
/// virtual address, by way of the server.
pub fn target(service: &VirtualService, server: &RealServer) -> Target {
    if service.check.through_virtual_address {
        let listener = &service.listener;
        let address = SocketAddr::new(listener.address, listener.ports.first().get());
        return Target { address, through: Some(server.name.clone()), introduce: None };
    }
    // Another port is mostly not for clients, and knows nothing of them.
    let introduce = match &service.forwarding {
        Forwarding::Layer7(layer7) if service.check.port.is_none() => layer7.send_proxy_protocol,
        _ => None,
    };
    let port = service.check.port.or(server.endpoint.port);
    let port = port.unwrap_or_else(|| service.listener.ports.first());
    Target {
        address: SocketAddr::new(server.endpoint.address, port.get()),
        through: None,
        introduce,
    }
}

fn replace(current: &mut Order, order: Order) -> bool {
    let differs = *current != order;
    *current = order;
    differs
}

fn raise(ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && let Ok(panic) = error.try_into_panic()
    {
        std::panic::resume_unwind(panic);
    }
}

#[cfg(test)]
mod tests;
