//! Virtual services and real servers, one by one: what is accepted, refused, listed, changed.

use gantry_proto::v1 as pb;
use gantry_tests::Site;
use gantry_tests::backend::{Backend, Client};
use gantry_tests::services::{by_source, id, layer7, server};
use gantry_tests::site::{server_name, service_name};
use tonic::{Code, Status};
use tonic_types::StatusExt;

/// A request to create the service "web", listening on the block's address `last`.
fn web(site: &Site, last: u8) -> pb::CreateVirtualServiceRequest {
    pb::CreateVirtualServiceRequest {
        virtual_service_id: "web".to_owned(),
        virtual_service: Some(layer7(site.block.socket(last, 80))),
        real_servers: vec![server("one", site.block.socket(20, 80))],
        ..Default::default()
    }
}

async fn create(
    site: &Site,
    request: pb::CreateVirtualServiceRequest,
) -> Result<pb::VirtualService, Status> {
    Ok(site.balancer().create_virtual_service(request).await?.into_inner())
}

async fn update(
    site: &Site,
    service: pb::VirtualService,
    paths: &[&str],
) -> Result<pb::VirtualService, Status> {
    let paths: Vec<_> = paths.iter().map(|path| (*path).to_owned()).collect();
    let request = pb::UpdateVirtualServiceRequest {
        virtual_service: Some(service),
        update_mask: (!paths.is_empty()).then_some(prost_types::FieldMask { paths }),
        ..Default::default()
    };
    Ok(site.balancer().update_virtual_service(request).await?.into_inner())
}

fn fields(status: &Status) -> Vec<String> {
    let details = status.get_details_bad_request().unwrap();
    details.field_violations.into_iter().map(|violation| violation.field).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn api_tells_all_violations_at_once_and_the_first_in_the_message() {
    let site = Site::controller_only().await;
    let mut request = web(&site, 10);
    let service = request.virtual_service.as_mut().unwrap();
    service.listener = Some(pb::Listener {
        address: "10.1.1.256".to_owned(),
        ports: vec!["104".to_owned(), "70000".to_owned()],
        ..Default::default()
    });
    service.display_name = "x".repeat(64);
    service.forwarding = None;
    request.real_servers[0].weight = Some(257);
    request.real_servers[0].endpoint = None;
    request.real_servers.push(pb::RealServer { name: "Not An Id".into(), ..Default::default() });
    let refused = create(&site, request).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    let fields = fields(&refused);
    for field in [
        "virtual_service.display_name",
        "virtual_service.listener.address",
        "virtual_service.listener.ports[1]",
        "virtual_service.forwarding",
        "real_servers[0].weight",
        "real_servers[0].endpoint",
        "real_servers[1].name",
    ] {
        assert!(fields.iter().any(|found| found == field), "{field} is not in {fields:?}");
    }
    let message = refused.message();
    assert!(message.starts_with(&format!("{}: ", fields[0])), "{message}");
    let more = format!("(and {} more violations)", fields.len() - 1);
    assert!(message.ends_with(&more), "{message}");
    assert_eq!(refused.get_details_error_info().unwrap().reason, "INVALID");
    let request = pb::ListVirtualServicesRequest::default();
    let none = site.balancer().list_virtual_services(request).await.unwrap().into_inner();
    assert!(none.virtual_services.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn api_refuses_overlapping_listeners_and_twins() {
    let site = Site::controller_only().await;
    create(&site, web(&site, 10)).await.unwrap();
    let twin = create(&site, web(&site, 11)).await.unwrap_err();
    assert_eq!(twin.code(), Code::AlreadyExists, "{twin:?}");
    let mut overlap = web(&site, 10);
    overlap.virtual_service_id = "other".to_owned();
    let listener = overlap.virtual_service.as_mut().unwrap().listener.as_mut().unwrap();
    listener.ports = vec!["70-90".to_owned()];
    overlap.real_servers.clear();
    let refused = create(&site, overlap.clone()).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert_eq!(fields(&refused), ["virtual_service.listener.ports"]);
    let taken = format!("is taken by {}", service_name("web"));
    assert!(refused.message().contains(&taken), "{}", refused.message());
    let listener = overlap.virtual_service.as_mut().unwrap().listener.as_mut().unwrap();
    listener.ports = vec!["81-90".to_owned()];
    create(&site, overlap).await.expect("its neighbour's port is not in it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn api_lists_page_by_page() {
    let site = Site::controller_only().await;
    for last in 10..15 {
        let mut request = web(&site, last);
        request.virtual_service_id = format!("web-{last}");
        create(&site, request).await.unwrap();
    }
    let (mut found, mut page_token, mut pages) = (Vec::new(), String::new(), 0);
    loop {
        let request =
            pb::ListVirtualServicesRequest { page_size: 2, page_token, ..Default::default() };
        let page = site.balancer().list_virtual_services(request).await.unwrap().into_inner();
        found.extend(page.virtual_services.iter().map(|service| id(&service.name).to_owned()));
        (page_token, pages) = (page.next_page_token, pages + 1);
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(found, ["web-10", "web-11", "web-12", "web-13", "web-14"]);
    assert_eq!(pages, 3);
    let request = pb::ListRealServersRequest {
        parent: "clusters/-/virtualServices/-".to_owned(),
        page_size: 1000,
        ..Default::default()
    };
    let all = site.balancer().list_real_servers(request).await.unwrap().into_inner();
    assert_eq!(all.real_servers.len(), 5);
    assert!(all.next_page_token.is_empty());
    let request = pb::ListVirtualServicesRequest { page_token: "?".into(), ..Default::default() };
    let refused = site.balancer().list_virtual_services(request).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    let request = pb::GetVirtualServiceRequest { name: service_name("nobody") };
    let missing = site.balancer().get_virtual_service(request).await.unwrap_err();
    assert_eq!(missing.code(), Code::NotFound);
    assert!(missing.message().contains(&service_name("nobody")), "{missing:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn api_update_masks_change_what_they_name() {
    let site = Site::controller_only().await;
    let mut request = web(&site, 10);
    let given = request.virtual_service.as_mut().unwrap();
    given.display_name = "Viewer".to_owned();
    given.persistence = by_source();
    let before = create(&site, request).await.unwrap();
    let mut change = layer7(site.block.socket(11, 81));
    change.name = service_name("web");
    change.display_name = "Other".to_owned();
    let after = update(&site, change.clone(), &["display_name"]).await.unwrap();
    assert_eq!((after.display_name.as_str(), &after.listener), ("Other", &before.listener));
    assert!(after.persistence.is_some());
    assert_ne!(after.etag, before.etag);
    assert_eq!(after.uid, before.uid);
    let after = update(&site, change.clone(), &["listener.ports", "persistence"]).await.unwrap();
    let listener = after.listener.as_ref().unwrap();
    assert_eq!(listener.ports, ["81"]);
    assert_eq!(listener.address, site.block.address(10).to_string());
    assert_eq!(after.persistence, None, "named and absent: taken away");
    let same = update(&site, change.clone(), &["display_name"]).await.unwrap();
    assert_eq!(same.etag, after.etag, "nothing changed");
    let refused = update(&site, change.clone(), &["no_such", "uid"]).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert_eq!(fields(&refused), ["update_mask.paths[0]", "update_mask.paths[1]"]);
    change.display_name.clear();
    let after = update(&site, change, &["*"]).await.unwrap();
    assert_eq!(after.display_name, "");
    assert_eq!(after.listener.unwrap().address, site.block.address(11).to_string());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn api_stale_etags_are_refused() {
    let site = Site::controller_only().await;
    let old = create(&site, web(&site, 10)).await.unwrap();
    let new = pb::VirtualService { display_name: "mine".into(), ..old.clone() };
    let new = update(&site, new, &["display_name"]).await.unwrap();
    let theirs = pb::VirtualService { display_name: "theirs".into(), ..old.clone() };
    let refused = update(&site, theirs, &["display_name"]).await.unwrap_err();
    assert_eq!(refused.code(), Code::Aborted);
    let info = refused.get_details_error_info().unwrap();
    assert_eq!((info.reason.as_str(), &info.metadata["etag"]), ("STALE_ETAG", &new.etag));
    assert_eq!(site.service("web").await.display_name, "mine");
    let name = service_name("web");
    let request = pb::DeleteVirtualServiceRequest { name, etag: old.etag, ..Default::default() };
    let refused = site.balancer().delete_virtual_service(request.clone()).await.unwrap_err();
    assert_eq!(refused.code(), Code::Aborted);
    let request = pb::DeleteVirtualServiceRequest { etag: new.etag, ..request };
    site.balancer().delete_virtual_service(request).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn api_a_repeated_request_is_harmless() {
    let mut site = Site::controller_only().await;
    let request_id = uuid::Uuid::new_v4().to_string();
    let request = pb::CreateVirtualServiceRequest { request_id, ..web(&site, 10) };
    let first = create(&site, request.clone()).await.unwrap();
    assert_eq!(create(&site, request.clone()).await.unwrap().uid, first.uid);
    site.controller.kill();
    site.controller.start_again();
    site.controller.says_times("serving", 2).await;
    assert_eq!(create(&site, request.clone()).await.unwrap().uid, first.uid, "after a crash too");
    let virtual_service_id = "other".to_owned();
    let other = pb::CreateVirtualServiceRequest { virtual_service_id, ..request };
    let refused = create(&site, other).await.unwrap_err();
    assert_eq!(
        (refused.code(), fields(&refused)),
        (Code::InvalidArgument, vec!["request_id".into()])
    );
    let bad = pb::CreateVirtualServiceRequest { request_id: "1".into(), ..web(&site, 11) };
    assert_eq!(create(&site, bad).await.unwrap_err().code(), Code::InvalidArgument);
    let created = site.events(&service_name("web")).await;
    let created = created.iter().filter(|event| event.r#type == "VIRTUAL_SERVICE_CREATED").count();
    assert_eq!(created, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn api_validate_only_changes_nothing() {
    let site = Site::controller_only().await;
    let request = pb::CreateVirtualServiceRequest { validate_only: true, ..web(&site, 10) };
    let shown = create(&site, request).await.unwrap();
    assert_eq!(shown.name, service_name("web"));
    let request = pb::GetVirtualServiceRequest { name: service_name("web") };
    let missing = site.balancer().get_virtual_service(request).await.unwrap_err();
    assert_eq!(missing.code(), Code::NotFound);
    assert!(site.events(&service_name("web")).await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn api_deleting_resets_connections() {
    let site = Site::start().await;
    let one = Backend::start("one", site.block.socket(20, 80)).await;
    let two = Backend::start("two", site.block.socket(21, 80)).await;
    let listen = site.block.socket(10, 80);
    let servers = vec![server("one", one.address), server("two", two.address)];
    site.create("web", layer7(listen), servers).await;
    site.up("web").await;
    let (mut first, mut second) =
        (Client::connect(listen).await.unwrap(), Client::connect(listen).await.unwrap());
    assert_ne!(first.served_by, second.served_by);
    let name = server_name("web", &first.served_by);
    let request = pb::DeleteRealServerRequest { name, ..Default::default() };
    site.balancer().delete_real_server(request).await.unwrap();
    assert!(first.ends().await, "its connections are reset");
    second.echoes().await.unwrap();
    site.up("web").await;
    assert_eq!(site.status("web").await.real_server_count, 1);
    let name = service_name("web");
    let comment = "not needed any more".to_owned();
    let request = pb::DeleteVirtualServiceRequest { name, comment, ..Default::default() };
    site.balancer().delete_virtual_service(request).await.unwrap();
    assert!(second.ends().await, "its connections are reset");
    gantry_tests::eventually("nobody listens any more", async || {
        Client::connect(listen).await.err()
    })
    .await;
    let event = site.event(&service_name("web"), "VIRTUAL_SERVICE_DELETED").await;
    assert_eq!(
        (event.comment.as_str(), event.actor.as_str()),
        ("not needed any more", "users/admin")
    );
}
