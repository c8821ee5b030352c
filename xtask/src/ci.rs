//! `cargo xtask ci`: what must hold before a change lands, the same here and on the build machine.

use std::process::Command;

use clap::Args;
use gantry_runtime::clock;

use crate::workspace::{Workspace, run};
use crate::{landed, needs, say, test, tidy};

#[derive(Args, Debug)]
pub(crate) struct Ci;

type Step = fn(&Workspace) -> anyhow::Result<()>;

/// The quick ones first.
const STEPS: [(&str, Step); 6] = [
    ("packages", |_| needs::install_packages()),
    ("format", format),
    ("tidy", |workspace| tidy::check(workspace)),
    ("API lint", lint_api),
    ("clippy", clippy),
    ("tests", |workspace| test::run_tests(workspace, &[])),
];

impl Ci {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let workspace = Workspace::load()?;
        let mut told = Vec::new();
        for (name, step) in STEPS {
            say(format_args!("\n== {name}"));
            let began = clock::monotonic();
            let outcome = step(&workspace);
            let word = if outcome.is_ok() { "ok" } else { "FAILED" };
            told.push(format!("  {name:10} {word:7} {:4} s", began.elapsed().as_secs()));
            if let Err(failure) = outcome {
                say(format_args!("\n{}", told.join("\n")));
                return Err(failure.context(format!("{name} does not hold")));
            }
        }
        say(format_args!("\n{}", told.join("\n")));
        Ok(())
    }
}

fn format(workspace: &Workspace) -> anyhow::Result<()> {
    run("cargo fmt", &mut workspace.cargo(&["fmt", "--all", "--check"]))
}

fn clippy(workspace: &Workspace) -> anyhow::Result<()> {
    let arguments = ["clippy", "--workspace", "--all-targets", "--", "--deny", "warnings"];
    run("clippy", &mut workspace.cargo(&arguments))
}

fn lint_api(workspace: &Workspace) -> anyhow::Result<()> {
    let mut buf = Command::new(needs::buf()?);
    run("buf lint", buf.arg("lint").current_dir(workspace.root.join("proto")))?;
    landed::check(workspace)
}
