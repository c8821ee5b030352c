//! `cargo xtask bench`: measures what SPECIFICATION.md promises, on this machine.
//!
//! Everything that is measured, and what measures it, is built with optimizations first.

mod control;
mod figures;
mod rig;

use std::process::Command;

use anyhow::Context;
use clap::Subcommand;

use crate::workspace::{Workspace, run};

#[derive(Debug, Subcommand)]
pub(crate) enum Bench {
    /// The controller: writes, changes until they are in force, memory, time to start
    Control(control::Control),
}

impl Bench {
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        let workspace = Workspace::load()?;
        if cfg!(debug_assertions) {
            return again_with_optimizations(&workspace);
        }
        match self {
            Self::Control(control) => control.run(&workspace).await,
        }
    }
}

/// Builds with optimizations, this program too, and has that one do the work.
fn again_with_optimizations(workspace: &Workspace) -> anyhow::Result<()> {
    let build = ["build", "--release", "--workspace", "--bins"];
    run("the build", &mut workspace.cargo(&build))?;
    let mut command = Command::new(workspace.target.join("release/xtask"));
    let bench = command.args(std::env::args_os().skip(1)).current_dir(&workspace.root);
    let status = bench.status().context("starting the benchmark")?;
    anyhow::ensure!(status.success(), "the benchmark failed");
    Ok(())
}
