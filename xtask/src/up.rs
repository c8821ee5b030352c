//! `cargo xtask up`: the whole of Gantry on this machine, in the foreground, from real parts.
//!
//! A controller with its own CA, one appliance that joined with a token, its agents, and sample
//! real servers, configured from `examples/loopback.yaml` through the `gantry` command, as an
//! operator would. State is kept in a folder, and the next `up` goes on with it. Processes that die
//! are reported and not restarted: trying that out is what this is for.

mod children;
mod layer4;
mod overview;
mod servers;
mod site;
mod tied;
mod words;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use clap::Args;
use gantry_runtime::clock;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::say;
use crate::workspace::Workspace;
use children::{Children, Ended};
use overview::Overview;
use site::{CONTROLLER, Listens, Setup, Site};
pub(crate) use tied::Tied;

/// How long the controller may take to answer, and the services to come up; some machines are slow.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(200);

#[derive(Args, Debug)]
#[command(after_long_help = "\
Examples:
  cargo xtask up
  cargo xtask up --release                           as fast as it gets
  cargo xtask up --no-samples --apply my-site.yaml   in front of your own servers")]
pub(crate) struct Up {
    /// Build with optimizations
    #[arg(long)]
    release: bool,
    /// Where state and logs are kept; without it, .gantry in the workspace
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Run no sample real servers, and configure nothing that --apply does not say
    #[arg(long)]
    no_samples: bool,
    /// Make the cluster's configuration equal to this document, and not to examples/loopback.yaml
    #[arg(long, value_name = "FILE")]
    apply: Option<PathBuf>,
    /// Where the controller listens
    #[arg(long, default_value = "127.0.0.1:7443", value_name = "ADDRESS:PORT")]
    listen: SocketAddr,
    /// Where the controller serves the System Overview page
    #[arg(long, default_value = "127.0.0.1:7444", value_name = "ADDRESS:PORT")]
    page: SocketAddr,
}

impl Up {
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        ensure!(self.listen.port() != 0, "--listen needs a port that is not 0");
        let mut asked = Asked::new()?;
        let listens = Listens { controller: self.listen, page: self.page };
        let left_out = layer4::left_out();
        let setup = Setup { release: self.release, listens, layer4: left_out.is_none() };
        let site = Site::open(Workspace::load()?, self.dir.as_deref(), setup)?;
        let mut children = Children::new(site.records())?;
        let outcome = tokio::select! {
            biased;
            // Both may be dropped: what was started is in `children`.
            () = asked.end() => Ok(()),
            outcome = self.start_and_watch(&site, &mut children, left_out) => outcome,
        };
        if !children.is_empty() {
            say("\nending everything");
        }
        // Asking again must not leave anything behind either: nobody listens any more.
        children.end().await;
        site.close();
        outcome
    }

    async fn start_and_watch(
        &self,
        site: &Site,
        children: &mut Children,
        left_out: Option<&str>,
    ) -> anyhow::Result<()> {
        say("building");
        site.build().await?;
        if let Some(why) = left_out {
            say(format_args!("layer 4 is left out: {why}"));
        }
        let taken = servers::taken(self.listen, self.page, !self.no_samples);
        ensure!(taken.is_empty(), "cannot start:\n  {}", taken.join("\n  "));
        say(format_args!("starting; logs are in {}", site.show(&site.records().logs)));
        if !self.no_samples {
            for server in servers::SERVERS {
                children.start(server.program(&site.xtask(), &site.archives()))?;
            }
        }
        children.start(site.controller())?;
        self.wait_for_controller(site, children).await?;
        site.enroll().await?;
        for agent in site.agents() {
            children.start(site.agent(agent))?;
        }
        self.configure(site).await?;
        let (seen, missing) = wait_for_services(site, children).await?;
        words::ready(site, children, &seen, &missing, !self.no_samples);
        loop {
            words::ended(site, &children.next_end().await);
            ensure!(!children.is_empty(), "nothing is left to run");
        }
    }

    async fn wait_for_controller(
        &self,
        site: &Site,
        children: &mut Children,
    ) -> anyhow::Result<()> {
        let give_up = clock::monotonic() + PATIENCE;
        loop {
            tokio::select! {
                // May be cancelled: an end that nobody took is given the next time.
                ended = children.next_end() => watch_for_controller(site, ended)?,
                answer = site.gantry(["get", "clusters"]) => match answer {
                    Ok(_) => return Ok(()),
                    Err(why) if clock::monotonic() > give_up => {
                        let log = site.records().logs.join("controller.log");
                        bail!("the controller does not answer: {why:#}\n{}", words::quote(&log));
                    }
                    Err(_) => tokio::time::sleep(LOOK).await,
                },
            }
        }
    }

    /// Applies the document that was given; the example only where nothing is configured yet.
    async fn configure(&self, site: &Site) -> anyhow::Result<()> {
        let document = match &self.apply {
            Some(document) => document.clone(),
            None if self.no_samples => return Ok(()),
            None if !site.overview().await?.rows.is_empty() => {
                say(format_args!(
                    "going on with the configuration from the last time ({} is applied with --apply)",
                    site.show(&site.example())
                ));
                return Ok(());
            }
            None => site.first_document()?,
        };
        say(format_args!("applying {}", site.show(&document)));
        let arguments = ["apply".as_ref(), "-f".as_ref(), document.as_os_str()];
        let comment = ["-m".as_ref(), "cargo xtask up".as_ref()];
        site.gantry(arguments.into_iter().chain(comment)).await.map(drop)
    }
}

/// Waits until all is up, or it is clear that it will not be; gives what is missing then.
async fn wait_for_services(
    site: &Site,
    children: &mut Children,
) -> anyhow::Result<(Overview, Vec<String>)> {
    say("waiting for the services to come up");
    let give_up = clock::monotonic() + PATIENCE;
    loop {
        let seen = tokio::select! {
            // May be cancelled: an end that nobody took is given the next time.
            ended = children.next_end() => {
                watch_for_controller(site, ended)?;
                continue;
            }
            seen = site.overview() => seen,
        };
        let seen = match seen {
            Ok(seen) => seen,
            Err(why) if clock::monotonic() > give_up => return Err(why),
            Err(_) => {
                tokio::time::sleep(LOOK).await;
                continue;
            }
        };
        let missing = seen.missing(site.agents());
        if missing.is_empty() || seen.is_hopeless(site.agents()) || clock::monotonic() > give_up {
            return Ok((seen, missing));
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Says that a process ended; without a controller there is no use in going on.
fn watch_for_controller(site: &Site, ended: Ended) -> anyhow::Result<()> {
    if ended.program.name == CONTROLLER {
        let Ended { how, log, .. } = &ended;
        let anew = site.show(site.dir());
        return Err(anyhow::anyhow!("{}\n(to begin anew, remove {anew})", words::quote(log)))
            .with_context(|| format!("the controller ended ({how})"));
    }
    words::ended(site, &ended);
    Ok(())
}

/// The signals that ask this program to end.
#[derive(Debug)]
struct Asked {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
}

impl Asked {
    fn new() -> anyhow::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    async fn end(&mut self) {
        tokio::select! {
            // Signals are not lost when this is cancelled.
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hang_up.recv() => {}
        }
    }
}
