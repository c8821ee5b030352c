//! `cargo xtask bench control`: the controller's promises.
//!
//! A change counts from the moment its call is sent until it is in force at every agent it concerns,
//! so the times contain the call, the transaction with its fsync, the stream, the ledger's fsync and
//! the agent's own work: more than "commit to applied", never less.

mod crowd;
mod disk;

use std::time::Duration;

use clap::Args;
use gantry_proto::v1 as pb;
use gantry_proto::v1::fleet_service_client::FleetServiceClient;
use gantry_runtime::{clock, shell};
use tokio::task::JoinSet;
use tonic::transport::Channel;

use super::figures::{Durations, bytes_sent, millis, resident_mib};
use super::rig::Rig;
use crate::say;
use crate::workspace::Workspace;

/// Writes measured for each number of writers.
const WRITES: usize = 1000;
/// Changes measured until they are in force.
const CHANGES: usize = 500;
/// From the start of one change to the start of the next.
const PACE: Duration = Duration::from_millis(20);
const ONE_CLUSTER: usize = 5000;

#[derive(Args, Debug)]
#[command(after_long_help = "\
Takes about three minutes. Needs ss (iproute2) and a disk below the target folder.")]
pub(crate) struct Control {
    /// Connected agents, in clusters of three
    #[arg(long, default_value_t = 1000)]
    agents: usize,
    /// Virtual services, spread over those clusters
    #[arg(long, default_value_t = 10_000)]
    services: usize,
}

impl Control {
    pub(crate) async fn run(self, workspace: &Workspace) -> anyhow::Result<()> {
        shell::raise_file_limit();
        let disk = disk::sync_times(&workspace.target)?;
        say(format_args!("disk: 4 KiB and fdatasync: {}", disk.summary()));
        writes(workspace).await?;
        one_cluster(workspace).await?;
        self.many_agents(workspace).await
    }

    async fn many_agents(&self, workspace: &Workspace) -> anyhow::Result<()> {
        let mut rig = Rig::start(&workspace.target).await?;
        let clusters = self.agents.div_ceil(crowd::PER_CLUSTER);
        let each = self.services.div_ceil(clusters);
        say(format_args!("\n{} agents in {clusters} clusters, {each} services each", self.agents));
        let mut crowd = crowd::Crowd::join(&rig, self.agents, each).await?;
        let resident = resident_mib(rig.process())?;
        say(format_args!("  controller's memory: {resident} MiB"));
        let (answered, applied) = crowd.measure(&rig, CHANGES, PACE).await?;
        say(format_args!("  write to answer:                       {}", answered.summary()));
        say(format_args!(
            "  write to in force at {} agents:         {}",
            crowd::PER_CLUSTER,
            applied.summary()
        ));
        say(format_args!(
            "  sent for one change to {} agents:       {} bytes",
            crowd::PER_CLUSTER,
            sent_for_a_change(&rig, "c000").await?
        ));
        say(format_args!("  controller's memory after that: {} MiB", resident_mib(rig.process())?));
        drop(crowd);
        let mut starts = Durations::default();
        for _ in 0..7 {
            starts.push(rig.restart().await?);
        }
        say(format_args!(
            "  start to first answer, {} services: {}",
            each * clusters,
            starts.summary()
        ));
        say(format_args!(
            "  controller's memory after a start: {} MiB",
            resident_mib(rig.process())?
        ));
        Ok(())
    }
}

/// Single writes, each a transaction of its own.
async fn writes(workspace: &Workspace) -> anyhow::Result<()> {
    let rig = Rig::start(&workspace.target).await?;
    rig.make_cluster("main", 100).await?;
    say("\nsingle writes, each durable before it is answered");
    for writers in [1, 4, 16] {
        let began = clock::monotonic();
        let mut tasks = JoinSet::new();
        for writer in 0..writers {
            let mut balancer = rig.balancer()?;
            tasks.spawn(async move {
                let mut took = Vec::new();
                for at in 0..WRITES / writers {
                    let request = weight_change("main", writer, at % 90 + 1);
                    let sent = clock::monotonic();
                    balancer.update_real_server(request).await?;
                    took.push(clock::monotonic() - sent);
                }
                anyhow::Ok(took)
            });
        }
        let mut all = Durations::default();
        while let Some(took) = tasks.join_next().await {
            took??.into_iter().for_each(|took| all.push(took));
        }
        #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
        let rate = all.len() as f64 / (clock::monotonic() - began).as_secs_f64();
        say(format_args!("  {writers:2} writers: {rate:6.0} a second; {}", all.summary()));
    }
    Ok(())
}

/// One cluster of thousands of services, with the real agents.
async fn one_cluster(workspace: &Workspace) -> anyhow::Result<()> {
    let rig = Rig::start(&workspace.target).await?;
    say(format_args!("\none cluster, {ONE_CLUSTER} services, the real agent-l7 and healthd"));
    let began = clock::monotonic();
    rig.make_cluster("main", ONE_CLUSTER).await?;
    say(format_args!(
        "  the whole document, until committed: {}",
        millis(clock::monotonic() - began)
    ));
    let identity = rig.enroll("main", "lb1").await?;
    let feed = rig.dir().join("health.sock");
    let mut agents = Vec::new();
    for program in ["gantry-healthd", "gantry-agent-l7"] {
        let state = rig.dir().join(program);
        agents.push(rig.start_agent(program, &identity, [&state, &feed])?);
    }
    rig.settled("main", 2).await?;
    let (mut answered, mut applied) = (Durations::default(), Durations::default());
    let (mut balancer, mut fleet) = (rig.balancer()?, rig.fleet()?);
    for at in 0..CHANGES {
        let request = weight_change("main", at * 7 % ONE_CLUSTER, at % 90 + 1);
        let sent = clock::monotonic();
        balancer.update_real_server(request).await?;
        answered.push(clock::monotonic() - sent);
        while !in_force(&mut fleet).await? {}
        applied.push(clock::monotonic() - sent);
        tokio::time::sleep(PACE.saturating_sub(clock::monotonic() - sent)).await;
    }
    say(format_args!("  write to answer:                     {}", answered.summary()));
    say(format_args!("  write to in force, seen by an operator: {}", applied.summary()));
    let bytes = sent_for_a_change(&rig, "main").await?;
    say(format_args!("  sent to the agents for a change:     {bytes} bytes"));
    say(format_args!(
        "  controller's memory:                 {} MiB",
        resident_mib(rig.process())?
    ));
    Ok(())
}

/// Whether both agents say that they run the newest configuration.
async fn in_force(fleet: &mut FleetServiceClient<Channel>) -> anyhow::Result<bool> {
    let request = pb::GetApplianceRequest { name: "clusters/main/appliances/lb1".into() };
    let appliance = fleet.get_appliance(request).await?.into_inner();
    Ok(appliance.agents.len() == 2 && appliance.agents.iter().all(|agent| agent.current))
}

/// Another weight for the first real server of a service.
fn weight_change(cluster: &str, service: usize, weight: usize) -> pb::UpdateRealServerRequest {
    let name = server_name(cluster, service);
    let weight = i32::try_from(weight).ok();
    pb::UpdateRealServerRequest {
        real_server: Some(pb::RealServer { name, weight, ..Default::default() }),
        ..Default::default()
    }
}

fn server_name(cluster: &str, service: usize) -> String {
    format!("clusters/{cluster}/virtualServices/service-{service:05}/realServers/rs0")
}

/// Bytes that the controller sends to agents for one change, all of them together.
///
/// The changes are made by the `gantry` command, whose connections are closed when the bytes are
/// counted; what flows without any change is counted before and subtracted.
async fn sent_for_a_change(rig: &Rig, cluster: &str) -> anyhow::Result<u64> {
    const COUNT: usize = 40;
    const QUIET: Duration = Duration::from_secs(4);
    let before = bytes_sent(rig.port)?;
    tokio::time::sleep(QUIET).await;
    let quiet = bytes_sent(rig.port)?.saturating_sub(before);
    let (before, began) = (bytes_sent(rig.port)?, clock::monotonic());
    for at in 0..COUNT {
        let weight = format!("weight={}", 101 + at);
        rig.gantry(&["set", &server_name(cluster, at % 30), &weight]).await?;
    }
    // The last one is on its way.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let window = (clock::monotonic() - began).as_secs_f64() / QUIET.as_secs_f64();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        clippy::cast_sign_loss,
        reason = "counts of bytes far below where it matters"
    )]
    let idle = (quiet as f64 * window) as u64;
    Ok(bytes_sent(rig.port)?.saturating_sub(before).saturating_sub(idle) / COUNT as u64)
}
