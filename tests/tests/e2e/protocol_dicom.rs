//! DICOM: two Orthanc archives behind one virtual service, dcmtk's clients before it.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use gantry_proto::v1 as pb;
use gantry_tests::dcmtk::{self, Study};
use gantry_tests::modality::Modality;
use gantry_tests::orthanc::Orthanc;
use gantry_tests::services::{by_source, echo_check, layer7, server};
use gantry_tests::{Site, eventually};
use pb::layer7::Algorithm;
use pb::real_server_status::State as ServerState;
use pb::virtual_service::Forwarding;

/// A site with two archives, each in service behind two virtual services: "dicom" keeps a modality on
/// its archive, "spread" takes turns.
struct Radiology {
    site: Site,
    archives: [Orthanc; 2],
    dicom: SocketAddr,
    spread: SocketAddr,
}

const NAMES: [&str; 2] = ["one", "two"];

impl Radiology {
    async fn start() -> Self {
        let site = Site::start().await;
        let (dicom, spread) = (site.block.socket(10, 104), site.block.socket(11, 104));
        let archives = [
            Orthanc::start("ONE", &site.block, site.dir()).await,
            Orthanc::start("TWO", &site.block, site.dir()).await,
        ];
        let servers = || vec![server("one", archives[0].dicom), server("two", archives[1].dicom)];
        let sticky = pb::VirtualService { persistence: by_source(), ..archive_service(dicom) };
        site.create("dicom", sticky, servers()).await;
        site.create("spread", archive_service(spread), servers()).await;
        site.up("dicom").await;
        site.up("spread").await;
        Self { site, archives, dicom, spread }
    }

    /// The images in each archive.
    async fn images(&self) -> [usize; 2] {
        [self.archives[0].images().await, self.archives[1].images().await]
    }

    async fn instances(&self, at: usize) -> BTreeSet<String> {
        self.archives[at].instances().await.into_iter().collect()
    }

    async fn study(&self, name: &str, count: u32) -> Study {
        Study::make(self.site.dir().join(name), count, 64).await
    }

    /// Sends a study of one image; gives which archive it is in.
    async fn lands_in(&self, name: &str, to: SocketAddr) -> usize {
        let study = self.study(name, 1).await;
        dcmtk::store(&study, to).await.output();
        let uid = study.instances().await;
        let one = self.instances(0).await.is_superset(&uid);
        let two = self.instances(1).await.is_superset(&uid);
        match (one, two) {
            (true, false) => 0,
            (false, true) => 1,
            both => panic!("the image is in {both:?}"),
        }
    }
}

fn archive_service(listen: SocketAddr) -> pb::VirtualService {
    let algorithm = Algorithm::WeightedRoundRobin.into();
    pb::VirtualService {
        forwarding: Some(Forwarding::Layer7(pb::Layer7 { algorithm, ..Default::default() })),
        health_check: Some(echo_check()),
        ..layer7(listen)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn protocol_dicom_every_acknowledged_image_is_in_an_archive() {
    let radiology = Radiology::start().await;
    let mut sent = BTreeSet::new();
    for association in 0..6 {
        let study = radiology.study(&format!("study-{association}"), 5).await;
        dcmtk::store(&study, radiology.spread).await.output();
        sent.extend(study.instances().await);
    }
    assert_eq!(radiology.images().await, [15, 15]);
    let (one, two) = (radiology.instances(0).await, radiology.instances(1).await);
    assert!(one.is_disjoint(&two));
    assert_eq!(one.union(&two).cloned().collect::<BTreeSet<_>>(), sent);
    let echo = dcmtk::echo(radiology.dicom).await;
    assert!(echo.status.success(), "{echo:?}");
    let status = radiology.site.server_status("dicom", "one").await;
    assert!(status.last_check.contains("C-ECHO 0x0000"), "{status:?}");
    assert_eq!(status.last_check_layer, "application");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn protocol_dicom_a_modality_keeps_its_archive() {
    let radiology = Radiology::start().await;
    let block = &radiology.site.block;
    let mut homes = Vec::new();
    for (at, last) in (30..34).enumerate() {
        let modality = Modality::start(block.address(last), radiology.dicom).await;
        let home = radiology.lands_in(&format!("first-{at}"), modality.address).await;
        for again in 0..3 {
            let name = format!("again-{at}-{again}");
            assert_eq!(radiology.lands_in(&name, modality.address).await, home, "{name}");
        }
        homes.push(home);
    }
    assert_eq!(homes.iter().sum::<usize>(), 2, "two modalities have each archive: {homes:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn protocol_dicom_a_killed_archive_costs_no_new_association() {
    let mut radiology = Radiology::start().await;
    let home = radiology.lands_in("before", radiology.dicom).await;
    let other = 1 - home;
    let before = radiology.archives[other].images().await;
    radiology.archives[home].kill();
    let study = radiology.study("right-after", 5).await;
    dcmtk::store(&study, radiology.dicom).await.output();
    assert_eq!(radiology.archives[other].images().await, before + 5);
    let site = &radiology.site;
    let subject = gantry_tests::site::server_name("dicom", NAMES[home]);
    let failed = site.event(&subject, "REAL_SERVER_FAILED").await;
    assert!(failed.message.contains("refused"), "{failed:?}");
    let status = site.server_reaches("dicom", NAMES[home], ServerState::Failed).await;
    assert!(status.last_check.contains("refused"), "{status:?}");
    let left = radiology.lands_in_running(other, "while-dead").await;
    assert_eq!(left, before + 6);
    radiology.archives[home].start_again().await;
    site_recovers(&radiology, home).await;
    let both = [
        radiology.lands_in("again-1", radiology.spread).await,
        radiology.lands_in("again-2", radiology.spread).await,
    ];
    assert_ne!(both[0], both[1], "both archives are used again");
}

impl Radiology {
    /// Sends one image while only the archive `at` runs; gives how many it holds then.
    async fn lands_in_running(&self, at: usize, name: &str) -> usize {
        let study = self.study(name, 1).await;
        dcmtk::store(&study, self.dicom).await.output();
        self.archives[at].images().await
    }
}

async fn site_recovers(radiology: &Radiology, at: usize) {
    let site = &radiology.site;
    for service in ["dicom", "spread"] {
        let subject = gantry_tests::site::server_name(service, NAMES[at]);
        site.event(&subject, "REAL_SERVER_RECOVERED").await;
        site.server_reaches(service, NAMES[at], ServerState::Serving).await;
        site.up(service).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn protocol_dicom_a_frozen_archive_is_taken_out_though_it_takes_connections() {
    let radiology = Radiology::start().await;
    let site = &radiology.site;
    let home = radiology.lands_in("before", radiology.dicom).await;
    let before = radiology.archives[1 - home].images().await;
    radiology.archives[home].process.freeze();
    let subject = gantry_tests::site::server_name("dicom", NAMES[home]);
    let failed = site.event(&subject, "REAL_SERVER_FAILED").await;
    assert!(failed.message.contains("timed out"), "{failed:?}");
    let frozen = tokio::net::TcpStream::connect(radiology.archives[home].dicom).await;
    assert!(frozen.is_ok(), "a check that only connects sees nothing");
    assert_eq!(radiology.lands_in_running(1 - home, "elsewhere").await, before + 1);
    radiology.archives[home].process.thaw();
    site_recovers(&radiology, home).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn protocol_dicom_an_association_ends_in_peace_while_its_archive_drains() {
    let radiology = Radiology::start().await;
    let (site, archives) = (&radiology.site, &radiology.archives);
    let modality = Modality::start(site.block.address(30), radiology.dicom).await;
    let home = radiology.lands_in("home", modality.address).await;
    let other = 1 - home;
    let before = radiology.images().await;
    let study = radiology.study("long", 20).await;
    modality.hold_after(640 << 10);
    let mut long = dcmtk::begin_store("long-study", &study, modality.address, site.dir());
    modality.has_sent(512 << 10).await;
    site.drain("dicom", NAMES[home], None).await;
    site.server_reaches("dicom", NAMES[home], ServerState::Draining).await;
    let fresh = Modality::start(site.block.address(31), radiology.dicom).await;
    for (at, to) in [fresh.address, radiology.dicom, fresh.address].into_iter().enumerate() {
        assert_eq!(radiology.lands_in(&format!("new-{at}"), to).await, other);
    }
    assert!(long.is_running(), "the association is open still");
    has_connections(&radiology, home, 1).await;
    modality.go_on();
    assert!(long.ended().await.success(), "every image was acknowledged");
    assert_eq!(archives[home].images().await, before[home] + 20);
    assert_eq!(archives[other].images().await, before[other] + 3);
    assert!(radiology.instances(home).await.is_superset(&study.instances().await));
    // The modality itself, though it belonged to this archive, goes to the other one now.
    assert_eq!(radiology.lands_in("moved", modality.address).await, other);
    let server = format!("dicom/{}", NAMES[home]);
    site.gantry(&["drain", &server, "--wait"]).await.output();
    assert_eq!(site.server_status("dicom", NAMES[home]).await.active_connections, 0);
}

/// Waits until the archive is reported to have so many connections: counters come once a second.
async fn has_connections(radiology: &Radiology, at: usize, count: i64) {
    eventually(&format!("the archive has {count} connections"), async || {
        let status = radiology.site.server_status("dicom", NAMES[at]).await;
        (status.active_connections == count).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn protocol_dicom_what_a_drain_leaves_is_reset_at_its_deadline() {
    let radiology = Radiology::start().await;
    let site = &radiology.site;
    let modality = Modality::start(site.block.address(30), radiology.dicom).await;
    let home = radiology.lands_in("home", modality.address).await;
    let study = radiology.study("cut", 20).await;
    modality.hold_after(640 << 10);
    let mut cut = dcmtk::begin_store("cut-study", &study, modality.address, site.dir());
    modality.has_sent(512 << 10).await;
    site.drain("dicom", NAMES[home], Some(Duration::from_secs(2))).await;
    let status = site.server_status("dicom", NAMES[home]).await;
    assert_eq!(status.state(), ServerState::Draining);
    assert!(!cut.ended().await.success(), "not every image was acknowledged");
    let status = site.server_reaches("dicom", NAMES[home], ServerState::Halted).await;
    assert!(status.last_check.contains("C-ECHO 0x0000"), "it is healthy all the same: {status:?}");
    // What was acknowledged is there: storescu says so for each image.
    let acknowledged = cut.log().matches("Received Store Response (Success)").count();
    let arrived = radiology.instances(home).await;
    let arrived = study.instances().await.iter().filter(|uid| arrived.contains(*uid)).count();
    assert!(arrived >= acknowledged && acknowledged < 20, "{arrived} of {acknowledged}");
    modality.go_on();
    assert_eq!(radiology.lands_in("elsewhere", modality.address).await, 1 - home);
    site.online("dicom", NAMES[home]).await;
    site.up("dicom").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn protocol_dicom_a_halt_resets_associations_at_once() {
    let radiology = Radiology::start().await;
    let site = &radiology.site;
    let modality = Modality::start(site.block.address(30), radiology.dicom).await;
    let home = radiology.lands_in("home", modality.address).await;
    let study = radiology.study("cut", 20).await;
    modality.hold_after(640 << 10);
    let mut cut = dcmtk::begin_store("cut-study", &study, modality.address, site.dir());
    modality.has_sent(512 << 10).await;
    site.halt("dicom", NAMES[home]).await;
    assert!(!cut.ended().await.success());
    modality.go_on();
    assert_eq!(radiology.lands_in("elsewhere", modality.address).await, 1 - home);
    site.halt("dicom", NAMES[1 - home]).await;
    let refused = dcmtk::store(&study, radiology.dicom).await;
    assert!(!refused.status.success(), "no archive is left");
    site.online("dicom", NAMES[home]).await;
    site.online("dicom", NAMES[1 - home]).await;
    site.up("dicom").await;
    dcmtk::store(&study, radiology.dicom).await.output();
}
