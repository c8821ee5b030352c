//! Network namespaces: the one that this program is in, and more beside it.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::process::{Command, Stdio};
use std::thread::JoinHandle;

use anyhow::{Context, ensure};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Where `ip netns` keeps namespaces by name.
const NAMESPACES: &str = "/run/netns";

/// A network namespace with its loopback up. It is deleted when this is dropped.
#[derive(Debug)]
pub(super) struct Net(String);

/// Makes the namespaces that this program was started in fit: names of others are kept in a folder that
/// nobody else sees and that ends with this program.
pub(super) fn settle_in() -> anyhow::Result<()> {
    std::fs::create_dir_all(NAMESPACES)?;
    call(Command::new("mount").args(["-t", "tmpfs", "none", NAMESPACES]))?;
    // What is built into the kernel is no module.
    let modules = ["-qa", "ip_vs", "ip_vs_wlc", "dummy", "veth", "bridge"];
    let _ = Command::new("modprobe").args(modules).status();
    ip(None, &["link set lo up".to_owned()])
}

impl Net {
    pub(super) fn add(name: &str) -> anyhow::Result<Self> {
        ip(None, &[format!("netns add {name}")])?;
        let net = Self(name.to_owned());
        net.ip(&["link set lo up".to_owned()])?;
        Ok(net)
    }

    pub(super) fn name(&self) -> &str {
        &self.0
    }

    /// Runs `ip` with these commands in it.
    pub(super) fn ip(&self, commands: &[String]) -> anyhow::Result<()> {
        ip(Some(&self.0), commands)
    }

    /// What to put before a command that is to run in it.
    pub(super) fn within(&self) -> [&str; 4] {
        ["ip", "netns", "exec", &self.0]
    }

    /// A command that is to run in it.
    pub(super) fn command(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.0, program]);
        command
    }

    /// Starts a thread in it.
    pub(super) fn start<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> anyhow::Result<JoinHandle<anyhow::Result<T>>> {
        let namespace = File::open(format!("{NAMESPACES}/{}", self.0))?;
        Ok(std::thread::spawn(move || {
            let network = Some(LinkNameSpaceType::Network);
            move_into_link_name_space(namespace.as_fd(), network)?;
            Ok(work())
        }))
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        // All namespaces end with this program anyway.
        let _ = ip(None, &[format!("netns del {}", self.0)]);
    }
}

/// Runs `ip` once with these commands, here or in a namespace.
pub(super) fn ip(namespace: Option<&str>, commands: &[String]) -> anyhow::Result<()> {
    let mut command = Command::new("ip");
    command.args(namespace.iter().flat_map(|name| ["-n", name])).args(["-batch", "-"]);
    let mut child = command.stdin(Stdio::piped()).spawn().context("starting ip, of iproute2")?;
    let text: String = commands.iter().map(|line| format!("{line}\n")).collect();
    child.stdin.take().context("a pipe was asked for")?.write_all(text.as_bytes())?;
    ensure!(child.wait()?.success(), "ip failed at one of:\n{text}");
    Ok(())
}

/// Runs a command to its end.
pub(super) fn call(command: &mut Command) -> anyhow::Result<()> {
    let status = command.status().with_context(|| format!("starting {command:?}"))?;
    ensure!(status.success(), "{command:?} failed ({status})");
    Ok(())
}
