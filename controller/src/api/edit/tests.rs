use gantry_proto::v1 as pb;
use pb::balancer_service_server::BalancerService;
use pb::fleet_service_server::FleetService;
use pb::observe_service_server::ObserveService;
use tonic::{Code, Request};

use crate::api::testing::api;

fn cluster(request_id: &str) -> pb::CreateClusterRequest {
    pb::CreateClusterRequest {
        cluster_id: "main".into(),
        request_id: request_id.into(),
        comment: "a new site".into(),
        ..Default::default()
    }
}

fn service(request_id: &str) -> pb::CreateVirtualServiceRequest {
    pb::CreateVirtualServiceRequest {
        virtual_service_id: "dicom".into(),
        virtual_service: Some(pb::VirtualService {
            listener: Some(pb::Listener {
                address: "10.0.0.1".into(),
                ports: vec!["104".into()],
                ..Default::default()
            }),
            forwarding: Some(pb::virtual_service::Forwarding::Layer7(pb::Layer7::default())),
            ..Default::default()
        }),
        request_id: request_id.into(),
        ..Default::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_creations_at_once_with_one_request_id_get_the_same_answer() {
    let (api, _dir) = api().await;
    for _ in 0..20 {
        let id = uuid::Uuid::new_v4().to_string();
        let (one, other) = tokio::join!(
            api.create_cluster(Request::new(cluster(&id))),
            api.create_cluster(Request::new(cluster(&id))),
        );
        let cluster = one.unwrap().into_inner();
        assert_eq!(cluster, other.unwrap().into_inner());
        let id = uuid::Uuid::new_v4().to_string();
        let creations: Vec<_> = (0..4)
            .map(|_| {
                let (api, request) = (api.clone(), Request::new(service(&id)));
                tokio::task::JoinSet::from_iter([async move {
                    api.create_virtual_service(request).await
                }])
            })
            .collect();
        let mut uids = std::collections::HashSet::new();
        for mut creation in creations {
            let made = creation.join_next().await.unwrap().unwrap().unwrap().into_inner();
            uids.insert((made.uid, made.etag));
        }
        assert_eq!(uids.len(), 1);
        let name = "clusters/main/virtualServices/dicom".to_owned();
        let request = pb::DeleteVirtualServiceRequest { name, ..Default::default() };
        api.delete_virtual_service(Request::new(request)).await.unwrap();
        let (name, etag) = (cluster.name, api.control.state().clusters().next().unwrap().number);
        let request =
            pb::DeleteClusterRequest { name, etag: etag.to_string(), ..Default::default() };
        api.delete_cluster(Request::new(request)).await.unwrap();
    }
}

#[tokio::test]
async fn another_request_under_the_same_id_is_refused() {
    let (api, _dir) = api().await;
    let id = uuid::Uuid::new_v4().to_string();
    api.create_cluster(Request::new(cluster(&id))).await.unwrap();
    let other = pb::CreateClusterRequest { cluster_id: "other".into(), ..cluster(&id) };
    let refused = api.create_cluster(Request::new(other)).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(refused.message().starts_with("request_id: was used before, for clusters/main"));
    let twin = api.create_cluster(Request::new(cluster(""))).await.unwrap_err();
    assert_eq!(twin.code(), Code::AlreadyExists);
}

#[tokio::test]
async fn a_cluster_is_edited_like_everything_else() {
    let (api, _dir) = api().await;
    let dry = pb::CreateClusterRequest { validate_only: true, ..cluster("") };
    assert_eq!(
        api.create_cluster(Request::new(dry)).await.unwrap().get_ref().name,
        "clusters/main"
    );
    assert_eq!(api.control.state().clusters().count(), 0);
    let made = api.create_cluster(Request::new(cluster(""))).await.unwrap().into_inner();

    let named = pb::Cluster { display_name: "Radiology".into(), ..made.clone() };
    let update = |validate_only| pb::UpdateClusterRequest {
        cluster: Some(named.clone()),
        validate_only,
        comment: "signs were changed".into(),
        ..Default::default()
    };
    let dry = api.update_cluster(Request::new(update(true))).await.unwrap().into_inner();
    assert_eq!(dry.display_name, "Radiology");
    assert_eq!(api.control.state().revision.number, 1);
    let changed = api.update_cluster(Request::new(update(false))).await.unwrap().into_inner();
    assert_ne!(changed.etag, made.etag);

    let stale = pb::DeleteClusterRequest {
        name: made.name.clone(),
        etag: made.etag,
        comment: "gone".into(),
    };
    let refused = api.delete_cluster(Request::new(stale.clone())).await.unwrap_err();
    assert_eq!(refused.code(), Code::Aborted);
    let current = pb::DeleteClusterRequest { etag: changed.etag, ..stale };
    api.delete_cluster(Request::new(current)).await.unwrap();
    let events = api.list_events(Request::new(pb::ListEventsRequest::default())).await.unwrap();
    let told: Vec<_> =
        events.into_inner().events.into_iter().map(|e| (e.r#type, e.comment)).collect();
    let expected = [
        ("CLUSTER_DELETED", "gone"),
        ("CLUSTER_UPDATED", "signs were changed"),
        ("CLUSTER_CREATED", "a new site"),
    ];
    assert_eq!(told, expected.map(|(kind, why)| (kind.to_owned(), why.to_owned())));
}

#[tokio::test]
async fn invitations_and_removals_say_why() {
    let (api, _dir) = api().await;
    api.create_cluster(Request::new(cluster(""))).await.unwrap();
    let invite = |comment: String| pb::InviteApplianceRequest {
        appliance_id: "lb1".into(),
        comment,
        ..Default::default()
    };
    let refused = api.invite_appliance(Request::new(invite("x".repeat(1025)))).await.unwrap_err();
    assert!(refused.message().starts_with("comment: has 1025 characters"), "{refused:?}");
    api.invite_appliance(Request::new(invite("second site".into()))).await.unwrap();
    let request = pb::DeleteApplianceRequest {
        name: "clusters/main/appliances/lb1".into(),
        comment: "sold".into(),
    };
    api.delete_appliance(Request::new(request)).await.unwrap();
    let request = pb::ListEventsRequest {
        filter: "type : APPLIANCE AND comment != \"\"".into(),
        page_size: 1,
        ..Default::default()
    };
    let page = api.list_events(Request::new(request.clone())).await.unwrap().into_inner();
    assert_eq!(page.events[0].comment, "sold");
    let next = pb::ListEventsRequest { page_token: page.next_page_token, ..request };
    let page = api.list_events(Request::new(next)).await.unwrap().into_inner();
    assert_eq!(
        (page.events[0].comment.as_str(), page.next_page_token.as_str()),
        ("second site", "")
    );
}
