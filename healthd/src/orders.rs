//! Takes orders from the agent's loop, and tells it what is seen.
//!
//! One task owns the schedule. A panic of a check task ends that task, and so the process: the
//! service manager starts it again, and the verdicts stand meanwhile.

use std::path::Path;
use std::sync::Arc;

use gantry_model::name::ServiceName;
use gantry_model::plan::ServicePlan;
use gantry_model::wire;
use gantry_proto::agent::v1 as pb;
use gantry_runtime::agent::{Apply, News, Observe, Rejection};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::board::Board;
use crate::probe;
use crate::schedule::Schedule;
use crate::words::messages;

/// What the schedule is told.
#[derive(Debug)]
enum Order {
    Put(Box<ServicePlan>),
    Remove(ServiceName),
}

/// The giving end of the orders.
#[derive(Debug)]
pub struct Orders(mpsc::Sender<Order>);

/// What of the board goes to the controller.
#[derive(Debug)]
pub struct Sight(pub Arc<Board>);

/// Makes the schedule; gives the end to order it by, and the task that runs it until stopped.
pub fn run(
    board: Arc<Board>,
    passage: Arc<Path>,
    stop: CancellationToken,
) -> (Orders, impl Future<Output = ()> + Send + 'static) {
    let (sender, mut receiver) = mpsc::channel(1024);
    let task = async move {
        let mut schedule = Schedule::new(board, passage);
        loop {
            // All arms are cancel safe: `recv` and `cancelled` by tokio's documentation, `guard`
            // by its own.
            tokio::select! {
                order = receiver.recv() => match order {
                    Some(Order::Put(plan)) => schedule.put(&plan.service, &plan.servers),
                    Some(Order::Remove(name)) => schedule.remove(&name),
                    None => return,
                },
                () = schedule.guard() => {}
                () = stop.cancelled() => return,
            }
        }
    };
    (Orders(sender), task)
}

impl Apply for Orders {
    fn put(&mut self, plan: ServicePlan) -> Result<(), Rejection> {
        probe::supported(&plan.service.check.probe).map_err(|why| Rejection {
            reason: "UNSUPPORTED_PROBE".to_owned(),
            field: "health_check.probe".to_owned(),
            message: why.to_string(),
        })?;
        self.give(Order::Put(Box::new(plan)));
        Ok(())
    }

    fn remove(&mut self, name: &ServiceName) {
        self.give(Order::Remove(name.clone()));
    }
}

impl Orders {
    fn give(&self, order: Order) {
        // The schedule is gone only when the process stops.
        let _stopping = self.0.blocking_send(order);
    }
}

impl Observe for Sight {
    fn news(&self, since: u64) -> News {
        let changes = self.0.changes_since(since);
        let (whole, version) = (changes.whole, changes.version);
        News { whole, verdicts: messages(changes), version }
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.0.subscribe()
    }

    fn take_results(&self, most: usize) -> Vec<pb::Verdict> {
        self.0.take_results(most).iter().map(wire::verdict_message).collect()
    }
}
