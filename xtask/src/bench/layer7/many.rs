//! Thousands of virtual services that nobody uses: what each costs, and how long a change takes until
//! it has its effect.

use std::ffi::OsStr;
use std::fmt::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use gantry_proto::v1 as pb;
use gantry_runtime::clock;
use rustix::process::{Pid, Signal, kill_process};

use super::super::figures::{Durations, ratio};
use super::super::processes;
use super::super::rig::{Rig, Running, free_address, wait_for};
use super::targets::service;
use crate::say;

const CLUSTER: &str = "many";
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks whether somebody listens.
const LOOK: Duration = Duration::from_micros(200);
/// After a reload of HAProxy, for its old process to be gone.
const REST: Duration = Duration::from_secs(2);

pub(super) async fn measure(rig: &Rig, services: usize, rounds: usize) -> anyhow::Result<()> {
    say(format_args!("\n{services} virtual services of four real servers"));
    let ours = start_gantry(rig, services).await?;
    let theirs = HaProxy::start(rig, services)?;
    say(format_args!(
        "  memory for each: Gantry {:.1} KiB, HAProxy {:.1} KiB",
        ours.1, theirs.each
    ));
    let (mut gantry, mut haproxy) = (Durations::default(), Durations::default());
    for round in 0..rounds {
        gantry.push(add_service(rig, round).await.context("adding a service to Gantry")?);
        haproxy.push(theirs.add_service(services).context("reloading HAProxy")?);
        std::thread::sleep(REST);
    }
    say(format_args!("  Gantry, call until the new service accepts:    {}", gantry.spread()));
    say(format_args!("  HAProxy, reload until the new service accepts: {}", haproxy.spread()));
    say(format_args!("  ratio of the medians: {:.4}", ratio(&gantry, &haproxy)));
    Ok(())
}

/// agent-l7 with that many services, and the KiB of each.
async fn start_gantry(rig: &Rig, services: usize) -> anyhow::Result<(Running, f64)> {
    rig.make_cluster(CLUSTER, 1).await?;
    let identity = rig.enroll(CLUSTER, "lb1").await?;
    let state = rig.dir().join(CLUSTER).join("agent");
    let feed = rig.dir().join("none.sock");
    let agent = rig.start_agent("gantry-agent-l7", &identity, [&state, &feed])?;
    rig.settled(CLUSTER, 1).await?;
    let before = processes::memory_kib(&[agent.id()])?;
    rig.fill_cluster(CLUSTER, services).await?;
    rig.settled(CLUSTER, 1).await?;
    let after = processes::memory_kib(&[agent.id()])?;
    Ok((agent, each(before, after, services)))
}

async fn add_service(rig: &Rig, round: usize) -> anyhow::Result<Duration> {
    let listen = free_address()?;
    let new = service(&format!("new{round}"), listen, pb::Layer7::default(), &real_servers(0));
    let mut balancer = rig.balancer()?;
    let parent = format!("clusters/{CLUSTER}");
    // Opens the connection, which an operator's program has open.
    let list = pb::ListVirtualServicesRequest {
        parent: parent.clone(),
        page_size: 1,
        ..Default::default()
    };
    balancer.list_virtual_services(list).await?;
    let mut virtual_service = new.virtual_service.context("a service has one")?;
    let virtual_service_id = std::mem::take(&mut virtual_service.name);
    let request = pb::CreateVirtualServiceRequest {
        parent,
        virtual_service_id,
        virtual_service: Some(virtual_service),
        ..Default::default()
    };
    let began = clock::monotonic();
    balancer.create_virtual_service(request).await?;
    accepts(listen)?;
    Ok(clock::monotonic() - began)
}

/// HAProxy with that many services, under its own master.
struct HaProxy {
    running: Running,
    config: PathBuf,
    /// KiB of each service.
    each: f64,
}

impl HaProxy {
    fn start(rig: &Rig, services: usize) -> anyhow::Result<Self> {
        let config = rig.dir().join("many.cfg");
        let start = |services: usize| {
            std::fs::write(&config, haproxy_config(services, None))?;
            let path = config.as_os_str();
            let command = [OsStr::new("haproxy"), "-W".as_ref(), "-f".as_ref(), path];
            let running = Running::start(&command, &rig.log("many-haproxy"))?;
            wait_for(listens(services - 1))?;
            // Its master does not hear of a reload that comes too soon.
            std::thread::sleep(REST);
            anyhow::Ok(running)
        };
        let memory = |running: &Running| processes::memory_kib(&processes::tree(running.id()));
        let one = start(1)?;
        let before = memory(&one)?;
        drop(one);
        let running = start(services)?;
        let after = memory(&running)?;
        Ok(Self { running, each: each(before, after, services), config })
    }

    fn add_service(&self, services: usize) -> anyhow::Result<Duration> {
        let listen = free_address()?;
        std::fs::write(&self.config, haproxy_config(services, Some(listen)))?;
        let began = clock::monotonic();
        let master = Pid::from_raw(self.running.id().cast_signed()).context("it has a number")?;
        kill_process(master, Signal::USR2)?;
        accepts(listen)?;
        Ok(clock::monotonic() - began)
    }
}

fn haproxy_config(services: usize, more: Option<SocketAddr>) -> String {
    let mut config = "global\n    maxconn 1000\n    nbthread 2\ndefaults\n    mode tcp\n    \
                      timeout connect 4s\n    timeout client 1h\n    timeout server 1h\n"
        .to_owned();
    let listens = (0..services).map(listens).chain(more);
    for (number, listen) in listens.enumerate() {
        // To write to a string does not fail.
        let _ = writeln!(
            config,
            "listen s{number}\n    bind {listen}\n    stick-table type ip size 1k expire 1h\n    \
             stick on src"
        );
        for (at, server) in real_servers(number).iter().enumerate() {
            let _ = writeln!(config, "    server rs{at} {server}");
        }
    }
    config
}

fn listens(number: usize) -> SocketAddr {
    let byte = |number: usize| u8::try_from(number % 250).expect("less than 256");
    (Ipv4Addr::new(127, 30, byte(number / 250), byte(number) + 1), 11112).into()
}

fn real_servers(number: usize) -> Vec<SocketAddr> {
    let byte = |number: usize| u8::try_from(number % 250).expect("less than 256");
    (1..=4).map(|at| (Ipv4Addr::new(127, 20, byte(number / 250), at), 104).into()).collect()
}

#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
fn each(before_kib: u64, after_kib: u64, services: usize) -> f64 {
    after_kib.saturating_sub(before_kib) as f64 / services as f64
}

/// Waits until somebody accepts there.
fn accepts(address: SocketAddr) -> anyhow::Result<()> {
    let began = clock::monotonic();
    while TcpStream::connect(address).is_err() {
        anyhow::ensure!(clock::monotonic() - began < PATIENCE, "nobody listens at {address}");
        std::thread::sleep(LOOK);
    }
    Ok(())
}
