//! What the agents say: observed state, kept in memory and never stored as configuration.
//!
//! The last word of an agent that fell silent is kept, and marked as old.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use gantry_model::agent::{AgentKind, AgentName};
use gantry_model::name::{ApplianceName, Id, ServerName};
use gantry_model::verdict::Verdict;
use gantry_proto::agent::v1 as pb;
use jiff::Timestamp;
use parking_lot::RwLock;
use pb::applied::Outcome;
use tokio::sync::watch;

use crate::authority::Shown;
use crate::condition::Condition;

/// Everything observed, by agent.
#[derive(Debug, Default)]
pub struct Observed {
    agents: RwLock<BTreeMap<AgentName, Agent>>,
    changes: watch::Sender<u64>,
}

/// What one agent said.
#[derive(Clone, Debug)]
pub struct Agent {
    pub version: String,
    /// Which of its streams is the newest; none while it is silent.
    pub stream: Option<u64>,
    pub last_seen: Timestamp,
    /// The certificate that its newest stream began with.
    pub shown: Option<Arc<Shown>>,
    /// What is in force.
    pub applied: Option<pb::Applied>,
    /// What it was offered since and did not take.
    pub not_taken: Option<pb::Applied>,
    /// The refusal or hold that was told of last, while nothing new is in force since.
    told_of: Option<Refused>,
    pub verdicts: HashMap<ServerName, Verdict>,
    /// What it sees of its machine.
    pub condition: Condition,
    pub samples: HashMap<String, Counters>,
    /// When samples came last.
    sampled: Option<Instant>,
    /// Names whose counters moved then.
    moving: HashSet<String>,
}

/// One refusal or hold, however often it is met.
type Refused = (i32, String, Option<i64>);

/// What a report of an offer comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    InForce,
    /// Refused or held back, and that is news.
    RefusedFromNowOn,
    RefusedStill,
}

/// Counters of one service or server, and how fast they move.
#[derive(Clone, Debug, Default)]
pub struct Counters {
    pub sample: pb::Sample,
    pub connections_per_second: f64,
    pub received_bytes_per_second: f64,
    pub sent_bytes_per_second: f64,
}

impl Observed {
    pub fn new() -> Self {
        Self::default()
    }

    /// Changes whenever anything observed did.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Looks at everything observed.
    pub fn read<T>(&self, look: impl FnOnce(&BTreeMap<AgentName, Agent>) -> T) -> T {
        look(&self.agents.read())
    }

    /// An agent opened its report stream.
    pub fn connected(&self, name: &AgentName, stream: u64, version: &str, now: Timestamp) {
        self.change(|agents| {
            let agent = agents.entry(name.clone()).or_insert_with(|| Agent::new(now));
            agent.version = version.to_owned();
            agent.stream = Some(stream);
            agent.last_seen = now;
        });
    }

    /// A report stream ended; gives whether it was the agent's newest.
    pub fn disconnected(&self, name: &AgentName, stream: u64) -> bool {
        self.change(|agents| match agents.get_mut(name) {
            Some(agent) if agent.stream == Some(stream) => {
                agent.stream = None;
                true
            }
            _ => false,
        })
    }

    /// Changes what is known of one agent.
    pub fn update<T>(&self, name: &AgentName, update: impl FnOnce(&mut Agent) -> T) -> Option<T> {
        self.change(|agents| agents.get_mut(name).map(update))
    }

    /// An appliance was removed: forget its agents.
    pub fn forget(&self, appliance: &ApplianceName) {
        self.change(|agents| agents.retain(|name, _| name.appliance != *appliance));
    }

    fn change<T>(&self, change: impl FnOnce(&mut BTreeMap<AgentName, Agent>) -> T) -> T {
        let result = change(&mut self.agents.write());
        self.changes.send_modify(|version| *version += 1);
        result
    }
}

impl Agent {
    fn new(now: Timestamp) -> Self {
        Self {
            version: String::new(),
            stream: None,
            last_seen: now,
            shown: None,
            applied: None,
            not_taken: None,
            told_of: None,
            verdicts: HashMap::new(),
            condition: Condition::default(),
            samples: HashMap::new(),
            sampled: None,
            moving: HashSet::new(),
        }
    }

    pub fn is_connected(&self) -> bool {
        self.stream.is_some()
    }

    /// Takes what became of an offer. The same agent refuses for the same reason again and again
    /// while the wrong controller answers; that is one piece of news.
    pub fn take_applied(&mut self, applied: pb::Applied) -> Taken {
        if !matches!(applied.outcome(), Outcome::Refused | Outcome::Held) {
            let at = |applied: &pb::Applied| (applied.revision, applied.hash.clone());
            if self.applied.as_ref().map(at) != Some(at(&applied)) {
                self.told_of = None;
            }
            self.not_taken = None;
            self.applied = Some(applied);
            return Taken::InForce;
        }
        let epoch = applied.revision.map(|revision| revision.epoch);
        let refused = (applied.outcome, applied.refusal.clone(), epoch);
        self.not_taken = Some(applied);
        if self.told_of.as_ref() == Some(&refused) {
            return Taken::RefusedStill;
        }
        self.told_of = Some(refused);
        Taken::RefusedFromNowOn
    }

    /// What it holds back until somebody approves.
    pub fn held_back(&self) -> Option<&pb::Applied> {
        self.not_taken.as_ref().filter(|offered| offered.outcome() == Outcome::Held)
    }

    /// Takes counters: all of them, or those that moved since the last time.
    pub fn take_samples(&mut self, news: pb::Samples, now: Instant) {
        let passed = self.sampled.replace(now).map(|before| now - before);
        let passed = passed.filter(|passed| *passed > Duration::ZERO);
        for name in self.moving.drain() {
            if let Some(counters) = self.samples.get_mut(&name) {
                counters.stand_still();
            }
        }
        if !news.changes_only {
            let named: HashSet<&String> = news.samples.iter().map(|sample| &sample.name).collect();
            self.samples.retain(|name, _| named.contains(name));
        }
        for name in &news.gone {
            self.samples.remove(name);
        }
        for sample in news.samples {
            match self.samples.get_mut(&sample.name) {
                Some(counters) if counters.sample == sample => {}
                Some(counters) => {
                    self.moving.insert(sample.name.clone());
                    counters.take(sample, passed);
                }
                None => {
                    let counters = Counters { sample, ..Counters::default() };
                    self.samples.insert(counters.sample.name.clone(), counters);
                }
            }
        }
    }
}

impl Counters {
    fn stand_still(&mut self) {
        self.connections_per_second = 0.0;
        self.received_bytes_per_second = 0.0;
        self.sent_bytes_per_second = 0.0;
    }

    fn take(&mut self, sample: pb::Sample, passed: Option<Duration>) {
        let rate = |old: i64, new: i64| match passed {
            // A counter that went back began anew.
            Some(passed) if new >= old => to_f64(new.saturating_sub(old)) / passed.as_secs_f64(),
            _ => 0.0,
        };
        let old = &self.sample;
        self.connections_per_second = rate(old.connections_total, sample.connections_total);
        self.received_bytes_per_second =
            rate(old.received_bytes_total, sample.received_bytes_total);
        self.sent_bytes_per_second = rate(old.sent_bytes_total, sample.sent_bytes_total);
        self.sample = sample;
    }
}

#[expect(clippy::cast_precision_loss, reason = "a rate for people")]
fn to_f64(count: i64) -> f64 {
    count as f64
}

/// The agents of a cluster. Costs in proportion to them, however many clusters there are.
pub fn of_cluster<'a>(
    agents: &'a BTreeMap<AgentName, Agent>,
    cluster: &'a Id,
) -> impl Iterator<Item = (&'a AgentName, &'a Agent)> {
    let appliance = ApplianceName { cluster: cluster.clone(), appliance: Id::lowest() };
    let first = AgentName { appliance, kind: AgentKind::ALL[0] };
    agents.range(first..).take_while(move |(name, _)| name.appliance.cluster == *cluster)
}

/// The agents of a kind in a cluster.
pub fn of_kind<'a>(
    agents: &'a BTreeMap<AgentName, Agent>,
    cluster: &'a Id,
    kind: AgentKind,
) -> impl Iterator<Item = (&'a AgentName, &'a Agent)> {
    of_cluster(agents, cluster).filter(move |(name, _)| name.kind == kind)
}

#[cfg(test)]
mod tests;
