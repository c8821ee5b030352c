//! `cargo xtask bench medical`: the DICOM and MLLP modes of agent-l7 beside a direct connection and
//! HAProxy in TCP mode.
//!
//! Images are sent by dcmtk's storescu to Orthanc, which stores each anew. Messages are sent by threads of
//! this program, each waiting for its answer, to a receiver that only answers. What is measured takes turns,
//! round by round.

mod feed;
mod store;

use std::ffi::OsStr;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use gantry_proto::v1 as pb;
use gantry_runtime::shell;

use super::net;
use super::processes;
use super::rig::{Rig, Running, free_address, wait_for};
use crate::say;
use crate::workspace::{Workspace, run};

#[derive(Args, Clone, Debug)]
#[command(after_long_help = "\
Takes about five minutes. Needs root, and apt-get install haproxy dcmtk orthanc.")]
pub(crate) struct Medical {
    /// How often each figure is measured, in turn with the peers'
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Images for each association, by their size in KiB
    #[arg(long, value_delimiter = ',', default_values_t = [64, 512, 4096])]
    sizes: Vec<u16>,
    /// How many associations at the same time
    #[arg(long, value_delimiter = ',', default_values_t = [1, 4])]
    associations: Vec<usize>,
    /// How many senders of messages at the same time
    #[arg(long, value_delimiter = ',', default_values_t = [1, 16, 64])]
    senders: Vec<usize>,
    /// How long messages are sent each time, in seconds
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Measure here and now: the namespace is this program's own
    #[arg(long, hide = true)]
    inside: bool,
    /// Be the receiver of messages
    #[arg(long, hide = true)]
    receiver: Option<SocketAddr>,
}

/// A way to the real servers.
#[derive(Debug)]
struct Way {
    name: &'static str,
    dicom: SocketAddr,
    mllp: SocketAddr,
    /// Whose work is counted.
    process: Option<u32>,
}

/// What was measured of one way: how much in a second, and the proxy's processor time for each.
#[derive(Clone, Copy, Debug, Default)]
struct Sample {
    rate: f64,
    cpu: Duration,
}

const CLUSTER: &str = "bench";

impl Medical {
    pub(super) fn is_receiver(&self) -> bool {
        self.receiver.is_some()
    }

    /// Is the receiver, for ever.
    pub(super) fn receive(&self) -> anyhow::Result<()> {
        feed::receive(self.receiver.context("this is no receiver")?)
    }

    pub(super) async fn run(&self, workspace: &Workspace) -> anyhow::Result<()> {
        if !self.inside {
            let mut command = Command::new("unshare");
            command.arg("--net").arg(workspace.target.join("release/xtask"));
            command.args(std::env::args_os().skip(1)).arg("--inside");
            return run("the benchmark, which needs root", command.current_dir(&workspace.root));
        }
        shell::raise_file_limit();
        net::ip(None, &["link set lo up".to_owned()])?;
        let rig = Rig::start(&workspace.target).await?;
        let archive = store::Archive::start(rig.dir())?;
        let (receiver, mllp) = start_receiver(&rig)?;
        let direct = Way { name: "direct", dicom: archive.at, mllp, process: None };
        let (haproxy, beside) = start_haproxy(rig.dir(), &direct)?;
        let (gantry, own) = start_gantry(&rig, &direct).await?;
        let ways = [direct, haproxy, gantry];
        for way in &ways {
            wait_for(way.dicom)?;
            wait_for(way.mllp)?;
        }
        for size in &self.sizes {
            for associations in &self.associations {
                let studies = store::Studies::make(rig.dir(), *size, *associations)?;
                let what = format!("images of {size} KiB, {associations} associations");
                self.measure(&what, &ways, |way| studies.store(way.dicom))?;
            }
        }
        for senders in &self.senders {
            let what = format!("messages of {} bytes, {senders} senders", feed::LENGTH);
            let seconds = Duration::from_secs_f64(self.seconds);
            self.measure(&what, &ways, |way| feed::send(way.mllp, *senders, seconds))?;
        }
        drop((receiver, beside, own));
        Ok(())
    }

    /// Measures all ways in turn; `count` does some of the work, and says how much in what time.
    fn measure(
        &self,
        what: &str,
        ways: &[Way],
        count: impl Fn(&Way) -> anyhow::Result<(u64, Duration)>,
    ) -> anyhow::Result<()> {
        let mut samples: Vec<Vec<Sample>> = vec![Vec::new(); ways.len()];
        for round in 0..self.rounds {
            let mut order: Vec<usize> = (0..ways.len()).collect();
            order.rotate_left(round % ways.len());
            for at in order {
                let way = &ways[at];
                let of_way = way.process.map(processes::tree).unwrap_or_default();
                let before = processes::cpu_time(&of_way)?;
                let (done, took) = count(way).with_context(|| format!("{what}, {}", way.name))?;
                let cpu = processes::cpu_time(&of_way)?.saturating_sub(before);
                samples[at].push(Sample::new(done, took, cpu));
            }
        }
        say(format_args!("{what}:"));
        let direct = median(&samples[0], |sample| sample.rate);
        for (way, samples) in ways.iter().zip(&samples) {
            let rate = median(samples, |sample| sample.rate);
            let rates = samples.iter().map(|sample| sample.rate);
            let (least, most) = (rates.clone().fold(f64::MAX, f64::min), rates.fold(0.0, f64::max));
            let cpu = median(samples, |sample| sample.cpu.as_secs_f64() * 1e6);
            say(format_args!(
                "  {:8} {rate:9.1} a second ({least:.1} to {most:.1}), {:.2} of direct, {cpu:.0} us of the \
                 proxy's processor each",
                way.name,
                rate / direct
            ));
        }
        Ok(())
    }
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
impl Sample {
    fn new(done: u64, took: Duration, cpu: Duration) -> Self {
        let each = cpu.as_secs_f64() / done.max(1) as f64;
        Self { rate: done as f64 / took.as_secs_f64(), cpu: Duration::from_secs_f64(each) }
    }
}

fn median(samples: &[Sample], of: impl Fn(&Sample) -> f64) -> f64 {
    let mut figures: Vec<f64> = samples.iter().map(of).collect();
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or_default()
}

fn start_receiver(rig: &Rig) -> anyhow::Result<(Running, SocketAddr)> {
    let address = free_address()?;
    let listen = address.to_string();
    let xtask = rig.binary("xtask");
    let command = ["bench", "medical", "--receiver", &listen].map(OsStr::new);
    let command: Vec<&OsStr> = [xtask.as_os_str()].into_iter().chain(command).collect();
    let running = Running::start(&command, &rig.log("receiver"))?;
    wait_for(address)?;
    Ok((running, address))
}

/// HAProxy with two threads, in TCP mode, with the checks that it has for this.
fn start_haproxy(dir: &Path, to: &Way) -> anyhow::Result<(Way, Running)> {
    let (dicom, mllp) = (free_address()?, free_address()?);
    let config = format!(
        "global\n    nbthread 2\ndefaults\n    mode tcp\n    option splice-auto\n    \
         timeout connect 4s\n    timeout client 1h\n    timeout server 1h\n    balance leastconn\n    \
         default-server check inter 1s fall 2\n\
         listen dicom\n    bind {dicom}\n    stick-table type ip size 100k expire 1h\n    stick on src\n    \
         server one {}\nlisten mllp\n    bind {mllp}\n    server one {}\n",
        to.dicom, to.mllp
    );
    let path = dir.join("haproxy.cfg");
    std::fs::write(&path, config)?;
    let command = [OsStr::new("haproxy"), "-db".as_ref(), "-f".as_ref(), path.as_os_str()];
    let running = Running::start(&command, &dir.join("haproxy.log"))?;
    let way = Way { name: "HAProxy", dicom, mllp, process: Some(running.id()) };
    Ok((way, running))
}

/// agent-l7, and healthd beside it, by the controller's word.
async fn start_gantry(rig: &Rig, to: &Way) -> anyhow::Result<(Way, [Running; 2])> {
    use pb::health_check::{DicomEcho, Mllp, Probe};
    use pb::layer7::Mode;
    let (dicom, mllp) = (free_address()?, free_address()?);
    let services = vec![
        service("dicom", dicom, to.dicom, Mode::DicomMode, Probe::DicomEcho(DicomEcho::default())),
        service("mllp", mllp, to.mllp, Mode::MllpMode, Probe::Mllp(Mllp::default())),
    ];
    rig.make_cluster_of(CLUSTER, services).await?;
    let identity = rig.enroll(CLUSTER, "lb1").await?;
    let feed = rig.dir().join("health.sock");
    let start =
        |program: &str| rig.start_agent(program, &identity, [&rig.dir().join(program), &feed]);
    let healthd = start("gantry-healthd")?;
    let agent = start("gantry-agent-l7")?;
    rig.settled(CLUSTER, 2).await?;
    let way = Way { name: "Gantry", dicom, mllp, process: Some(agent.id()) };
    Ok((way, [agent, healthd]))
}

fn service(
    id: &str,
    listen: SocketAddr,
    to: SocketAddr,
    mode: pb::layer7::Mode,
    probe: pb::health_check::Probe,
) -> pb::config::Service {
    let endpoint = pb::Endpoint { address: to.ip().to_string(), port: to.port().into() };
    let layer7 = pb::Layer7 { mode: mode.into(), ..Default::default() };
    let service = pb::VirtualService {
        name: id.to_owned(),
        listener: Some(pb::Listener {
            address: listen.ip().to_string(),
            ports: vec![listen.port().to_string()],
            ..Default::default()
        }),
        forwarding: Some(pb::virtual_service::Forwarding::Layer7(layer7)),
        persistence: Some(pb::Persistence::default()),
        health_check: Some(pb::HealthCheck { probe: Some(probe), ..Default::default() }),
        ..Default::default()
    };
    let server =
        pb::RealServer { name: "one".to_owned(), endpoint: Some(endpoint), ..Default::default() };
    pb::config::Service { virtual_service: Some(service), real_servers: vec![server] }
}
