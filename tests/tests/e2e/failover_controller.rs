//! The controller dies, and an appliance goes on without it: traffic, failover, restarts.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use gantry_proto::v1 as pb;
use gantry_tests::backend::{Backend, Client};
use gantry_tests::dcmtk::{self, Study};
use gantry_tests::modality::Modality;
use gantry_tests::orthanc::Orthanc;
use gantry_tests::services::{echo_check, greeting_check, layer7, server};
use gantry_tests::{Site, eventually};
use pb::layer7::Algorithm;
use pb::real_server_status::State as ServerState;
use pb::virtual_service::Forwarding;
use tokio::task::JoinSet;

fn in_turn(listen: SocketAddr, check: pb::HealthCheck) -> pb::VirtualService {
    let algorithm = Algorithm::WeightedRoundRobin.into();
    pb::VirtualService {
        forwarding: Some(Forwarding::Layer7(pb::Layer7 { algorithm, ..Default::default() })),
        health_check: Some(check),
        ..layer7(listen)
    }
}

/// A site with the service "web" and the backends "one" and "two", which are checked for their greeting.
async fn web_site() -> (Site, Backend, Backend, SocketAddr) {
    let site = Site::start().await;
    let one = Backend::start("one", site.block.socket(20, 8000)).await;
    let two = Backend::start("two", site.block.socket(21, 8000)).await;
    let listen = site.block.socket(10, 8000);
    let servers = vec![server("one", one.address), server("two", two.address)];
    site.create("web", in_turn(listen, greeting_check("one|two")), servers).await;
    site.up("web").await;
    (site, one, two, listen)
}

/// A real server that takes connections and does not do its work: only its check can tell.
async fn break_down(two: Backend) -> Backend {
    let address = two.address;
    two.stop().await;
    Backend::start("broken", address).await
}

/// All of many connections in a row are served by `name`.
async fn only(name: &str, listen: SocketAddr) -> Option<()> {
    for _ in 0..8 {
        let client = Client::connect(listen).await.unwrap();
        if client.served_by != name {
            return None;
        }
    }
    Some(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failover_controller_dies_while_images_flow_and_an_archive_dies() {
    let mut site = Site::start().await;
    let mut archives = [
        Orthanc::start("ONE", &site.block, site.dir()).await,
        Orthanc::start("TWO", &site.block, site.dir()).await,
    ];
    let listen = site.block.socket(10, 104);
    let servers = vec![server("one", archives[0].dicom), server("two", archives[1].dicom)];
    site.create("dicom", in_turn(listen, echo_check()), servers).await;
    site.up("dicom").await;
    // Two long associations, one on each archive, half-way when the controller dies.
    let (study_a, study_b) = (
        Study::make(site.dir().join("study-a"), 20, 64).await,
        Study::make(site.dir().join("study-b"), 20, 64).await,
    );
    let mut long = Vec::new();
    for (last, study) in [(30, &study_a), (31, &study_b)] {
        let modality = Modality::start(site.block.address(last), listen).await;
        modality.hold_after(640 << 10);
        let name = format!("long-{last}");
        let run = dcmtk::begin_store(&name, study, modality.address, site.dir());
        modality.has_sent(512 << 10).await;
        long.push((modality, run));
    }
    site.controller.kill();
    let healthd = site.healthd.as_ref().unwrap();
    let mut acknowledged = store_many(&site, listen, "alone", 4).await;
    // The second archive dies with an association on it. Of the two, one ends in peace.
    archives[1].kill();
    acknowledged.extend(store_many(&site, listen, "one-left", 6).await);
    let mut ended = Vec::new();
    for (modality, run) in &mut long {
        modality.go_on();
        ended.push(run.ended().await.success());
    }
    ended.sort_unstable();
    assert_eq!(ended, [false, true], "only the association on the dead archive was cut");
    healthd.says(&["no controller"]).await;
    archives[1].start_again().await;
    let mut stored: BTreeSet<String> = archives[0].instances().await.into_iter().collect();
    stored.extend(archives[1].instances().await);
    assert!(stored.is_superset(&acknowledged), "every acknowledged image is in an archive");
    for ((_, run), study) in long.iter().zip([&study_a, &study_b]) {
        let acknowledged = run.log().matches("Received Store Response (Success)").count();
        let found = study.instances().await.intersection(&stored).count();
        assert!(found >= acknowledged, "{found} of {acknowledged}");
    }
    site.controller.start_again();
    site.agents_report().await;
    site.up("dicom").await;
    acknowledged.extend(store_many(&site, listen, "with-controller", 2).await);
}

/// Sends studies, two at a time; each has to be acknowledged at the first try.
async fn store_many(site: &Site, to: SocketAddr, name: &str, count: usize) -> BTreeSet<String> {
    let mut runs = JoinSet::new();
    for half in 0..2 {
        let folders: Vec<_> =
            (0..count / 2).map(|at| site.dir().join(format!("{name}-{half}-{at}"))).collect();
        runs.spawn(async move {
            let mut acknowledged = BTreeSet::new();
            for folder in folders {
                let study = Study::make(folder, 5, 64).await;
                dcmtk::store(&study, to).await.output();
                acknowledged.extend(study.instances().await);
            }
            acknowledged
        });
    }
    runs.join_all().await.into_iter().flatten().collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failover_controller_dead_the_health_checks_still_steer() {
    let (mut site, _one, two, listen) = web_site().await;
    let mut held = Vec::new();
    for _ in 0..8 {
        held.push(Client::connect(listen).await.unwrap());
    }
    site.controller.kill();
    let broken = break_down(two).await;
    site.healthd.as_ref().unwrap().says(&["no controller"]).await;
    eventually("all go to the server that works", async || only("one", listen).await).await;
    for client in held.iter_mut().filter(|client| client.served_by == "one") {
        client.echoes().await.unwrap();
    }
    let two_address = broken.address;
    broken.stop().await;
    // It comes back, and is used again: this can only come from the check.
    let _two = Backend::start("two", two_address).await;
    eventually("the server that came back is used", async || {
        let client = Client::connect(listen).await.unwrap();
        (client.served_by == "two").then_some(())
    })
    .await;
    let first = Client::connect(listen).await.unwrap().served_by;
    let second = Client::connect(listen).await.unwrap().served_by;
    assert_ne!(first, second, "they take turns again");
    for client in held.iter_mut().filter(|client| client.served_by == "one") {
        client.echoes().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failover_controller_dead_an_agent_starts_from_its_ledger() {
    let (mut site, _one, _two, listen) = web_site().await;
    site.controller.kill();
    let mut agent = site.agent_l7.take().unwrap();
    agent.kill();
    assert!(Client::connect(listen).await.is_err(), "nobody listens while the agent is dead");
    agent.start_again();
    eventually("the agent serves again", async || Client::connect(listen).await.ok()).await;
    let first = Client::connect(listen).await.unwrap().served_by;
    let second = Client::connect(listen).await.unwrap().served_by;
    assert_ne!(first, second, "from both servers, in turn");
    let mut held = Client::connect(listen).await.unwrap();
    agent.stop().await;
    assert!(Client::connect(listen).await.is_err());
    held.ends().await;
    agent.start_again();
    eventually("the agent serves after a stop too", async || Client::connect(listen).await.ok())
        .await;
    let mut held = Client::connect(listen).await.unwrap();
    site.agent_l7 = Some(agent);
    site.controller.start_again();
    site.agents_report().await;
    site.up("web").await;
    held.echoes().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failover_controller_dead_a_dead_server_stays_known_over_a_restart_of_healthd() {
    let (mut site, _one, two, listen) = web_site().await;
    let _broken = break_down(two).await;
    site.server_reaches("web", "two", ServerState::Failed).await;
    let before = site.server_status("web", "two").await.since;
    site.controller.kill();
    let mut healthd = site.healthd.take().unwrap();
    // Stopped at once, it has written down even what it concluded just now.
    healthd.stop().await;
    only("one", listen).await.expect("the last verdicts stand");
    healthd.start_again();
    let mut agent = site.agent_l7.take().unwrap();
    agent.says_times("listening to healthd", 2).await;
    only("one", listen).await.expect("it is known to be dead");
    healthd.kill();
    agent.kill();
    healthd.start_again();
    agent.start_again();
    agent.says_times("listening to healthd", 3).await;
    eventually("the agent serves again", async || Client::connect(listen).await.ok()).await;
    eventually("the agent has heard healthd", async || only("one", listen).await).await;
    site.healthd = Some(healthd);
    site.agent_l7 = Some(agent);
    site.controller.start_again();
    site.agents_report().await;
    let status = site.server_reaches("web", "two", ServerState::Failed).await;
    assert_eq!(status.since, before, "it is the same failure, not a new one");
    let subject = gantry_tests::site::server_name("web", "two");
    let failures = site.events(&subject).await;
    let failures = failures.iter().filter(|event| event.r#type == "REAL_SERVER_FAILED").count();
    assert_eq!(failures, 1, "and it is recorded once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failover_controller_comes_back_to_what_happened_meanwhile() {
    let (mut site, _one, two, listen) = web_site().await;
    let before = site.service("web").await;
    let mut held = Vec::new();
    for _ in 0..8 {
        held.push(Client::connect(listen).await.unwrap());
    }
    held.retain(|client| client.served_by == "one");
    site.controller.kill();
    two.stop().await;
    site.healthd.as_ref().unwrap().says(&["no controller"]).await;
    site.agent_l7.as_ref().unwrap().says(&["no controller"]).await;
    site.controller.start_again();
    site.agents_report().await;
    // It died while nobody listened, and is recorded all the same.
    let subject = gantry_tests::site::server_name("web", "two");
    site.event(&subject, "REAL_SERVER_FAILED").await;
    site.server_reaches("web", "two", ServerState::Failed).await;
    let status = site.reaches("web", pb::virtual_service_status::State::Degraded).await;
    assert_eq!((status.healthy_count, status.real_server_count, status.stale), (1, 2, false));
    let after = site.service("web").await;
    assert_eq!(
        (&after.uid, &after.etag, &after.listener),
        (&before.uid, &before.etag, &before.listener)
    );
    for client in &mut held {
        client.echoes().await.unwrap();
    }
    // New configuration flows again.
    site.drain("web", "one", None).await;
    site.server_reaches("web", "one", ServerState::Draining).await;
    for client in &mut held {
        client.echoes().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failover_agent_starts_again_and_sends_nobody_to_a_server_known_to_be_dead() {
    let (mut site, _one, two, listen) = web_site().await;
    let _broken = break_down(two).await;
    site.server_reaches("web", "two", ServerState::Failed).await;
    let mut agent = site.agent_l7.take().unwrap();
    for _ in 0..8 {
        agent.kill();
        agent.start_again();
        let first =
            eventually("it serves again", async || Client::connect(listen).await.ok()).await;
        assert_eq!(first.served_by, "one");
        only("one", listen).await.expect("from the first connection on");
    }
    // Without healthd it does not wait for ever.
    site.healthd.take().unwrap().kill();
    agent.kill();
    agent.start_again();
    eventually("it serves again", async || Client::connect(listen).await.ok()).await;
}
