//! `cargo xtask tidy`: what must stay true of this house and no compiler checks.
//!
//! Each rule is a pure function from texts to findings. A finding names the place and the way out.

mod layers;
mod papers;
mod sources;

use std::collections::BTreeMap;
use std::fmt;
use std::process::Command;

use anyhow::{Context, bail, ensure};
use clap::Args;

use crate::workspace::Workspace;
use crate::{landed, say};

#[derive(Args, Debug)]
pub(crate) struct Tidy {
    /// Note down the migrations as they are, a new one included
    #[arg(long)]
    seal: bool,
    /// Note down the API as the one that has landed: the first thing to do after it did
    #[arg(long)]
    seal_api: bool,
}

/// A file of the repository that is text.
#[derive(Debug)]
struct Source {
    /// From the workspace's folder on.
    path: String,
    text: String,
}

/// Something that should not be.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Finding {
    path: String,
    /// 0 when it is the file as a whole.
    line: usize,
    what: String,
    way_out: &'static str,
}

impl fmt::Display for Finding {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, line, what, way_out } = self;
        match line {
            0 => write!(out, "{path}: {what}: {way_out}"),
            line => write!(out, "{path}:{line}: {what}: {way_out}"),
        }
    }
}

impl Tidy {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let workspace = Workspace::load()?;
        if self.seal {
            let list = papers::seal(&read_sources(&workspace)?);
            let path = workspace.root.join(papers::CHECKSUMS);
            std::fs::write(path, list).context("writing the checksums")?;
        }
        if self.seal_api {
            landed::seal(&workspace)?;
        }
        check(&workspace)
    }
}

/// Checks everything; prints what it finds.
pub(crate) fn check(workspace: &Workspace) -> anyhow::Result<()> {
    let sources = read_sources(workspace)?;
    let mut findings = layers::check(&workspace.packages);
    findings.extend(sources.iter().flat_map(sources::check));
    findings.extend(papers::check(&sources));
    findings.sort();
    for long in sources.iter().filter_map(sources::long) {
        say(format_args!("note: {long}"));
    }
    for finding in &findings {
        say(finding);
    }
    match findings.len() {
        0 => say(format_args!("tidy: {} files", sources.len())),
        1 => bail!("1 thing is not tidy"),
        many => bail!("{many} things are not tidy"),
    }
    Ok(())
}

/// Every text that is in git, or would be.
fn read_sources(workspace: &Workspace) -> anyhow::Result<Vec<Source>> {
    let mut git = Command::new("git");
    git.args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
    let output = git.current_dir(&workspace.root).output().context("starting git")?;
    ensure!(output.status.success(), "git: {}", String::from_utf8_lossy(&output.stderr).trim());
    let paths = String::from_utf8(output.stdout).context("a path is not UTF-8")?;
    // By name, for a file in conflict is listed more than once.
    let mut sources = BTreeMap::new();
    for path in paths.split_terminator('\0') {
        // What was deleted and not yet committed is not there; what is not text is not read.
        if let Ok(text) = std::fs::read_to_string(workspace.root.join(path)) {
            sources.insert(path.to_owned(), text);
        }
    }
    Ok(sources.into_iter().map(|(path, text)| Source { path, text }).collect())
}

#[cfg(test)]
mod tests;
