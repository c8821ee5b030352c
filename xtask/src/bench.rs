//! `cargo xtask bench`: measures what SPECIFICATION.md promises, on this machine.
//!
//! Everything that is measured, and what measures it, is built with optimizations first.

mod control;
mod figures;
mod layer4;
mod layer7;
mod medical;
mod net;
mod processes;
mod rig;

use std::process::Command;

use anyhow::Context;
use clap::Subcommand;

use crate::workspace::{Workspace, run};

#[derive(Debug, Subcommand)]
pub(crate) enum Bench {
    /// The controller: writes, changes until they are in force, memory, time to start
    Control(control::Control),
    /// Layer 4 in the kernel, beside ipvsadm and keepalived: programming, changes, failover
    Layer4(layer4::Layer4),
    /// The proxy, beside HAProxy and nginx: bulk, messages, connections, memory, changes, failover
    Layer7(layer7::Layer7),
    /// DICOM and MLLP mode, beside a direct connection and HAProxy: images, messages
    Medical(medical::Medical),
}

/// What is built with optimizations.
const ALL: [&str; 1] = ["--workspace"];

impl Bench {
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        if let Self::Layer4(layer4) = &self
            && layer4.is_inside()
        {
            return layer4.measure().await;
        }
        if let Self::Layer7(layer7) = &self
            && layer7.is_backend()
        {
            return layer7.serve();
        }
        if let Self::Medical(medical) = &self
            && medical.is_receiver()
        {
            return medical.receive();
        }
        let workspace = Workspace::load()?;
        match self {
            _ if cfg!(debug_assertions) => again_with_optimizations(&workspace, self.crates()),
            Self::Control(control) => control.run(&workspace).await,
            Self::Layer4(layer4) => layer4.run(&workspace),
            Self::Layer7(layer7) => layer7.run(&workspace).await,
            Self::Medical(medical) => medical.run(&workspace).await,
        }
    }

    fn crates(&self) -> &'static [&'static str] {
        match self {
            Self::Control(_) | Self::Layer7(_) | Self::Medical(_) => &ALL,
            Self::Layer4(_) => &layer4::CRATES,
        }
    }
}

/// Builds with optimizations, this program too, and has that one do the work.
fn again_with_optimizations(workspace: &Workspace, crates: &[&str]) -> anyhow::Result<()> {
    let mut build = workspace.cargo(&["build", "--release", "--bins"]);
    run("the build", build.args(crates))?;
    let mut command = Command::new(workspace.target.join("release/xtask"));
    let bench = command.args(std::env::args_os().skip(1)).current_dir(&workspace.root);
    let status = bench.status().context("starting the benchmark")?;
    anyhow::ensure!(status.success(), "the benchmark failed");
    Ok(())
}
