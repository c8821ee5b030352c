//! The command lines of `gantry-controller backup` and `gantry-controller restore`.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use gantry_controller::backup;
use gantry_controller::folder::StateFolder;
use gantry_runtime::tasks::Ended;
use tracing::warn;

/// Write everything that a controller needs to one file, beside a running controller or without one.
///
/// The file holds the certificate authority's key: keep it as safe as the controller itself.
#[derive(Args, Debug)]
pub(crate) struct Backup {
    /// The file to write.
    file: PathBuf,
    /// Replace a file of that name.
    #[arg(long)]
    force: bool,
}

/// Make the state what it was in a backup. The controller has to be stopped.
///
/// The restored state begins a new epoch, so that agents follow it, and no longer the state that it
/// replaces. Appliances that joined after the backup have to join again.
#[derive(Args, Debug)]
pub(crate) struct Restore {
    /// The file that `gantry-controller backup` wrote.
    file: PathBuf,
    /// Replace the state that is there; it is kept aside, in a folder with the time in its name.
    #[arg(long)]
    force: bool,
}

impl Backup {
    pub(crate) async fn run(self, state: &Path) -> anyhow::Result<Ended> {
        let label = backup::backup(state, &self.file, self.force).await?;
        say(&format!("kept revision {} in {}", label.revision, self.file.display()));
        Ok(Ended::Stopped)
    }
}

impl Restore {
    pub(crate) async fn run(self, state: &Path) -> anyhow::Result<Ended> {
        let folder = StateFolder::hold(state)?;
        let done = backup::restore(&folder, &self.file, operator(), self.force).await?;
        if done.unreadable {
            warn!("a database that is replaced cannot be read: the new epoch was set by the clock");
        }
        let label = &done.label;
        say(&format!(
            "restored revision {} of {} as revision {}",
            label.revision, label.time, done.revision
        ));
        if let Some(aside) = done.aside {
            say(&format!("what was there is kept in {}", aside.display()));
        }
        Ok(Ended::Stopped)
    }
}

/// Who restores: somebody on this machine, by the name they logged in with.
fn operator() -> String {
    let name = ["SUDO_USER", "USER", "LOGNAME"];
    let name = name.iter().find_map(|name| std::env::var(name).ok().filter(|it| !it.is_empty()));
    let machine = rustix::system::uname();
    let machine = machine.nodename().to_string_lossy();
    format!("{}@{machine}", name.unwrap_or_else(|| rustix::process::getuid().as_raw().to_string()))
}

/// Prints a line. A reader that went away is no reason to fail.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}
