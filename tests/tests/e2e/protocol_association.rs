//! DICOM mode between clients and archives from other houses: dcmtk's storescu, echoscu and storescp,
//! and Orthanc.

use std::net::SocketAddr;
use std::time::Duration;

use gantry_proto::v1 as pb;
use gantry_tests::dcmtk::{self, Receiver, Study};
use gantry_tests::modality::Modality;
use gantry_tests::openssl::Authority;
use gantry_tests::orthanc::Orthanc;
use gantry_tests::services::{duration, layer7, server};
use gantry_tests::{Site, eventually};
use pb::ended::Termination;
use pb::layer7::{Algorithm, Dicom, DicomRoute, Mode};
use pb::virtual_service::Forwarding;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// Associations at `listen`, by turns, and no checks: what is seen is seen by the proxy.
fn associations(listen: SocketAddr, dicom: Dicom) -> pb::VirtualService {
    with(listen, pb::Layer7 { dicom: Some(dicom), ..Default::default() })
}

fn with(listen: SocketAddr, of: pb::Layer7) -> pb::VirtualService {
    let (mode, algorithm) = (Mode::DicomMode.into(), Algorithm::WeightedRoundRobin.into());
    pb::VirtualService {
        forwarding: Some(Forwarding::Layer7(pb::Layer7 { mode, algorithm, ..of })),
        ..layer7(listen)
    }
}

fn quick() -> Dicom {
    Dicom { answer_timeout: Some(duration(Duration::from_millis(300))), ..Default::default() }
}

async fn study(site: &Site, name: &str, count: u32) -> Study {
    Study::make(site.dir().join(name), count, 64).await
}

/// Waits until the service counts as `fits` says; gives what it counts then.
async fn counts(site: &Site, id: &str, fits: impl Fn(&pb::DicomCounts) -> bool) -> pb::DicomCounts {
    eventually("associations are counted", async || {
        let all = site.status(id).await.dicom.and_then(|dicom| dicom.all);
        all.filter(|all| fits(all))
    })
    .await
}

/// Waits until a connection has ended for this reason.
async fn has_ended(site: &Site, id: &str, reason: Termination) {
    eventually(reason.as_str_name(), async || {
        let ended = site.status(id).await.ended;
        ended.iter().any(|one| one.reason() == reason).then_some(())
    })
    .await;
}

/// A server that rejects every association for now.
async fn rejecting(at: SocketAddr) -> (SocketAddr, JoinSet<()>) {
    let listener = TcpListener::bind(at).await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut asked = [0; 4096];
            if stream.read(&mut asked).await.is_ok_and(|read| read > 0) {
                let _ = stream.write_all(&[3, 0, 0, 0, 0, 4, 0, 2, 3, 1]).await;
            }
        }
    });
    (address, tasks)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn protocol_association_servers_that_do_not_accept_are_passed_over_unseen() {
    let site = Site::start().await;
    let archive = Orthanc::start("ONE", &site.block, site.dir()).await;
    let frozen = Orthanc::start("TWO", &site.block, site.dir()).await;
    frozen.process.freeze();
    let listen = site.block.socket(10, 104);
    let hung = TcpListener::bind((site.block.address(20), 0)).await.unwrap();
    let (rejecting, _serving) = rejecting(SocketAddr::new(site.block.address(21).into(), 0)).await;
    let mut service = associations(listen, quick());
    // Each gets its turn, however often it has failed.
    if let Some(Forwarding::Layer7(layer7)) = &mut service.forwarding {
        layer7.passive_health =
            Some(pb::layer7::PassiveHealth { disabled: true, ..Default::default() });
    }
    let servers = vec![
        server("a-rejecting", rejecting),
        server("b-frozen", frozen.dicom),
        server("c-hung", hung.local_addr().unwrap()),
        server("d-archive", archive.dicom),
    ];
    site.create("pacs", service, servers).await;
    site.settled("pacs").await;
    for at in 0..6 {
        let study = study(&site, &format!("study-{at}"), 3).await;
        dcmtk::store(&study, listen).await.output();
    }
    assert_eq!(archive.images().await, 18);
    let all = counts(&site, "pacs", |all| all.stored_total == 18).await;
    assert_eq!((all.requested_total, all.accepted_total, all.aborted_total), (6, 6, 0), "{all:?}");
    let titles = site.status("pacs").await.dicom.unwrap().ae_titles;
    assert!(titles.iter().any(|one| one.ae_title == "STORESCU"), "{titles:?}");
    frozen.process.thaw();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn protocol_association_refusals_are_those_of_the_standard() {
    let site = Site::start().await;
    let archive = Receiver::start(&site, "archive", &[]).await;
    let listen = site.block.socket(10, 104);
    let route = DicomRoute { called_ae_titles: vec!["PACS".to_owned()], ..Default::default() };
    let called = Dicom {
        routes: vec![
            route.clone(),
            DicomRoute {
                called_ae_titles: vec!["CARDIO".to_owned()],
                calling_ae_titles: vec!["XA1".to_owned()],
                ..Default::default()
            },
        ],
        reject_unrouted: true,
        ..Default::default()
    };
    site.create("pacs", associations(listen, called), vec![server("one", archive.at)]).await;
    site.settled("pacs").await;
    let ask = async |called: &str, calling: &str| dcmtk::echo_as(calling, called, listen).await;
    assert!(ask("PACS", "CT1").await.status.success());
    assert!(ask("CARDIO", "XA1").await.status.success());
    for (called, calling, refusal) in [
        ("ELSE", "CT1", "Called AE Title Not Recognized"),
        ("CARDIO", "CT1", "Calling AE Title Not Recognized"),
    ] {
        let told = ask(called, calling).await;
        assert!(told.err.contains(refusal), "{refusal}: {told:?}");
    }
    site.halt("pacs", "one").await;
    let told = eventually("the server is halted", async || {
        let told = ask("PACS", "CT1").await;
        (!told.status.success()).then_some(told)
    })
    .await;
    assert!(told.err.contains("Temporary Congestion"), "{told:?}");
    drop(archive);
    let refusing = Receiver::start(&site, "refusing", &["--refuse"]).await;
    let second = site.block.socket(11, 104);
    site.create("other", associations(second, quick()), vec![server("one", refusing.at)]).await;
    site.settled("other").await;
    let told = dcmtk::echo_as("CT1", "PACS", second).await;
    assert!(told.err.contains("Rejected Permanent"), "as storescp says it: {told:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn protocol_association_a_killed_archive_costs_an_abort_and_nothing_acknowledged() {
    let site = Site::start().await;
    let mut archive = Orthanc::start("ONE", &site.block, site.dir()).await;
    let listen = site.block.socket(10, 104);
    site.create("pacs", associations(listen, quick()), vec![server("one", archive.dicom)]).await;
    site.settled("pacs").await;
    let modality = Modality::start(site.block.address(30), listen).await;
    let study = study(&site, "cut", 20).await;
    modality.hold_after(640 << 10);
    let mut cut = dcmtk::begin_store("cut-study", &study, modality.address, site.dir());
    modality.has_sent(640 << 10).await;
    archive.kill();
    modality.go_on();
    assert!(!cut.ended().await.success());
    let log = cut.log();
    assert!(log.contains("Peer aborted Association"), "{log}");
    has_ended(&site, "pacs", Termination::ServerLeftAssociation).await;
    let acknowledged = log.matches("Received Store Response (Success)").count();
    archive.start_again().await;
    let stored = archive.images().await;
    assert!(stored >= acknowledged && acknowledged > 0, "{stored} of {acknowledged}");
    dcmtk::store(&study, listen).await.output();
    assert_eq!(archive.images().await, 20, "a second time it is whole");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn protocol_association_ends_by_an_operator_are_told_to_both_sides() {
    let site = Site::start().await;
    let archive = Receiver::start(&site, "archive", &[]).await;
    let listen = site.block.socket(10, 104);
    site.create("pacs", associations(listen, quick()), vec![server("one", archive.at)]).await;
    site.settled("pacs").await;
    for (at, reason) in [(30, Termination::ServerHalted), (31, Termination::DrainOver)] {
        let modality = Modality::start(site.block.address(at), listen).await;
        let study = study(&site, &format!("cut-{at}"), 20).await;
        // In the midst of an image: the archive hears of it where one ends only.
        modality.hold_after(640 << 10);
        let name = format!("cut-study-{at}");
        let mut cut = dcmtk::begin_store(&name, &study, modality.address, site.dir());
        modality.has_sent(640 << 10).await;
        match reason {
            Termination::ServerHalted => site.halt("pacs", "one").await,
            _ => site.drain("pacs", "one", Some(Duration::from_secs(2))).await,
        }
        has_ended(&site, "pacs", reason).await;
        modality.go_on();
        assert!(!cut.ended().await.success());
        assert!(cut.log().contains("Peer aborted Association"), "{}", cut.log());
        site.online("pacs", "one").await;
        site.settled("pacs").await;
    }
    let all = counts(&site, "pacs", |all| all.aborted_total == 2).await;
    assert_eq!((all.accepted_total, all.associations), (2, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn protocol_association_tls_of_dcmtk_ends_here_and_begins_anew() {
    let site = Site::start().await;
    let authority = Authority::make(site.folder("tls")).await;
    for name in ["pacs", "archive", "ct1"] {
        authority.issue(name, &format!("{name}.example")).await;
    }
    let [chain, key] = ["pacs.pem", "pacs-key.pem"].map(|file| authority.file(file));
    site.import("pacs", &chain, &key).await;
    let file = |name: &str| authority.file(name);
    let (key, certificate, ca) =
        (file("archive-key.pem"), file("archive.pem"), file("authority.pem"));
    let secret = ["+tls", &key, &certificate, "+cf", &ca, "-ic"];
    let archive = Receiver::start(&site, "archive", &secret).await;
    let listen = site.block.socket(10, 2762);
    let layer7 = pb::Layer7 {
        certificate: "certificates/pacs".to_owned(),
        reencrypt: true,
        tls: Some(pb::layer7::Tls {
            client_certificates: pb::layer7::tls::ClientCertificates::Required.into(),
            client_authorities: authority.pem(),
            ..Default::default()
        }),
        ..Default::default()
    };
    site.create("pacs", with(listen, layer7), vec![server("one", archive.at)]).await;
    site.settled("pacs").await;
    let study = study(&site, "study", 3).await;
    let (key, certificate) = (file("ct1-key.pem"), file("ct1.pem"));
    let secret = ["+tls", &key, &certificate, "+cf", &ca];
    dcmtk::store_with(&study, listen, &secret).await.output();
    assert_eq!(counts(&site, "pacs", |all| all.stored_total == 3).await.aborted_total, 0);
    let without = dcmtk::store_with(&study, listen, &["+tla", "+cf", &ca]).await;
    assert!(!without.status.success(), "who shows no certificate has no association");
    let mut service = site.service("pacs").await;
    if let Some(Forwarding::Layer7(layer7)) = &mut service.forwarding {
        let route = DicomRoute {
            calling_ae_titles: vec!["CT1".to_owned()],
            certificate_names: vec!["ct1.example".to_owned()],
            ..Default::default()
        };
        layer7.dicom =
            Some(Dicom { routes: vec![route], reject_unrouted: true, ..Default::default() });
    }
    let request =
        pb::UpdateVirtualServiceRequest { virtual_service: Some(service), ..Default::default() };
    site.balancer().update_virtual_service(request).await.unwrap();
    site.settled("pacs").await;
    let named = |title: &'static str| [&secret[..], &["-aet", title]].concat();
    dcmtk::store_with(&study, listen, &named("CT1")).await.output();
    let other = dcmtk::store_with(&study, listen, &named("CT2")).await;
    assert!(other.err.contains("Calling AE Title Not Recognized"), "{other:?}");
}
