//! `gantry-controller`: reads its command line, opens its state, serves.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::{Parser, Subcommand};
use gantry_controller::api::{self, Control};
use gantry_controller::authority::{Authority, AuthorityOptions};
use gantry_controller::expiry;
use gantry_controller::folder::StateFolder;
use gantry_controller::page::{self, PageOptions};
use gantry_controller::serve;
use gantry_controller::store::{Store, StoreError};
use gantry_runtime::log::LogOptions;
use gantry_runtime::tasks::{Ended, Tasks};
use gantry_runtime::{rpc, shell};
use tokio::net::TcpListener;
use tracing::{error, info};

mod keep;

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
    authority: AuthorityOptions,
    #[command(flatten)]
    page: PageOptions,
    #[command(flatten)]
    log: LogOptions,
}

/// What is done instead of serving.
#[derive(Debug, Subcommand)]
enum Task {
    Backup(keep::Backup),
    Restore(keep::Restore),
    /// Give the administrator of the System Overview page a new password, and show it.
    ResetPassword,
}

#[tokio::main]
async fn main() -> ExitCode {
    let options = Options::parse();
    let log = options.log.clone();
    match options.task {
        Some(Task::Backup(backup)) => shell::run(&log, backup.run(&options.state)).await,
        Some(Task::Restore(restore)) => shell::run(&log, restore.run(&options.state)).await,
        Some(Task::ResetPassword) => shell::run(&log, reset_password(&options.state)).await,
        None => shell::run(&log, serve(options)).await,
    }
}

async fn serve(options: Options) -> anyhow::Result<Ended> {
    shell::raise_file_limit();
    let folder = StateFolder::hold(&options.state)?.whole()?;
    let authority = Authority::open_with(&options.state, &options.authority, &options.names)?;
    let authority = Arc::new(authority);
    if let Err(failure) = authority.renew_own() {
        error!(why = rpc::causes(&failure), "the first operator's certificate was not renewed");
    }
    first_operator(&authority, &options.state)?;
    let store = Store::open(&folder.database()).await.map_err(with_way_out)?;
    let revision = store.state().revision;
    let control = Control::new(store.clone(), Arc::clone(&authority)).await;
    let control = Arc::new(control.map_err(with_way_out)?);
    let listener = TcpListener::bind(options.listen)
        .await
        .with_context(|| format!("listening on {}", options.listen))?;
    let mut tasks = Tasks::new();
    let (routes, stop) = (api::routes(&control)?, tasks.stop());
    let trust = authority.watch();
    tasks.start("authority", authority.keep(tasks.stop()));
    tasks.start("expiry", expiry::watch(store.clone(), tasks.stop()));
    let page = page::open(&options.page, &options.names, &control, (store, trust.clone())).await?;
    if let Some(page) = page {
        tasks.start("page", page.serve(tasks.stop()));
    }
    info!(address = %listener.local_addr()?, %revision, "serving");
    tasks.start("serve", async move {
        if let Err(failure) = serve::serve(listener, trust, routes, stop).await {
            error!(why = rpc::causes(&failure), "serving failed");
        }
    });
    let ended = tasks.run_until_stopped(Duration::from_secs(5)).await?;
    control.close().await;
    Ok(ended)
}

/// Says what has to be put right before the next start, where that is known.
fn with_way_out(failure: StoreError) -> anyhow::Error {
    let trouble = failure.trouble();
    let failure = anyhow::Error::new(failure);
    match trouble {
        Some(trouble) => failure.context(trouble),
        None => failure,
    }
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
    // What is written last: a start that was cut short is made good by the next.
    if dir.join("certificate.pem").exists() {
        return Ok(());
    }
    authority.issue_operator("admin", &dir)?;
    info!(dir = %dir.display(), "made an identity for the first operator, users/admin");
    Ok(())
}
