//! The rounds of one real server: wait, ask, hear, conclude.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use gantry_model::check::{HealthCheck, Probe};
use gantry_model::judge::{Judge, Thresholds};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tracing::warn;

use crate::board::Seat;
use crate::probe::{Ask, Held, Target};

/// From one check to the next of a server that has closed the connection that was held.
pub(super) const URGENT: Duration = Duration::from_millis(100);

/// Whom to ask, and how.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Order {
    pub(super) target: Target,
    pub(super) check: Arc<HealthCheck>,
}

/// What one server's rounds have come to.
struct Rounds<A> {
    ask: A,
    seat: Seat,
    judge: Judge,
    /// When the next check starts.
    due: Instant,
    /// The last check could not be made, and this was reported.
    hindered: bool,
    held: Option<Held>,
    /// The server has closed the connection that was held, and nothing is concluded from that yet.
    alarmed: bool,
}

/// Asks until the sender of `orders` is gone. A changed order ends a check that is under way.
pub(super) async fn keep_asking<A: Ask>(
    ask: A,
    seat: Seat,
    mut orders: watch::Receiver<Order>,
    first: Instant,
) {
    let mut order = orders.borrow_and_update().clone();
    let judge = match seat.opinion() {
        Some(healthy) if order.check.probe != Probe::None => Judge::with_opinion(healthy),
        _ => Judge::new(),
    };
    let mut rounds =
        Rounds { ask, seat, judge, due: first, hindered: false, held: None, alarmed: false };
    loop {
        let changed = tokio::select! {
            // Both may be dropped: a check that is, closes its connection and is not heard.
            changed = orders.changed() => changed,
            () = rounds.go_round(&order) => continue,
        };
        if changed.is_err() {
            return;
        }
        let next = orders.borrow_and_update().clone();
        rounds.turn(&order, &next);
        order = next;
    }
}

impl<A: Ask> Rounds<A> {
    /// One check, when it is due.
    async fn go_round(&mut self, order: &Order) {
        self.wait().await;
        let check = &order.check;
        let started = Instant::now();
        let heard = self.ask.ask(&check.probe, &order.target, check.timeout).await;
        // Not earlier: a check that a changed order cut short is made again at once.
        self.due = started + check.interval;
        let was_alarmed = std::mem::take(&mut self.alarmed);
        match heard {
            Ok(result) => {
                self.hindered = false;
                self.judge.hear(result.healthy, thresholds(check));
                let healthy = self.judge.opinion().unwrap_or(result.healthy);
                if was_alarmed && healthy != result.healthy {
                    self.alarmed = true;
                    self.due = started + URGENT.min(check.interval);
                }
                self.seat.record(healthy, result);
            }
            Err(fault) if !self.hindered => {
                self.hindered = true;
                warn!(server = %self.seat.server(), %fault, "check not made");
            }
            Err(_) => {}
        }
        if check.probe == Probe::None {
            std::future::pending().await
        }
        // Not after an alarm: a server that closes what is idle is asked once more for that, no more.
        let is_wanted = check.hold_connection && self.judge.opinion() == Some(true);
        if is_wanted && !was_alarmed && self.held.is_none() {
            self.held = self.ask.hold(&order.target, check.timeout).await;
        }
    }

    /// Waits until the next check is due, which it is at once when a held connection is closed.
    async fn wait(&mut self) {
        let Some(held) = &mut self.held else { return sleep_until(self.due).await };
        tokio::select! {
            () = sleep_until(self.due) => {}
            () = held => {
                (self.held, self.alarmed) = (None, true);
                self.due = Instant::now();
            }
        }
    }

    /// Goes over to another order.
    fn turn(&mut self, old: &Order, new: &Order) {
        let now = Instant::now();
        self.due = self.due.min(now + new.check.interval);
        if old.target != new.target || !new.check.hold_connection {
            (self.held, self.alarmed) = (None, false);
        }
        if old.target != new.target || old.check.probe != new.check.probe {
            self.judge = Judge::new();
            self.due = now;
        }
    }
}

fn thresholds(check: &HealthCheck) -> Thresholds {
    let at_least_one = |count| NonZeroU32::new(count).unwrap_or(NonZeroU32::MIN);
    Thresholds { rise: at_least_one(check.rise), fall: at_least_one(check.fall) }
}
