//! `cargo xtask bench layer7`: agent-l7 as it is deployed, beside HAProxy and nginx, on loopback.
//!
//! All three carry the same load to the same real servers in turn, round by round, in an order that
//! turns round as well, so that what else the machine is at meets all. The real servers and the load
//! check every byte. agent-l7 has its configuration from a controller, with persistence, counters and
//! health; it alone is counted, not the controller.
//!
//! Congestion control decides what bulk is measured at, and the default of some machines paces it. So all
//! of it runs in a network namespace of its own, whose loopback has one that is named.

mod backend;
mod failover;
mod figures;
mod line;
mod load;
mod many;
mod peers;
mod plot;
mod secrets;
mod targets;
mod wire;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::Args;
use gantry_runtime::shell;

use self::figures::{Sample, Table};
use self::load::{Kind, Load};
use self::secrets::Secrets;
use self::targets::{Target, start_backend, start_backends, start_targets};
use super::net;
use super::processes;
use super::rig::{Rig, Running};
use crate::say;
use crate::workspace::{Workspace, run};

#[derive(Args, Clone, Debug)]
#[command(after_long_help = "\
Takes about a quarter of an hour. Needs root, haproxy and nginx: apt-get install haproxy nginx libnginx-mod-stream.")]
pub(crate) struct Layer7 {
    /// How often each figure is measured, in turn with the peers'
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// How long each time, in seconds
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// What is measured, and with how many connections
    #[arg(long, value_delimiter = ',', default_values_t = default_tests())]
    tests: Vec<Test>,
    /// How many virtual services there are when what each costs is measured
    #[arg(long, default_value_t = 5000)]
    services: usize,
    /// How often a real server is killed
    #[arg(long, default_value_t = 5)]
    kills: usize,
    /// Write a picture of the ratios to this file, as SVG
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
    /// The congestion control of all connections
    #[arg(long, default_value = "cubic")]
    congestion_control: String,
    /// Measure here and now: the namespace is this program's own
    #[arg(long, hide = true)]
    inside: bool,
    /// Be the real server
    #[arg(long, hide = true)]
    backend: Option<SocketAddr>,
}

/// One kind of load, with a number of connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Test {
    /// The connections speak TLS.
    is_secure: bool,
    kind: Kind,
    connections: usize,
}

/// The load's own time before it is measured.
const WARM: Duration = Duration::from_millis(500);
/// After a load, for the connections of the last one to be gone.
const REST: Duration = Duration::from_millis(200);
/// Processors that others may take while a sample is; above, it is taken again.
const QUIET: f64 = 0.3;
const TRIES: usize = 3;

fn default_tests() -> Vec<Test> {
    [
        "up-1",
        "up-8",
        "up-64",
        "down-1",
        "down-8",
        "down-64",
        "msg-64",
        "msg-1000",
        "cps-32",
        "http-64",
        "http-1000",
        "idle-9000",
        "tls-up-8",
        "tls-down-8",
        "tls-msg-64",
        "tls-cps-32",
    ]
    .iter()
    .map(|text| text.parse().expect("they are written as they are read"))
    .collect()
}

impl std::str::FromStr for Test {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "{text:?} is no test: use up, down, msg, cps, http or idle and a number of connections, as in \
                 msg-64, or tls-msg-64 for connections with TLS"
            )
        };
        let (is_secure, text) = match text.strip_prefix("tls-") {
            Some(text) => (true, text),
            None => (false, text),
        };
        let (kind, connections) = text.split_once('-').ok_or_else(wrong)?;
        let kind = Kind::ALL.into_iter().find(|known| known.name() == kind).ok_or_else(wrong)?;
        let connections = connections.parse().ok().filter(|count| (1..=9000).contains(count));
        Ok(Self { is_secure, kind, connections: connections.ok_or_else(wrong)? })
    }
}

impl std::fmt::Display for Test {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let secure = if self.is_secure { "tls-" } else { "" };
        write!(formatter, "{secure}{}-{}", self.kind.name(), self.connections)
    }
}

impl Layer7 {
    pub(super) fn is_backend(&self) -> bool {
        self.backend.is_some()
    }

    /// Is the real server, for ever.
    pub(super) fn serve(&self) -> anyhow::Result<()> {
        shell::raise_file_limit();
        let listen = self.backend.context("this is no real server")?;
        backend::serve(listen, threads())
    }

    pub(super) async fn run(&self, workspace: &Workspace) -> anyhow::Result<()> {
        if !self.inside {
            let mut command = Command::new("unshare");
            command.arg("--net").arg(workspace.target.join("release/xtask"));
            // Without the program's name; what was given there goes along.
            command.args(std::env::args_os().skip(1)).arg("--inside");
            return run("the benchmark, which needs root", command.current_dir(&workspace.root));
        }
        shell::raise_file_limit();
        let versions = [peers::version("haproxy")?, peers::version("nginx")?];
        say(format_args!("{}; {}", versions[0], versions[1]));
        self.settle_in()?;
        let rig = Rig::start(&workspace.target).await?;
        let (backends, servers) = start_backends(&rig)?;
        let secrets = Secrets::make(rig.dir())?;
        let targets = start_targets(&rig, &secrets, &servers).await?;
        let processes: Vec<u32> = backends.iter().map(Running::id).collect();
        let mut tables = Vec::new();
        for test in &self.tests {
            let mut table = Table::new(*test, targets.iter().map(|target| target.name));
            for round in 0..self.rounds {
                let mut order: Vec<usize> = (0..targets.len()).collect();
                order.rotate_left(round % targets.len());
                for at in order {
                    table.add(at, self.quiet_sample(*test, &targets[at], &secrets, &processes)?);
                }
            }
            say(&table);
            tables.push(table);
        }
        if let Some(path) = &self.plot {
            std::fs::write(path, plot::svg(&tables))
                .with_context(|| format!("writing {}", path.display()))?;
        }
        drop(backends);
        if self.kills > 0 {
            let other = start_backend(&rig, servers[1])?;
            failover::measure(&rig, &targets, servers[0], self.kills)?;
            drop(other);
        }
        if self.services > 0 {
            many::measure(&rig, self.services, self.rounds).await?;
        }
        Ok(())
    }

    /// Makes the loopback of this namespace fit.
    fn settle_in(&self) -> anyhow::Result<()> {
        let name = &self.congestion_control;
        let route = |to: &str| {
            format!(
                "route replace local {to} dev lo table local proto kernel scope host src 127.0.0.1 \
                 congctl lock {name}"
            )
        };
        let up = "link set lo up".to_owned();
        net::ip(None, &[up, route("127.0.0.0/8"), route("127.0.0.1")])?;
        say(format_args!("congestion control of all connections: {name}"));
        Ok(())
    }

    /// A sample while nobody else is busy; the best of some if somebody always is.
    fn quiet_sample(
        &self,
        test: Test,
        target: &Target,
        secrets: &Secrets,
        backends: &[u32],
    ) -> anyhow::Result<Sample> {
        let mut best: Option<Sample> = None;
        for _ in 0..TRIES {
            let sample = self.sample(test, target, secrets, backends)?;
            if best.as_ref().is_none_or(|best| sample.foreign < best.foreign) {
                best = Some(sample);
            }
            if best.as_ref().is_some_and(|best| best.foreign <= QUIET) {
                break;
            }
        }
        best.context("there is at least one")
    }

    fn sample(
        &self,
        test: Test,
        target: &Target,
        secrets: &Secrets,
        backends: &[u32],
    ) -> anyhow::Result<Sample> {
        let of_target = processes::tree(target.running.id());
        let own: Vec<u32> = backends.iter().copied().chain([std::process::id()]).collect();
        let load = Load {
            kind: test.kind,
            to: match test.kind {
                _ if test.is_secure => target.ports.tls,
                Kind::Http => target.ports.http,
                _ => target.ports.tcp,
            },
            connections: test.connections,
            threads: threads().min(test.connections),
            tls: test.is_secure.then(|| Arc::clone(&secrets.client)),
        };
        let memory_before = processes::memory_kib(&of_target)?;
        let running = load.start().with_context(|| format!("{test} by {}", target.name))?;
        std::thread::sleep(WARM);
        let before = Moment::now(&of_target, &own, &running)?;
        running.measure(true);
        std::thread::sleep(Duration::from_secs_f64(self.seconds));
        running.measure(false);
        let passed = Moment::now(&of_target, &own, &running)?.since(&before);
        let memory = processes::memory_kib(&of_target)?;
        if test.kind == Kind::Idle {
            running.speak()?;
        }
        let errors = running.shared.errors.load(std::sync::atomic::Ordering::Relaxed);
        ensure!(
            errors == 0,
            "{test} by {}: {errors} errors: {}",
            target.name,
            running.last_error()
        );
        let latencies = running.stop()?;
        std::thread::sleep(REST);
        Ok(passed.sample(test, &latencies, memory.saturating_sub(memory_before)))
    }
}

/// Counters at one moment, or between two.
struct Moment {
    at: std::time::Instant,
    target: Duration,
    own: Duration,
    machine: Duration,
    exchanges: u64,
    bytes: u64,
}

/// What passed between two moments.
struct Passed {
    time: Duration,
    target: Duration,
    foreign: Duration,
    exchanges: u64,
    bytes: u64,
}

impl Moment {
    fn now(target: &[u32], own: &[u32], running: &load::Running) -> anyhow::Result<Self> {
        use std::sync::atomic::Ordering::Relaxed;
        Ok(Self {
            at: gantry_runtime::clock::monotonic(),
            target: processes::cpu_time(target)?,
            own: processes::cpu_time(own)?,
            machine: processes::machine_time()?,
            exchanges: running.shared.exchanges.load(Relaxed),
            bytes: running.shared.bytes.load(Relaxed),
        })
    }

    fn since(&self, before: &Self) -> Passed {
        let (target, own) = (self.target - before.target, self.own - before.own);
        Passed {
            time: self.at - before.at,
            target,
            foreign: (self.machine - before.machine).saturating_sub(target + own),
            exchanges: self.exchanges - before.exchanges,
            bytes: self.bytes - before.bytes,
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
impl Passed {
    fn sample(
        &self,
        test: Test,
        latencies: &hdrhistogram::Histogram<u64>,
        memory_kib: u64,
    ) -> Sample {
        let seconds = self.time.as_secs_f64();
        let (rate, cpu) = match test.kind {
            Kind::Up | Kind::Down => {
                let gigabytes = self.bytes as f64 / 1e9;
                (8.0 * gigabytes / seconds, self.target.as_secs_f64() / gigabytes)
            }
            Kind::Idle => (memory_kib as f64 / test.connections as f64, 0.0),
            _ => {
                let exchanges = self.exchanges as f64;
                (exchanges / seconds, self.target.as_secs_f64() / exchanges * 1e5)
            }
        };
        let p99 = latencies.value_at_quantile(0.99) as f64 / 1e3;
        Sample { rate, cpu, p99, foreign: self.foreign.as_secs_f64() / seconds }
    }
}

fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
