//! What all measurements need: a controller, appliances that have joined, agents that are started, and
//! what these say of themselves.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use gantry_model::agent::AgentKind;
use gantry_model::name::ServiceName;
use gantry_model::plan::ServicePlan;
use gantry_runtime::agent::{self, AgentOptions, Apply, Observe, Rejection};
use gantry_runtime::clock;
use gantry_runtime::tasks::Tasks;

use super::super::net::Net;
use super::peers;
use crate::bench::rig::{Rig, Running};
use crate::workspace::find_program;

/// How long anything may take that is no measurement.
const PATIENCE: Duration = Duration::from_secs(300);
/// Between two looks at what another process makes.
const LOOK: Duration = Duration::from_millis(10);
/// The controller of agents that have none.
const NOWHERE: &str = "https://127.0.0.1:9";
/// The appliance of every cluster.
pub(super) const APPLIANCE: &str = "lb1";

const PROGRAMS: [&str; 3] = ["gantry-agent-l4", "gantry-healthd", "xtask"];

/// A controller on this namespace's loopback.
#[derive(Debug)]
pub(super) struct Stage {
    pub(super) rig: Rig,
}

/// An agent that was started.
#[derive(Debug)]
pub(super) struct Agent {
    running: Running,
    pub(super) started: Instant,
    log: PathBuf,
}

impl Stage {
    pub(super) async fn set(target: &Path) -> anyhow::Result<Self> {
        let stage = Self { rig: Rig::start(target).await? };
        let own = PROGRAMS.map(|program| stage.rig.binary(program));
        let peers = ["ip", "ipvsadm", "keepalived"].into_iter().filter_map(find_program);
        // Into memory: whoever is first would wait for the disk.
        for program in own.into_iter().chain(peers) {
            std::fs::read(&program).with_context(|| program.display().to_string())?;
        }
        Ok(stage)
    }

    /// The cluster of so many services; made when it is asked for first.
    pub(super) async fn cluster_of(&self, services: usize) -> anyhow::Result<Cluster> {
        let id = format!("c{services}");
        let dir = self.rig.dir().join(&id);
        let cluster = Cluster { identity: dir.join(APPLIANCE).join("identity"), id, dir };
        if !cluster.dir.exists() {
            let all = (0..services).map(peers::gantry).collect();
            self.rig.make_cluster_of(&cluster.id, all).await?;
            self.rig.enroll(&cluster.id, APPLIANCE).await?;
            self.fill_ledgers(&cluster).await?;
        }
        Ok(cluster)
    }

    /// Lets the agents' own loop follow the controller, but put nothing in force: then the ledgers hold
    /// what agents start from.
    async fn fill_ledgers(&self, cluster: &Cluster) -> anyhow::Result<()> {
        let mut tasks = Tasks::new();
        let kinds = [AgentKind::L4, AgentKind::Health];
        for kind in kinds {
            let options = AgentOptions {
                controller: self.rig.url(),
                identity: cluster.identity.clone(),
                state: cluster.ledger(kind),
                feed: cluster.dir.join("none"),
            };
            agent::start(&mut tasks, kind, &options, Nothing, Arc::new(Nothing)).await?;
        }
        self.rig.settled(&cluster.id, kinds.len()).await
    }

    /// Starts agent-l4 of a cluster, from a copy of its ledger named `state`. With a namespace it runs
    /// there, where it has no controller.
    pub(super) fn agent_l4(
        &self,
        cluster: &Cluster,
        net: Option<&Net>,
        state: &str,
    ) -> anyhow::Result<Agent> {
        let state = cluster.dir.join(state);
        copy(&cluster.ledger(AgentKind::L4), &state)?;
        let url = if net.is_some() { NOWHERE.to_owned() } else { self.rig.url() };
        self.start("gantry-agent-l4", net, (&url, &cluster.identity, &state))
    }

    /// Starts healthd of a cluster in a namespace, where it has no controller, and waits until agents
    /// can listen to it.
    pub(super) async fn healthd(&self, cluster: &Cluster, net: &Net) -> anyhow::Result<Agent> {
        let state = cluster.dir.join(net.name());
        copy(&cluster.ledger(AgentKind::Health), &state)?;
        let feed = feed_of(&state);
        // Of one before.
        let _ = std::fs::remove_file(&feed);
        let healthd =
            self.start("gantry-healthd", Some(net), (NOWHERE, &cluster.identity, &state))?;
        until("healthd listens", LOOK, || Ok(feed.exists())).await?;
        Ok(healthd)
    }

    /// Starts an agent.
    pub(super) fn start(
        &self,
        program: &str,
        net: Option<&Net>,
        (url, identity, state): (&str, &Path, &Path),
    ) -> anyhow::Result<Agent> {
        let (binary, log) = (self.rig.binary(program), state.with_extension("log"));
        let feed = feed_of(state);
        let control = state.with_file_name("l4.sock");
        let mut command: Vec<&OsStr> = Vec::new();
        let within = net.map(Net::within);
        command.extend(within.iter().flatten().map(OsStr::new));
        command.push(binary.as_os_str());
        let options: [(&str, &OsStr); 6] = [
            ("--controller", url.as_ref()),
            ("--identity", identity.as_ref()),
            ("--state", state.as_ref()),
            ("--feed", feed.as_ref()),
            ("--control", control.as_ref()),
            ("--log", "gantry_agent_l4::director=debug,info".as_ref()),
        ];
        command.extend(options.iter().flat_map(|(option, value)| [OsStr::new(option), value]));
        let started = clock::monotonic();
        let running = Running::start(&command, &log)?;
        Ok(Agent { running, started, log })
    }
}

/// A cluster with one appliance.
#[derive(Debug)]
pub(super) struct Cluster {
    pub(super) id: String,
    pub(super) dir: PathBuf,
    pub(super) identity: PathBuf,
}

impl Cluster {
    /// Where the ledger is that all agents of a kind start from.
    fn ledger(&self, kind: AgentKind) -> PathBuf {
        self.dir.join(format!("ledger of {kind}"))
    }
}

impl Agent {
    pub(super) fn id(&self) -> u32 {
        self.running.id()
    }

    /// The lines of its log with these words.
    pub(super) fn said(&self, words: &str) -> anyhow::Result<Vec<Said>> {
        let log = std::fs::read_to_string(&self.log)?;
        let lines = log.lines().filter(|line| line.contains(words));
        Ok(lines.map(|line| Said(line.to_owned())).collect())
    }

    /// Waits until its log has so many lines with these words; gives the last.
    pub(super) async fn says(&self, words: &str, count: usize) -> anyhow::Result<Said> {
        let began = clock::monotonic();
        loop {
            let said = self.said(words)?;
            if said.len() >= count
                && let Some(last) = said.last()
            {
                return Ok(last.clone());
            }
            let waited = clock::monotonic() - began;
            ensure!(waited < PATIENCE, "{} does not say {words:?}", self.log.display());
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// Where agents with their state here meet healthd.
fn feed_of(state: &Path) -> PathBuf {
    state.with_file_name("health.sock")
}

/// A line of an agent's log.
#[derive(Clone, Debug)]
pub(super) struct Said(String);

impl Said {
    /// The number after `name=`.
    pub(super) fn number(&self, name: &str) -> anyhow::Result<u64> {
        let mut words = self.0.split_whitespace();
        let value = words.find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
        let number = value.and_then(|value| value.parse().ok());
        number.with_context(|| format!("no {name} in the log line {:?}", self.0))
    }

    pub(super) fn took(&self) -> anyhow::Result<Duration> {
        Ok(Duration::from_millis(self.number("milliseconds")?))
    }
}

/// Waits until `is_so`, asked again after each `pause`.
pub(super) async fn until(
    what: &str,
    pause: Duration,
    is_so: impl Fn() -> anyhow::Result<bool>,
) -> anyhow::Result<()> {
    let began = clock::monotonic();
    while !is_so()? {
        ensure!(clock::monotonic() - began < PATIENCE, "waited in vain until {what}");
        tokio::time::sleep(pause).await;
    }
    Ok(())
}

/// Copies the files of a folder.
fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(to)?;
    for file in from.read_dir()? {
        let file = file?;
        std::fs::copy(file.path(), to.join(file.file_name()))?;
    }
    Ok(())
}

/// Puts nothing in force, and sees nothing.
struct Nothing;

impl Apply for Nothing {
    fn put(&mut self, _plan: ServicePlan) -> Result<(), Rejection> {
        Ok(())
    }

    fn remove(&mut self, _name: &ServiceName) {}
}

impl Observe for Nothing {}
