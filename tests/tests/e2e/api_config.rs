//! A cluster as one document, the overview, the events, and what a restart keeps.

use std::net::SocketAddrV4;
use std::path::{Path, PathBuf};

use gantry_proto::v1 as pb;
use gantry_tests::backend::Backend;
use gantry_tests::block::listening;
use gantry_tests::services::{connect_check, layer7, server};
use gantry_tests::site::{server_name, service_name};
use gantry_tests::wait::soon;
use gantry_tests::{Block, Site, eventually};
use pb::virtual_service_status::State;

const LAYER4: [&str; 3] = ["dicom-modalities", "xds-registry", "xds-repository"];
const LAYER7: [(&str, u8, u16); 2] = [("hl7", 120, 2575), ("https-viewer", 160, 443)];

fn reference() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/reference.yaml")
}

/// Addresses that this machine does not have, and that no other test uses: of the range kept for
/// measuring networks (RFC 2544). They are listened on, which needs no network; nothing is sent there.
fn elsewhere(block: &Block, last: u8, port: u16) -> SocketAddrV4 {
    let [_, high, low, _] = block.address(0).octets();
    SocketAddrV4::new([198, 18 + high % 2, low, last].into(), port)
}

/// The reference deployment: what the proxy listens on moved elsewhere, and the real servers, which
/// are checked, to loopback addresses where nobody listens.
fn moved_reference(site: &Site) -> PathBuf {
    let mut text = std::fs::read_to_string(reference()).unwrap();
    for (_, last, port) in LAYER7 {
        let listener = elsewhere(&site.block, last, port).ip().to_string();
        text = text.replace(&format!("10.12.1.{last}"), &listener);
    }
    let loopback = site.block.address(0).to_string();
    text = text.replace("10.12.1.", loopback.strip_suffix('0').unwrap());
    let file = site.folder("documents").join("reference.yaml");
    std::fs::write(&file, text).unwrap();
    file
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn api_reference_deployment_is_applied_stored_and_exported_again() {
    let site = Site::controller_only().await;
    let file = reference();
    let file = file.to_str().unwrap();
    site.gantry(&["apply", "-f", file, "--dry-run"]).await.output();
    let request = pb::ListVirtualServicesRequest::default();
    let listed = site.balancer().list_virtual_services(request).await.unwrap().into_inner();
    assert!(listed.virtual_services.is_empty(), "a dry run changes nothing");
    site.gantry(&["apply", "-f", file, "-m", "first installation"]).await.output();
    let event = site.event("clusters/main", "CONFIG_APPLIED").await;
    assert_eq!(event.comment, "first installation");
    assert_eq!(event.message, "applied a document: 15 created, 0 changed, 0 deleted");
    let exported = export(&site).await;
    assert_eq!(exported.services.len(), 5);
    // The same again changes nothing, nor does what was exported; another controller exports the same.
    let text = site.gantry(&["export"]).await.output();
    let again = site.folder("documents").join("exported.yaml");
    std::fs::write(&again, &text).unwrap();
    let again = again.to_str().unwrap();
    for document in [file, again] {
        site.gantry(&["apply", "-f", document]).await.output();
        assert_eq!(export(&site).await.etag, exported.etag, "{document}");
    }
    let other = Site::controller_only().await;
    other.gantry(&["apply", "-f", again]).await.output();
    assert_eq!(export(&other).await.services, exported.services);
    let modalities = site.service("dicom-modalities").await;
    let listener = modalities.listener.unwrap();
    assert_eq!(
        (listener.address.as_str(), listener.ports),
        ("10.12.1.100", vec!["104".into(), "11112".into()])
    );
    assert_eq!(modalities.display_name, "DICOM-Modalities");
}

async fn export(site: &Site) -> pb::Config {
    let request = pb::ExportConfigRequest::default();
    site.config().export_config(request).await.unwrap().into_inner()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn api_reference_deployment_is_in_force_as_far_as_it_is_carried() {
    let site = Site::start().await;
    let file = moved_reference(&site);
    site.gantry(&["apply", "-f", file.to_str().unwrap()]).await.output();
    for id in LAYER4 {
        let status = site.reaches(id, State::NotInForce).await;
        let why =
            "not in force: no agent-l4 of cluster main has reported since the controller started";
        assert_eq!(status.message, why, "{id}");
    }
    for (id, last, port) in LAYER7 {
        let address = elsewhere(&site.block, last, port);
        eventually(&format!("{id} listens"), async || listening().contains(&address).then_some(()))
            .await;
        let status = site.reaches(id, State::Down).await;
        assert!(status.rejections.is_empty(), "{status:?}");
        assert!(status.message.starts_with("no real server serves"), "{status:?}");
    }
    let overview = site.gantry(&["overview"]).await.output();
    for label in ["DICOM-Modalities", "HL7", "XDS-Registry", "XDS-Repository", "HTTPS-Viewer"] {
        assert!(overview.contains(label), "{overview}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn api_a_document_is_applied_whole_or_not_at_all() {
    let site = Site::controller_only().await;
    let service = |id: &str, last| pb::config::Service {
        virtual_service: Some(pb::VirtualService {
            name: id.to_owned(),
            ..layer7(site.block.socket(last, 80))
        }),
        real_servers: vec![server("one", site.block.socket(20, 80))],
    };
    let apply = async |services, base_etag| {
        let config = Some(pb::Config { services, ..Default::default() });
        let request = pb::ApplyConfigRequest { config, base_etag, ..Default::default() };
        site.config().apply_config(request).await.map(tonic::Response::into_inner)
    };
    let first = apply(vec![service("a", 10), service("b", 11)], String::new()).await.unwrap();
    assert_eq!(first.changes.len(), 4);
    let overlap = vec![service("a", 12), service("c", 13), service("d", 13)];
    let refused = apply(overlap, String::new()).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::InvalidArgument);
    assert!(refused.message().starts_with("config.services[2].virtual_service.listener.ports: "));
    assert_eq!(export(&site).await.etag, first.etag);
    let second = apply(vec![service("a", 10), service("c", 13)], first.etag.clone()).await.unwrap();
    let names: Vec<_> =
        second.changes.iter().map(|change| (change.action(), &*change.name)).collect();
    use pb::change::Action::{Create, Delete};
    assert!(names.contains(&(Delete, &service_name("b"))), "{names:?}");
    assert!(names.contains(&(Create, &server_name("c", "one"))), "{names:?}");
    assert!(!names.iter().any(|(_, name)| name.starts_with(&service_name("a"))), "{names:?}");
    let stale = apply(vec![service("a", 10)], first.etag).await.unwrap_err();
    assert_eq!(stale.code(), tonic::Code::Aborted);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn api_watches_deliver_changes_and_events() {
    let site = Site::start().await;
    let backend = Backend::start("one", site.block.socket(20, 80)).await;
    let min_interval =
        Some(gantry_tests::services::duration(std::time::Duration::from_millis(100)));
    let request = pb::WatchOverviewRequest { min_interval, ..Default::default() };
    let mut overviews = site.observe().watch_overview(request).await.unwrap().into_inner();
    let first = overviews.message().await.unwrap().unwrap();
    assert!(first.rows.is_empty());
    let subject = service_name("web");
    let request = pb::WatchEventsRequest { subject, ..Default::default() };
    let mut events = site.observe().watch_events(request).await.unwrap().into_inner();
    let listen = site.block.socket(10, 80);
    let service = pb::VirtualService { health_check: Some(connect_check()), ..layer7(listen) };
    site.create("web", service, vec![server("one", backend.address)]).await;
    let up = async |state: State| {
        let mut seen = overviews.message().await.unwrap().unwrap();
        while !seen.rows.iter().any(|row| has_state(row, state)) {
            seen = overviews.message().await.unwrap().unwrap();
        }
        seen
    };
    let mut up = up;
    let seen = soon("the overview shows the service up", up(State::Up)).await;
    assert_eq!(seen.rows.len(), 1);
    assert_eq!(seen.appliances.len(), 1);
    backend.stop().await;
    soon("the overview shows it down", up(State::Down)).await;
    site.drain("web", "one", None).await;
    let mut kinds = Vec::new();
    while kinds.last().is_none_or(|kind| kind != "REAL_SERVER_DRAINED") {
        let event = soon("an event comes", events.message()).await.unwrap().unwrap();
        assert!(event.subject.starts_with(&service_name("web")), "{event:?}");
        kinds.push(event.r#type);
    }
    assert_eq!(kinds, ["VIRTUAL_SERVICE_CREATED", "REAL_SERVER_FAILED", "REAL_SERVER_DRAINED"]);
    // From the start, for one who comes late.
    let (subject, after) = (service_name("web"), "events/0".to_owned());
    let request = pb::WatchEventsRequest { subject, after, ..Default::default() };
    let mut late = site.observe().watch_events(request).await.unwrap().into_inner();
    for kind in kinds {
        assert_eq!(soon("a past event", late.message()).await.unwrap().unwrap().r#type, kind);
    }
}

fn has_state(row: &pb::overview::Row, state: State) -> bool {
    let status = row.service.as_ref().and_then(|service| service.status.as_ref());
    status.is_some_and(|status| status.state() == state)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn api_everything_is_kept_over_a_restart_of_the_controller() {
    let mut site = Site::controller_only().await;
    site.gantry(&["apply", "-f", reference().to_str().unwrap()]).await.output();
    let request = pb::HaltRealServerRequest {
        name: server_name("hl7", "hl71"),
        comment: "disk full".to_owned(),
    };
    site.balancer().halt_real_server(request).await.unwrap();
    let (config, service) = (export(&site).await, site.service("hl7").await);
    let events = site.events("").await;
    for orderly in [false, true] {
        if orderly {
            assert!(site.controller.stop().await.success());
        } else {
            site.controller.kill();
        }
        site.controller.start_again();
        site.controller.says_times("serving", if orderly { 3 } else { 2 }).await;
        let after = site.service("hl7").await;
        assert_eq!(export(&site).await, config);
        assert_eq!((after.uid, after.etag), (service.uid.clone(), service.etag.clone()));
        assert_eq!(
            (after.create_time, after.update_time),
            (service.create_time, service.update_time)
        );
        assert_eq!(site.events("").await, events);
    }
    assert!(events.iter().any(|event| event.comment == "disk full"));
}
