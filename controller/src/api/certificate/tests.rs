use gantry_model::agent::AgentKind;
use gantry_model::desired::Change as Sent;
use gantry_model::revision::Revision;
use gantry_model::wire::decode_plan;
use gantry_proto::v1::balancer_service_server::BalancerService;
use gantry_proto::v1::config_service_server::ConfigService;
use gantry_proto::v1::observe_service_server::ObserveService;
use rcgen::KeyPair;
use tonic::Code;

use super::*;
use crate::api::testing::{api, create_cluster};

fn import(name: &str, host: &str) -> pb::ImportCertificateRequest {
    let key = KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec![host.to_owned()]).unwrap();
    pb::ImportCertificateRequest {
        name: format!("certificates/{name}"),
        chain_pem: params.self_signed(&key).unwrap().pem(),
        private_key_pem: key.serialize_pem(),
        ..Default::default()
    }
}

fn service(certificate: &str) -> pb::VirtualService {
    pb::VirtualService {
        name: "web".into(),
        listener: Some(pb::Listener {
            address: "10.0.0.1".into(),
            ports: vec!["443".into()],
            ..Default::default()
        }),
        forwarding: Some(pb::virtual_service::Forwarding::Layer7(pb::Layer7 {
            certificate: format!("certificates/{certificate}"),
            ..Default::default()
        })),
        ..Default::default()
    }
}

async fn create(api: &Calls, certificate: &str) -> Result<pb::VirtualService, Status> {
    let request = pb::CreateVirtualServiceRequest {
        virtual_service_id: "web".into(),
        virtual_service: Some(service(certificate)),
        ..Default::default()
    };
    api.create_virtual_service(Request::new(request)).await.map(Response::into_inner)
}

#[tokio::test]
async fn a_certificate_is_imported_replaced_and_deleted_on_record() {
    let (api, _dir) = api().await;
    let dry = pb::ImportCertificateRequest { validate_only: true, ..import("pacs", "a.example") };
    api.import_certificate(Request::new(dry)).await.unwrap();
    assert_eq!(api.control.state().certificates().count(), 0);
    let first = import("pacs", "a.example");
    let made = api.import_certificate(Request::new(first.clone())).await.unwrap().into_inner();
    assert_eq!(made.subject_alternative_names, ["a.example"]);
    let again = api.import_certificate(Request::new(first)).await.unwrap().into_inner();
    assert_eq!(again, made, "the same again changes nothing");

    let other = pb::ImportCertificateRequest { etag: "1".into(), ..import("pacs", "b.example") };
    let stale = api.import_certificate(Request::new(other.clone())).await.unwrap_err();
    assert_eq!(stale.code(), Code::Aborted);
    let fresh = pb::ImportCertificateRequest { etag: made.etag.clone(), ..other };
    let replaced = api.import_certificate(Request::new(fresh)).await.unwrap().into_inner();
    assert_ne!((&replaced.etag, &replaced.fingerprint), (&made.etag, &made.fingerprint));
    assert_eq!(replaced.create_time, made.create_time);

    let request = pb::DeleteCertificateRequest { name: made.name, ..Default::default() };
    api.delete_certificate(Request::new(request)).await.unwrap();
    let request =
        pb::ListEventsRequest { subject: "certificates/pacs".into(), ..Default::default() };
    let events = api.list_events(Request::new(request)).await.unwrap().into_inner().events;
    let kinds: Vec<_> = events.iter().map(|event| event.r#type.as_str()).collect();
    assert_eq!(kinds, ["CERTIFICATE_DELETED", "CERTIFICATE_REPLACED", "CERTIFICATE_IMPORTED"]);
    let state = api.control.state();
    assert_eq!(state.revision.number, 3, "each is a revision");
    let before = Revision { number: 9, ..state.revision };
    let history = api.control.store.revisions(before, None, 10).await.unwrap();
    assert_eq!(history.iter().map(|one| one.changes).sum::<u64>(), 0, "and no key stands there");
}

#[tokio::test]
async fn certificates_are_listed_by_filter() {
    let (api, _dir) = api().await;
    for name in ["a", "b", "a-b"] {
        api.import_certificate(Request::new(import(name, "x.example"))).await.unwrap();
    }
    let list = async |filter: &str, page_token: String| {
        let request =
            pb::ListCertificatesRequest { filter: filter.to_owned(), page_size: 1, page_token };
        api.list_certificates(Request::new(request)).await.map(Response::into_inner)
    };
    let first = list("name : a", String::new()).await.unwrap();
    let second = list("name : a", first.next_page_token.clone()).await.unwrap();
    let third = list("name : a", second.next_page_token.clone()).await.unwrap();
    let names = [first, second, third.clone()].map(|page| page.certificates[0].name.clone());
    assert_eq!(names, ["certificates/a", "certificates/a-b", "certificates/b"]);
    assert_eq!(
        list("expire_time < 2020-01-01T00:00:00Z", String::new()).await.unwrap().certificates,
        []
    );
}

#[tokio::test]
async fn a_certificate_in_use_stays_and_one_that_is_used_exists() {
    let (api, _dir) = api().await;
    create_cluster(&api).await;
    let refused = create(&api, "pacs").await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(
        refused.message().starts_with(
            "virtual_service.layer7.certificate: there is no certificates/pacs: import it first"
        ),
        "{refused:?}"
    );
    let document = pb::ApplyConfigRequest {
        config: Some(pb::Config {
            services: vec![pb::config::Service {
                virtual_service: Some(service("pacs")),
                real_servers: Vec::new(),
            }],
            ..Default::default()
        }),
        ..Default::default()
    };
    let refused = api.apply_config(Request::new(document.clone())).await.unwrap_err();
    let field = "config.services[0].virtual_service.layer7.certificate: ";
    assert!(refused.message().starts_with(field), "{refused:?}");

    let given = import("pacs", "a.example");
    let secret = given.private_key_pem.lines().nth(1).unwrap().to_owned();
    api.import_certificate(Request::new(given)).await.unwrap();
    create(&api, "pacs").await.unwrap();
    let request =
        || pb::DeleteCertificateRequest { name: "certificates/pacs".into(), ..Default::default() };
    let refused = api.delete_certificate(Request::new(request())).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains("clusters/main/virtualServices/web"), "{refused:?}");
    let name = "certificates/pacs".to_owned();
    let got = api.get_certificate(Request::new(pb::GetCertificateRequest { name })).await.unwrap();
    assert_eq!(got.get_ref().used_by, ["clusters/main/virtualServices/web"]);
    let exported =
        api.export_config(Request::new(pb::ExportConfigRequest::default())).await.unwrap();
    for shown in [format!("{got:?}"), format!("{exported:?}"), format!("{:?}", api.control)] {
        assert!(!shown.contains(&secret));
    }
    assert!(format!("{exported:?}").contains("certificates/pacs"), "by name it is there");
}

#[tokio::test]
async fn certificates_are_there_after_a_restart_and_only_their_owner_may_read_the_database() {
    use std::os::unix::fs::PermissionsExt;
    let (api, dir) = api().await;
    let given = import("pacs", "a.example");
    let made = api.import_certificate(Request::new(given)).await.unwrap().into_inner();
    api.control.close().await;
    let path = dir.path().join("gantry.db");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let again = crate::store::Store::open(&path).await.unwrap().state();
    let name = "certificates/pacs".parse().unwrap();
    assert_eq!(shown(again.certificate(&name).unwrap(), Vec::new()), made);
}

#[tokio::test]
async fn agent_l7_is_sent_the_keys_of_what_it_carries_and_nobody_else_is() {
    let (api, _dir) = api().await;
    create_cluster(&api).await;
    api.import_certificate(Request::new(import("pacs", "a.example"))).await.unwrap();
    api.import_certificate(Request::new(import("unused", "b.example"))).await.unwrap();
    create(&api, "pacs").await.unwrap();
    let cluster = "clusters/main".parse().unwrap();
    let keys = |kind| {
        let shelf = api.control.publisher.shelf(&cluster, kind).unwrap();
        let Sent::Snapshot(plans) = shelf.update_from(None).change else { panic!("not all") };
        let plan = decode_plan(&plans[0].1).unwrap();
        plan.key_pairs
    };
    let (first, at) = (keys(AgentKind::L7), api.control.state().revision);
    assert_eq!(first.len(), 1);
    assert_eq!((first[0].name.as_str(), first[0].chain.contains("BEGIN CERT")), ("pacs", true));
    assert!(keys(AgentKind::L4).is_empty() && keys(AgentKind::Health).is_empty());

    api.import_certificate(Request::new(import("unused", "c.example"))).await.unwrap();
    let shelf = api.control.publisher.shelf(&cluster, AgentKind::L7).unwrap();
    assert_eq!(shelf.revision(), at, "what nobody uses is no news");
    api.import_certificate(Request::new(import("pacs", "c.example"))).await.unwrap();
    assert_ne!(keys(AgentKind::L7), first);
    assert_eq!(shelf.revision(), api.control.state().revision, "a swap is sent at once");
}

#[tokio::test]
async fn every_certificate_that_is_named_must_be_there() {
    let (api, _dir) = api().await;
    create_cluster(&api).await;
    api.import_certificate(Request::new(import("pacs", "a.example"))).await.unwrap();
    let mut service = service("pacs");
    let Some(pb::virtual_service::Forwarding::Layer7(layer7)) = &mut service.forwarding else {
        panic!("it is a layer 7 service")
    };
    layer7.reencrypt = true;
    layer7.tls = Some(pb::layer7::Tls {
        more_certificates: vec!["certificates/pacs".into(), "certificates/none".into()],
        client_certificates: pb::layer7::tls::ClientCertificates::Required.into(),
        client_authorities: "no PEM".into(),
        ..Default::default()
    });
    layer7.server_tls = Some(pb::layer7::ServerTls {
        certificate: "certificates/neither".into(),
        authorities: import("x", "x.example").private_key_pem,
        ..Default::default()
    });
    let request = pb::CreateVirtualServiceRequest {
        virtual_service_id: "web".into(),
        virtual_service: Some(service),
        ..Default::default()
    };
    let refused = api.create_virtual_service(Request::new(request)).await.unwrap_err();
    let found = tonic_types::StatusExt::get_details_bad_request(&refused).unwrap();
    let mut found: Vec<_> = found.field_violations.into_iter().map(|one| one.field).collect();
    found.sort();
    let expected = [
        "virtual_service.layer7.server_tls.authorities",
        "virtual_service.layer7.server_tls.certificate",
        "virtual_service.layer7.tls.client_authorities",
        "virtual_service.layer7.tls.more_certificates[1]",
    ];
    assert_eq!(found, expected);
}
