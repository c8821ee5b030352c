//! The live side of one real server: what stays when its configuration changes.
//!
//! Kept by name for as long as the service has such a server, and by every connection that it
//! serves for as long as that lasts. All of it may be read and changed from any thread.

use std::num::NonZeroU16;
use std::sync::atomic::{
    AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed, Ordering::SeqCst,
};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use gantry_model::name::ServerName;
use gantry_model::server::{AdminState, RealServer};
use gantry_model::service::PassiveHealth;
use gantry_runtime::clock;
use parking_lot::Mutex;

use crate::mllp::MllpCounts;
use crate::pick::Health;
use crate::slots::{Limits, Slots};
use crate::stats::{Count, MllpSample, Traffic};

/// No time after its birth.
const NEVER: u64 = u64::MAX;

#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) name: ServerName,
    pub(crate) slots: Slots,
    pub(crate) traffic: Arc<Traffic>,
    /// Slots whose connections are in another process now.
    pub(crate) left: Count,
    health: AtomicU8,
    born: Instant,
    /// Connections to it that failed in a row.
    failures: AtomicU32,
    /// Messages that it acknowledged negatively in a row.
    negatives: AtomicU32,
    /// Made with the first message.
    mllp: OnceLock<Box<MllpCounts>>,
    /// When the last of too many failed; milliseconds after `born`.
    suspect_since: AtomicU64,
    /// When it last came back to a service that ran without it; milliseconds after `born`.
    back: AtomicU64,
    online: AtomicBool,
    /// It was added to a service that ran without it, and is not known to be healthy yet.
    joining: AtomicBool,
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
            failures: AtomicU32::new(0),
            negatives: AtomicU32::new(0),
            mllp: OnceLock::new(),
            suspect_since: AtomicU64::new(NEVER),
            back: AtomicU64::new(NEVER),
            online: AtomicBool::new(true),
            joining: AtomicBool::new(false),
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
        let online = config.admin_state == AdminState::Online;
        let was_online = self.online.swap(online, SeqCst);
        if online && !was_online {
            self.acquit();
            self.come_back();
        }
    }

    /// The server is added to a service that ran without it: it comes as good as back, and anew once its
    /// check has succeeded, before which the others may have had all clients.
    pub(crate) fn join(&self) {
        self.joining.store(true, SeqCst);
        self.come_back();
    }

    fn come_back(&self) {
        self.back.store(self.age(clock::monotonic()), SeqCst);
    }

    /// How long ago it came back; none if it was there from the beginning.
    pub(crate) fn back_for(&self, now: Instant) -> Option<Duration> {
        let back = Some(self.back.load(SeqCst)).filter(|back| *back != NEVER)?;
        Some(Duration::from_millis(self.age(now).saturating_sub(back)))
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
        let before = self.health.swap(health as u8, SeqCst);
        let recovers = before == Health::Unhealthy as u8 && health != Health::Unhealthy;
        let joins = health == Health::Healthy && self.joining.swap(false, SeqCst);
        if recovers || joins {
            self.come_back();
        }
        if health == Health::Healthy {
            self.acquit();
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
    pub(crate) fn suspect(&self, rule: &PassiveHealth, now: Instant) {
        let one_more = |failures: u32| Some(failures.saturating_add(1));
        let before = self.failures.fetch_update(SeqCst, SeqCst, one_more);
        if before.is_ok_and(|before| before.saturating_add(1) >= rule.failures.get().into()) {
            self.suspect_since.store(self.age(now), SeqCst);
        }
    }

    /// The server is left aside, as after too many failures.
    pub(crate) fn set_aside(&self, now: Instant) {
        self.suspect_since.store(self.age(now), SeqCst);
    }

    /// The server has acknowledged a message negatively; `most` in a row leave it aside.
    pub(crate) fn refuse(&self, most: NonZeroU16, now: Instant) {
        if self.negatives.fetch_add(1, SeqCst).saturating_add(1) >= most.get().into() {
            self.set_aside(now);
        }
    }

    /// The server has acknowledged a message as its sender hopes.
    pub(crate) fn accept(&self) {
        self.trust();
        if self.negatives.load(Relaxed) > 0 {
            self.negatives.store(0, SeqCst);
        }
    }

    /// What is counted of its messages.
    pub(crate) fn mllp(&self) -> &MllpCounts {
        self.mllp.get_or_init(Box::default)
    }

    /// The same; nothing if it never had one.
    pub(crate) fn mllp_sample(&self) -> MllpSample {
        self.mllp.get().map(|counts| counts.sample()).unwrap_or_default()
    }

    /// A connection to the server succeeded. It stays a suspect for its time if it is one.
    pub(crate) fn trust(&self) {
        // Nearly always there is nothing to write, and no other core to disturb.
        if self.failures.load(Relaxed) > 0 {
            self.failures.store(0, SeqCst);
        }
    }

    /// Whether it is left aside.
    pub(crate) fn is_suspect(&self, rule: &PassiveHealth, now: Instant) -> bool {
        let since = self.suspect_since.load(SeqCst);
        let hold = u64::try_from(rule.hold.as_millis()).unwrap_or(u64::MAX);
        !rule.disabled && since != NEVER && self.age(now) < since.saturating_add(hold)
    }

    fn acquit(&self) {
        self.failures.store(0, SeqCst);
        self.negatives.store(0, SeqCst);
        self.suspect_since.store(NEVER, SeqCst);
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

#[cfg(test)]
mod tests {
    use super::*;

    fn name() -> ServerName {
        "clusters/main/virtualServices/x/realServers/a".parse().unwrap()
    }

    #[test]
    fn one_that_joins_or_recovers_comes_back_and_others_do_not() {
        let back = |server: &Server| server.back_for(clock::monotonic()).is_some();
        let cases: [(&[Option<bool>], bool); 5] = [
            (&[], false),
            (&[Some(true), None, Some(true)], false),
            (&[Some(false)], false),
            (&[Some(false), Some(true)], true),
            (&[Some(true), Some(false), None], true),
        ];
        for (verdicts, expected) in cases {
            let server = Server::new(name(), None);
            verdicts.iter().for_each(|verdict| server.judge(*verdict));
            assert_eq!(back(&server), expected, "{verdicts:?}");
        }
        let server = Server::new(name(), None);
        server.join();
        for (verdict, expected) in
            [(None, false), (Some(true), true), (None, false), (Some(true), false)]
        {
            server.back.store(NEVER, SeqCst);
            server.judge(verdict);
            assert_eq!(back(&server), expected, "its first success counts: {verdict:?}");
        }
    }

    #[test]
    fn too_many_failures_in_a_row_leave_it_aside_for_a_while() {
        let server = Server::new(name(), None);
        let begin = clock::monotonic();
        let at = |milliseconds| begin + Duration::from_millis(milliseconds);
        let rule = PassiveHealth {
            failures: 3.try_into().unwrap(),
            hold: Duration::from_millis(100),
            disabled: false,
        };
        let fail = |count, when| (0..count).for_each(|_| server.suspect(&rule, at(when)));
        fail(2, 0);
        server.trust();
        fail(2, 0);
        assert!(!server.is_suspect(&rule, at(0)), "a success lay between");
        fail(1, 10);
        assert_eq!(
            [9, 109, 110].map(|when| server.is_suspect(&rule, at(when))),
            [true, true, false]
        );
        let off = PassiveHealth { disabled: true, ..rule };
        let longer = PassiveHealth { hold: Duration::from_secs(9), ..rule };
        assert!(!server.is_suspect(&off, at(20)) && server.is_suspect(&longer, at(5000)));
        fail(1, 500);
        assert!(server.is_suspect(&rule, at(501)), "it is still in a row");
        server.trust();
        assert!(server.is_suspect(&rule, at(502)), "its time is not over");
        fail(3, 600);
        server.judge(Some(true));
        assert!(!server.is_suspect(&rule, at(601)));
        fail(2, 700);
        assert!(!server.is_suspect(&rule, at(701)), "it began anew");
    }
}
