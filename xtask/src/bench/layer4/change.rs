//! One weight among thousands of services: from the call (or the signal) until the kernel has it. And
//! how long it takes to read everything back.
//!
//! Both sides hold their services at the same time, each in a namespace of its own. The agent looks at
//! the whole kernel all the time; while a peer is measured it is stopped, so as to take no processor from
//! it.

use std::process::Stdio;
use std::time::Duration;

use anyhow::Context;
use gantry_proto::v1 as pb;
use gantry_runtime::clock;
use rustix::process::{Pid, Signal, kill_process};

use super::super::net::{Net, call, ip};
use super::peers::{self, Keepalived};
use super::stage::{Agent, Cluster, Stage, until};
use super::table::{Entry, Table};
use crate::bench::figures::{Durations, ratio};
use crate::say;

/// Gantry's changes in a round: one alone would meet only one moment of the agent's passes.
const CHANGES: usize = 6;
const PAUSE: Duration = Duration::from_millis(1300);
/// Between two looks at the kernel.
const LOOK: Duration = Duration::from_millis(1);
/// A peer that has just worked is still busy with what follows.
const REST: Duration = Duration::from_secs(4);

const PASS: &str = "looked at the whole kernel";

pub(super) async fn measure(stage: &Stage, services: usize, rounds: usize) -> anyhow::Result<()> {
    say(format_args!("\none weight among {services} services of four real servers"));
    let mut bench = Bench::set_up(stage, services).await?;
    for round in 0..rounds {
        bench.round(round).await?;
    }
    let Bench { answered, gantry, reload, pass, list, .. } = &bench;
    say(format_args!("  Gantry, call to answer:         {}", answered.spread()));
    say(format_args!("  Gantry, call to kernel:         {}", gantry.spread()));
    say(format_args!("  keepalived, reload to kernel:   {}", reload.spread()));
    say(format_args!(
        "  ratio of the medians: {:.3} (promise: at most 0.02)",
        ratio(gantry, reload)
    ));
    say(format_args!("\nreading all {services} services back, where nothing differs"));
    say(format_args!("  one pass of agent-l4:           {}", pass.spread()));
    say(format_args!("  ipvsadm --save --numeric:       {}", list.spread()));
    say(format_args!("  ratio of the medians: {:.2}", ratio(pass, list)));
    drop(bench);
    call(std::process::Command::new("ipvsadm").arg("--clear"))?;
    ip(None, &["link del front".to_owned()])
}

#[derive(Debug)]
struct Bench<'a> {
    stage: &'a Stage,
    services: usize,
    cluster: Cluster,
    agent: Agent,
    keepalived: Keepalived,
    /// The real server at the top of each one's table.
    ours: Entry,
    theirs: Entry,
    answered: Durations,
    gantry: Durations,
    reload: Durations,
    pass: Durations,
    list: Durations,
    _net: Net,
}

impl<'a> Bench<'a> {
    async fn set_up(stage: &'a Stage, services: usize) -> anyhow::Result<Self> {
        let cluster = stage.cluster_of(services).await?;
        let net = Net::add("keepalived")?;
        let config = peers::keepalived(services, (0, 0), 1);
        let keepalived = Keepalived::start(&net, stage.rig.dir(), &config)?;
        let theirs = Table::of(keepalived.id());
        let all = || Ok(theirs.size()? == peers::servers(services));
        until("keepalived has made all", REST, all).await?;
        ip(None, &peers::interface())?;
        let agent = stage.agent_l4(&cluster, None, "state")?;
        agent.says("put in force at the start", 1).await?;
        stage.rig.settled(&cluster.id, 1).await?;
        agent.says(PASS, 1).await?;
        Ok(Self {
            stage,
            services,
            cluster,
            ours: Table::of(agent.id()).first()?,
            theirs: theirs.first()?,
            agent,
            keepalived,
            answered: Durations::default(),
            gantry: Durations::default(),
            reload: Durations::default(),
            pass: Durations::default(),
            list: Durations::default(),
            _net: net,
        })
    }

    async fn round(&mut self, round: usize) -> anyhow::Result<()> {
        for at in 0..CHANGES {
            let weight = 2 + u32::try_from(round * CHANGES + at)?;
            self.change(weight).await?;
            // Never the same moment of a pass.
            tokio::time::sleep(PAUSE).await;
        }
        let passes = self.agent.said(PASS)?.len();
        // The first may have begun before the last change.
        let said = self.agent.says(PASS, passes + 2).await?;
        anyhow::ensure!(said.number("mended")? == 0, "somebody else has changed the kernel");
        self.pass.push(said.took()?);
        signal(self.agent.id(), Signal::STOP)?;
        self.list.push(list()?);
        let weight = 2 + u32::try_from(round)?;
        let reloaded = self.reload(weight).await;
        signal(self.agent.id(), Signal::CONT)?;
        reloaded?;
        self.agent.says(PASS, passes + 3).await?;
        Ok(())
    }

    async fn change(&mut self, weight: u32) -> anyhow::Result<()> {
        let (service, at) = peers::number_of(self.services, self.ours.service, self.ours.server)?;
        let id = &self.cluster.id;
        let name = format!("clusters/{id}/virtualServices/service-{service:05}/realServers/rs{at}");
        let request = pb::UpdateRealServerRequest {
            real_server: Some(pb::RealServer {
                name,
                weight: Some(i32::try_from(weight)?),
                ..Default::default()
            }),
            ..Default::default()
        };
        let mut balancer = self.stage.rig.balancer()?;
        // Opens the connection, which an operator's program has open.
        let get = pb::GetVirtualServiceRequest {
            name: format!("clusters/{id}/virtualServices/service-{service:05}"),
        };
        balancer.get_virtual_service(get).await?;
        let sent = clock::monotonic();
        balancer.update_real_server(request).await?;
        self.answered.push(clock::monotonic() - sent);
        seen(&Table::of(self.agent.id()), self.ours, weight).await?;
        self.gantry.push(clock::monotonic() - sent);
        Ok(())
    }

    async fn reload(&mut self, weight: u32) -> anyhow::Result<()> {
        let Entry { service, server, .. } = self.theirs;
        let other = peers::number_of(self.services, service, server)?;
        std::fs::write(&self.keepalived.config, peers::keepalived(self.services, other, weight))?;
        let sent = clock::monotonic();
        signal(self.keepalived.id(), Signal::HUP)?;
        seen(&Table::of(self.keepalived.id()), self.theirs, weight).await?;
        self.reload.push(clock::monotonic() - sent);
        tokio::time::sleep(REST).await;
        Ok(())
    }
}

/// Waits until the kernel has the weight.
async fn seen(table: &Table, entry: Entry, weight: u32) -> anyhow::Result<()> {
    let what = format!("{} has the weight {weight}", entry.server);
    until(&what, LOOK, || Ok(table.first()? == Entry { weight, ..entry })).await
}

/// Lists this namespace's table.
fn list() -> anyhow::Result<Duration> {
    let mut command = std::process::Command::new("ipvsadm");
    let began = clock::monotonic();
    call(command.args(["--save", "--numeric"]).stdout(Stdio::null()))?;
    Ok(clock::monotonic() - began)
}

fn signal(process: u32, signal: Signal) -> anyhow::Result<()> {
    let id = Pid::from_raw(process.cast_signed()).context("a process has a number")?;
    kill_process(id, signal).context("sending a signal")
}
