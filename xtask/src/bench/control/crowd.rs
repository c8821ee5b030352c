//! Hundreds of agents in this process: the real loop of every agent, over real gRPC and TLS, with its
//! ledger on disk. Only the last step is not real: a plan put in force is noted with the time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use gantry_model::agent::AgentKind;
use gantry_model::name::ServiceName;
use gantry_model::plan::ServicePlan;
use gantry_runtime::agent::{self, AgentOptions, Apply, Observe, Rejection};
use gantry_runtime::clock;
use gantry_runtime::tasks::Tasks;
use tokio::sync::mpsc;

use super::{server_name, weight_change};
use crate::bench::figures::Durations;
use crate::bench::rig::Rig;

/// Agents in a cluster, each of an appliance of its own.
pub(super) const PER_CLUSTER: usize = 3;
const PATIENCE: Duration = Duration::from_secs(30);

/// The agents. They end when this is dropped.
pub(super) struct Crowd {
    /// How many agents each cluster has.
    sizes: Vec<usize>,
    services: usize,
    applied: mpsc::Receiver<Applied>,
    _tasks: Tasks,
}

/// A plan came into force somewhere.
#[derive(Debug)]
struct Applied {
    service: ServiceName,
    weight: u16,
    at: Instant,
}

struct Note(mpsc::Sender<Applied>);

impl Apply for Note {
    fn put(&mut self, plan: ServicePlan) -> Result<(), Rejection> {
        let weight = plan.servers.first().map_or(0, |server| server.weight.get());
        let applied = Applied { service: plan.service.name, weight, at: clock::monotonic() };
        // Nobody listens while the agents start: then there is nothing to measure.
        let _ = self.0.try_send(applied);
        Ok(())
    }

    fn remove(&mut self, _name: &ServiceName) {}
}

struct NothingToSee;

impl Observe for NothingToSee {}

impl Crowd {
    /// Makes the clusters, lets the appliances join, starts the agents, and waits until all are up
    /// to date.
    pub(super) async fn join(rig: &Rig, agents: usize, services: usize) -> anyhow::Result<Self> {
        let clusters = agents.div_ceil(PER_CLUSTER);
        let sizes: Vec<usize> =
            (0..clusters).map(|at| PER_CLUSTER.min(agents - at * PER_CLUSTER)).collect();
        for at in 0..clusters {
            rig.make_cluster(&cluster_id(at), services).await?;
        }
        let (sender, applied) = mpsc::channel(1 << 16);
        let mut tasks = Tasks::new();
        for (at, size) in sizes.iter().enumerate() {
            for appliance in 0..*size {
                let identity = rig.enroll(&cluster_id(at), &format!("lb{appliance}")).await?;
                let options = AgentOptions {
                    controller: rig.url(),
                    state: identity.with_file_name("state"),
                    feed: identity.with_file_name("none"),
                    identity,
                };
                let (note, see) = (Note(sender.clone()), Arc::new(NothingToSee));
                agent::start(&mut tasks, AgentKind::L7, &options, note, see).await?;
            }
        }
        for (at, size) in sizes.iter().enumerate() {
            rig.settled(&cluster_id(at), *size).await?;
        }
        Ok(Self { sizes, services, applied, _tasks: tasks })
    }

    /// Makes changes at a pace, each in another cluster; gives the times until they were answered
    /// and until they were in force at every agent of the cluster.
    pub(super) async fn measure(
        &mut self,
        rig: &Rig,
        changes: usize,
        pace: Duration,
    ) -> anyhow::Result<(Durations, Durations)> {
        while self.applied.try_recv().is_ok() {}
        let (mut answered, mut applied) = (Durations::default(), Durations::default());
        let mut balancer = rig.balancer()?;
        for at in 0..changes {
            let cluster = at % self.sizes.len();
            let (service, weight) = (at % self.services, at % 90 + 1);
            let request = weight_change(&cluster_id(cluster), service, weight);
            let name = server_name(&cluster_id(cluster), service);
            let sent = clock::monotonic();
            balancer.update_real_server(request).await?;
            answered.push(clock::monotonic() - sent);
            for _ in 0..self.sizes[cluster] {
                let news = tokio::time::timeout(PATIENCE, self.applied.recv()).await;
                let news = news.context("an agent did not get a change")?;
                let news = news.context("the agents have ended")?;
                let same = usize::from(news.weight) == weight
                    && name.starts_with(&news.service.to_string());
                ensure!(same, "{news:?} is not what was changed");
                applied.push(news.at - sent);
            }
            tokio::time::sleep(pace.saturating_sub(clock::monotonic() - sent)).await;
        }
        Ok((answered, applied))
    }
}

fn cluster_id(at: usize) -> String {
    format!("c{at:03}")
}
