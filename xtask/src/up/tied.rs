//! A program that does not outlive the one that started it, even when that one is killed.
//!
//! This process asks the kernel to be told of its parent's death, and then becomes the program.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{Context, ensure};
use clap::Args;
use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};

/// A program and whom it is tied to.
#[derive(Args, Debug)]
pub(crate) struct Tied {
    /// The process that started this one
    parent: i32,
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
    command: Vec<OsString>,
}

impl Tied {
    /// Comes back only when the program cannot be started.
    pub(crate) fn run(self) -> anyhow::Result<()> {
        set_parent_process_death_signal(Some(Signal::TERM)).context("tying to the parent")?;
        // It may have died before the kernel was asked.
        ensure!(getppid() == Pid::from_raw(self.parent), "the parent is gone");
        let (program, arguments) = self.command.split_first().context("a program is needed")?;
        let failure = Command::new(program).args(arguments).exec();
        Err(failure).with_context(|| format!("starting {}", program.display()))
    }
}
