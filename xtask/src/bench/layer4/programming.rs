//! Many virtual services from nothing: from the start of the program until all are in the kernel.
//!
//! agent-l4 starts as after a restart of the machine: its configuration is in its ledger, healthd is
//! there, a controller is not, the kernel's table is empty. ipvsadm has its rules in a file. Each run has
//! a new network namespace, for the kernel keeps what was deleted for minutes, and that slows it.

use std::fs::File;
use std::time::Duration;

use anyhow::ensure;
use gantry_runtime::clock;

use super::super::net::{Net, call};
use super::peers;
use super::stage::{Cluster, Stage};
use super::table;
use crate::bench::figures::{Durations, ratio};
use crate::say;

/// After a run, for the kernel to clear away what the namespace held.
const REST: Duration = Duration::from_secs(2);

pub(super) async fn measure(stage: &Stage, services: usize, rounds: usize) -> anyhow::Result<()> {
    say(format_args!("\n{services} services of four real servers, from nothing"));
    let cluster = stage.cluster_of(services).await?;
    let mut gantry = Gantry::default();
    let mut ipvsadm = Durations::default();
    for round in 0..rounds {
        gantry.measure(stage, &cluster, (services, round)).await?;
        tokio::time::sleep(REST).await;
        ipvsadm.push(restore(stage, services)?);
        tokio::time::sleep(REST).await;
    }
    say(format_args!("  agent-l4, from its start:       {}", gantry.whole.spread()));
    say(format_args!("    of that, services and addresses: {}", gantry.change.spread()));
    say(format_args!("    of that, IPVS alone:          {}", gantry.programming.spread()));
    say(format_args!("  ipvsadm --restore:              {}", ipvsadm.spread()));
    say(format_args!(
        "  ratio of the medians: {:.2} (promise: at most 0.5)",
        ratio(&gantry.whole, &ipvsadm)
    ));
    Ok(())
}

#[derive(Debug, Default)]
struct Gantry {
    whole: Durations,
    change: Durations,
    programming: Durations,
}

impl Gantry {
    async fn measure(
        &mut self,
        stage: &Stage,
        cluster: &Cluster,
        (services, round): (usize, usize),
    ) -> anyhow::Result<()> {
        let net = Net::add("nothing")?;
        net.ip(&peers::interface())?;
        let healthd = stage.healthd(cluster, &net).await?;
        tokio::time::sleep(REST).await;
        let agent = stage.agent_l4(cluster, Some(&net), &format!("state{round}"))?;
        let said = agent.says("put in force at the start", 1).await?;
        self.whole.push(clock::monotonic() - agent.started);
        self.change.push(said.took()?);
        self.programming.push(agent.says("programmed", 1).await?.took()?);
        check(&net, services)?;
        drop((agent, healthd));
        call(net.command("ipvsadm").arg("--clear"))
    }
}

fn restore(stage: &Stage, services: usize) -> anyhow::Result<Duration> {
    let net = Net::add("nothing")?;
    let path = stage.rig.dir().join("rules");
    std::fs::write(&path, peers::ipvsadm(services))?;
    let mut command = net.command("ipvsadm");
    let began = clock::monotonic();
    call(command.arg("--restore").stdin(File::open(path)?))?;
    let took = clock::monotonic() - began;
    check(&net, services)?;
    call(net.command("ipvsadm").arg("--clear"))?;
    Ok(took)
}

/// All real servers are there.
fn check(net: &Net, services: usize) -> anyhow::Result<()> {
    let output = net.command("cat").arg("/proc/net/ip_vs").output()?;
    let held = table::entries(&String::from_utf8_lossy(&output.stdout)).len();
    let wanted = peers::servers(services);
    ensure!(held == wanted, "the kernel holds {held} real servers, not {wanted}");
    Ok(())
}
