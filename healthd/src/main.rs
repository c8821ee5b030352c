//! `gantry-healthd`: reads its command line, recalls what it knew, checks.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use gantry_healthd::board::Board;
use gantry_healthd::{feed, memory, orders};
use gantry_model::agent::AgentKind;
use gantry_runtime::agent::{self, AgentOptions};
use gantry_runtime::log::LogOptions;
use gantry_runtime::tasks::{Ended, Tasks};
use gantry_runtime::{local, shell};

/// Checks the real servers of an appliance's virtual services.
#[derive(Debug, Parser)]
#[command(name = "gantry-healthd", version)]
struct Options {
    #[command(flatten)]
    agent: AgentOptions,
    /// The Unix socket on which agent-l4 gives ways to virtual addresses through real servers.
    #[arg(long, env = "GANTRY_L4_SOCKET", default_value = "/run/gantry/l4.sock")]
    control: PathBuf,
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
    let mut tasks = Tasks::new();
    let state = options.agent.state.clone();
    let passage = options.control.into();
    let board = Board::new(memory::recall(&state));
    let (orders, schedule) = orders::run(Arc::clone(&board), passage, tasks.stop());
    tasks.start("schedule", schedule);
    let sight = Arc::new(orders::Sight(Arc::clone(&board)));
    let held = agent::start(&mut tasks, AgentKind::Health, &options.agent, orders, sight).await?;
    memory::forget_others(&board, held.plans());
    let socket = &options.agent.feed;
    let listener = local::bind(socket)
        .with_context(|| format!("opening the feed's socket {}", socket.display()))?;
    tasks.start("feed", feed::serve(listener, Arc::clone(&board), tasks.stop()));
    tasks.start("memory", memory::keep(board, state, tasks.stop()));
    Ok(tasks.run_until_stopped(Duration::from_secs(3)).await?)
}
