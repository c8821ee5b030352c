//! One host of a lab: programs, closures and whole stories run inside its network namespace.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::runtime::Runtime;

use crate::process::{Process, Ran, program};

/// Where `ip netns` keeps namespaces by name.
pub(super) const NAMESPACES: &str = "/run/netns";

#[derive(Debug)]
pub struct Node {
    name: String,
    namespace: String,
    interfaces: usize,
    handle: Arc<File>,
}

impl Node {
    pub(super) fn open(prefix: &str, name: &str, interfaces: usize) -> Self {
        let namespace = format!("{prefix}{name}");
        let path = Path::new(NAMESPACES).join(&namespace);
        let handle = File::open(&path);
        let handle = handle.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Self { name: name.to_owned(), namespace, interfaces, handle: Arc::new(handle) }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// As `ip netns` knows it.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    pub(super) fn interfaces(&self) -> usize {
        self.interfaces
    }

    /// Runs `work` on a thread inside the namespace: the sockets it opens and the processes it starts
    /// belong there, also later. When it panics, so does this.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let inside = || {
            move_in(&self.handle);
            work()
        };
        let named = std::thread::Builder::new().name(self.name.clone());
        let outcome = std::thread::scope(|scope| named.spawn_scoped(scope, inside).unwrap().join());
        outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// Runs an asynchronous `story` to its end inside the namespace; what it spawns is there, too. It may
    /// block as it likes, with a client elsewhere in the lab, say: connections go on meanwhile.
    pub fn block_on<T: Send>(&self, story: impl AsyncFnOnce() -> T + Send) -> T {
        let runtime = self.runtime();
        self.enter(move || runtime.block_on(story()))
    }

    /// A runtime whose threads are inside the namespace.
    pub fn runtime(&self) -> Runtime {
        let handle = Arc::clone(&self.handle);
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let runtime = builder.worker_threads(2).enable_all();
        runtime.on_thread_start(move || move_in(&handle)).build().unwrap()
    }

    /// Runs a program, by its name or its path, to its end.
    pub fn run(&self, name: &str, arguments: &[&str]) -> Ran {
        let mut command = Command::new(find(name));
        command.args(arguments).stdin(Stdio::null());
        let output = self.enter(|| command.output()).unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ran { status: output.status, out: text(&output.stdout), err: text(&output.stderr) }
    }

    /// Starts a program, which sees this host's interfaces below /sys as well; what it prints goes to
    /// `{logs}/{name}.log`.
    pub fn spawn(&self, name: &str, program: &Path, arguments: &[&str], logs: &Path) -> Process {
        let mut all = vec!["netns", "exec", &self.namespace, program.to_str().unwrap()];
        all.extend(arguments);
        Process::start(name, &find("ip"), all, logs)
    }

    /// Runs `ip` once with these commands: `addr add 10.77.0.100/32 dev eth0`.
    #[track_caller]
    pub fn ip<L: AsRef<str>>(&self, commands: &[L]) {
        batch(Some(&self.namespace), commands);
    }

    /// Sets kernel parameters, named as below /proc/sys: `net/ipv4/vs/conntrack`.
    #[track_caller]
    pub fn sysctl(&self, values: &[(&str, &str)]) {
        let set = |(name, value): &(&str, &str)| {
            let written = std::fs::write(Path::new("/proc/sys").join(name), value);
            written.map_err(|error| format!("{name} = {value}: {error}"))
        };
        let outcome: Result<(), String> = self.enter(|| values.iter().try_for_each(set));
        outcome.unwrap();
    }
}

fn move_in(namespace: &File) {
    let network = Some(LinkNameSpaceType::Network);
    move_into_link_name_space(namespace.as_fd(), network).expect("root may enter a namespace");
}

/// Runs `ip` once with these commands, in a namespace or outside.
#[track_caller]
pub(super) fn batch<L: AsRef<str>>(namespace: Option<&str>, commands: &[L]) {
    let text: String = commands.iter().map(|line| format!("{}\n", line.as_ref())).collect();
    let options: Vec<_> = namespace.iter().flat_map(|name| ["-n", name]).collect();
    let (output, text) = (run_batch(&options, &text).unwrap(), text.trim_end());
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip: {}\n{text}", err.trim_end());
}

pub(super) fn run_batch(options: &[&str], text: &str) -> std::io::Result<std::process::Output> {
    let mut command = Command::new(find("ip"));
    command.args(options).args(["-batch", "-"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    child.stdin.take().expect("a pipe was asked for").write_all(text.as_bytes())?;
    child.wait_with_output()
}

/// A program by its name, or by its path.
fn find(name: &str) -> PathBuf {
    let package = match name {
        "ip" => "iproute2",
        "nft" => "nftables",
        other => other,
    };
    program(name, package)
}
