//! Child processes: each in a process group of its own, with its output in a file, gone when dropped.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::wait::eventually;

/// A program and, while it runs, its process.
#[derive(Debug)]
pub struct Process {
    name: String,
    command: Command,
    child: Option<Child>,
    /// Groups in which children may have outlived the process.
    left: Vec<Pid>,
    log: PathBuf,
}

impl Process {
    /// Starts `program`; what it prints goes to `{logs}/{name}.log`.
    pub fn start<A: AsRef<OsStr>>(
        name: &str,
        program: &Path,
        arguments: impl IntoIterator<Item = A>,
        logs: &Path,
    ) -> Self {
        let log = logs.join(format!("{name}.log"));
        let file = || OpenOptions::new().create(true).append(true).open(&log).unwrap();
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).process_group(0);
        command.stdout(file()).stderr(file());
        // A test that looks at the page says where; two controllers cannot have one port.
        command.env("GANTRY_PAGE", "off");
        let mut process =
            Self { name: name.to_owned(), command, child: None, left: Vec::new(), log };
        process.start_again();
        process
    }

    /// Starts the same program with the same arguments once more.
    pub fn start_again(&mut self) {
        assert!(!self.is_running(), "{} runs already", self.name);
        let child = self.command.spawn();
        self.child = Some(child.unwrap_or_else(|error| panic!("starting {}: {error}", self.name)));
    }

    /// Its process id, while it runs.
    pub fn id(&self) -> u32 {
        self.child.as_ref().expect("it was started").id()
    }

    /// Kills it and all its children without a warning.
    pub fn kill(&mut self) {
        self.signal(Signal::KILL);
        if let Some(mut child) = self.child.take() {
            child.wait().unwrap();
        }
    }

    /// Stops it where it is: its sockets stay open, and it does nothing.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    /// Asks it to stop, as a service manager does, and waits until it has.
    pub async fn stop(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.ended().await
    }

    /// Asks the process alone to stop, as a service manager does that leaves its children be, and waits
    /// until it has. The children are killed when this is dropped.
    pub async fn let_go(&mut self) {
        let Some(process) = Pid::from_raw(self.id().cast_signed()) else { return };
        self.left.push(process);
        kill_process(process, Signal::TERM).unwrap();
        self.ended().await;
    }

    /// Waits until it has ended by itself.
    pub async fn ended(&mut self) -> ExitStatus {
        let what = format!("{} ended", self.name);
        let status = eventually(&what, async || self.child.as_mut()?.try_wait().unwrap()).await;
        self.child = None;
        status
    }

    pub fn is_running(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| child.try_wait().unwrap().is_none())
    }

    /// How much memory it has now.
    pub fn resident_bytes(&self) -> u64 {
        let id = self.child.as_ref().map(Child::id).unwrap();
        let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        let kilobytes: u64 = line.split_whitespace().next().unwrap().parse().unwrap();
        kilobytes << 10
    }

    /// Everything it has printed.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap()).into_owned()
    }

    /// Waits until it has printed `words` in one line; gives the line.
    pub async fn says(&self, words: &[&str]) -> String {
        let what = format!("{} says {words:?}", self.name);
        eventually(&what, async || {
            let log = self.log();
            let line = log.lines().find(|line| words.iter().all(|word| line.contains(word)));
            line.map(str::to_owned)
        })
        .await
    }

    /// Waits until it has printed `words` in this many lines, those of earlier runs included.
    pub async fn says_times(&self, words: &str, times: usize) {
        let what = format!("{} says {words:?} {times} times", self.name);
        eventually(&what, async || (self.count(words) >= times).then_some(())).await;
    }

    /// In how many lines it has printed `words`, in earlier runs too.
    pub fn count(&self, words: &str) -> usize {
        self.log().lines().filter(|line| line.contains(words)).count()
    }

    fn signal(&self, signal: Signal) {
        let group = self.child.as_ref().and_then(|child| Pid::from_raw(child.id().cast_signed()));
        if let Some(group) = group {
            // It may have ended already.
            let _ = kill_process_group(group, signal);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        for group in self.left.drain(..) {
            // Usually nobody is left.
            let _ = kill_process_group(group, Signal::KILL);
        }
        if std::thread::panicking() {
            print_tail(&self.name, &self.log);
        }
    }
}

/// A binary of this workspace, built beside this test or in the folder `GANTRY_BIN`.
pub fn binary(name: &str) -> PathBuf {
    let folder = std::env::var_os("GANTRY_BIN").map(PathBuf::from).unwrap_or_else(|| {
        let test = std::env::current_exe().unwrap();
        test.parent().and_then(Path::parent).expect("target/{profile}/deps").to_owned()
    });
    let path = folder.join(name);
    assert!(path.exists(), "{} is missing: type `cargo build --workspace`", path.display());
    path
}

/// A program of this machine, from the Debian package `package`.
pub fn program(name: &str, package: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    let found = folders.map(|folder| folder.join(name)).find(|path| path.exists());
    found.unwrap_or_else(|| panic!("{name} is missing: type `apt-get install {package}`"))
}

/// `GANTRY_PYTHON`, which `cargo xtask test` installs: a Python with what its clients need.
pub fn python() -> PathBuf {
    let own = std::env::var_os("GANTRY_PYTHON").map(PathBuf::from);
    own.unwrap_or_else(|| program("python3", "python3"))
}

/// A program run to its end.
#[derive(Debug)]
pub struct Ran {
    pub status: ExitStatus,
    pub out: String,
    pub err: String,
}

impl Ran {
    /// What it printed, if it succeeded.
    #[track_caller]
    pub fn output(self) -> String {
        assert!(self.status.success(), "{}: {}{}", self.status, self.out, self.err);
        self.out
    }
}

/// Runs a program to its end, without blocking other tasks.
pub async fn run<A: AsRef<OsStr>>(
    program: &Path,
    arguments: impl IntoIterator<Item = A>,
    folder: &Path,
) -> Ran {
    let mut command = tokio::process::Command::new(program);
    command.args(arguments).current_dir(folder).stdin(Stdio::null()).kill_on_drop(true);
    let output = crate::wait::soon("a program ends", command.output()).await.unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ran { status: output.status, out: text(&output.stdout), err: text(&output.stderr) }
}

#[expect(clippy::print_stderr, reason = "the test has failed: here is why")]
fn print_tail(name: &str, log: &Path) {
    use std::io::{Read, Seek, SeekFrom};
    let mut tail = Vec::new();
    if let Ok(mut file) = File::open(log) {
        let length = file.metadata().map_or(0, |meta| meta.len());
        let _ = file.seek(SeekFrom::Start(length.saturating_sub(4000)));
        let _ = file.read_to_end(&mut tail);
    }
    eprintln!("--- the end of {name}'s log\n{}", String::from_utf8_lossy(&tail));
}
