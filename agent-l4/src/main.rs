//! `gantry-agent-l4`: reads its command line, looks at the kernel, directs it.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use gantry_agent_l4::director::{Director, Settings};
use gantry_agent_l4::door;
use gantry_agent_l4::host::capabilities;
use gantry_agent_l4::kernel::linux::Linux;
use gantry_agent_l4::owned::Owned;
use gantry_agent_l4::passage;
use gantry_model::agent::AgentKind;
use gantry_runtime::agent::{self, AgentOptions};
use gantry_runtime::log::LogOptions;
use gantry_runtime::tasks::{Ended, Tasks};
use gantry_runtime::{feed, local, shell};

/// Carries the layer 4 virtual services of an appliance in its kernel, and brings up the addresses of
/// all.
#[derive(Debug, Parser)]
#[command(name = "gantry-agent-l4", version)]
struct Options {
    #[command(flatten)]
    agent: AgentOptions,
    /// The Unix socket on which healthd asks for ways through real servers.
    #[arg(long, env = "GANTRY_L4_SOCKET", default_value = "/run/gantry/l4.sock")]
    control: PathBuf,
    /// Take over kernel services that somebody else has made, where a virtual service has the same
    /// address, port and protocol. Their connections go on.
    #[arg(long, env = "GANTRY_ADOPT")]
    adopt: bool,
    #[command(flatten)]
    log: LogOptions,
}

/// Between two looks at the whole kernel.
const PASS: Duration = Duration::from_secs(1);

#[tokio::main]
async fn main() -> ExitCode {
    let options = Options::parse();
    let log = options.log.clone();
    shell::run(&log, run(options)).await
}

async fn run(options: Options) -> anyhow::Result<Ended> {
    capabilities::check()?;
    capabilities::keep_for_children()?;
    let owned = Owned::open(&options.agent.state)?;
    let settings = Settings { adopt: options.adopt, pass: PASS };
    let director = Director::new(Linux::open()?, owned, settings);
    let (door, _running) = door::start(director).context("starting the director's thread")?;
    let mut tasks = Tasks::new();
    feed::start(&mut tasks, &options.agent.feed, door.clone()).await;
    let listener = local::bind(&options.control)
        .with_context(|| format!("opening the socket {}", options.control.display()))?;
    tasks.start("passage", passage::serve(listener, door.clone(), tasks.stop()));
    let observe = Arc::new(door.clone());
    agent::start(&mut tasks, AgentKind::L4, &options.agent, door, observe).await?;
    Ok(tasks.run_until_stopped(Duration::from_secs(3)).await?)
}
