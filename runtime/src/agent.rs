//! The loop that every agent is: follow the desired state, write it to the ledger, apply it, report.
//!
//! State flows one way: controller, [`ledger`], [`Apply`], report. The ledger is read first, so an
//! agent works without any controller; the controller's death changes nothing but what is new.

mod follow;
pub mod ledger;
pub mod question;
mod report;
mod way;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use gantry_model::agent::{AgentKind, AgentName};
use gantry_model::name::{ApplianceName, ServiceName};
use gantry_model::plan::ServicePlan;
use gantry_model::wire;
use gantry_proto::agent::v1 as pb;
use tokio::sync::watch;
use tonic::transport::Channel;
use tracing::info;

use crate::backoff::Backoff;
use crate::identity::{Identity, IdentityError};
use crate::rpc::RpcError;
use crate::tasks::Tasks;
use ledger::{Ledger, LedgerError};
use way::Way;

/// What every agent is told on its command line.
#[derive(Clone, Debug, clap::Args)]
pub struct AgentOptions {
    /// The controller.
    #[arg(long, env = "GANTRY_CONTROLLER", value_name = "https://HOST:PORT")]
    pub controller: String,
    /// Where ca.pem, certificate.pem and key.pem are, from `gantry join`.
    #[arg(long, env = "GANTRY_IDENTITY", default_value = "/var/lib/gantry/identity")]
    pub identity: PathBuf,
    /// Where this agent keeps its ledger.
    #[arg(long, env = "GANTRY_STATE", value_name = "DIR")]
    pub state: PathBuf,
    /// The Unix socket on which healthd tells its verdicts to the agents beside it.
    #[arg(long, env = "GANTRY_FEED", default_value = "/run/gantry/health.sock")]
    pub feed: PathBuf,
}

/// Why a service is not in force as desired.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// Stable, for programs: `ADDRESS_IN_USE`.
    pub reason: String,
    /// The field at fault, as a path: `listener.address`.
    pub field: String,
    /// For people: what is wrong and the way out.
    pub message: String,
}

/// Puts desired state in force. Called from one thread, one call at a time; may block for as long
/// as the change needs.
pub trait Apply: Send + 'static {
    /// Puts one service in force, new or changed. When it is rejected, its last good form stays.
    fn put(&mut self, plan: ServicePlan) -> Result<(), Rejection>;
    /// Takes one service out.
    fn remove(&mut self, name: &ServiceName);

    /// Makes changes that come together: removals first, then one service after the other, unless
    /// the agent knows better. Gives of each of `plans` whether it is in force.
    fn change(
        &mut self,
        removed: &[ServiceName],
        plans: Vec<ServicePlan>,
    ) -> Vec<Result<(), Rejection>> {
        removed.iter().for_each(|name| self.remove(name));
        plans.into_iter().map(|plan| self.put(plan)).collect()
    }

    /// Services that were in force and are no more, by no change of the configuration. They are put
    /// in force again from time to time, as the rejected are.
    fn ailing(&mut self) -> Vec<(ServiceName, Rejection)> {
        Vec::new()
    }
}

/// What an agent tells of what it sees. All of it may be called at any time.
pub trait Observe: Send + Sync + 'static {
    /// Counters of everything now.
    fn samples(&self) -> Vec<pb::Sample> {
        Vec::new()
    }

    /// Verdicts that changed since version `since`; 0 asks for all.
    fn news(&self, since: u64) -> News {
        News { whole: since == 0, verdicts: Vec::new(), version: since }
    }

    /// Changes when a verdict changed and must be told at once.
    fn changes(&self) -> watch::Receiver<u64> {
        watch::channel(0).1
    }

    /// Verdicts with the newest check result, for people to look at: of servers checked since they
    /// were asked for last, at most so many.
    fn take_results(&self, _most: usize) -> Vec<pb::Verdict> {
        Vec::new()
    }

    /// What this agent sees of its machine now.
    fn condition(&self) -> pb::Condition {
        pb::Condition::default()
    }

    /// What happened since this was asked last, for the event log.
    fn take_notices(&self) -> Vec<pb::Notice> {
        Vec::new()
    }

    /// Answers what the controller wants to know; its id is added. May block.
    fn answer(&self, _question: Ask) -> pb::Answer {
        question::refusal("UNSUPPORTED", "this agent does not know that")
    }
}

/// What the controller may ask an agent.
pub use pb::question::Ask;

/// What is new since a version.
#[derive(Debug)]
pub struct News {
    /// The verdicts are all there are.
    pub whole: bool,
    pub verdicts: Vec<pb::Verdict>,
    pub version: u64,
}

/// An agent cannot start.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error("the certificate is for {0}, which is not an appliance")]
    NotAnAppliance(String),
    #[error(transparent)]
    Rpc(#[from] RpcError),
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

/// What the following half tells the reporting half.
#[derive(Clone, Debug, Default, PartialEq)]
struct Told {
    /// The newest state in force.
    in_force: Option<pb::Applied>,
    /// What was offered since and not taken: refused, or held back.
    not_taken: Option<pb::Applied>,
}

type Outcome = watch::Receiver<Told>;

/// An agent's way to its controller.
#[derive(Clone, Debug)]
pub struct Link {
    way: Way,
    /// How long to wait before a stream that ended is opened again.
    backoff: Backoff,
}

impl Link {
    /// One that stays the same, whatever becomes of certificates.
    pub fn fixed(channel: Channel, backoff: Backoff) -> Self {
        Self { way: Way::fixed(channel), backoff }
    }
}

/// What the ledger held at the start.
#[derive(Debug)]
pub struct Held(Vec<Bytes>);

impl Held {
    pub fn plans(&self) -> impl Iterator<Item = ServicePlan> {
        self.0.iter().filter_map(|plan| wire::decode_plan(plan).ok())
    }
}

/// Starts the loop in `tasks`. First of all, what the ledger holds is put in force; gives that.
pub async fn start(
    tasks: &mut Tasks,
    kind: AgentKind,
    options: &AgentOptions,
    apply: impl Apply,
    observe: Arc<dyn Observe>,
) -> Result<Held, AgentError> {
    let identity = Identity::load(&options.identity)?;
    let appliance: ApplianceName = identity
        .name()
        .parse()
        .map_err(|_| AgentError::NotAnAppliance(identity.name().to_owned()))?;
    let name = AgentName { appliance, kind };
    let (way, keeper) = way::open(options, identity)?;
    let stop = tasks.stop();
    tasks.start("identity", keeper.run(stop));
    let link = Link { way, backoff: Backoff::for_controller() };
    follow(tasks, name, link, &options.state, (apply, observe)).await
}

/// The same, with a link of the caller's own.
pub async fn follow(
    tasks: &mut Tasks,
    name: AgentName,
    link: Link,
    state: &Path,
    (apply, observe): (impl Apply, Arc<dyn Observe>),
) -> Result<Held, AgentError> {
    let (ledger, desired) = Ledger::open(state)?;
    info!(agent = %name, revision = %desired.revision(), services = desired.services().len(),
        "starting from the ledger");
    let held = Held(desired.services().values().cloned().collect());
    let (told, outcome) = watch::channel(Told::default());
    let this = identity_message(&name);
    let kept = (ledger, desired);
    let mut follower =
        follow::Follower::new(name, (link.way.clone(), this.clone()), kept, apply, told);
    follower.start_from_ledger().await;
    let stop = tasks.stop();
    tasks.start("follow", follower.run(link.backoff.clone(), stop.clone()));
    tasks.start("report", report::run(link, this, outcome, observe, stop));
    Ok(held)
}

fn identity_message(name: &AgentName) -> pb::AgentIdentity {
    pb::AgentIdentity {
        appliance: name.appliance.to_string(),
        kind: wire::kind_message(name.kind).into(),
        instance_id: uuid::Uuid::now_v7().to_string(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    }
}

/// How long a silent stream is believed in before it is opened anew.
const PATIENCE: Duration = Duration::from_secs(30);
