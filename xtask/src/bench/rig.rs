//! A controller of its own for a benchmark, and the processes and clients beside it.
//!
//! Everything is on loopback and in a temporary folder on a real disk, and ends with this program.

use std::ffi::OsStr;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};
use gantry_proto::v1 as pb;
use gantry_proto::v1::balancer_service_client::BalancerServiceClient;
use gantry_proto::v1::config_service_client::ConfigServiceClient;
use gantry_proto::v1::fleet_service_client::FleetServiceClient;
use gantry_runtime::identity::Identity;
use gantry_runtime::{clock, join, rpc};
use rustix::process::{Pid, Signal, kill_process_group};
use tempfile::TempDir;
use tonic::transport::Channel;

/// Documents of thousands of services in one message.
const LARGEST: usize = 256 << 20;
/// How long anything may take that is no measurement.
const PATIENCE: Duration = Duration::from_secs(300);

/// A port that is free now.
pub(super) fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

/// Waits until somebody listens there.
pub(super) fn wait_for(address: SocketAddr) -> anyhow::Result<()> {
    for _ in 0..1000 {
        if TcpStream::connect(address).is_ok() {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    anyhow::bail!("nobody listens at {address}")
}

/// A process that ends with this program, and all that it has started.
#[derive(Debug)]
pub(super) struct Running(Child);

impl Running {
    /// Starts `command`, tied to this program; what it prints goes to the file `log`. setpriv, of
    /// util-linux, takes next to no time to become the command.
    pub(super) fn start(command: &[&OsStr], log: &Path) -> anyhow::Result<Self> {
        let log = std::fs::File::create(log)?;
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "TERM", "--"])
            .args(command)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0)
            .spawn();
        Ok(Self(child.with_context(|| format!("starting {command:?}"))?))
    }

    pub(super) fn id(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // nginx's workers outlive a master that is killed.
        let group = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw);
        let _ = group.map(|group| kill_process_group(group, Signal::KILL));
        let _ = self.0.wait();
    }
}

/// A controller in a folder of its own.
#[derive(Debug)]
pub(super) struct Rig {
    controller: Option<Running>,
    pub(super) port: u16,
    binaries: PathBuf,
    dir: TempDir,
}

impl Rig {
    /// One of the programs that were built with optimizations in the folder `target`.
    pub(super) async fn start(target: &Path) -> anyhow::Result<Self> {
        // Beside what is built, which is on a disk: a temporary folder may be in memory.
        let dir = tempfile::Builder::new().prefix("bench-").tempdir_in(target)?;
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let binaries = target.join("release");
        let mut rig = Self { controller: None, port, binaries, dir };
        rig.start_controller().await?;
        Ok(rig)
    }

    /// Starts the controller again; gives the time until it answered a call.
    pub(super) async fn restart(&mut self) -> anyhow::Result<Duration> {
        self.controller = None;
        self.start_controller().await
    }

    async fn start_controller(&mut self) -> anyhow::Result<Duration> {
        let listen = format!("127.0.0.1:{}", self.port);
        let state = self.dir().join("controller");
        let began = clock::monotonic();
        let arguments: [&OsStr; 6] = [
            "--listen".as_ref(),
            listen.as_ref(),
            "--page".as_ref(),
            "off".as_ref(),
            "--state".as_ref(),
            state.as_ref(),
        ];
        self.controller = Some(self.spawn("gantry-controller", &arguments)?);
        while clock::monotonic() - began < PATIENCE {
            if self.answers().await {
                return Ok(clock::monotonic() - began);
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        anyhow::bail!("the controller does not answer; see {}", self.dir().display())
    }

    async fn answers(&self) -> bool {
        let Ok(channel) = self.channel() else { return false };
        let call = pb::ListClustersRequest::default();
        FleetServiceClient::new(channel).list_clusters(call).await.is_ok()
    }

    /// Runs the `gantry` command as the operator.
    pub(super) async fn gantry(&self, arguments: &[&str]) -> anyhow::Result<()> {
        let output = tokio::process::Command::new(self.binaries.join("gantry"))
            .args(["--controller", &self.url(), "--identity"])
            .arg(self.dir().join("controller/operators/admin"))
            .args(arguments)
            .output()
            .await
            .context("starting gantry")?;
        ensure!(output.status.success(), "gantry: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }

    /// Starts one of Gantry's programs.
    pub(super) fn spawn(&self, program: &str, arguments: &[&OsStr]) -> anyhow::Result<Running> {
        let binary = self.binary(program);
        let command: Vec<&OsStr> = [binary.as_os_str()].iter().chain(arguments).copied().collect();
        Running::start(&command, &self.log(program))
    }

    /// Starts an agent of an appliance, with its state and its way to healthd in files of these names.
    pub(super) fn start_agent(
        &self,
        program: &str,
        identity: &Path,
        [state, feed]: [&Path; 2],
    ) -> anyhow::Result<Running> {
        let url = self.url();
        let arguments: [&OsStr; 8] = [
            "--controller".as_ref(),
            url.as_ref(),
            "--identity".as_ref(),
            identity.as_ref(),
            "--state".as_ref(),
            state.as_ref(),
            "--feed".as_ref(),
            feed.as_ref(),
        ];
        self.spawn(program, &arguments)
    }

    /// Where one of Gantry's programs is.
    pub(super) fn binary(&self, program: &str) -> PathBuf {
        self.binaries.join(program)
    }

    /// Where a program that was started says what it does.
    pub(super) fn log(&self, program: &str) -> PathBuf {
        self.dir().join(format!("{program}.log"))
    }

    pub(super) fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(super) fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    /// The controller's process.
    pub(super) fn process(&self) -> u32 {
        self.controller.as_ref().map_or(0, Running::id)
    }

    /// A new connection of the operator's.
    pub(super) fn channel(&self) -> anyhow::Result<Channel> {
        let identity = Identity::load(&self.dir().join("controller/operators/admin"))?;
        Ok(rpc::connect(&self.url(), &identity)?)
    }

    pub(super) fn balancer(&self) -> anyhow::Result<BalancerServiceClient<Channel>> {
        Ok(BalancerServiceClient::new(self.channel()?))
    }

    pub(super) fn fleet(&self) -> anyhow::Result<FleetServiceClient<Channel>> {
        Ok(FleetServiceClient::new(self.channel()?))
    }

    /// A cluster with that many layer 7 services of four real servers each.
    pub(super) async fn make_cluster(&self, id: &str, services: usize) -> anyhow::Result<()> {
        self.make_cluster_of(id, (0..services).map(service).collect()).await
    }

    /// A cluster with these services.
    pub(super) async fn make_cluster_of(
        &self,
        id: &str,
        services: Vec<pb::config::Service>,
    ) -> anyhow::Result<()> {
        let request = pb::CreateClusterRequest { cluster_id: id.into(), ..Default::default() };
        self.fleet()?.create_cluster(request).await?;
        self.apply(id, services).await
    }

    /// Gives a cluster that many layer 7 services, and no others.
    pub(super) async fn fill_cluster(&self, id: &str, services: usize) -> anyhow::Result<()> {
        self.apply(id, (0..services).map(service).collect()).await
    }

    async fn apply(&self, id: &str, services: Vec<pb::config::Service>) -> anyhow::Result<()> {
        let config = pb::Config { name: format!("clusters/{id}"), services, ..Default::default() };
        let request = pb::ApplyConfigRequest { config: Some(config), ..Default::default() };
        let client = ConfigServiceClient::new(self.channel()?);
        client
            .max_encoding_message_size(LARGEST)
            .max_decoding_message_size(LARGEST)
            .apply_config(request)
            .await?;
        Ok(())
    }

    /// Lets an appliance join; gives where its identity is.
    pub(super) async fn enroll(&self, cluster: &str, appliance: &str) -> anyhow::Result<PathBuf> {
        let request = pb::InviteApplianceRequest {
            parent: format!("clusters/{cluster}"),
            appliance_id: appliance.into(),
            ..Default::default()
        };
        let token = self.fleet()?.invite_appliance(request).await?.into_inner().token;
        let dir = self.dir().join(cluster).join(appliance).join("identity");
        join::join(&self.url(), &token, &dir).await?;
        Ok(dir)
    }

    /// Waits until every agent of a cluster is connected and runs the present configuration.
    pub(super) async fn settled(&self, cluster: &str, agents: usize) -> anyhow::Result<()> {
        let mut fleet = self.fleet()?;
        let request = pb::ListAppliancesRequest {
            parent: format!("clusters/{cluster}"),
            page_size: 1000,
            ..Default::default()
        };
        let began = clock::monotonic();
        loop {
            let answer = fleet.list_appliances(request.clone()).await?.into_inner();
            let all = answer.appliances.iter().flat_map(|appliance| &appliance.agents);
            let current = all.filter(|agent| agent.connected && agent.current).count();
            if current >= agents {
                return Ok(());
            }
            let passed = clock::monotonic() - began;
            ensure!(passed < PATIENCE, "{current} of {agents} agents of {cluster} are current");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// The service with this number: a layer 7 service of four real servers, without checks.
fn service(number: usize) -> pb::config::Service {
    let [low, high] = [number % 250, number / 250];
    let server = |at: usize| pb::RealServer {
        name: format!("rs{at}"),
        endpoint: Some(pb::Endpoint { address: format!("127.20.{high}.{}", at + 1), port: 104 }),
        ..Default::default()
    };
    let check = pb::HealthCheck {
        probe: Some(pb::health_check::Probe::None(pb::health_check::None {})),
        ..Default::default()
    };
    let service = pb::VirtualService {
        name: format!("service-{number:05}"),
        listener: Some(pb::Listener {
            address: format!("127.10.{high}.{}", low + 1),
            ports: vec!["11112".into()],
            ..Default::default()
        }),
        forwarding: Some(pb::virtual_service::Forwarding::Layer7(pb::Layer7::default())),
        persistence: Some(pb::Persistence::default()),
        health_check: Some(check),
        ..Default::default()
    };
    pb::config::Service {
        virtual_service: Some(service),
        real_servers: (0..4).map(server).collect(),
    }
}
