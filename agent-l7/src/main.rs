//! `gantry-agent-l7`: reads its command line, starts the plane, steers it.

use std::num::NonZeroUsize;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use gantry_agent_l7::plane::{Plane, Settings};
use gantry_agent_l7::steer::Door;
use gantry_model::agent::AgentKind;
use gantry_runtime::agent::{self, AgentOptions};
use gantry_runtime::log::LogOptions;
use gantry_runtime::tasks::{Ended, Tasks};
use gantry_runtime::{feed, shell};

/// Carries the layer 7 virtual services of an appliance.
#[derive(Debug, Parser)]
#[command(name = "gantry-agent-l7", version)]
struct Options {
    #[command(flatten)]
    agent: AgentOptions,
    /// Threads that carry traffic. Without it, one for each processor.
    #[arg(long, env = "GANTRY_WORKERS")]
    workers: Option<NonZeroUsize>,
    #[command(flatten)]
    log: LogOptions,
}

#[tokio::main]
async fn main() -> ExitCode {
    let options = Options::parse();
    let log = options.log.clone();
    shell::run(&log, run(options)).await
}

async fn run(options: Options) -> anyhow::Result<Ended> {
    shell::raise_file_limit();
    let settings = match options.workers {
        Some(workers) => Settings { workers },
        None => Settings::for_this_machine(),
    };
    let door = Door::new(Plane::start(settings)?);
    let mut tasks = Tasks::new();
    feed::start(&mut tasks, &options.agent.feed, door.clone()).await;
    let observe = Arc::new(door.clone());
    agent::start(&mut tasks, AgentKind::L7, &options.agent, door, observe).await?;
    Ok(tasks.run_until_stopped(Duration::from_secs(3)).await?)
}
