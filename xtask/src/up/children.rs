//! The processes that `up` runs: each with its own log, its own process group, and an end.
//!
//! None outlives this program: they are asked to end, then killed with everything they started;
//! they are killed as well when this is dropped; and the kernel ends them should this program be
//! killed itself.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};
use tokio::process::Command;
use tokio::task::JoinSet;

/// How long processes may take to end when asked; agents let connections go for 3 s.
const GRACE: Duration = Duration::from_secs(6);

/// Where logs and process ids are written.
#[derive(Clone, Debug)]
pub(super) struct Records {
    /// This program as it was built last: the one that runs may have been replaced.
    pub(super) xtask: PathBuf,
    pub(super) logs: PathBuf,
    pub(super) pids: PathBuf,
}

/// A program to run.
#[derive(Debug)]
pub(super) struct Program {
    pub(super) name: String,
    pub(super) path: PathBuf,
    pub(super) arguments: Vec<OsString>,
}

/// All of them.
#[derive(Debug)]
pub(super) struct Children {
    records: Records,
    running: Vec<Running>,
    ends: JoinSet<(Pid, io::Result<ExitStatus>)>,
}

#[derive(Debug)]
struct Running {
    program: Program,
    /// Its process id, and its group's.
    group: Pid,
}

/// One that ended without being asked.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) program: Program,
    /// "exit status: 1", "killed by signal 9".
    pub(super) how: String,
    pub(super) log: PathBuf,
}

impl Children {
    pub(super) fn new(records: Records) -> anyhow::Result<Self> {
        // Those of an earlier time mean nothing.
        let _ = fs::remove_dir_all(&records.pids);
        for dir in [&records.logs, &records.pids] {
            fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
        }
        Ok(Self { records, running: Vec::new(), ends: JoinSet::new() })
    }

    /// Starts one. Must be called from the main thread: a child is tied to the thread it came from.
    pub(super) fn start(&mut self, program: Program) -> anyhow::Result<()> {
        let log = self.log(&program.name);
        let file = File::create(&log).with_context(|| format!("making {}", log.display()))?;
        let mut child = Command::new(&self.records.xtask)
            .arg("tied")
            .arg(std::process::id().to_string())
            .arg(&program.path)
            .args(&program.arguments)
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("starting {}", program.name))?;
        let group = child.id().and_then(|id| Pid::from_raw(id.try_into().ok()?));
        let group = group.context("a new process has an id")?;
        fs::write(self.pid_file(&program.name), format!("{}\n", group.as_raw_pid()))?;
        self.running.push(Running { program, group });
        self.ends.spawn(async move { (group, child.wait().await) });
        Ok(())
    }

    /// The next one to end; waits for ever when none is left. May be cancelled.
    pub(super) async fn next_end(&mut self) -> Ended {
        loop {
            let Some(joined) = self.ends.join_next().await else {
                std::future::pending::<()>().await;
                continue;
            };
            let Ok((group, status)) = joined else { continue };
            if let Some(ended) = self.forget(group, status) {
                return ended;
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.running.is_empty()
    }

    /// The process ids, in the order in which they were started.
    pub(super) fn list(&self) -> impl Iterator<Item = (&str, i32)> {
        self.running.iter().map(|child| (child.program.name.as_str(), child.group.as_raw_pid()))
    }

    /// Ends all: asks, waits, then kills what is left.
    pub(super) async fn end(&mut self) {
        self.signal(Signal::TERM);
        let all = async {
            while let Some(joined) = self.ends.join_next().await {
                if let Ok((group, status)) = joined {
                    drop(self.forget(group, status));
                }
            }
        };
        if tokio::time::timeout(GRACE, all).await.is_err() {
            for (name, _) in self.list() {
                crate::say(format_args!("{name} does not end; killing it"));
            }
            self.signal(Signal::KILL);
            while self.ends.join_next().await.is_some() {}
        }
    }

    /// Takes one off the list, and ends what it may have left behind.
    fn forget(&mut self, group: Pid, status: io::Result<ExitStatus>) -> Option<Ended> {
        let at = self.running.iter().position(|child| child.group == group)?;
        let Running { program, .. } = self.running.remove(at);
        // Nothing is left in most groups.
        if test_kill_process_group(group).is_ok() {
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = fs::remove_file(self.pid_file(&program.name));
        let log = self.log(&program.name);
        Some(Ended { program, how: how(&status), log })
    }

    fn signal(&self, signal: Signal) {
        for child in &self.running {
            // One that has just ended is no failure.
            let _ = kill_process_group(child.group, signal);
        }
    }

    fn log(&self, name: &str) -> PathBuf {
        self.records.logs.join(format!("{name}.log"))
    }

    fn pid_file(&self, name: &str) -> PathBuf {
        self.records.pids.join(format!("{name}.pid"))
    }
}

impl Drop for Children {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
        for child in &self.running {
            let _ = fs::remove_file(self.pid_file(&child.program.name));
        }
    }
}

fn how(status: &io::Result<ExitStatus>) -> String {
    match status {
        Ok(status) => match status.signal() {
            Some(signal) => format!("killed by signal {signal}"),
            None => format!("exit code {}", status.code().unwrap_or_default()),
        },
        Err(error) => error.to_string(),
    }
}

/// The last lines of a log.
pub(super) fn tail(log: &Path) -> Vec<String> {
    const LINES: usize = 8;
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LINES)..].iter().map(|line| (*line).to_owned()).collect()
}

#[cfg(test)]
mod tests;
