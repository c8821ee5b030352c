//! The folder that `up` keeps its state in, the programs it runs there, and the `gantry` command
//! with which it configures them.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, TryLockError};
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, bail, ensure};
use tokio::process::Command;

use super::children::{Program, Records};
use super::layer4;
use super::overview::Overview;
use crate::say;
use crate::workspace::Workspace;

/// The name of the controller's process.
pub(super) const CONTROLLER: &str = "controller";
/// The longest path of a Unix socket, less its final zero.
const SOCKET_PATH: usize = 107;

/// Where the controller listens, and where it serves the page.
#[derive(Clone, Copy, Debug)]
pub(super) struct Listens {
    pub(super) controller: SocketAddr,
    pub(super) page: SocketAddr,
}

/// How a site is run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Setup {
    pub(super) release: bool,
    pub(super) listens: Listens,
    /// Whether agent-l4 runs as well.
    pub(super) layer4: bool,
}

#[derive(Debug)]
pub(super) struct Site {
    dir: PathBuf,
    workspace: Workspace,
    binaries: PathBuf,
    setup: Setup,
    /// Locked for as long as this program runs.
    _lock: File,
}

impl Site {
    /// Opens the folder for this program alone.
    pub(super) fn open(
        workspace: Workspace,
        dir: Option<&Path>,
        setup: Setup,
    ) -> anyhow::Result<Self> {
        let dir = match dir {
            Some(dir) => std::path::absolute(dir)?,
            None => workspace.root.join(".gantry"),
        };
        fs::create_dir_all(&dir).with_context(|| format!("making {}", dir.display()))?;
        let lock = lock(&dir)?;
        let binaries = workspace.target.join(if setup.release { "release" } else { "debug" });
        let site = Self { dir, workspace, binaries, setup, _lock: lock };
        let length = site.feed().as_os_str().len();
        ensure!(
            length <= SOCKET_PATH,
            "{} is too long for a socket ({length} of {SOCKET_PATH} bytes): choose a shorter --dir",
            site.feed().display()
        );
        Ok(site)
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn binaries(&self) -> &Path {
        &self.binaries
    }

    pub(super) fn config(&self) -> PathBuf {
        self.dir.join("config.toml")
    }

    pub(super) fn archives(&self) -> PathBuf {
        self.dir.join("archives")
    }

    pub(super) fn images(&self) -> PathBuf {
        self.dir.join("images")
    }

    pub(super) fn records(&self) -> Records {
        Records { xtask: self.xtask(), logs: self.dir.join("logs"), pids: self.dir.join("run") }
    }

    pub(super) fn example(&self) -> PathBuf {
        self.workspace.root.join("examples").join("loopback.yaml")
    }

    /// The example as it is applied here: with layer 4, one service more.
    pub(super) fn first_document(&self) -> anyhow::Result<PathBuf> {
        let example = self.example();
        if !self.setup.layer4 {
            return Ok(example);
        }
        let text = fs::read_to_string(&example).context("reading the example")?;
        let path = self.dir.join("loopback-and-layer4.yaml");
        fs::write(&path, text + layer4::SERVICE).context("writing the example")?;
        Ok(path)
    }

    pub(super) fn xtask(&self) -> PathBuf {
        self.binaries.join("xtask")
    }

    /// A path as short as it can be typed where this program was called.
    pub(super) fn show(&self, path: &Path) -> String {
        let here = std::env::current_dir().unwrap_or_default();
        let short = path.strip_prefix(&here).unwrap_or(path);
        short.display().to_string()
    }

    pub(super) async fn build(&self) -> anyhow::Result<()> {
        let mut build = self.workspace.cargo(&["build", "--workspace", "--bins"]);
        build.args(self.setup.release.then_some("--release"));
        let status = Command::from(build).stdin(Stdio::null()).kill_on_drop(true).status().await;
        ensure!(status.context("starting cargo")?.success(), "the build failed");
        Ok(())
    }

    pub(super) fn controller(&self) -> Program {
        let arguments: Vec<OsString> = vec![
            "--listen".into(),
            self.setup.listens.controller.to_string().into(),
            "--page".into(),
            self.setup.listens.page.to_string().into(),
            "--state".into(),
            self.dir.join(CONTROLLER).into(),
        ];
        self.program(CONTROLLER, "gantry-controller", arguments)
    }

    /// The agents of the appliance, by name; healthd first, for it tells the others.
    pub(super) fn agents(&self) -> &'static [&'static str] {
        if self.setup.layer4 {
            &["healthd", "agent-l4", "agent-l7"]
        } else {
            &["healthd", "agent-l7"]
        }
    }

    pub(super) fn agent(&self, name: &str) -> Program {
        let mut arguments: Vec<OsString> = vec![
            "--controller".into(),
            self.url().into(),
            "--identity".into(),
            self.identity().into(),
            "--state".into(),
            self.appliance().join(name).into(),
            "--feed".into(),
            self.feed().into(),
        ];
        if name != "agent-l7" {
            // Where healthd gets its ways through real servers.
            arguments.extend(["--control".into(), self.control().into()]);
        }
        self.program(name, &format!("gantry-{name}"), arguments)
    }

    fn program(&self, name: &str, binary: &str, arguments: Vec<OsString>) -> Program {
        Program { name: name.to_owned(), path: self.binaries.join(binary), arguments }
    }

    /// Makes the cluster, and lets the appliance join it, unless that was done before.
    pub(super) async fn enroll(&self) -> anyhow::Result<()> {
        let seen = self.overview().await?;
        if !seen.clusters.iter().any(|cluster| cluster.name == "clusters/main") {
            self.gantry(["create", "cluster", "main"]).await?;
        }
        if self.identity().join("certificate.pem").exists() {
            return Ok(());
        }
        say("joining the appliance lb1 to the cluster main with a token");
        let invitation = self.gantry(["invite", "main/lb1"]).await?;
        let token = invitation.lines().find_map(|line| line.strip_prefix("token"));
        let token = token.context("gantry invite shows no token")?.trim().to_owned();
        let identity = self.identity();
        let flags = ["join".as_ref(), "--token".as_ref(), OsStr::new(&token), "--dir".as_ref()];
        self.gantry(flags.into_iter().chain([identity.as_os_str()])).await.map(drop)
    }

    pub(super) async fn overview(&self) -> anyhow::Result<Overview> {
        let text = self.gantry(["overview", "-o", "json"]).await?;
        serde_json::from_str(&text).context("reading the overview")
    }

    /// Runs the `gantry` command as the operator; gives what it prints.
    pub(super) async fn gantry<S: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = S>,
    ) -> anyhow::Result<String> {
        let mut command = Command::new(self.binaries.join("gantry"));
        // An operator's own settings must not get in.
        for name in ["GANTRY_CONTEXT", "GANTRY_CONTROLLER", "GANTRY_IDENTITY", "GANTRY_TOKEN"] {
            command.env_remove(name);
        }
        self.write_config()?;
        let output = command
            .args(arguments)
            .env("GANTRY_CONFIG", self.config())
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await
            .context("starting gantry")?;
        if !output.status.success() {
            let text = String::from_utf8_lossy(&output.stderr);
            bail!("gantry: {}", text.trim().trim_start_matches("error: "));
        }
        String::from_utf8(output.stdout).context("reading what gantry prints")
    }

    /// The settings file of the `gantry` command; as it is when it is right already.
    fn write_config(&self) -> anyhow::Result<()> {
        let admin = self.dir.join(CONTROLLER).join("operators").join("admin");
        let text = format!(
            "current = \"up\"\n\n[contexts.up]\ncontroller = {:?}\nidentity = {:?}\n",
            self.url(),
            admin.display().to_string()
        );
        if fs::read_to_string(self.config()).is_ok_and(|old| old == text) {
            return Ok(());
        }
        fs::write(self.config(), text).context("writing the settings of the gantry command")
    }

    /// Takes away what is of no use once nothing runs.
    pub(super) fn close(&self) {
        if self.setup.layer4 {
            layer4::take_away(&self.appliance().join("agent-l4")).iter().for_each(say);
        }
        for socket in [self.feed(), self.control()] {
            let _ = fs::remove_file(socket);
        }
        let _ = fs::remove_dir(self.records().pids);
    }

    /// Where this machine reaches the controller.
    fn url(&self) -> String {
        format!("https://{}", reached(self.setup.listens.controller))
    }

    /// Where this machine's browser reaches the page.
    pub(super) fn page(&self) -> String {
        format!("https://{}/", reached(self.setup.listens.page))
    }

    /// The page's first password, if the controller has just made it: it shows it once.
    pub(super) fn first_password(&self) -> Option<String> {
        let log = fs::read_to_string(self.records().logs.join("controller.log")).ok()?;
        let line = log.lines().find_map(|line| line.trim_start().strip_prefix("password  "))?;
        Some(line.trim().to_owned())
    }

    fn appliance(&self) -> PathBuf {
        self.dir.join("lb1")
    }

    fn identity(&self) -> PathBuf {
        self.appliance().join("identity")
    }

    fn feed(&self) -> PathBuf {
        self.appliance().join("health.sock")
    }

    fn control(&self) -> PathBuf {
        self.appliance().join("l4.sock")
    }
}

/// The address under which this machine reaches what listens at `listen`.
fn reached(listen: SocketAddr) -> SocketAddr {
    let address = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(address, listen.port())
}

/// Makes sure that nobody else works in `dir`, for as long as the file is open.
fn lock(dir: &Path) -> anyhow::Result<File> {
    let path = dir.join("lock");
    let open = File::options().read(true).write(true).create(true).truncate(false).open(&path);
    let mut file = open.with_context(|| format!("opening {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => {
            file.set_len(0)?;
            write!(file, "{}", std::process::id())?;
            Ok(file)
        }
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            file.read_to_string(&mut holder)?;
            bail!(
                "another `cargo xtask up` runs in {} (process {}): end it first, or give this one a \
                 --dir and a --listen of its own",
                dir.display(),
                holder.trim()
            )
        }
        Err(TryLockError::Error(error)) => Err(error).context("locking the folder"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workspace() -> Workspace {
        Workspace { root: "/w".into(), target: "/w/target".into(), packages: Vec::new() }
    }

    fn setup() -> Setup {
        let [controller, page] = [7443, 7444].map(|port| (Ipv4Addr::UNSPECIFIED, port).into());
        Setup { release: false, listens: Listens { controller, page }, layer4: false }
    }

    #[test]
    fn one_folder_is_for_one() {
        let dir = tempfile::tempdir().unwrap();
        let first = Site::open(workspace(), Some(dir.path()), setup()).unwrap();
        assert_eq!(first.url(), "https://127.0.0.1:7443");
        assert_eq!(first.page(), "https://127.0.0.1:7444/");
        let second = Site::open(workspace(), Some(dir.path()), setup()).unwrap_err();
        let expected = format!("(process {})", std::process::id());
        assert!(second.to_string().contains(&expected), "{second}");
        drop(first);
        Site::open(workspace(), Some(dir.path()), setup()).unwrap();
    }

    #[test]
    fn a_folder_too_deep_for_a_socket_is_refused() {
        let dir = tempfile::tempdir().unwrap().path().join("d".repeat(100));
        let refused = Site::open(workspace(), Some(&dir), setup()).unwrap_err();
        assert!(refused.to_string().contains("shorter --dir"), "{refused}");
    }
}
