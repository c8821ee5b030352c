//! What agents know and see of their machines reaches operators: questions are answered by all that
//! carry a service, findings and notices stand in the status and in the log.

use std::sync::Arc;

use gantry_proto::agent::v1 as agent_pb;
use gantry_proto::v1 as pb;
use gantry_runtime::join;
use gantry_tests::backend::{Backend, Client};
use gantry_tests::services::{by_source, layer7, server};
use gantry_tests::site::{server_name, service_name};
use gantry_tests::{Site, eventually};
use pb::virtual_service::Forwarding;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};

const CLIENT: &str = "10.12.2.7";

/// An agent-l4 as far as the controller can tell, that answers as the test says.
struct StandIn {
    reports: mpsc::Sender<agent_pb::ReportRequest>,
    sequence: i64,
    _answering: JoinSet<()>,
}

type Answering = dyn Fn(&agent_pb::Question) -> Option<agent_pb::Answer> + Send + Sync;

impl StandIn {
    async fn start(site: &Site, id: &str, answer: Arc<Answering>) -> Self {
        let identity = site.identity_of(id);
        if !identity.exists() {
            let token = site.invite(id).await;
            join::join(&site.url, &token, &identity).await.unwrap();
        }
        let (reports, receiver) = mpsc::channel(64);
        let first = agent_pb::ReportRequest {
            sequence: 1,
            agent: Some(agent_pb::AgentIdentity {
                appliance: format!("clusters/main/appliances/{id}"),
                kind: agent_pb::agent_identity::Kind::L4.into(),
                ..Default::default()
            }),
            full: true,
            ..Default::default()
        };
        reports.send(first).await.unwrap();
        let mut client = site.agents(id);
        let mut down = client.report(ReceiverStream::new(receiver)).await.unwrap().into_inner();
        let back = reports.clone();
        let mut answering = JoinSet::new();
        answering.spawn(async move {
            while let Ok(Some(message)) = down.message().await {
                for question in &message.questions {
                    let Some(told) = answer(question) else { continue };
                    let answers = vec![agent_pb::Answer { id: question.id, ..told }];
                    let report = agent_pb::ReportRequest { answers, ..Default::default() };
                    if back.send(report).await.is_err() {
                        return;
                    }
                }
            }
        });
        Self { reports, sequence: 1, _answering: answering }
    }

    async fn says(&mut self, report: agent_pb::ReportRequest) {
        self.sequence += 1;
        let report = agent_pb::ReportRequest { sequence: self.sequence, ..report };
        self.reports.send(report).await.unwrap();
    }
}

/// A service that nothing but the stand-ins carries.
async fn layer4_site() -> Site {
    let site = Site::controller_only().await;
    let layer4 = pb::Layer4 { method: pb::layer4::Method::Nat.into(), ..Default::default() };
    let service = pb::VirtualService {
        forwarding: Some(Forwarding::Layer4(layer4)),
        persistence: by_source(),
        ..layer7(site.block.socket(10, 104))
    };
    site.create("dicom", service, vec![server("pacs-1", site.block.socket(20, 104))]).await;
    site
}

/// Remembers as many clients as it is told, each a second longer than the one before.
fn remembers(count: i64) -> Arc<Answering> {
    Arc::new(move |_| {
        let entry = |at: i64| pb::PersistenceEntry {
            client: format!("10.12.2.{at}"),
            real_server: if at == 1 {
                server_name("other", "pacs-1")
            } else {
                server_name("dicom", "pacs-1")
            },
            endpoint: "10.12.1.110:104".to_owned(),
            expires_in: Some(prost_types::Duration { seconds: at, nanos: 0 }),
            appliance: "clusters/main/appliances/somebody-else".to_owned(),
        };
        Some(agent_pb::Answer {
            persistence_entries: (1..=count).map(entry).collect(),
            total_size: count,
            ..Default::default()
        })
    })
}

async fn list(
    site: &Site,
    service: &str,
    client: &str,
    page_size: i32,
) -> Result<pb::ListPersistenceEntriesResponse, Status> {
    let (parent, client) = (service_name(service), client.to_owned());
    let request = pb::ListPersistenceEntriesRequest { parent, client, page_size };
    site.balancer().list_persistence_entries(request).await.map(tonic::Response::into_inner)
}

async fn connections(site: &Site, service: &str) -> Result<pb::ListConnectionsResponse, Status> {
    let request =
        pb::ListConnectionsRequest { parent: service_name(service), ..Default::default() };
    site.balancer().list_connections(request).await.map(tonic::Response::into_inner)
}

async fn forget(site: &Site, service: &str, client: &str) -> Result<(), Status> {
    let request = pb::DeletePersistenceEntryRequest {
        parent: service_name(service),
        client: client.to_owned(),
        comment: "to the new archive".to_owned(),
    };
    site.balancer().delete_persistence_entry(request).await.map(tonic::Response::into_inner)
}

fn is<T: std::fmt::Debug>(outcome: Result<T, Status>, code: Code, words: &str) {
    let status = outcome.unwrap_err();
    assert!(status.code() == code && status.message().contains(words), "{status:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn agent_questions_are_answered_by_every_carrier() {
    let site = layer4_site().await;
    is(list(&site, "dicom", "", 0).await, Code::Unavailable, "no agent-l4 of cluster main");
    let _lb1 = StandIn::start(&site, "lb1", remembers(2)).await;
    let lb2 = StandIn::start(&site, "lb2", remembers(3)).await;
    let all = list(&site, "dicom", "", 0).await.unwrap();
    assert_eq!((all.total_size, all.entries.len()), (5, 5));
    let seen: Vec<_> = all
        .entries
        .iter()
        .map(|entry| (entry.client.as_str(), entry.appliance.rsplit('/').next().unwrap()))
        .collect();
    let expected = [
        ("10.12.2.3", "lb2"),
        ("10.12.2.2", "lb1"),
        ("10.12.2.2", "lb2"),
        ("10.12.2.1", "lb1"),
        ("10.12.2.1", "lb2"),
    ];
    assert_eq!(seen, expected, "remembered longest first, and by whom");
    assert_eq!(all.entries[0].real_server, server_name("dicom", "pacs-1"));
    assert_eq!(all.entries[4].real_server, "", "that is no server of this service");
    let cut = list(&site, "dicom", CLIENT, 1).await.unwrap();
    assert_eq!((cut.total_size, cut.entries.len()), (5, 1));
    is(list(&site, "dicom", "pacs.example", 0).await, Code::InvalidArgument, "client: \"pacs.ex");
    is(list(&site, "dicom", "", -1).await, Code::InvalidArgument, "page_size: -1 is negative");
    is(list(&site, "nowhere", "", 0).await, Code::NotFound, "there is no virtual service");
    drop(lb2);
    eventually("only lb1 is asked", async || {
        let entries = list(&site, "dicom", "", 0).await.ok()?.entries;
        (entries.len() == 2).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn agent_questions_reach_the_agent_as_they_were_asked() {
    let site = layer4_site().await;
    let (seen, mut asked) = mpsc::channel(8);
    let echo: Arc<Answering> = Arc::new(move |question| {
        seen.try_send(question.ask.clone().unwrap()).unwrap();
        let one = pb::Connection {
            client: "10.12.2.7:40112".to_owned(),
            listener: "10.12.1.100:104".to_owned(),
            real_server: server_name("dicom", "pacs-1"),
            state: "ESTABLISHED".to_owned(),
            ..Default::default()
        };
        Some(agent_pb::Answer { connections: vec![one], ..Default::default() })
    });
    let _lb1 = StandIn::start(&site, "lb1", echo).await;
    let found = connections(&site, "dicom").await.unwrap();
    assert_eq!((found.total_size, found.connections.len()), (1, 1));
    assert_eq!(found.connections[0].appliance, "clusters/main/appliances/lb1");
    assert_eq!(found.connections[0].state, "ESTABLISHED");
    list(&site, "dicom", "::ffff:10.12.2.7", 20_000).await.unwrap();
    forget(&site, "dicom", CLIENT).await.unwrap();
    use agent_pb::question::{Ask, Entries, Forget};
    let service = service_name("dicom");
    let entries =
        |client: &str, most| Entries { service: service.clone(), client: client.to_owned(), most };
    let expected = [
        Ask::Connections(entries("", 1000)),
        Ask::PersistenceEntries(entries(CLIENT, 10_000)),
        Ask::Forget(Forget { service: service.clone(), client: CLIENT.to_owned() }),
    ];
    for ask in expected {
        assert_eq!(asked.recv().await.unwrap(), ask);
    }
    let event = site.event(&service, "PERSISTENCE_ENTRY_DELETED").await;
    assert_eq!(event.message, "10.12.2.7 is forgotten on lb1");
    assert_eq!(
        (event.actor.as_str(), event.comment.as_str()),
        ("users/admin", "to the new archive")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn agent_questions_without_an_answer_say_who_owes_it() {
    let site = layer4_site().await;
    let _lb1 = StandIn::start(&site, "lb1", remembers(0)).await;
    let refuses: Arc<Answering> = Arc::new(|_| {
        Some(agent_pb::Answer {
            refusal: "NOT_IN_KERNEL".to_owned(),
            message: "the kernel has no such call: wait, or drain the real server".to_owned(),
            ..Default::default()
        })
    });
    let lb2 = StandIn::start(&site, "lb2", refuses).await;
    let words = "agent-l4 of lb2: the kernel has no such call: wait, or drain";
    is(forget(&site, "dicom", CLIENT).await, Code::FailedPrecondition, words);
    let event = site.event(&service_name("dicom"), "PERSISTENCE_ENTRY_DELETED").await;
    assert_eq!(event.message, "10.12.2.7 is forgotten on lb1", "that much was done");
    is(forget(&site, "dicom", "").await, Code::InvalidArgument, "client: is required");
    drop(lb2);
    let _silent = StandIn::start(&site, "lb2", Arc::new(|_| None)).await;
    let words = "agent-l4 of lb2 did not answer within 5 s";
    let (one, other) = tokio::join!(list(&site, "dicom", "", 0), connections(&site, "dicom"));
    is(one, Code::DeadlineExceeded, words);
    is(other, Code::DeadlineExceeded, words);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn agent_questions_are_answered_by_the_proxy() {
    let site = Site::start().await;
    let backend = Backend::start("one", site.block.socket(20, 80)).await;
    let service =
        pb::VirtualService { persistence: by_source(), ..layer7(site.block.socket(10, 80)) };
    site.create("web", service, vec![server("one", backend.address)]).await;
    site.up("web").await;
    let mut client = Client::connect(site.block.socket(10, 80)).await.unwrap();
    let found = list(&site, "web", "", 0).await.unwrap();
    assert_eq!(found.total_size, 1);
    let entry = &found.entries[0];
    assert_eq!(entry.real_server, server_name("web", "one"));
    assert_eq!(entry.endpoint, backend.address.to_string());
    assert_eq!(entry.appliance, "clusters/main/appliances/lb1");
    assert!(entry.expires_in.unwrap().seconds > 3000);
    forget(&site, "web", &entry.client).await.unwrap();
    assert_eq!(list(&site, "web", "", 0).await.unwrap().total_size, 0);
    client.echoes().await.expect("what is open goes on");
    is(connections(&site, "web").await, Code::FailedPrecondition, "is at layer 7");
}

fn finding(resource: &str, reason: &str) -> pb::Finding {
    pb::Finding {
        resource: resource.to_owned(),
        reason: reason.to_owned(),
        message: "another machine answers for the address".to_owned(),
        ..Default::default()
    }
}

fn condition(findings: Vec<pb::Finding>) -> Option<agent_pb::Condition> {
    let setting = pb::KernelSetting {
        name: "net.ipv4.vs.expire_nodest_conn".to_owned(),
        wanted: "1".to_owned(),
        value: "1".to_owned(),
        former: "0".to_owned(),
        ..Default::default()
    };
    Some(agent_pb::Condition { findings, settings: vec![setting] })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn agent_findings_stand_in_status_and_log() {
    const LB1: &str = "clusters/main/appliances/lb1";
    let site = layer4_site().await;
    let mut lb1 = StandIn::start(&site, "lb1", Arc::new(|_| None)).await;
    let dicom = service_name("dicom");
    let notice = |subject: &str| agent_pb::Notice {
        r#type: "DRIFT_REPAIRED".to_owned(),
        severity: pb::event::Severity::Warning.into(),
        subject: subject.to_owned(),
        message: "a destination was missing".to_owned(),
        time: None,
    };
    lb1.says(agent_pb::ReportRequest {
        condition: condition(vec![
            finding(&dicom, "ADDRESS_CONFLICT"),
            finding("", "FOREIGN_MARK"),
            finding("clusters/main/appliances/lb2", "NOT_ITS_OWN"),
        ]),
        notices: vec![notice(&dicom), notice("clusters/lab/virtualServices/dicom")],
        ..Default::default()
    })
    .await;
    let actor = format!("{LB1}/agent-l4");
    for (subject, kind) in [
        (dicom.as_str(), "ADDRESS_CONFLICT"),
        (LB1, "FOREIGN_MARK"),
        (dicom.as_str(), "DRIFT_REPAIRED"),
    ] {
        let event = site.event(subject, kind).await;
        assert_eq!(event.actor, actor, "{kind}");
        assert_eq!(event.severity(), pb::event::Severity::Warning, "{kind}");
    }
    let status = site.status("dicom").await;
    assert_eq!(status.findings.len(), 1);
    assert_eq!(
        (status.findings[0].appliance.as_str(), status.findings[0].agent.as_str()),
        (LB1, "agent-l4")
    );
    let request = pb::GetApplianceRequest { name: LB1.to_owned() };
    let appliance = site.fleet().get_appliance(request).await.unwrap().into_inner();
    assert_eq!(appliance.agents[0].findings.len(), 1);
    assert_eq!(appliance.agents[0].settings[0].former, "0");
    let nobody = site.events("").await;
    assert!(nobody.iter().all(|event| event.r#type != "NOT_ITS_OWN"));
    assert_eq!(nobody.iter().filter(|event| event.r#type == "DRIFT_REPAIRED").count(), 1);
    lb1.says(agent_pb::ReportRequest { condition: condition(Vec::new()), ..Default::default() })
        .await;
    let event = site.event(&dicom, "ADDRESS_CONFLICT_RESOLVED").await;
    assert_eq!(event.severity(), pb::event::Severity::Info);
    assert!(site.status("dicom").await.findings.is_empty());
}
