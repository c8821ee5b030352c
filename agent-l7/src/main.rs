//! `gantry-agent-l7`: reads its command line, starts the plane or takes it over, steers it, and hands it
//! over.

use std::num::NonZeroUsize;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use clap::Parser;
use gantry_agent_l7::handover::{self, Former, Heir, Loan, Reader, Successor, Successors};
use gantry_agent_l7::keeper;
use gantry_agent_l7::plane::{Plane, Settings};
use gantry_agent_l7::steer::{self, Door};
use gantry_model::agent::AgentKind;
use gantry_model::desired::Desired;
use gantry_model::wire;
use gantry_runtime::agent::ledger::{Ledger, LedgerError};
use gantry_runtime::agent::{self, AgentError, AgentOptions};
use gantry_runtime::identity::Identity;
use gantry_runtime::log::LogOptions;
use gantry_runtime::tasks::{Ended, Tasks};
use gantry_runtime::{clock, feed, shell};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{info, warn};

/// Requests of HTTP come and go in many small pieces, at which it is quicker than the C library's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Carries the layer 7 virtual services of an appliance.
#[derive(Clone, Debug, Parser)]
#[command(name = "gantry-agent-l7", version)]
struct Options {
    #[command(flatten)]
    agent: AgentOptions,
    /// Threads that carry traffic. Without it, one for each processor.
    #[arg(long, env = "GANTRY_WORKERS")]
    workers: Option<NonZeroUsize>,
    /// Carries traffic in a child process, which lives on for so long when this one is stopped: a
    /// successor that is started meanwhile takes over. For service managers that stop before they start.
    #[arg(long, env = "GANTRY_OUTLIVE", value_name = "SECONDS")]
    outlive: Option<u64>,
    /// How long connections that cannot be handed over, those with TLS, may go on in the old process
    /// after an upgrade; then they are closed.
    #[arg(long, env = "GANTRY_FINISH_WITHIN", value_name = "SECONDS", default_value_t = 1800)]
    finish_within: u64,
    #[command(flatten)]
    log: LogOptions,
}

/// How long control tasks may take to stop.
const GRACE: Duration = Duration::from_secs(3);
/// How often a process that finishes looks what it still has.
const LOOK: Duration = Duration::from_millis(200);
/// How long the process before may take to let go of the ledger, and how often that is looked for.
const RELEASE: Duration = Duration::from_secs(10);
const ASK: Duration = Duration::from_millis(20);

fn main() -> anyhow::Result<ExitCode> {
    let options = Options::parse();
    if options.outlive.is_some() && keeper::is_to_be_one() {
        return keeper::keep().context("start the process that carries traffic");
    }
    let log = options.log.clone();
    let runtime = tokio::runtime::Runtime::new().context("start the runtime")?;
    Ok(runtime.block_on(shell::run(&log, run(options))))
}

async fn run(options: Options) -> anyhow::Result<Ended> {
    shell::raise_file_limit();
    // From here on nobody ends this process but itself.
    let mut terminate = signal(SignalKind::terminate())?;
    let outlive = options.outlive.filter(|_| !keeper::is_to_be_one()).map(Duration::from_secs);
    keeper::has_one()?;
    let (plane, former) = begin(&options).await?;
    let door = Door::new(plane);
    if let Some(former) = former {
        // It ends with the process at the latest, and has nothing to finish.
        let door = door.downgrade();
        std::thread::Builder::new()
            .name("former".to_owned())
            .spawn(move || former.follow(&door))?;
    }
    let mut successors = Successors::await_in(&options.agent.state);
    loop {
        let (ended, mut successor) =
            carry(&options, &door, &mut successors, &mut terminate).await?;
        let asked = ended == Ended::Stopped && successor.is_none();
        loop {
            if let Some(wait) = outlive.filter(|_| asked) {
                successor = wait_for(&mut successors, wait, &mut terminate).await;
            }
            let Some(successor) = successor.take() else { return Ok(ended) };
            match hand_over(successor, &door).await {
                Ok(heir) => {
                    drop(successors);
                    return finish(&options, &door, heir, &mut terminate).await;
                }
                Err(error) => {
                    warn!(error = format!("{error:#}"), "the successor failed; going on");
                }
            }
            if !asked {
                break;
            }
        }
    }
}

/// A plane: the one of a process that runs already, if there is one, or else a new one.
async fn begin(options: &Options) -> anyhow::Result<(Plane, Option<Former>)> {
    let settings = match options.workers {
        Some(workers) => Settings { workers },
        None => Settings::for_this_machine(),
    };
    // Without one, nothing must be taken over.
    Identity::load(&options.agent.identity)?;
    let state = options.agent.state.clone();
    tokio::task::spawn_blocking(move || {
        let Some(mut loan) = Loan::ask(&handover::socket(&state), settings)? else {
            return Ok((Plane::start(settings)?, None));
        };
        // Held until the process before has let go of everything else.
        let (ledger, desired) = wait_for_ledger(&state)?;
        for plan in desired.services().values() {
            let Ok(plan) = wire::decode_plan(plan) else { continue };
            let name = plan.service.name.clone();
            if let Err(rejection) = steer::put(loan.plane(), plan) {
                warn!(%name, reason = rejection.reason, "not taken over");
            }
        }
        let (plane, former) = loan.take()?;
        drop(ledger);
        Ok((plane, Some(former)))
    })
    .await?
}

fn wait_for_ledger(state: &Path) -> Result<(Ledger, Desired<Bytes>), LedgerError> {
    let begun = clock::monotonic();
    loop {
        match Ledger::open(state) {
            Err(LedgerError::InUse(_)) if begun.elapsed() < RELEASE => std::thread::sleep(ASK),
            outcome => return outcome,
        }
    }
}

/// Carries traffic and does what the controller says, until somebody wants an end of it or a successor
/// has come.
async fn carry(
    options: &Options,
    door: &Door,
    successors: &mut Successors,
    terminate: &mut Signal,
) -> anyhow::Result<(Ended, Option<Successor>)> {
    let mut tasks = Tasks::new();
    let stop = tasks.stop();
    feed::start(&mut tasks, &options.agent.feed, door.clone()).await;
    let observe = Arc::new(door.clone());
    let begun = clock::monotonic();
    loop {
        let (door, observe) = (door.clone(), observe.clone());
        match agent::start(&mut tasks, AgentKind::L7, &options.agent, door, observe).await {
            // A successor that failed is about to let go of it.
            Err(AgentError::Ledger(LedgerError::InUse(_))) if begun.elapsed() < RELEASE => {
                tokio::time::sleep(ASK).await;
            }
            outcome => {
                outcome?;
                break;
            }
        };
    }
    let mut run = std::pin::pin!(tasks.run_until_stopped(GRACE));
    let mut successor = None;
    loop {
        // All arms are cancel safe: `run` is kept, `next` by its own documentation, `recv` by tokio's.
        tokio::select! {
            ended = &mut run => return Ok((ended?, successor)),
            _ = terminate.recv() => stop.cancel(),
            next = successors.next(), if successor.is_none() => {
                successor = Some(next);
                stop.cancel();
            }
        }
    }
}

/// Waits for a successor, until the time is up or somebody insists.
async fn wait_for(
    successors: &mut Successors,
    wait: Duration,
    terminate: &mut Signal,
) -> Option<Successor> {
    info!(?wait, "waiting for a successor");
    // The signal that asked for the end may have been seen by another only.
    let _ = tokio::time::timeout(Duration::ZERO, terminate.recv()).await;
    // Both arms are cancel safe by documentation.
    tokio::select! {
        successor = successors.within(wait) => successor,
        _ = terminate.recv() => None,
    }
}

async fn hand_over(successor: Successor, door: &Door) -> anyhow::Result<Heir> {
    let door = door.clone();
    let handed = tokio::task::spawn_blocking(move || door.with(|plane| successor.hand_over(plane)));
    Ok(handed.await??)
}

/// Keeps what could not be handed over, until it has ended or its time is up. What the successor notes
/// and what healthd says holds for these connections, too.
async fn finish(
    options: &Options,
    door: &Door,
    mut heir: Heir,
    terminate: &mut Signal,
) -> anyhow::Result<Ended> {
    let mut over = std::pin::pin!(tokio::time::sleep(Duration::from_secs(options.finish_within)));
    let mut tasks = Tasks::new();
    feed::start(&mut tasks, &options.agent.feed, door.clone()).await;
    let mut reader = Reader::new(&options.agent.state, door);
    loop {
        reader.follow(door);
        let active = door.with(|plane| {
            heir.tell(plane);
            plane.active()
        });
        if active == 0 {
            info!("finished");
            return Ok(Ended::Stopped);
        }
        // All arms are cancel safe by documentation.
        tokio::select! {
            () = tokio::time::sleep(LOOK) => continue,
            () = &mut over => warn!(active, "the time to finish is over: closing what is left"),
            _ = terminate.recv() => info!(active, "closing what is left"),
        }
        return Ok(Ended::Stopped);
    }
}
