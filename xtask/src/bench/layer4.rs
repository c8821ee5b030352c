//! `cargo xtask bench layer4`: agent-l4 and healthd beside ipvsadm and keepalived, on one kernel.
//!
//! Gantry and its peers do the same in turn, round by round, so that what else the machine is at
//! meets both. Where this machine's kernel has no IPVS, all of it runs in an emulated VM: times are many
//! times longer there, and only the ratios say something. It runs in a mount and a network namespace
//! of its own, with which everything that it makes ends.

mod change;
mod failover;
mod peers;
mod programming;
mod stage;
mod table;

use std::process::Command;

use anyhow::Context;
use clap::{Args, ValueEnum};
use gantry_runtime::shell;

use self::stage::Stage;
use super::net;
use crate::needs;
use crate::say;
use crate::workspace::{Workspace, run};

/// What is built for it.
pub(super) const CRATES: [&str; 10] = [
    "-p",
    "gantry-controller",
    "-p",
    "gantry-agent-l4",
    "-p",
    "gantry-healthd",
    "-p",
    "gantry-cli",
    "-p",
    "xtask",
];

/// Longer than it takes in the slowest VM, in seconds.
const LIMIT: &str = "2700";

#[derive(Args, Clone, Debug)]
#[command(after_long_help = "\
Takes about a quarter of an hour in the emulated VM. Needs ipvsadm and keepalived, and root where the
machine's own kernel has IPVS.")]
pub(crate) struct Layer4 {
    /// How often each time is measured, in turn with the peer's
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Numbers of virtual services, of four real servers each; changes are made among the last
    #[arg(long, value_delimiter = ',', default_values_t = [1000, 5000])]
    services: Vec<usize>,
    /// How often a real server is killed
    #[arg(long, default_value_t = 30)]
    kills: usize,
    /// Only this
    #[arg(long, value_enum)]
    only: Option<Part>,
    /// Measure here and now: the namespaces are this program's own
    #[arg(long, hide = true)]
    inside: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Many virtual services from nothing
    Programming,
    /// One weight, and reading it all back
    Change,
    /// A real server is killed
    Failover,
}

impl Layer4 {
    pub(super) fn is_inside(&self) -> bool {
        self.inside
    }

    /// Runs this program again where there is IPVS.
    pub(super) fn run(&self, workspace: &Workspace) -> anyhow::Result<()> {
        needs::kernel(&workspace.root)?;
        let mut command = Command::new(workspace.root.join(needs::KERNEL_VM));
        command.args(["--here", "--timeout", LIMIT, "--", "unshare", "--net", "--mount"]);
        command.arg(workspace.target.join("release/xtask"));
        // Without the program's name; what was given there goes along.
        command.args(std::env::args_os().skip(1)).arg("--inside");
        run("the benchmark", command.current_dir(&workspace.root))
    }

    pub(super) async fn measure(&self) -> anyhow::Result<()> {
        shell::raise_file_limit();
        net::settle_in()?;
        let own = std::env::current_exe().context("finding this program")?;
        let target = own.ancestors().nth(2).context("this program is not in a target folder")?;
        let place = if std::env::var_os("KERNEL_VM").is_some() { "an emulated VM" } else { "here" };
        let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease")?;
        let keepalived = peers::keepalived_version()?;
        say(format_args!("in {place}, Linux {}; {keepalived}", kernel.trim()));
        let stage = Stage::set(target).await?;
        let is_wanted = |part| self.only.is_none_or(|only| only == part);
        if is_wanted(Part::Programming) {
            for services in &self.services {
                programming::measure(&stage, *services, self.rounds).await?;
            }
        }
        let most = self.services.last().copied().unwrap_or(1);
        if is_wanted(Part::Change) {
            change::measure(&stage, most, self.rounds).await?;
        }
        if is_wanted(Part::Failover) {
            failover::measure(&stage, self.kills).await?;
        }
        Ok(())
    }
}
