//! Where controller and healthd meet the director, which lives on a thread of its own.
//!
//! Plans, verdicts and questions come in by any thread; what there is to tell is left where any thread
//! may look at it. Of the verdicts on one server only the newest counts, so nothing piles up.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use gantry_model::name::{ServerName, ServiceName};
use gantry_model::plan::ServicePlan;
use gantry_proto::agent::v1 as pb;
use gantry_runtime::agent::{Apply, Ask, Observe, Rejection};
use gantry_runtime::clock;
use gantry_runtime::feed::{Hear, News};
use parking_lot::{Condvar, Mutex};
use tracing::error;

use self::entries::Lookup;
use crate::director::{Director, Moment, View, Way};
use crate::kernel::{Kernel, rejection};

mod entries;

/// The door of a running director.
#[derive(Clone, Debug)]
pub struct Door(Arc<Shared>);

/// The thread of a director. Dropping it ends the thread; the kernel stays as it is.
#[derive(Debug)]
pub struct Running {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    inbox: Mutex<Inbox>,
    wake: Condvar,
    view: Mutex<View>,
    notices: Mutex<Vec<pb::Notice>>,
}

#[derive(Debug, Default)]
struct Inbox {
    orders: VecDeque<Order>,
    verdicts: Verdicts,
    stop: bool,
}

type Verdicts = BTreeMap<ServerName, Option<bool>>;
type Work = (VecDeque<Order>, Verdicts);

#[derive(Debug)]
enum Order {
    Change {
        removed: Vec<ServiceName>,
        plans: Vec<ServicePlan>,
        reply: SyncSender<Vec<Result<(), Rejection>>>,
    },
    Ailing(SyncSender<Vec<(ServiceName, Rejection)>>),
    WayTo(ServerName, SyncSender<Result<Way, Rejection>>),
    LookUp(ServiceName, SyncSender<Option<Lookup>>),
}

/// Starts `director` on its thread.
pub fn start<K: Kernel>(director: Director<K>) -> std::io::Result<(Door, Running)> {
    let shared = Arc::new(Shared::default());
    let inside = Arc::clone(&shared);
    let thread = thread::Builder::new().name("director".to_owned()).spawn(move || {
        if catch_unwind(AssertUnwindSafe(|| direct(director, &inside))).is_err() {
            error!("the director panicked, ending the process");
            std::process::abort();
        }
    })?;
    let running = Running { shared: Arc::clone(&shared), thread: Some(thread) };
    Ok((Door(shared), running))
}

fn direct<K: Kernel>(mut director: Director<K>, shared: &Shared) {
    let mut next = clock::monotonic();
    while let Some((orders, verdicts)) = shared.next(next) {
        for (server, healthy) in verdicts {
            director.verdict(&server, healthy, now());
        }
        for order in orders {
            obey(&mut director, order);
        }
        director.tick(now());
        director.walk(now());
        let view = director.view();
        *shared.view.lock() = view;
        shared.notices.lock().extend(director.take_notices());
        next = director.next(now());
    }
}

fn obey<K: Kernel>(director: &mut Director<K>, order: Order) {
    // Who asked may have gone meanwhile.
    match order {
        Order::Change { removed, plans, reply } => {
            drop(reply.send(director.change(&removed, plans, now())));
        }
        Order::Ailing(reply) => drop(reply.send(director.ailing().into_iter().collect())),
        Order::WayTo(server, reply) => drop(reply.send(director.way_to(&server))),
        Order::LookUp(service, reply) => drop(reply.send(director.look_up(&service))),
    }
}

fn now() -> Moment {
    Moment { at: clock::monotonic(), wall: clock::wall() }
}

impl Shared {
    /// Waits until there is something to do, at `next` at the latest; none when it is time to stop.
    fn next(&self, next: Instant) -> Option<Work> {
        let mut inbox = self.inbox.lock();
        while inbox.orders.is_empty() && inbox.verdicts.is_empty() && !inbox.stop {
            if self.wake.wait_until(&mut inbox, next).timed_out() {
                break;
            }
        }
        if inbox.stop {
            // Who waits for an answer hears that none will come.
            inbox.orders.clear();
            return None;
        }
        Some((std::mem::take(&mut inbox.orders), std::mem::take(&mut inbox.verdicts)))
    }

    fn change(&self, change: impl FnOnce(&mut Inbox)) {
        change(&mut self.inbox.lock());
        self.wake.notify_one();
    }

    /// Has the director do something and waits for its answer; none when the process stops.
    fn ask<T>(&self, order: impl FnOnce(SyncSender<T>) -> Order) -> Option<T> {
        let (reply, answer) = sync_channel(1);
        self.change(|inbox| {
            if !inbox.stop {
                inbox.orders.push_back(order(reply));
            }
        });
        answer.recv().ok()
    }
}

impl Door {
    /// How to reach the virtual address of a server's service by way of that server. Blocks.
    pub fn way_to(&self, server: ServerName) -> Result<Way, Rejection> {
        self.0.ask(|reply| Order::WayTo(server, reply)).unwrap_or_else(|| Err(stopping()))
    }

    /// A TCP socket for that way, marked and bound.
    pub fn socket_to(&self, server: ServerName) -> Result<OwnedFd, String> {
        let way = self.way_to(server).map_err(|rejection| rejection.message)?;
        socket(way).map_err(|error| format!("the socket for the check cannot be made: {error}"))
    }
}

fn stopping() -> Rejection {
    rejection("STOPPING", "", "agent-l4 is stopping")
}

fn socket(way: Way) -> std::io::Result<OwnedFd> {
    let domain = match way.source {
        IpAddr::V4(_) => socket2::Domain::IPV4,
        IpAddr::V6(_) => socket2::Domain::IPV6,
    };
    let socket = socket2::Socket::new(domain, socket2::Type::STREAM, None)?;
    socket.set_mark(way.mark)?;
    socket.bind(&std::net::SocketAddr::new(way.source, 0).into())?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

impl Apply for Door {
    fn put(&mut self, plan: ServicePlan) -> Result<(), Rejection> {
        self.change(&[], vec![plan]).pop().unwrap_or(Ok(()))
    }

    fn remove(&mut self, name: &ServiceName) {
        self.change(std::slice::from_ref(name), Vec::new());
    }

    fn change(
        &mut self,
        removed: &[ServiceName],
        plans: Vec<ServicePlan>,
    ) -> Vec<Result<(), Rejection>> {
        let (removed, count) = (removed.to_vec(), plans.len());
        let outcomes = self.0.ask(|reply| Order::Change { removed, plans, reply });
        outcomes.unwrap_or_else(|| vec![Err(stopping()); count])
    }

    fn ailing(&mut self) -> Vec<(ServiceName, Rejection)> {
        self.0.ask(Order::Ailing).unwrap_or_default()
    }
}

impl Hear for Door {
    fn hear(&mut self, news: Vec<News>) {
        self.0.change(|inbox| inbox.verdicts.extend(news));
    }
}

impl Observe for Door {
    fn samples(&self) -> Vec<pb::Sample> {
        self.0.view.lock().samples.to_vec()
    }

    fn condition(&self) -> pb::Condition {
        self.0.view.lock().condition.clone()
    }

    fn take_notices(&self) -> Vec<pb::Notice> {
        std::mem::take(&mut *self.0.notices.lock())
    }

    fn answer(&self, ask: Ask) -> pb::Answer {
        entries::answer(ask, |service| self.0.ask(|reply| Order::LookUp(service, reply)).flatten())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.shared.change(|inbox| inbox.stop = true);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("a director that panics ends the process");
        }
    }
}
