//! Two thousand virtual services with four real servers each: one change touches one of them.

use std::collections::HashMap;
use std::net::SocketAddr;

use agent_pb::watch_config_response::{Change, Delta};
use gantry_proto::agent::v1 as agent_pb;
use gantry_proto::v1 as pb;
use gantry_tests::backend::{Backend, Client};
use gantry_tests::services::{layer7, server};
use gantry_tests::site::{server_name, service_name};
use gantry_tests::wait::soon;
use gantry_tests::{Site, eventually};
use pb::virtual_service_status::State;
use prost::Message;

const SERVICES: usize = 2000;
const SERVERS: usize = 4;
/// Services on one address.
const PORTS: usize = 10;

fn id(at: usize) -> String {
    format!("service-{at:04}")
}

/// Where the service `at` listens: 200 addresses with ten ports each.
fn listen(site: &Site, at: usize) -> SocketAddr {
    let last = u8::try_from(1 + at / PORTS).unwrap() + 10;
    site.block.socket(last, u16::try_from(3000 + at % PORTS).unwrap())
}

fn document(site: &Site, backends: &[Backend]) -> pb::Config {
    let service = |at| {
        let servers = backends.iter().enumerate();
        let real_servers = servers
            .map(|(number, backend)| server(&format!("server-{number}"), backend.address))
            .collect();
        let service = pb::VirtualService { name: id(at), ..layer7(listen(site, at)) };
        pb::config::Service { virtual_service: Some(service), real_servers }
    };
    let services = (0..SERVICES).map(service).collect();
    pb::Config { services, ..Default::default() }
}

/// What the overview says of each service; none while some are not there.
async fn statuses(site: &Site) -> Option<HashMap<String, pb::VirtualServiceStatus>> {
    let request = pb::GetOverviewRequest::default();
    let overview = site.observe().get_overview(request).await.unwrap().into_inner();
    let services = overview.rows.into_iter().filter_map(|row| row.service);
    let statuses: HashMap<_, _> =
        services.filter_map(|service| Some((service.name, service.status?))).collect();
    (statuses.len() == SERVICES).then_some(statuses)
}

async fn all_in_force(site: &Site) {
    eventually("all services are up, everywhere", async || {
        let statuses = statuses(site).await?;
        let in_force = |status: &pb::VirtualServiceStatus| {
            status.state() == State::Up && !status.reconciling && status.rejections.is_empty()
        };
        statuses.values().all(in_force).then_some(())
    })
    .await;
}

/// The stream of desired state, as agent-l7 of lb1 sees it.
async fn watch_as_agent(site: &Site) -> tonic::Streaming<agent_pb::WatchConfigResponse> {
    let agent = agent_pb::AgentIdentity {
        appliance: "clusters/main/appliances/lb1".to_owned(),
        kind: agent_pb::agent_identity::Kind::L7.into(),
        ..Default::default()
    };
    let request = agent_pb::WatchConfigRequest { agent: Some(agent), ..Default::default() };
    site.agents("lb1").watch_config(request).await.unwrap().into_inner()
}

async fn next(
    stream: &mut tonic::Streaming<agent_pb::WatchConfigResponse>,
) -> agent_pb::WatchConfigResponse {
    soon("the controller sends", stream.message()).await.unwrap().unwrap()
}

async fn set_weight(site: &Site, service: usize, weight: i32) {
    site.set_weight(&server_name(&id(service), "server-0"), weight).await;
}

/// The revision that agent-l7 runs, once it runs the newest.
async fn agent_revision(site: &Site) -> String {
    eventually("agent-l7 is current", async || {
        let name = "clusters/main/appliances/lb1".to_owned();
        let request = pb::GetApplianceRequest { name };
        let appliance = site.fleet().get_appliance(request).await.unwrap().into_inner();
        let agent = appliance.agents.into_iter().find(|agent| agent.agent == "agent-l7")?;
        (agent.connected && agent.current && agent.rejection_count == 0).then_some(agent.revision)
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn agent_two_thousand_services_one_change_touches_one() {
    let site = Site::start().await;
    let mut backends = Vec::new();
    for port in (3000..).take(SERVERS) {
        backends.push(Backend::start("all", site.block.socket(250, port)).await);
    }
    let config = Some(document(&site, &backends));
    let request = pb::ApplyConfigRequest { config, ..Default::default() };
    let answer = site.config().apply_config(request).await.unwrap().into_inner();
    assert_eq!(answer.changes.len(), SERVICES * (1 + SERVERS));
    all_in_force(&site).await;
    let before = agent_revision(&site).await;

    let changed = 777;
    let mut held = Vec::new();
    for at in (0..SERVICES).step_by(SERVICES / 50).chain([changed]) {
        held.push(Client::connect(listen(&site, at)).await.unwrap());
    }
    let mut stream = watch_as_agent(&site).await;
    let snapshot = next(&mut stream).await;
    assert!(snapshot.encoded_len() > 1 << 20, "{} bytes", snapshot.encoded_len());
    let Some(Change::Snapshot(all)) = snapshot.change else { panic!("not a snapshot") };
    assert_eq!(all.services.len(), SERVICES);

    set_weight(&site, changed, 7).await;
    let message = next(&mut stream).await;
    assert!(message.encoded_len() < 4 << 10, "{} bytes", message.encoded_len());
    let Some(Change::Delta(Delta { upserts, removed })) = message.change else {
        panic!("not a delta")
    };
    assert_eq!((upserts.len(), removed.len()), (1, 0));
    assert_eq!(upserts[0].name, service_name(&id(changed)));
    let revision = message.revision.unwrap();
    let after = agent_revision(&site).await;
    assert_ne!(after, before);
    assert_eq!(after, format!("{}.{}", revision.epoch, revision.number));
    assert_eq!(message.hash.len(), 64);
    for client in &mut held {
        client.echoes().await.unwrap();
    }
    all_in_force(&site).await;
    Client::connect(listen(&site, SERVICES - 1)).await.unwrap();
}
