use gantry_model::name::ClusterName;
use gantry_model::violation::Violations;
use gantry_model::wire;
use gantry_proto::v1 as pb;
use pb::balancer_service_server::BalancerService;
use pb::virtual_service::Forwarding;
use tonic::Request;

use crate::api::testing::{api, create_cluster};
use crate::store::{Change, Store, Write};

/// A service that was fine before there was a rule against it: it encrypts anew what nobody
/// decrypted, listens on an address that is not one host's, and has the same server twice.
fn old_service() -> pb::VirtualService {
    pb::VirtualService {
        listener: Some(pb::Listener {
            address: "fe80::1".into(),
            ports: vec!["104".into()],
            ..Default::default()
        }),
        forwarding: Some(Forwarding::Layer7(pb::Layer7 { reencrypt: true, ..Default::default() })),
        ..Default::default()
    }
}

fn server(port: i32) -> pb::RealServer {
    let endpoint = Some(pb::Endpoint { address: "10.0.0.9".into(), port });
    pb::RealServer { endpoint, ..Default::default() }
}

/// What a version without the rule would have stored.
fn stored() -> Vec<Write> {
    let cluster: ClusterName = "clusters/main".parse().unwrap();
    let name = cluster.service("old".parse().unwrap());
    let mut none = Violations::new();
    let mut writes = vec![Write::PutService(Box::new(
        wire::virtual_service(&mut none, name.clone(), &old_service()).unwrap(),
    ))];
    for (id, port) in [("a", 104), ("b", 0)] {
        let server = wire::real_server(&mut none, name.server(id.parse().unwrap()), &server(port));
        writes.push(Write::PutServer(Box::new(server.unwrap())));
    }
    writes
}

#[tokio::test]
async fn a_rule_is_not_held_against_what_was_stored_before_it() {
    let (api, dir) = api().await;
    create_cluster(&api).await;
    let change = Change { writes: stored(), ..Change::default() };
    api.control.change(|_| Ok((change, ()))).await.unwrap();

    let name = "clusters/main/virtualServices/old".to_owned();
    let update = |virtual_service: pb::VirtualService| pb::UpdateVirtualServiceRequest {
        virtual_service: Some(pb::VirtualService { name: name.clone(), ..virtual_service }),
        ..Default::default()
    };
    let off = pb::VirtualService { disabled: true, ..Default::default() };
    api.update_virtual_service(Request::new(update(off))).await.unwrap();
    let request = pb::UpdateRealServerRequest {
        real_server: Some(pb::RealServer {
            name: format!("{name}/realServers/a"),
            weight: Some(1),
            ..Default::default()
        }),
        ..Default::default()
    };
    api.update_real_server(Request::new(request)).await.unwrap();
    let fallback = Some(pb::Endpoint { address: "fe80::1".into(), port: 104 });
    let worse = pb::VirtualService { fallback, ..Default::default() };
    let refused = api.update_virtual_service(Request::new(update(worse))).await.unwrap_err();
    assert!(refused.message().starts_with("virtual_service.fallback"), "{refused:?}");

    api.control.close().await;
    let again = Store::open(&dir.path().join("gantry.db")).await.unwrap();
    assert_eq!(again.state().services().count(), 1);
}

#[tokio::test]
async fn the_same_is_refused_when_it_comes_in_now() {
    let (api, _dir) = api().await;
    create_cluster(&api).await;
    let request = pb::CreateVirtualServiceRequest {
        virtual_service_id: "new".into(),
        virtual_service: Some(old_service()),
        real_servers: [("a", 104), ("b", 0)]
            .map(|(name, port)| pb::RealServer { name: name.into(), ..server(port) })
            .to_vec(),
        ..Default::default()
    };
    let refused = api.create_virtual_service(Request::new(request)).await.unwrap_err();
    let found = tonic_types::StatusExt::get_details_bad_request(&refused).unwrap();
    let fields: Vec<_> = found.field_violations.into_iter().map(|one| one.field).collect();
    let expected = [
        "virtual_service.listener.address",
        "virtual_service.layer7.reencrypt",
        "real_servers[1].endpoint",
    ];
    assert_eq!(fields, expected);
}
