//! A site: a controller and one appliance with its agents, each a process of its own.
//!
//! Started on a thread inside a node of a lab, all of it is in that node: see [`Node::block_on`].
//!
//! [`Node::block_on`]: crate::lab::Node::block_on

mod layer4;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use gantry_proto::agent::v1::agent_service_client::AgentServiceClient;
use gantry_proto::v1 as pb;
use gantry_runtime::identity::Identity;
use gantry_runtime::{join, rpc};
use pb::authority_service_client::AuthorityServiceClient;
use pb::balancer_service_client::BalancerServiceClient;
use pb::config_service_client::ConfigServiceClient;
use pb::fleet_service_client::FleetServiceClient;
use pb::observe_service_client::ObserveServiceClient;
use tempfile::TempDir;
use tonic::transport::Channel;

use crate::block::Block;
use crate::process::{Process, Ran, binary, run};
use crate::wait::eventually;

/// Where the controller listens in every block, and where it serves the page.
const CONTROLLER: (u8, u16) = (1, 7443);
const PAGE: (u8, u16) = (1, 7444);
/// Overviews of thousands of services in one message.
const LARGEST: usize = 256 << 20;

/// The processes of a site. Fields are dropped in this order.
#[derive(Debug)]
pub struct Site {
    pub controller: Process,
    pub healthd: Option<Process>,
    pub agent_l7: Option<Process>,
    pub agent_l4: Option<Process>,
    /// `https://address:port`
    pub url: String,
    pub block: Arc<Block>,
    channel: Channel,
    dir: TempDir,
}

impl Site {
    /// A controller, and the cluster "main" without appliances.
    pub async fn controller_only() -> Self {
        Self::controller_with(&[]).await
    }

    /// The same with more on the controller's command line.
    pub async fn controller_with(more: &[&str]) -> Self {
        Self::controller_in(Arc::new(Block::take()), more).await
    }

    /// A site that serves the System Overview page, too.
    pub async fn with_page() -> Self {
        let block = Arc::new(Block::take());
        let page = block.socket(PAGE.0, PAGE.1).to_string();
        Self::controller_in(block, &["--page", &page]).await.joined().await
    }

    async fn controller_in(block: Arc<Block>, more: &[&str]) -> Self {
        let address = block.socket(CONTROLLER.0, CONTROLLER.1);
        Self::controller_at(address, block, more).await
    }

    async fn controller_at(address: SocketAddr, block: Arc<Block>, more: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let listen = address.to_string();
        let controller = controller_process("controller", address, dir.path(), more);
        controller.says(&["serving", &listen]).await;
        let url = format!("https://{listen}");
        let admin = Identity::load(&dir.path().join("controller/operators/admin")).unwrap();
        let channel = rpc::connect(&url, &admin).unwrap();
        let (healthd, agent_l7, agent_l4) = (None, None, None);
        let site = Self { controller, healthd, agent_l7, agent_l4, url, block, channel, dir };
        let request = pb::CreateClusterRequest {
            cluster_id: "main".to_owned(),
            cluster: None,
            ..Default::default()
        };
        site.fleet().create_cluster(request).await.unwrap();
        site
    }

    /// A controller, the cluster "main", and the appliance "lb1" with its agents.
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// The same with more on the controller's command line.
    pub async fn start_with(more: &[&str]) -> Self {
        Self::controller_with(more).await.joined().await
    }

    async fn joined(mut self) -> Self {
        self.join_lb1().await;
        self.start_healthd();
        self.start_agent_l7();
        self.agents_report().await;
        self
    }

    async fn join_lb1(&self) {
        let token = self.invite("lb1").await;
        join::join(&self.url, &token, &self.identity_of("lb1")).await.unwrap();
    }

    /// Where the page is: `https://address:port`.
    pub fn page(&self) -> String {
        format!("https://{}", self.block.socket(PAGE.0, PAGE.1))
    }

    /// The password of the page's first user, as the controller shows it at its first start.
    pub async fn page_password(&self) -> String {
        let line = self.controller.says(&["  password  "]).await;
        line.trim().trim_start_matches("password").trim().to_owned()
    }

    /// Ends the controller and starts it with this on its command line.
    pub async fn restart_controller_with(&mut self, name: &str, more: &[&str]) {
        self.controller.kill();
        let address = self.block.socket(CONTROLLER.0, CONTROLLER.1);
        self.controller = controller_process(name, address, self.dir(), more);
        self.controller.says(&["serving", &address.to_string()]).await;
        self.call_anew();
    }

    /// Calls with the operator's identity as it is now.
    pub fn call_anew(&mut self) {
        self.channel = rpc::connect(&self.url, &Identity::load(&self.operator()).unwrap()).unwrap();
    }

    pub fn start_healthd(&mut self) {
        let options = self.options_with_control("healthd");
        let program = binary("gantry-healthd");
        self.healthd = Some(Process::start("healthd", &program, options, self.dir()));
    }

    pub fn start_agent_l7(&mut self) {
        self.agent_l7 = Some(self.agent("agent-l7", "gantry-agent-l7"));
    }

    /// A token with which the appliance may join.
    pub async fn invite(&self, appliance: &str) -> String {
        let appliance_id = appliance.to_owned();
        let request = pb::InviteApplianceRequest { appliance_id, ..Default::default() };
        self.fleet().invite_appliance(request).await.unwrap().into_inner().token
    }

    /// Waits until every agent that was started is heard and runs what it should.
    pub async fn agents_report(&self) {
        let started = [&self.healthd, &self.agent_l7, &self.agent_l4].into_iter().flatten().count();
        eventually(&format!("{started} agents are connected and current"), async || {
            let request = pb::GetOverviewRequest::default();
            let overview = self.observe().get_overview(request).await.ok()?.into_inner();
            let agents = overview.appliances.iter().flat_map(|appliance| &appliance.agents);
            (agents.filter(|agent| agent.connected && agent.current).count() == started)
                .then_some(())
        })
        .await;
    }

    fn agent(&self, name: &str, program: &str) -> Process {
        let identity = self.identity_of("lb1");
        agent_process(name, program, &self.url, &identity, self.dir())
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Where an appliance's identity is, or shall be.
    pub fn identity_of(&self, appliance: &str) -> PathBuf {
        self.dir().join(format!("identity-{appliance}"))
    }

    /// Where the operator's identity is.
    pub fn operator(&self) -> PathBuf {
        self.dir().join("controller/operators/admin")
    }

    /// A folder of the test's own.
    pub fn folder(&self, name: &str) -> PathBuf {
        let folder = self.dir().join(name);
        std::fs::create_dir_all(&folder).unwrap();
        folder
    }

    /// Runs the command line as the operator.
    pub async fn gantry(&self, arguments: &[&str]) -> Ran {
        let identity = self.operator();
        let caller = ["--controller", &self.url, "--identity", identity.to_str().unwrap()];
        run(&binary("gantry"), arguments.iter().chain(&caller), self.dir()).await
    }

    /// Imports a certificate and its key from files, as an operator does.
    pub async fn import(&self, id: &str, chain: &str, key: &str) {
        let arguments = ["import", "certificate", id, "--chain", chain, "--key", key];
        self.gantry(&arguments).await.output();
    }

    /// Gives a real server another weight, and changes nothing else.
    pub async fn set_weight(&self, server: &str, weight: i32) {
        let name = server.to_owned();
        let changed = pb::RealServer { name, weight: Some(weight), ..Default::default() };
        let update_mask = Some(prost_types::FieldMask { paths: vec!["weight".to_owned()] });
        let request = pb::UpdateRealServerRequest {
            real_server: Some(changed),
            update_mask,
            ..Default::default()
        };
        self.balancer().update_real_server(request).await.unwrap();
    }

    /// The operator's channel.
    pub fn channel(&self) -> Channel {
        self.channel.clone()
    }

    pub fn balancer(&self) -> BalancerServiceClient<Channel> {
        BalancerServiceClient::new(self.channel()).max_decoding_message_size(LARGEST)
    }

    pub fn config(&self) -> ConfigServiceClient<Channel> {
        ConfigServiceClient::new(self.channel())
            .max_decoding_message_size(LARGEST)
            .max_encoding_message_size(LARGEST)
    }

    pub fn fleet(&self) -> FleetServiceClient<Channel> {
        FleetServiceClient::new(self.channel())
    }

    pub fn authority(&self) -> AuthorityServiceClient<Channel> {
        AuthorityServiceClient::new(self.channel())
    }

    pub fn observe(&self) -> ObserveServiceClient<Channel> {
        ObserveServiceClient::new(self.channel()).max_decoding_message_size(LARGEST)
    }

    /// The agents' service, called with the identity of `appliance`.
    pub fn agents(&self, appliance: &str) -> AgentServiceClient<Channel> {
        let identity = Identity::load(&self.identity_of(appliance)).unwrap();
        let channel = rpc::connect(&self.url, &identity).unwrap();
        AgentServiceClient::new(channel).max_decoding_message_size(LARGEST)
    }
}

fn controller_process(name: &str, address: SocketAddr, dir: &Path, more: &[&str]) -> Process {
    let state = dir.join("controller");
    let (listen, reached) = (address.to_string(), address.ip().to_string());
    let arguments = ["--listen", &listen, "--state", state.to_str().unwrap(), "--name", &reached];
    let arguments = arguments.iter().chain(more);
    Process::start(name, &binary("gantry-controller"), arguments, dir)
}

/// Starts an agent as the service manager would.
pub fn agent_process(
    name: &str,
    program: &str,
    controller: &str,
    identity: &Path,
    dir: &Path,
) -> Process {
    Process::start(name, &binary(program), agent_options(name, controller, identity, dir), dir)
}

/// The options that every agent has.
fn agent_options(name: &str, controller: &str, identity: &Path, dir: &Path) -> Vec<String> {
    let (state, feed) = (dir.join(name), dir.join("health.sock"));
    let [identity, state, feed] = [identity, &state, &feed].map(|path| path.to_str().unwrap());
    let options = ["--controller", controller, "--identity", identity];
    options.into_iter().chain(["--state", state, "--feed", feed]).map(str::to_owned).collect()
}

/// What tests ask of a site again and again.
impl Site {
    pub async fn create(
        &self,
        id: &str,
        service: pb::VirtualService,
        servers: Vec<pb::RealServer>,
    ) -> pb::VirtualService {
        let request = pb::CreateVirtualServiceRequest {
            virtual_service_id: id.to_owned(),
            virtual_service: Some(service),
            real_servers: servers,
            ..Default::default()
        };
        self.balancer().create_virtual_service(request).await.unwrap().into_inner()
    }

    pub async fn service(&self, id: &str) -> pb::VirtualService {
        let request = pb::GetVirtualServiceRequest { name: service_name(id) };
        self.balancer().get_virtual_service(request).await.unwrap().into_inner()
    }

    pub async fn status(&self, id: &str) -> pb::VirtualServiceStatus {
        self.service(id).await.status.unwrap()
    }

    pub async fn server_status(&self, service: &str, server: &str) -> pb::RealServerStatus {
        let request = pb::GetRealServerRequest { name: server_name(service, server) };
        let found = self.balancer().get_real_server(request).await.unwrap().into_inner();
        found.status.unwrap()
    }

    /// Waits until every appliance runs the service as configured, with all its servers healthy.
    pub async fn up(&self, id: &str) {
        self.reaches(id, pb::virtual_service_status::State::Up).await;
    }

    /// Waits until the service is in this state, and no appliance is behind.
    pub async fn reaches(
        &self,
        id: &str,
        state: pb::virtual_service_status::State,
    ) -> pb::VirtualServiceStatus {
        eventually(&format!("{id} is {state:?}"), async || {
            let status = self.status(id).await;
            (status.state() == state && !status.reconciling).then_some(status)
        })
        .await
    }

    pub async fn server_reaches(
        &self,
        service: &str,
        server: &str,
        state: pb::real_server_status::State,
    ) -> pb::RealServerStatus {
        eventually(&format!("{service}/{server} is {state:?}"), async || {
            let status = self.server_status(service, server).await;
            (status.state() == state).then_some(status)
        })
        .await
    }

    /// Waits until no appliance is behind, whatever the state of the service.
    pub async fn settled(&self, id: &str) {
        let what = format!("the appliances are up to date with {id}");
        eventually(&what, async || (!self.status(id).await.reconciling).then_some(())).await;
    }

    pub async fn drain(
        &self,
        service: &str,
        server: &str,
        halt_after: Option<std::time::Duration>,
    ) {
        let request = pb::DrainRealServerRequest {
            name: server_name(service, server),
            halt_after: halt_after.map(crate::services::duration),
            ..Default::default()
        };
        self.balancer().drain_real_server(request).await.unwrap();
        self.settled(service).await;
    }

    pub async fn halt(&self, service: &str, server: &str) {
        let name = server_name(service, server);
        let request = pb::HaltRealServerRequest { name, ..Default::default() };
        self.balancer().halt_real_server(request).await.unwrap();
        self.settled(service).await;
    }

    pub async fn online(&self, service: &str, server: &str) {
        let name = server_name(service, server);
        let request = pb::OnlineRealServerRequest { name, ..Default::default() };
        self.balancer().online_real_server(request).await.unwrap();
        self.settled(service).await;
    }

    /// The events about a resource and what is below it, oldest first.
    pub async fn events(&self, subject: &str) -> Vec<pb::Event> {
        let subject = subject.to_owned();
        let request = pb::ListEventsRequest { subject, page_size: 1000, ..Default::default() };
        let answer = self.observe().list_events(request).await.unwrap().into_inner();
        answer.events.into_iter().rev().collect()
    }

    /// Waits until an event of this type about the resource was recorded; gives the newest.
    pub async fn event(&self, subject: &str, kind: &str) -> pb::Event {
        eventually(&format!("there is an event {kind} about {subject}"), async || {
            self.events(subject).await.into_iter().rev().find(|event| event.r#type == kind)
        })
        .await
    }
}

pub fn service_name(id: &str) -> String {
    format!("clusters/main/virtualServices/{id}")
}

pub fn server_name(service: &str, server: &str) -> String {
    format!("{}/realServers/{server}", service_name(service))
}
