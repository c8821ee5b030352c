//! A configuration that would take most services away is held back until somebody approves, and the
//! wrong controller is refused for as long as it answers.

use std::net::SocketAddr;
use std::path::Path;

use gantry_proto::v1 as pb;
use gantry_tests::backend::{Backend, Client};
use gantry_tests::services::{layer7, server};
use gantry_tests::site::{server_name, service_name};
use gantry_tests::{Site, eventually};
use pb::virtual_service_status::State;
use tonic::Code;

const LB1: &str = "clusters/main/appliances/lb1";
const ALL: u8 = 40;
const LEFT: u8 = 5;

fn listen(site: &Site, at: u8) -> SocketAddr {
    site.block.socket(10 + at, 80)
}

fn id(at: u8) -> String {
    format!("web-{at:02}")
}

async fn create(site: &Site, backend: &Backend, range: std::ops::Range<u8>) {
    for at in range.clone() {
        site.create(&id(at), layer7(listen(site, at)), vec![server("one", backend.address)]).await;
    }
    for at in range {
        site.up(&id(at)).await;
    }
}

async fn agent(site: &Site, kind: &str) -> Option<pb::AgentStatus> {
    let request = pb::GetApplianceRequest { name: LB1.to_owned() };
    let appliance = site.fleet().get_appliance(request).await.ok()?.into_inner();
    appliance.agents.into_iter().find(|agent| agent.agent == kind && agent.connected)
}

/// Waits until agent-l7 holds a configuration back that satisfies `wanted`.
async fn held(site: &Site, wanted: impl Fn(&pb::AgentStatus) -> bool) -> pb::AgentStatus {
    eventually("agent-l7 holds the configuration back", async || {
        let agent = agent(site, "agent-l7").await?;
        (agent.held_removal_count == i32::from(ALL - LEFT) && wanted(&agent)).then_some(agent)
    })
    .await
}

async fn approve(site: &Site, revision: &str) -> Result<(), tonic::Status> {
    let request = pb::ApproveRemovalsRequest {
        name: LB1.to_owned(),
        revision: revision.to_owned(),
        ..Default::default()
    };
    site.fleet().approve_removals(request).await.map(drop)
}

async fn count(site: &Site, kind: &str, about: &str) -> usize {
    let events = site.events(LB1).await;
    events.iter().filter(|event| event.r#type == kind && event.message.contains(about)).count()
}

async fn set_weight(site: &Site, at: u8, weight: i32) {
    site.set_weight(&server_name(&id(at), "one"), weight).await;
}

/// Starts the controller again and waits until it answers.
async fn restart(site: &mut Site) {
    site.controller.start_again();
    eventually("the controller answers", async || {
        site.fleet().list_clusters(pb::ListClustersRequest::default()).await.ok()
    })
    .await;
}

async fn all_echo(clients: &mut [Client]) {
    for client in clients {
        client.echoes().await.unwrap();
    }
}

/// The controller forgets how the deletions came about when it starts again, so the agent that was
/// away meanwhile is offered what is left as a whole.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn agent_holds_back_the_removal_of_most_services_until_somebody_approves() {
    let mut site = Site::start().await;
    let backend = Backend::start("one", site.block.socket(200, 80)).await;
    create(&site, &backend, 0..ALL).await;
    let mut agent_l7 = site.agent_l7.take().unwrap();
    agent_l7.kill();
    for at in LEFT..ALL {
        let request =
            pb::DeleteVirtualServiceRequest { name: service_name(&id(at)), ..Default::default() };
        site.balancer().delete_virtual_service(request).await.unwrap();
    }
    site.controller.stop().await;
    restart(&mut site).await;
    agent_l7.start_again();
    site.agent_l7 = Some(agent_l7);
    let first = held(&site, |_| true).await;
    assert!(!first.current, "it does not run what it holds back: {first:?}");
    assert_ne!(first.revision, first.held_revision);
    let mut clients = Vec::new();
    for at in [0, LEFT, ALL - 1] {
        clients.push(Client::connect(listen(&site, at)).await.unwrap());
    }
    let status = site.status(&id(0)).await;
    assert!(status.reconciling);
    assert_eq!(status.state(), State::Degraded);
    for words in ["lb1's agent-l7 holds back", "take 35 virtual services", "gantry approve lb1"] {
        assert!(status.message.contains(words), "{}", status.message);
    }

    // What comes next is judged anew, and it is still the same hold.
    site.create("new", layer7(listen(&site, ALL)), vec![server("one", backend.address)]).await;
    let second = held(&site, |agent| agent.held_revision != first.held_revision).await;
    assert_eq!(second.revision, first.revision, "nothing was taken");
    assert_eq!(site.status("new").await.state(), State::NotInForce);
    assert_eq!(count(&site, "CONFIG_HELD", "agent-l7 holds back").await, 1);
    all_echo(&mut clients).await;

    for (revision, code, words) in [
        (first.held_revision.as_str(), Code::FailedPrecondition, "look again"),
        ("9.9", Code::FailedPrecondition, "look again"),
        ("newest", Code::InvalidArgument, "epoch.number"),
    ] {
        let refused = approve(&site, revision).await.unwrap_err();
        assert_eq!(refused.code(), code, "{revision}: {refused}");
        assert!(refused.message().contains(words), "{refused}");
    }
    let overview = site.gantry(&["overview"]).await.output();
    assert!(overview.contains("HOLDS BACK") && overview.contains("approve lb1"), "{overview}");
    assert!(site.gantry(&["describe", "appliances/lb1"]).await.output().contains("HOLDS BACK"));

    let approved = site.gantry(&["approve", "lb1", "--yes", "-m", "the old site is closed"]).await;
    assert!(approved.err.contains("takes 35 virtual services"), "{}", approved.err);
    approved.output();
    site.agents_report().await;
    site.up("new").await;
    assert!(site.status(&id(0)).await.message.is_empty());
    assert!(Client::connect(listen(&site, ALL - 1)).await.is_err(), "it is gone");
    clients.pop().unwrap().ends().await;
    clients.pop().unwrap().ends().await;
    all_echo(&mut clients).await;
    Client::connect(listen(&site, ALL)).await.unwrap();
    let event = site.event(LB1, "REMOVALS_APPROVED").await;
    assert_eq!(
        (event.actor.as_str(), event.comment.as_str()),
        ("users/admin", "the old site is closed")
    );
    assert!(event.message.contains("removes 35"), "{}", event.message);
    let nothing = approve(&site, "").await.unwrap_err();
    assert_eq!(nothing.code(), Code::FailedPrecondition);
    assert!(nothing.message().contains("holds a configuration back"), "{nothing}");
}

/// A controller with an old copy of the database takes the right one's place, and goes again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn agent_refuses_and_holds_back_what_an_old_backup_says_and_obeys_the_right_one_again() {
    let mut site = Site::start().await;
    let backend = Backend::start("one", site.block.socket(200, 80)).await;
    create(&site, &backend, 0..LEFT).await;
    let (here, backup, right) =
        (site.dir().join("controller"), site.dir().join("backup"), site.dir().join("right"));
    site.controller.stop().await;
    copy(&here, &backup);
    restart(&mut site).await;
    create(&site, &backend, LEFT..ALL).await;
    let mut clients = Vec::new();
    for at in [0, LEFT, ALL - 1] {
        clients.push(Client::connect(listen(&site, at)).await.unwrap());
    }

    site.controller.kill();
    std::fs::rename(&here, &right).unwrap();
    copy(&backup, &here);
    restart(&mut site).await;
    // It is refused again and again, and told of once.
    let log = site.agent_l7.as_ref().unwrap();
    log.says_times("refusing what the controller sent", 4).await;
    assert_eq!(count(&site, "CONFIG_REFUSED", "agent-l7 refused").await, 1);
    assert_eq!(count(&site, "CONFIG_REFUSED", "OLDER_REVISION").await, 2, "by each agent");
    let refusing = agent(&site, "agent-l7").await.unwrap();
    assert!(!refusing.current, "it does not run what it refuses: {refusing:?}");
    assert!(site.status(&id(0)).await.reconciling);
    all_echo(&mut clients).await;
    // Its numbers overtake those of the right one: what it says fits nothing that is held, so all
    // of it is asked for, and that would take most away.
    for weight in 0..i32::from(ALL) {
        set_weight(&site, 0, weight + 1).await;
    }
    let holding = held(&site, |_| true).await;
    assert_eq!(holding.revision, refusing.revision, "nothing was taken");
    all_echo(&mut clients).await;

    site.controller.kill();
    std::fs::rename(&here, site.dir().join("wrong")).unwrap();
    std::fs::rename(&right, &here).unwrap();
    restart(&mut site).await;
    site.agents_report().await;
    let obeying = agent(&site, "agent-l7").await.unwrap();
    assert_eq!((obeying.held_removal_count, obeying.current), (0, true));
    set_weight(&site, ALL - 1, 7).await;
    site.settled(&id(ALL - 1)).await;
    all_echo(&mut clients).await;
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}
