//! What an agent takes from a controller and what it refuses: the real agent, and a stand-in
//! controller that sends whatever the test wants.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use gantry_model::revision::{ItemHash, SetHash};
use gantry_proto::agent::v1 as pb;
use gantry_proto::v1;
use gantry_tests::backend::{Backend, Client};
use gantry_tests::forge::Forge;
use gantry_tests::services::{layer7, server};
use gantry_tests::site::{agent_process, server_name, service_name};
use gantry_tests::wait::soon;
use gantry_tests::{Block, Process, eventually};
use pb::agent_service_server::{AgentService, AgentServiceServer};
use pb::applied::Outcome;
use pb::watch_config_response::{Change, Delta, Snapshot};
use prost::Message;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinSet;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tokio_stream::{Stream, StreamExt};
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};
use tonic::{Request, Response, Status, Streaming};

/// What the stand-in shows the test: each call of WatchConfig, and each report.
#[derive(Clone, Debug)]
struct StandIn {
    watches: mpsc::Sender<Watch>,
    reports: mpsc::Sender<pb::ReportRequest>,
}

/// A call of WatchConfig: what the agent said it holds, and the way to answer it.
#[derive(Debug)]
struct Watch {
    request: pb::WatchConfigRequest,
    answers: mpsc::Sender<Result<pb::WatchConfigResponse, Status>>,
}

type Streamed<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl AgentService for StandIn {
    type WatchConfigStream = Streamed<pb::WatchConfigResponse>;
    type ReportStream = Streamed<pb::ReportResponse>;

    async fn watch_config(
        &self,
        request: Request<pb::WatchConfigRequest>,
    ) -> Result<Response<Self::WatchConfigStream>, Status> {
        let (answers, receiver) = mpsc::channel(16);
        let request = request.into_inner();
        let _test_over = self.watches.send(Watch { request, answers }).await;
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn report(
        &self,
        request: Request<Streaming<pb::ReportRequest>>,
    ) -> Result<Response<Self::ReportStream>, Status> {
        let reports = self.reports.clone();
        let heard = request.into_inner().then(move |report| {
            let reports = reports.clone();
            async move {
                let _test_over = reports.send(report?).await;
                Err(Status::already_exists("nothing to answer"))
            }
        });
        // Nothing is answered; the stream lives as long as the agent reports.
        let quiet = heard.filter(|answer: &Result<pb::ReportResponse, Status>| {
            !matches!(answer, Err(status) if status.code() == tonic::Code::AlreadyExists)
        });
        Ok(Response::new(Box::pin(quiet)))
    }
}

/// A stand-in controller with the agent that follows it.
struct Bench {
    agent: Process,
    listen: SocketAddr,
    watches: mpsc::Receiver<Watch>,
    reports: Arc<Mutex<mpsc::Receiver<pb::ReportRequest>>>,
    _server: JoinSet<()>,
    _backends: [Backend; 2],
    backend_addresses: [SocketAddr; 2],
    dir: TempDir,
    _block: Block,
}

impl Bench {
    async fn start() -> Self {
        let (block, dir, forge) = (Block::take(), tempfile::tempdir().unwrap(), Forge::new("CA"));
        let (watches_in, watches) = mpsc::channel(16);
        let (reports_in, reports) = mpsc::channel(1024);
        let address = block.socket(1, 7443);
        let listener = TcpListener::bind(address).await.unwrap();
        let mut server = JoinSet::new();
        let stand_in = StandIn { watches: watches_in, reports: reports_in };
        server.spawn(serve(listener, &forge, stand_in));
        let identity = dir.path().join("identity");
        forge.client("clusters/main/appliances/lb1").save(&identity, &forge.ca);
        let url = format!("https://{address}");
        let agent = agent_process("agent-l7", "gantry-agent-l7", &url, &identity, dir.path());
        let backends = [
            Backend::start("one", block.socket(20, 80)).await,
            Backend::start("two", block.socket(21, 80)).await,
        ];
        Self {
            agent,
            listen: block.socket(10, 80),
            watches,
            reports: Arc::new(Mutex::new(reports)),
            _server: server,
            backend_addresses: [backends[0].address, backends[1].address],
            _backends: backends,
            dir,
            _block: block,
        }
    }

    /// The next call of WatchConfig.
    async fn watch(&mut self) -> Watch {
        soon("the agent asks for its state", self.watches.recv()).await.unwrap()
    }

    /// Waits for a report that the agent applied or refused something as `wanted` says.
    async fn applied(&self, wanted: impl Fn(&pb::Applied) -> bool) -> pb::Applied {
        let mut reports = self.reports.lock().await;
        loop {
            let report = soon("the agent reports", reports.recv()).await.unwrap();
            if let Some(applied) = report.applied.filter(|applied| wanted(applied)) {
                return applied;
            }
        }
    }

    async fn refusal(&self, reason: &str) -> pb::Applied {
        let applied = self.applied(|applied| applied.outcome() == Outcome::Refused).await;
        assert_eq!(applied.refusal, reason, "{applied:?}");
        self.agent.says(&["refusing what the controller sent"]).await;
        applied
    }

    /// The plan of the service "web", whose only server is the backend `at`.
    fn plan(&self, at: usize) -> Vec<pb::EncodedServicePlan> {
        let service = v1::VirtualService { name: service_name("web"), ..layer7(self.listen) };
        let name = server_name("web", "only");
        let real_servers = vec![server(&name, self.backend_addresses[at])];
        let plan = pb::ServicePlan { service: Some(service), real_servers, ..Default::default() };
        vec![pb::EncodedServicePlan {
            name: service_name("web"),
            plan: Bytes::from(plan.encode_to_vec()),
        }]
    }

    async fn is_served_by(&self, name: &str) {
        eventually(&format!("{name} serves"), async || {
            let client = Client::connect(self.listen).await.ok()?;
            (client.served_by == name).then_some(())
        })
        .await;
    }

    async fn stays_served_by(&self, name: &str) {
        for _ in 0..5 {
            assert_eq!(Client::connect(self.listen).await.unwrap().served_by, name);
        }
    }
}

fn serve(
    listener: TcpListener,
    forge: &Forge,
    stand_in: StandIn,
) -> impl Future<Output = ()> + use<> {
    let own = forge.controller();
    let tls = ServerTlsConfig::new()
        .identity(Identity::from_pem(own.certificate, own.key))
        .client_ca_root(Certificate::from_pem(&forge.ca));
    let server = Server::builder().tls_config(tls).unwrap();
    let router = { server }.add_service(AgentServiceServer::new(stand_in));
    async move { router.serve_with_incoming(TcpListenerStream::new(listener)).await.unwrap() }
}

fn hash(services: &[pb::EncodedServicePlan]) -> String {
    let mut hash = SetHash::default();
    services.iter().for_each(|one| hash.toggle(&ItemHash::of(&one.name, &one.plan)));
    hash.to_string()
}

fn snapshot(
    epoch: i64,
    number: i64,
    services: Vec<pb::EncodedServicePlan>,
) -> pb::WatchConfigResponse {
    pb::WatchConfigResponse {
        revision: Some(pb::Revision { epoch, number }),
        hash: hash(&services),
        change: Some(Change::Snapshot(Snapshot { services })),
        ..Default::default()
    }
}

fn delta(number: i64, upserts: Vec<pb::EncodedServicePlan>) -> pb::WatchConfigResponse {
    pb::WatchConfigResponse {
        revision: Some(pb::Revision { epoch: 2, number }),
        hash: hash(&upserts),
        change: Some(Change::Delta(Delta { upserts, removed: Vec::new() })),
        ..Default::default()
    }
}

fn is_at(number: i64) -> impl Fn(&pb::Applied) -> bool {
    move |applied| {
        applied.revision.is_some_and(|revision| revision.number == number)
            && applied.outcome() == Outcome::Applied
    }
}

/// A bench whose agent holds revision 2.5: the backend "one" serves.
async fn holding() -> (Bench, Watch) {
    let mut bench = Bench::start().await;
    let watch = bench.watch().await;
    watch.answers.send(Ok(snapshot(2, 5, bench.plan(0)))).await.unwrap();
    let applied = bench.applied(is_at(5)).await;
    assert_eq!(applied.hash, hash(&bench.plan(0)));
    bench.is_served_by("one").await;
    (bench, watch)
}

/// What the agent says it holds when it asks again: still revision 2.5, as it was.
fn assert_holds_first(bench: &Bench, watch: &Watch) {
    assert_eq!(watch.request.held, Some(pb::Revision { epoch: 2, number: 5 }));
    assert_eq!(watch.request.held_hash, hash(&bench.plan(0)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn agent_stream_refuses_an_older_epoch() {
    let (mut bench, watch) = holding().await;
    watch.answers.send(Ok(snapshot(1, 9, bench.plan(1)))).await.unwrap();
    let refused = bench.refusal("OLDER_EPOCH").await;
    assert_eq!(refused.revision, Some(pb::Revision { epoch: 1, number: 9 }));
    bench.stays_served_by("one").await;
    let again = bench.watch().await;
    assert_holds_first(&bench, &again);
    // A newer epoch is obeyed, whatever its number.
    again.answers.send(Ok(snapshot(3, 1, bench.plan(1)))).await.unwrap();
    bench.applied(is_at(1)).await;
    bench.is_served_by("two").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn agent_stream_refuses_a_lower_number() {
    let (mut bench, watch) = holding().await;
    watch.answers.send(Ok(snapshot(2, 4, bench.plan(1)))).await.unwrap();
    bench.refusal("OLDER_REVISION").await;
    bench.stays_served_by("one").await;
    let again = bench.watch().await;
    assert_holds_first(&bench, &again);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn agent_stream_refuses_other_content_under_the_same_revision() {
    let (mut bench, watch) = holding().await;
    watch.answers.send(Ok(snapshot(2, 5, bench.plan(1)))).await.unwrap();
    bench.refusal("OTHER_CONTENT").await;
    bench.stays_served_by("one").await;
    let again = bench.watch().await;
    assert_holds_first(&bench, &again);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn agent_stream_asks_for_a_snapshot_when_a_hash_does_not_come_out_right() {
    let (mut bench, watch) = holding().await;
    let torn = pb::WatchConfigResponse { hash: "00".repeat(32), ..delta(6, bench.plan(1)) };
    watch.answers.send(Ok(torn)).await.unwrap();
    bench.refusal("HASH_MISMATCH").await;
    bench.stays_served_by("one").await;
    let again = bench.watch().await;
    assert_eq!(again.request.held, None, "it wants all of it");
    again.answers.send(Ok(snapshot(2, 6, bench.plan(1)))).await.unwrap();
    bench.applied(is_at(6)).await;
    bench.is_served_by("two").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn agent_stream_survives_nonsense() {
    let (mut bench, watch) = holding().await;
    let nonsense = pb::WatchConfigResponse { change: None, ..delta(6, bench.plan(1)) };
    watch.answers.send(Ok(nonsense)).await.unwrap();
    bench.agent.says(&["the controller sent nonsense", "change is missing"]).await;
    let again = bench.watch().await;
    assert_holds_first(&bench, &again);
    // A plan that cannot be read is rejected alone; the service keeps its last good form.
    let name = service_name("web");
    let unreadable = vec![pb::EncodedServicePlan { name, plan: Bytes::from_static(b"\xff") }];
    again.answers.send(Ok(delta(7, unreadable))).await.unwrap();
    let applied = bench.applied(|applied| applied.outcome() == Outcome::Partial).await;
    assert_eq!(applied.rejections.len(), 1);
    assert_eq!(applied.rejections[0].reason, "UNREADABLE");
    assert_eq!(applied.rejections[0].resource, service_name("web"));
    bench.stays_served_by("one").await;
    assert!(bench.agent.is_running());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn agent_stream_survives_a_torn_ledger() {
    let (mut bench, watch) = holding().await;
    watch.answers.send(Ok(delta(6, bench.plan(1)))).await.unwrap();
    bench.applied(is_at(6)).await;
    bench.agent.kill();
    // A crash in the middle of writing the last record.
    let ledger = bench.dir.path().join("agent-l7/ledger");
    let whole = std::fs::read(&ledger).unwrap();
    std::fs::write(&ledger, &whole[..whole.len() - 7]).unwrap();
    bench.agent.start_again();
    bench.agent.says(&["dropping the torn end of the ledger"]).await;
    bench.is_served_by("one").await;
    let again = bench.watch_from_now_on().await;
    assert_holds_first(&bench, &again);
    again.answers.send(Ok(delta(6, bench.plan(1)))).await.unwrap();
    bench.is_served_by("two").await;
    // A ledger of nothing but noise is not believed, and not written over either.
    bench.agent.kill();
    std::fs::write(&ledger, [0x5a; 512]).unwrap();
    bench.agent.start_again();
    assert!(!bench.agent.ended().await.success());
    bench.agent.says(&["not a ledger that this version can read", "move it away"]).await;
    std::fs::write(&ledger, b"").unwrap();
    bench.agent.start_again();
    let again = bench.watch_from_now_on().await;
    assert_eq!(again.request.held, Some(pb::Revision::default()));
    again.answers.send(Ok(snapshot(2, 7, bench.plan(0)))).await.unwrap();
    bench.is_served_by("one").await;
}

impl Bench {
    /// The newest call of WatchConfig, from the process that runs now.
    async fn watch_from_now_on(&mut self) -> Watch {
        let mut watch = self.watch().await;
        while watch.answers.is_closed() {
            watch = self.watch().await;
        }
        watch
    }
}
