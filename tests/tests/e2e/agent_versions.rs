//! Agents and controllers of different versions: what one does not know of the other's messages harms
//! neither. Everything here is in the bytes of the wire.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::pin::Pin;

use bytes::Bytes;
use gantry_proto::agent::v1 as agent_pb;
use gantry_proto::v1 as pb;
use gantry_runtime::agent::ledger::Ledger;
use gantry_runtime::identity::Identity;
use gantry_runtime::{join, rpc};
use gantry_tests::backend::{Backend, Client};
use gantry_tests::forge::Forge;
use gantry_tests::raw::{Landed, Raw, from_the_future};
use gantry_tests::services::{layer7, server};
use gantry_tests::site::{agent_process, server_name, service_name};
use gantry_tests::wait::soon;
use gantry_tests::{Block, Site, eventually};
use prost::Message;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tokio_stream::{Stream, StreamExt};
use tonic::body::Body;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::codegen::{BoxFuture, Context, Poll, Service, http};
use tonic::server::{NamedService, ServerStreamingService, StreamingService};
use tonic::transport::{Certificate, Channel, Server, ServerTlsConfig};
use tonic::{Request, Response, Status, Streaming};

const LB1: &str = "clusters/main/appliances/lb1";
const WATCH: &str = "/gantry.agent.v1.AgentService/WatchConfig";
const REPORT: &str = "/gantry.agent.v1.AgentService/Report";

/// An agent that knows the messages as they were, and keeps its state by what the protos' comments say.
struct OldAgent {
    landed: Landed,
    grpc: tonic::client::Grpc<Channel>,
    services: BTreeMap<String, Bytes>,
    revision: Value,
}

impl OldAgent {
    async fn watch(&mut self, held: Option<Value>) -> Streaming<Bytes> {
        let mut request = json!({"agent": {"appliance": LB1, "kind": "L7"}});
        if let Some(held) = held {
            request["held"] = held;
            request["heldHash"] = json!(self.hash());
        }
        let request = self.landed.message("WatchConfigRequest", request);
        self.grpc.ready().await.unwrap();
        let path = PathAndQuery::from_static(WATCH);
        let answer = self.grpc.server_streaming(Request::new(request), path, Raw).await;
        answer.unwrap().into_inner()
    }

    /// Takes the next message; gives which arm of it was set.
    async fn take(&mut self, stream: &mut Streaming<Bytes>) -> &'static str {
        let bytes = soon("there is news", stream.message()).await.unwrap().unwrap();
        let known = self.landed.read("WatchConfigResponse", &bytes);
        // What it does not know it passes on as it was.
        let passed_on = agent_pb::WatchConfigResponse::decode(&*known.encode_to_vec()).unwrap();
        assert_eq!(passed_on, agent_pb::WatchConfigResponse::decode(bytes.clone()).unwrap());
        let message = self.landed.json("WatchConfigResponse", &bytes);
        self.revision = message["revision"].clone();
        let arm = if let Some(snapshot) = message.get("snapshot") {
            self.services.clear();
            self.put(&snapshot["services"]);
            "snapshot"
        } else if let Some(delta) = message.get("delta") {
            for name in delta["removed"].as_array().into_iter().flatten() {
                self.services.remove(name.as_str().unwrap());
            }
            self.put(&delta["upserts"]);
            "delta"
        } else {
            assert!(message.get("current").is_some(), "{message}");
            "current"
        };
        assert_eq!(message["hash"], self.hash(), "by what is said of it in the protos");
        arm
    }

    fn put(&mut self, services: &Value) {
        for service in services.as_array().into_iter().flatten() {
            // Bytes are base64 in JSON; what they are made of does not concern it.
            let one = self.landed.message("EncodedServicePlan", service.clone());
            let one = agent_pb::EncodedServicePlan::decode(one).unwrap();
            self.services.insert(one.name, one.plan);
        }
    }

    fn hash(&self) -> String {
        hash_of(&self.services)
    }

    fn report(&self, sequence: i64) -> Bytes {
        let applied = json!({"revision": self.revision, "hash": self.hash(), "outcome": "APPLIED"});
        let mut report = json!({"sequence": sequence.to_string(), "applied": applied});
        if sequence == 1 {
            report["agent"] = json!({"appliance": LB1, "kind": "L7", "version": "0.0.9"});
            report["full"] = json!(true);
        }
        self.landed.message("ReportRequest", report)
    }
}

/// The hash of a state, as the protos' comments say it.
fn hash_of(services: &BTreeMap<String, Bytes>) -> String {
    let mut hash = [0_u8; 32];
    for (name, plan) in services {
        let mut one = Sha256::new();
        one.update((name.len() as u64).to_be_bytes());
        one.update(name);
        one.update(plan);
        hash.iter_mut().zip(one.finalize()).for_each(|(all, one)| *all ^= one);
    }
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

async fn agent_is_current(site: &Site) {
    eventually("the old agent is current", async || {
        let request = pb::GetApplianceRequest { name: LB1.to_owned() };
        let appliance = site.fleet().get_appliance(request).await.unwrap().into_inner();
        let agent = appliance.agents.into_iter().find(|agent| agent.agent == "agent-l7")?;
        assert_eq!(agent.version, "0.0.9");
        agent.current.then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn agent_of_the_version_before_follows_this_controller() {
    let site = Site::controller_only().await;
    join::join(&site.url, &site.invite("lb1").await, &site.identity_of("lb1")).await.unwrap();
    for last in 10..13 {
        let id = format!("web-{last}");
        let servers = vec![server("one", site.block.socket(200, 80))];
        site.create(&id, layer7(site.block.socket(last, 80)), servers).await;
    }
    let identity = Identity::load(&site.identity_of("lb1")).unwrap();
    let channel = rpc::connect(&site.url, &identity).unwrap();
    let mut agent = OldAgent {
        landed: Landed::load(),
        grpc: tonic::client::Grpc::new(channel.clone()),
        services: BTreeMap::new(),
        revision: Value::Null,
    };
    let mut stream = agent.watch(None).await;
    assert_eq!(agent.take(&mut stream).await, "snapshot");
    assert_eq!(agent.services.len(), 3);

    let (reports, receiver) = mpsc::channel(4);
    reports.send(agent.report(1)).await.unwrap();
    let mut reporting = tonic::client::Grpc::new(channel);
    reporting.ready().await.unwrap();
    let path = PathAndQuery::from_static(REPORT);
    let request = Request::new(ReceiverStream::new(receiver));
    let _answers: Response<Streaming<Bytes>> =
        reporting.streaming(request, path, Raw).await.unwrap();
    agent_is_current(&site).await;

    let request =
        pb::DeleteVirtualServiceRequest { name: service_name("web-12"), ..Default::default() };
    site.balancer().delete_virtual_service(request).await.unwrap();
    assert_eq!(agent.take(&mut stream).await, "delta");
    assert_eq!(agent.services.len(), 2);
    reports.send(agent.report(2)).await.unwrap();
    agent_is_current(&site).await;

    let held = agent.revision.clone();
    let mut stream = agent.watch(Some(held)).await;
    assert_eq!(agent.take(&mut stream).await, "current");
}

type Streamed = Pin<Box<dyn Stream<Item = Result<Bytes, Status>> + Send>>;

/// A controller of another version: what it says and hears is bytes.
#[derive(Clone, Debug)]
struct Foreign {
    watches: mpsc::Sender<(Bytes, mpsc::Sender<Result<Bytes, Status>>)>,
    reports: mpsc::Sender<Bytes>,
    /// What it answers to a report.
    answer: Bytes,
}

impl NamedService for Foreign {
    const NAME: &'static str = "gantry.agent.v1.AgentService";
}

impl Service<http::Request<Body>> for Foreign {
    type Response = http::Response<Body>;
    type Error = std::convert::Infallible;
    type Future = BoxFuture<Self::Response, Self::Error>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let foreign = self.clone();
        Box::pin(async move {
            let mut grpc = tonic::server::Grpc::new(Raw);
            Ok(match request.uri().path() {
                WATCH => grpc.server_streaming(foreign, request).await,
                REPORT => grpc.streaming(foreign, request).await,
                other => panic!("the agent calls {other}"),
            })
        })
    }
}

impl ServerStreamingService<Bytes> for Foreign {
    type Response = Bytes;
    type ResponseStream = Streamed;
    type Future = BoxFuture<Response<Streamed>, Status>;

    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        let foreign = self.clone();
        Box::pin(async move {
            let (answers, receiver) = mpsc::channel(16);
            let _test_over = foreign.watches.send((request.into_inner(), answers)).await;
            Ok(Response::new(Box::pin(ReceiverStream::new(receiver)) as Streamed))
        })
    }
}

impl StreamingService<Bytes> for Foreign {
    type Response = Bytes;
    type ResponseStream = Streamed;
    type Future = BoxFuture<Response<Streamed>, Status>;

    fn call(&mut self, request: Request<Streaming<Bytes>>) -> Self::Future {
        let foreign = self.clone();
        Box::pin(async move {
            let heard = request.into_inner().then(move |report| {
                let foreign = foreign.clone();
                async move {
                    let _test_over = foreign.reports.send(report?).await;
                    Ok(foreign.answer)
                }
            });
            Ok(Response::new(Box::pin(heard) as Streamed))
        })
    }
}

/// The plan of the service "web", with a field in it that no agent of today knows.
fn plan(listen: SocketAddr, backend: SocketAddr) -> Bytes {
    let service = pb::VirtualService { name: service_name("web"), ..layer7(listen) };
    let real_servers = vec![server(&server_name("web", "only"), backend)];
    let plan = agent_pb::ServicePlan { service: Some(service), real_servers, ..Default::default() };
    from_the_future(&plan.encode_to_vec())
}

fn hash(plan: &Bytes) -> String {
    hash_of(&BTreeMap::from([(service_name("web"), plan.clone())]))
}

fn snapshot(landed: &Landed, number: i64, plan: &Bytes) -> Bytes {
    let one = agent_pb::EncodedServicePlan { name: service_name("web"), plan: plan.clone() };
    let one = landed.json("EncodedServicePlan", &one.encode_to_vec());
    let message = json!({
        "revision": {"epoch": "1", "number": number.to_string()},
        "hash": hash(plan),
        "snapshot": {"services": [one]},
    });
    landed.message("WatchConfigResponse", message)
}

/// It says nothing of fields that came later, and it says more than this agent knows.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn agent_follows_a_controller_that_knows_less_and_one_that_knows_more() {
    let (block, dir, forge) = (Block::take(), tempfile::tempdir().unwrap(), Forge::new("CA"));
    let landed = Landed::load();
    let (watches, mut watched) = mpsc::channel(16);
    let (reports, mut reported) = mpsc::channel(1024);
    let answer = from_the_future(&landed.message("ReportResponse", json!({})));
    let foreign = Foreign { watches, reports, answer };
    let address = block.socket(1, 7443);
    let listener = TcpListener::bind(address).await.unwrap();
    let own = forge.controller();
    let tls = ServerTlsConfig::new()
        .identity(tonic::transport::Identity::from_pem(own.certificate, own.key))
        .client_ca_root(Certificate::from_pem(&forge.ca));
    let router = { Server::builder().tls_config(tls).unwrap() }.add_service(foreign);
    let mut serving = JoinSet::new();
    serving.spawn(router.serve_with_incoming(TcpListenerStream::new(listener)));
    let identity = dir.path().join("identity");
    forge.client(LB1).save(&identity, &forge.ca);
    let url = format!("https://{address}");
    let mut agent = agent_process("agent-l7", "gantry-agent-l7", &url, &identity, dir.path());
    let one = Backend::start("one", block.socket(20, 80)).await;
    let two = Backend::start("two", block.socket(21, 80)).await;
    let listen = block.socket(10, 80);

    let (request, answers) = soon("the agent asks", watched.recv()).await.unwrap();
    let request = landed.json("WatchConfigRequest", &request);
    assert_eq!(request["agent"]["kind"], "L7");
    let plans = [plan(listen, one.address), plan(listen, two.address)];
    answers.send(Ok(snapshot(&landed, 5, &plans[0]))).await.unwrap();
    serves(listen, "one").await;
    let later = from_the_future(&snapshot(&landed, 6, &plans[1]));
    answers.send(Ok(later)).await.unwrap();
    serves(listen, "two").await;
    loop {
        let report = soon("the agent reports", reported.recv()).await.unwrap();
        let report = landed.json("ReportRequest", &report);
        if report["applied"]["revision"]["number"] == "6" {
            assert_eq!(report["applied"]["outcome"], "APPLIED");
            assert_eq!(report["applied"]["hash"], hash(&plans[1]));
            break;
        }
    }
    // What it does not know is in its ledger as it came, and counts when it comes back.
    agent.kill();
    let held = Ledger::read(&dir.path().join("agent-l7")).unwrap();
    assert_eq!(held.services()[&service_name("web")], plans[1]);
    agent.start_again();
    serves(listen, "two").await;
    let (request, _answers) = soon("the agent asks again", watched.recv()).await.unwrap();
    let request = landed.json("WatchConfigRequest", &request);
    assert_eq!(request["held"]["number"], "6");
    assert_eq!(request["heldHash"], hash(&plans[1]));
}

async fn serves(listen: SocketAddr, name: &str) {
    eventually(&format!("{name} serves"), async || {
        let client = Client::connect(listen).await.ok()?;
        (client.served_by == name).then_some(())
    })
    .await;
}
