//! `gantry-controller`: reads its command line, opens its state, serves.

use std::fs::DirBuilder;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::{Parser, Subcommand};
use gantry_controller::api::{self, Control};
use gantry_controller::authority::Authority;
use gantry_controller::page::{self, PageOptions};
use gantry_controller::serve;
use gantry_controller::store::Store;
use gantry_runtime::log::LogOptions;
use gantry_runtime::tasks::{Ended, Tasks};
use gantry_runtime::{rpc, shell};
use tokio::net::TcpListener;
use tracing::{error, info};

/// Keeps the configuration of virtual services and streams it to the agents of each appliance.
#[derive(Debug, Parser)]
#[command(name = "gantry-controller", version)]
struct Options {
    /// Something to do at once, in place of serving.
    #[command(subcommand)]
    task: Option<Task>,
    /// Where to serve gRPC over mutual TLS.
    #[arg(
        long,
        env = "GANTRY_LISTEN",
        default_value = "0.0.0.0:7443",
        value_name = "ADDRESS:PORT"
    )]
    listen: SocketAddr,
    /// Where the database and the certificate authority are kept.
    #[arg(long, env = "GANTRY_STATE", default_value = "/var/lib/gantry/controller", global = true)]
    state: PathBuf,
    /// A DNS name or address that clients reach the controller under, for its certificate. May be
    /// given more than once; localhost is always in it.
    #[arg(long = "name", env = "GANTRY_NAMES", value_name = "NAME", value_delimiter = ',')]
    names: Vec<String>,
    #[command(flatten)]
    page: PageOptions,
    #[command(flatten)]
    log: LogOptions,
}

#[derive(Clone, Copy, Debug, Subcommand)]
enum Task {
    /// Give the administrator of the System Overview page a new password, and show it.
    ResetPassword,
}

#[tokio::main]
async fn main() -> ExitCode {
    let options = Options::parse();
    let log = options.log.clone();
    shell::run(&log, run(options)).await
}

async fn run(options: Options) -> anyhow::Result<Ended> {
    match options.task {
        None => serve(options).await,
        Some(Task::ResetPassword) => reset_password(&options.state).await,
    }
}

async fn serve(options: Options) -> anyhow::Result<Ended> {
    shell::raise_file_limit();
    // Keys and the hashes of tokens are in there.
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&options.state)
        .with_context(|| format!("making the folder {}", options.state.display()))?;
    let authority = Arc::new(Authority::open(&options.state)?);
    first_operator(&authority, &options.state)?;
    let store = Store::open(&options.state.join("gantry.db")).await?;
    let revision = store.state().revision;
    let control = Arc::new(Control::new(store.clone(), Arc::clone(&authority)).await?);
    let tls = serve::tls(&authority, &options.names)?;
    let listener = TcpListener::bind(options.listen)
        .await
        .with_context(|| format!("listening on {}", options.listen))?;
    info!(address = %listener.local_addr()?, %revision, "serving");
    let mut tasks = Tasks::new();
    let (routes, stop) = (api::routes(&control)?, tasks.stop());
    tasks.start("serve", async move {
        if let Err(failure) = serve::serve(listener, tls, routes, stop).await {
            error!(why = rpc::causes(&failure), "serving failed");
        }
    });
    if let Some(page) =
        page::open(&options.page, &options.names, &control, (store, &authority)).await?
    {
        tasks.start("page", page.serve(tasks.stop()));
    }
    let ended = tasks.run_until_stopped(Duration::from_secs(5)).await?;
    control.close().await;
    Ok(ended)
}

/// May be done while the controller runs: it sees the new password, and ends every session.
async fn reset_password(state: &Path) -> anyhow::Result<Ended> {
    let database = state.join("gantry.db");
    anyhow::ensure!(database.exists(), "there is no {}: --state says where", database.display());
    let store = Store::open(&database).await?;
    page::reset_password(&store).await?;
    store.close().await;
    Ok(Ended::Stopped)
}

/// At the first start, makes the identity with which an operator gets in.
fn first_operator(authority: &Authority, state: &Path) -> anyhow::Result<()> {
    let dir = state.join("operators").join("admin");
    if dir.exists() {
        return Ok(());
    }
    authority.issue_operator("admin", &dir)?;
    info!(dir = %dir.display(), "made an identity for the first operator, users/admin");
    Ok(())
}
