//! The live side of one real server: what stays when its configuration changes.
//!
//! Kept by name for as long as the service has such a server, and by every connection that it
//! serves for as long as that lasts. All of it may be read and changed from any thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::time::{Duration, Instant};

use gantry_model::name::ServerName;
use gantry_model::server::{AdminState, RealServer};
use gantry_runtime::clock;
use parking_lot::Mutex;

use crate::pick::Health;
use crate::slots::{Limits, Slots};
use crate::stats::{Count, Traffic};

/// How long a server is avoided after a connection to it failed.
const SUSPICION: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) name: ServerName,
    pub(crate) slots: Slots,
    pub(crate) traffic: Arc<Traffic>,
    /// Slots whose connections are in another process now.
    pub(crate) left: Count,
    health: AtomicU8,
    born: Instant,
    /// Milliseconds after `born`.
    suspect_until: AtomicU64,
    pass: AtomicU64,
    tenure: Mutex<Tenure>,
}

/// What becomes of the connections that a server has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tenure {
    /// They stay as long as they like.
    Stay,
    /// They stay until this instant.
    Until(Instant),
    Over,
}

impl Server {
    pub(crate) fn new(name: ServerName, health: Option<bool>) -> Self {
        let server = Self {
            name,
            slots: Slots::default(),
            traffic: Arc::default(),
            left: Count::default(),
            health: AtomicU8::new(0),
            born: clock::monotonic(),
            suspect_until: AtomicU64::new(0),
            pass: AtomicU64::new(0),
            tenure: Mutex::new(Tenure::Stay),
        };
        server.judge(health);
        server
    }

    /// Takes over what the configuration says of a running server.
    pub(crate) fn configure(&self, config: &RealServer) {
        let limits = Limits { min: config.min_connections, max: config.max_connections };
        self.slots.set_limits(limits);
        *self.tenure.lock() = Tenure::under(config.admin_state);
    }

    /// The server is no longer part of its service.
    pub(crate) fn dismiss(&self) {
        *self.tenure.lock() = Tenure::Over;
    }

    pub(crate) fn tenure(&self) -> Tenure {
        *self.tenure.lock()
    }

    /// The connections that it has need not end for its configuration's sake.
    pub(crate) fn is_settled(&self) -> bool {
        self.tenure() == Tenure::Stay
    }

    pub(crate) fn judge(&self, healthy: Option<bool>) {
        let health = match healthy {
            None => Health::Unknown,
            Some(true) => Health::Healthy,
            Some(false) => Health::Unhealthy,
        };
        self.health.store(health as u8, SeqCst);
        if health == Health::Healthy {
            self.suspect_until.store(0, SeqCst);
        }
    }

    pub(crate) fn health(&self) -> Health {
        match self.health.load(SeqCst) {
            code if code == Health::Healthy as u8 => Health::Healthy,
            code if code == Health::Unhealthy as u8 => Health::Unhealthy,
            _ => Health::Unknown,
        }
    }

    /// A connection to the server failed.
    pub(crate) fn suspect(&self, now: Instant) {
        self.suspect_until.store(self.age(now + SUSPICION), SeqCst);
    }

    pub(crate) fn is_suspect(&self, now: Instant) -> bool {
        let until = self.suspect_until.load(SeqCst);
        until > 0 && self.age(now) < until
    }

    /// The server's place in the round; never behind `floor`, so that one that was away does not
    /// get all that it missed.
    pub(crate) fn pass(&self, floor: u64) -> u64 {
        self.pass.load(Relaxed).max(floor)
    }

    pub(crate) fn move_on(&self, floor: u64, stride: u64) {
        let step = |pass: u64| Some(pass.max(floor) + stride);
        self.pass.fetch_update(Relaxed, Relaxed, step).expect("the step is always taken");
    }

    fn age(&self, at: Instant) -> u64 {
        let age = at.saturating_duration_since(self.born).as_millis();
        u64::try_from(age).unwrap_or(u64::MAX)
    }
}

impl Tenure {
    fn under(state: AdminState) -> Self {
        let wall = clock::wall();
        match state.at(wall) {
            AdminState::Online | AdminState::Drain { halt_at: None } => Self::Stay,
            AdminState::Drain { halt_at: Some(deadline) } => {
                let left = Duration::try_from(deadline.duration_since(wall)).unwrap_or_default();
                clock::monotonic().checked_add(left).map_or(Self::Stay, Self::Until)
            }
            AdminState::Halt => Self::Over,
        }
    }
}
