//! What the simulated processes and their observer share.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use gantry_controller::api::Caller;
use gantry_model::agent::{AgentKind, AgentName};
use gantry_model::name::ServiceName;
use gantry_model::plan::ServicePlan;
use gantry_model::revision::{Revision, SetHash};
use parking_lot::Mutex;

use crate::operator::Model;

/// An agent, on a host of its own.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) host: &'static str,
    pub(crate) appliance: &'static str,
    pub(crate) kind: AgentKind,
}

pub(crate) const AGENTS: [Place; 3] = [
    Place { host: "lb1-l7", appliance: "lb1", kind: AgentKind::L7 },
    Place { host: "lb1-health", appliance: "lb1", kind: AgentKind::Health },
    Place { host: "lb2-l7", appliance: "lb2", kind: AgentKind::L7 },
];
pub(crate) const CLUSTER: &str = "clusters/main";
pub(crate) const CONTROLLER: &str = "controller";
pub(crate) const OPERATOR: &str = "operator";

impl Place {
    pub(crate) fn name(&self) -> AgentName {
        let appliance = format!("{CLUSTER}/appliances/{}", self.appliance).parse().unwrap();
        AgentName { appliance, kind: self.kind }
    }
}

/// Who is on a host.
pub(crate) fn caller(host: &str) -> Caller {
    let peer = host.to_owned();
    match AGENTS.iter().find(|place| place.host == host) {
        Some(place) => Caller::Appliance {
            name: place.name().appliance,
            key_hash: key_hash(place.appliance),
            peer,
        },
        None => Caller::Operator { name: format!("users/{host}"), peer },
    }
}

pub(crate) fn key_hash(appliance: &str) -> Vec<u8> {
    format!("key of {appliance}").into_bytes()
}

/// What one agent was seen to do.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) newest: Revision,
    pub(crate) in_force: BTreeMap<ServiceName, ServicePlan>,
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) seed: u64,
    pub(crate) dir: PathBuf,
    /// How many agents were started.
    pub(crate) starts: AtomicU64,
    /// How many holds were approved of.
    pub(crate) approvals: AtomicU64,
    /// What went against an invariant.
    pub(crate) violations: Mutex<Vec<String>>,
    pub(crate) agents: Mutex<HashMap<&'static str, Seen>>,
    /// What each revision was for each kind of agent.
    pub(crate) contents: Mutex<HashMap<(AgentKind, Revision), SetHash>>,
    pub(crate) model: Mutex<Model>,
    /// How often WatchConfig was called from which host.
    pub(crate) watch_calls: Mutex<HashMap<String, u64>>,
    /// The operator writes no more, and approves of every hold.
    pub(crate) quiet: AtomicBool,
    /// Every agent says that it runs what it should.
    pub(crate) settled: AtomicBool,
}

impl Shared {
    pub(crate) fn new(seed: u64, dir: PathBuf) -> Self {
        Self {
            seed,
            dir,
            starts: AtomicU64::new(0),
            approvals: AtomicU64::new(0),
            violations: Mutex::default(),
            agents: Mutex::default(),
            contents: Mutex::default(),
            model: Mutex::default(),
            watch_calls: Mutex::default(),
            quiet: AtomicBool::new(false),
            settled: AtomicBool::new(false),
        }
    }

    pub(crate) fn violation(&self, what: impl Into<String>) {
        self.violations.lock().push(what.into());
    }

    pub(crate) fn is_quiet(&self) -> bool {
        self.quiet.load(Ordering::Relaxed)
    }

    /// Where the database of the controller is.
    pub(crate) fn database(&self) -> PathBuf {
        self.dir.join("controller")
    }

    /// Where the ledger of an agent is.
    pub(crate) fn ledger(&self, host: &str) -> PathBuf {
        self.dir.join(host)
    }
}

/// Random numbers by a seed (SplitMix64).
#[derive(Debug)]
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number from 0 to below `limit`.
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    pub(crate) fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        let at = self.below(from.len() as u64);
        &from[usize::try_from(at).unwrap()]
    }

    pub(crate) fn millis(&mut self, from: u64, to: u64) -> std::time::Duration {
        std::time::Duration::from_millis(from + self.below(to - from))
    }
}
