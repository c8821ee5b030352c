//! Many agents, and agents that do not read: nobody waits for another, and all come to the newest
//! state.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use agent_pb::agent_service_client::AgentServiceClient;
use bytes::Bytes;
use gantry_model::agent::{AgentKind, AgentName};
use gantry_model::desired::Desired;
use gantry_model::name::ApplianceName;
use gantry_model::wire;
use gantry_proto::agent::v1 as agent_pb;
use gantry_proto::v1 as pb;
use gantry_runtime::backoff::Backoff;
use gantry_runtime::identity::{CONTROLLER, Identity};
use gantry_runtime::{clock, join, rpc};
use gantry_tests::services::{layer7, server};
use gantry_tests::site::{server_name, service_name};
use gantry_tests::wait::soon;
use gantry_tests::{Site, eventually};
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Code, Status, Streaming};

const CHANGES: i32 = 2_000;
/// The weight that is set last.
const LAST: i32 = 250;
const SLOW: usize = 20;
/// Enough for a plan of some kilobytes: if what is not read were kept, it would be seen.
const SERVERS: u8 = 60;

/// A client whose streams take no more than a few messages until they are read.
fn narrow(site: &Site) -> AgentServiceClient<Channel> {
    let identity = Identity::load(&site.identity_of("lb1")).unwrap();
    let own = tonic::transport::Identity::from_pem(&identity.certificate, &identity.key);
    let tls = ClientTlsConfig::new()
        .domain_name(CONTROLLER)
        .ca_certificate(Certificate::from_pem(&identity.ca))
        .identity(own);
    let endpoint = Endpoint::from_shared(site.url.clone()).unwrap();
    let channel = endpoint.initial_stream_window_size(16 << 10).tls_config(tls).unwrap();
    AgentServiceClient::new(channel.connect_lazy())
}

fn watch_request(name: &AgentName, desired: &Desired<Bytes>) -> agent_pb::WatchConfigRequest {
    agent_pb::WatchConfigRequest {
        agent: Some(identity_message(name)),
        held: Some(desired.revision().into()),
        held_hash: desired.hash().to_string(),
    }
}

fn identity_message(name: &AgentName) -> agent_pb::AgentIdentity {
    agent_pb::AgentIdentity {
        appliance: name.appliance.to_string(),
        kind: wire::kind_message(name.kind).into(),
        ..Default::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn agent_that_does_not_read_costs_nobody_anything_and_finds_the_newest_state() {
    let site = Site::controller_only().await;
    join::join(&site.url, &site.invite("lb1").await, &site.identity_of("lb1")).await.unwrap();
    let at = |last| server(&format!("s{last:02}"), site.block.socket(last, 104));
    let servers = (100..100 + SERVERS).map(at).collect();
    site.create("web", layer7(site.block.socket(10, 80)), servers).await;
    let appliance = "clusters/main/appliances/lb1".parse().unwrap();
    let name = AgentName { appliance, kind: AgentKind::L7 };
    let mut streams = Vec::new();
    for _ in 0..SLOW {
        let mut desired = Desired::default();
        let request = watch_request(&name, &desired);
        let mut stream = narrow(&site).watch_config(request).await.unwrap().into_inner();
        take_next(&mut stream, &mut desired).await;
        streams.push((stream, desired));
    }
    let changed = server_name("web", "s100");
    let before = site.controller.resident_bytes();
    let mut pace = Vec::new();
    for tenth in 0..10 {
        let begun = clock::monotonic();
        for at in 0..CHANGES / 10 {
            site.set_weight(&changed, 1 + (tenth * CHANGES / 10 + at) % 200).await;
        }
        pace.push(clock::monotonic() - begun);
    }
    site.set_weight(&changed, LAST).await;
    let grown = site.controller.resident_bytes().saturating_sub(before);
    // All that was not read would be 2,000 plans of 4 KiB for each.
    assert!(grown < 48 << 20, "{grown} bytes more");
    let quickest = pace.iter().min().unwrap();
    assert!(pace[9] < 8 * *quickest, "the last are as quick as the first: {pace:?}");

    let last = site.newest_of(&name).await;
    for (mut stream, mut desired) in streams {
        let mut messages = 0;
        while desired.hash() != last.hash() {
            take_next(&mut stream, &mut desired).await;
            messages += 1;
        }
        assert_eq!(desired.services(), last.services());
        assert!(messages < CHANGES / 10, "{messages} messages: it skips what is old");
    }
    let plan = wire::decode_plan(&last.services()[&service_name("web")]).unwrap();
    let weight = |server| wire::real_server_message(server).weight;
    assert!(plan.servers.iter().any(|server| weight(server) == Some(LAST)), "it is the newest");
}

async fn take_next(
    stream: &mut Streaming<agent_pb::WatchConfigResponse>,
    desired: &mut Desired<Bytes>,
) {
    let message = soon("there is news", stream.message()).await.unwrap().unwrap();
    desired.take(wire::update(message).unwrap()).unwrap();
}

/// What tests of this file ask of a site.
trait Newest {
    async fn newest_of(&self, name: &AgentName) -> Desired<Bytes>;
}

impl Newest for Site {
    /// What an agent that asks now, and holds nothing, is told.
    async fn newest_of(&self, name: &AgentName) -> Desired<Bytes> {
        let mut desired = Desired::default();
        let request = watch_request(name, &desired);
        let mut stream = self.agents("lb1").watch_config(request).await.unwrap().into_inner();
        take_next(&mut stream, &mut desired).await;
        desired
    }
}

const CLUSTERS: usize = 100;
const KINDS: [AgentKind; 3] = AgentKind::ALL;

/// What the crowd did that it must not.
#[derive(Debug, Default)]
struct Log {
    wrong: Vec<String>,
}

/// An agent in this process: follows, checks each hash, and reports what it holds.
struct Agent {
    name: AgentName,
    client: AgentServiceClient<Channel>,
    desired: Desired<Bytes>,
    log: Arc<Mutex<Log>>,
}

impl Agent {
    fn new(url: &str, identity: &Identity, kind: AgentKind, log: &Arc<Mutex<Log>>) -> Self {
        let appliance: ApplianceName = identity.name().parse().unwrap();
        Self {
            name: AgentName { appliance, kind },
            client: AgentServiceClient::new(rpc::connect(url, identity).unwrap()),
            desired: Desired::default(),
            log: Arc::clone(log),
        }
    }

    async fn run(mut self) {
        let mut backoff = Backoff::for_controller();
        loop {
            let ended = self.follow(&mut backoff).await.unwrap_err();
            if !matches!(ended.code(), Code::Unavailable | Code::Unknown | Code::Cancelled) {
                self.wrong(format!("was refused: {ended:?}"));
            }
            tokio::time::sleep(backoff.next_wait()).await;
        }
    }

    async fn follow(&mut self, backoff: &mut Backoff) -> Result<(), Status> {
        let request = watch_request(&self.name, &self.desired);
        let mut stream = self.client.watch_config(request).await?.into_inner();
        let (reports, receiver) = mpsc::channel(4);
        let first = agent_pb::ReportRequest {
            sequence: 1,
            agent: Some(identity_message(&self.name)),
            full: true,
            ..Default::default()
        };
        let gone = |_| Status::unavailable("the report stream ended");
        reports.send(first).await.map_err(gone)?;
        let _answers = self.client.report(ReceiverStream::new(receiver)).await?;
        for sequence in 2.. {
            let message = stream.message().await?;
            let message = message.ok_or_else(|| Status::unavailable("the stream ended"))?;
            self.take(message);
            backoff.reset();
            let (revision, hash) = (self.desired.revision(), self.desired.hash().to_string());
            let applied = wire::applied(revision, hash, Vec::new(), Duration::ZERO);
            let applied = Some(applied);
            let report = agent_pb::ReportRequest { sequence, applied, ..Default::default() };
            reports.send(report).await.map_err(gone)?;
        }
        Ok(())
    }

    fn take(&mut self, message: agent_pb::WatchConfigResponse) {
        if let Err(refusal) = self.desired.take(wire::update(message).unwrap()) {
            self.wrong(format!("cannot take what it is sent: {refusal}"));
        }
        let own = format!("{}/", self.name.appliance.cluster());
        if let Some(foreign) = self.desired.services().keys().find(|name| !name.starts_with(&own)) {
            self.wrong(format!("was told of {foreign}"));
        }
    }

    fn wrong(&self, what: String) {
        self.log.lock().wrong.push(format!("{} {what}", self.name));
    }
}

/// A cluster of its own, with one service and an appliance that has joined.
async fn found(site: &Site, at: usize) -> PathBuf {
    let id = format!("site-{at:03}");
    let request = pb::CreateClusterRequest { cluster_id: id.clone(), ..Default::default() };
    site.fleet().create_cluster(request).await.unwrap();
    let parent = format!("clusters/{id}");
    let request = pb::CreateVirtualServiceRequest {
        parent: parent.clone(),
        virtual_service_id: "web".to_owned(),
        virtual_service: Some(layer7(site.block.socket(10, 80))),
        real_servers: vec![server("one", site.block.socket(200, 80))],
        ..Default::default()
    };
    site.balancer().create_virtual_service(request).await.unwrap();
    let appliance_id = "lb1".to_owned();
    let request = pb::InviteApplianceRequest { parent, appliance_id, ..Default::default() };
    let token = site.fleet().invite_appliance(request).await.unwrap().into_inner().token;
    let dir = site.identity_of(&id);
    join::join(&site.url, &token, &dir).await.unwrap();
    dir
}

/// Waits until every agent of the crowd is heard, and runs the newest state.
async fn all_current(site: &Site) {
    eventually("all agents are current", async || {
        let request = pb::ListAppliancesRequest { page_size: 1000, ..Default::default() };
        let answer = site.fleet().list_appliances(request).await.ok()?.into_inner();
        let agents = answer.appliances.iter().flat_map(|appliance| &appliance.agents);
        let well = agents.filter(|agent| agent.connected && agent.current).count();
        (well == CLUSTERS * KINDS.len()).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn agent_crowd_of_three_hundred_comes_back_at_once_when_the_controller_does() {
    let mut site = Site::controller_only().await;
    let log = Arc::new(Mutex::new(Log::default()));
    let mut crowd = JoinSet::new();
    for at in 0..CLUSTERS {
        let dir: &Path = &found(&site, at).await;
        let identity = Identity::load(dir).unwrap();
        for kind in KINDS {
            crowd.spawn(Agent::new(&site.url, &identity, kind, &log).run());
        }
    }
    all_current(&site).await;
    site.controller.kill();
    site.controller.start_again();
    all_current(&site).await;
    // Each is served, and each change reaches those whom it concerns.
    for at in 0..CLUSTERS {
        let name = format!("clusters/site-{at:03}/virtualServices/web/realServers/one");
        site.set_weight(&name, 7).await;
    }
    all_current(&site).await;
    let log = log.lock();
    assert!(log.wrong.is_empty(), "{:#?}", log.wrong);
    assert_eq!(crowd.len(), CLUSTERS * KINDS.len(), "none has given up");
}
