//! `cargo xtask test`: installs what is missing, builds once, runs every test, counts.
//!
//! Everything is built and run with one selection of crates, so that nothing is built twice with
//! other features.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use clap::Args;
use gantry_runtime::clock;

use crate::needs;
use crate::say;
use crate::workspace::{Workspace, run};

/// The crate whose tests run the real binaries.
const WHOLE: &str = "gantry-tests";
/// Everything but those.
const UNIT: &str = "unit";

#[derive(Args, Debug)]
pub(crate) struct Test {
    /// Only a group: "unit" for the crates by themselves, or the first word of the files with the
    /// tests of the real binaries, such as "failover"
    #[arg(long, value_name = "GROUP")]
    only: Option<String>,
}

impl Test {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let workspace = Workspace::load()?;
        let selection = selection(self.only.as_deref(), &groups(&workspace)?)?;
        needs::install_packages()?;
        run_tests(&workspace, &selection)
    }
}

/// Builds everything once, then runs what is selected.
pub(crate) fn run_tests(workspace: &Workspace, selection: &[String]) -> anyhow::Result<()> {
    let (buf, playwright, python) = (needs::buf()?, needs::playwright()?, needs::python()?);
    needs::kernel(&workspace.root)?;
    // All targets: the tests start the binaries, and both are made with the same features.
    run("the build", &mut workspace.cargo(&["build", "--workspace", "--all-targets"]))?;
    let began = clock::monotonic();
    let mut child = workspace
        .cargo(&["test", "--workspace", "--no-fail-fast"])
        .args(selection)
        .env("GANTRY_BUF", &buf)
        .env("GANTRY_PLAYWRIGHT", &playwright)
        .env("GANTRY_PYTHON", &python)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("starting cargo test")?;
    let mut count = Count::default();
    for line in BufReader::new(child.stdout.take().context("a pipe was asked for")?).lines() {
        let line = line.context("reading what the tests print")?;
        count.hear(&line);
        say(line);
    }
    let status = child.wait()?;
    say(count.summary(began.elapsed()));
    ensure!(status.success(), "some tests failed");
    ensure!(count.passed > 0, "no test ran");
    Ok(())
}

/// The groups there are: `unit`, and the first words of the files below `tests/tests`.
fn groups(workspace: &Workspace) -> anyhow::Result<BTreeSet<String>> {
    let mut groups = BTreeSet::from([UNIT.to_owned()]);
    let mut folders = vec![workspace.root.join("tests/tests")];
    while let Some(folder) = folders.pop() {
        let files = folder.read_dir().with_context(|| format!("reading {}", folder.display()))?;
        for file in files {
            let path = file?.path();
            let stem = path.file_stem().and_then(OsStr::to_str).unwrap_or_default();
            match stem.split_once('_') {
                Some((word, _)) => drop(groups.insert(word.to_owned())),
                None if path.is_dir() => folders.push(path),
                None => {}
            }
        }
    }
    Ok(groups)
}

/// The arguments for `cargo test` that choose `group`. All crates stay selected, so that nothing is
/// built again with other features; only names count.
fn selection(group: Option<&str>, groups: &BTreeSet<String>) -> anyhow::Result<Vec<String>> {
    match group {
        None => Ok(Vec::new()),
        Some(UNIT) => Ok(["--exclude", WHOLE].map(str::to_owned).to_vec()),
        Some(group) if groups.contains(group) => {
            Ok(["--test", "*", "--", &format!("{group}_")].map(str::to_owned).to_vec())
        }
        Some(group) => {
            let known: Vec<_> = groups.iter().map(String::as_str).collect();
            bail!("there is no group {group:?}: there are {}", known.join(", "))
        }
    }
}

/// What the test programs said of themselves.
#[derive(Debug, Default, PartialEq)]
struct Count {
    passed: u32,
    failed: u32,
    ignored: u32,
    /// The tests that failed, by name.
    broken: Vec<String>,
}

impl Count {
    /// `test result: ok. 5 passed; 0 failed; 1 ignored; …` and `test name ... FAILED`.
    fn hear(&mut self, line: &str) {
        if let Some(counts) = line.strip_prefix("test result: ") {
            let words: Vec<&str> = counts.split([' ', ';']).collect();
            for pair in words.windows(2) {
                let Ok(number) = pair[0].parse::<u32>() else { continue };
                match pair[1] {
                    "passed" => self.passed += number,
                    "failed" => self.failed += number,
                    "ignored" => self.ignored += number,
                    _ => {}
                }
            }
        } else if let Some(name) =
            line.strip_prefix("test ").and_then(|line| line.strip_suffix(" ... FAILED"))
        {
            // Some programs pad names to one width.
            self.broken.push(name.trim_end().to_owned());
        }
    }

    fn summary(&self, took: Duration) -> String {
        let Self { passed, failed, ignored, broken } = self;
        let names: String = broken.iter().map(|name| format!("  failed: {name}\n")).collect();
        let took = took.as_secs();
        format!("{names}tests took {took} s\n{passed} passed, {failed} failed, {ignored} skipped")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_added_up() {
        let mut count = Count::default();
        for line in [
            "running 3 tests",
            "test relay::closes ... ok",
            "test relay::half_open     ... FAILED",
            "test result: FAILED. 2 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; \
             finished in 0.01s",
            "test result: ok. 5 passed; 0 failed; 1 ignored; 0 measured; 9 filtered out",
        ] {
            count.hear(line);
        }
        assert_eq!(
            count.summary(Duration::from_millis(2900)),
            "  failed: relay::half_open\ntests took 2 s\n7 passed, 1 failed, 1 skipped"
        );
    }

    #[test]
    fn a_group_that_is_not_there_is_refused_with_those_that_are() {
        let groups = BTreeSet::from(["api".to_owned(), UNIT.to_owned()]);
        assert_eq!(selection(Some("api"), &groups).unwrap(), ["--test", "*", "--", "api_"]);
        assert_eq!(selection(Some("unit"), &groups).unwrap(), ["--exclude", "gantry-tests"]);
        let refused = selection(Some("apy"), &groups).unwrap_err().to_string();
        assert_eq!(refused, "there is no group \"apy\": there are api, unit");
    }
}
