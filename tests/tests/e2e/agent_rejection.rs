//! What an appliance cannot carry out is rejected alone, says why, and comes into force by itself when
//! what stood in its way is gone.

use std::net::TcpListener;

use gantry_proto::v1 as pb;
use gantry_tests::backend::{Backend, Client};
use gantry_tests::services::{layer7, server};
use gantry_tests::site::service_name;
use gantry_tests::{Site, eventually};
use pb::layer7::Tcp;
use pb::virtual_service::Forwarding;
use pb::virtual_service_status::State;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn agent_rejects_only_the_service_whose_port_is_taken() {
    let site = Site::start().await;
    let backend = Backend::start("one", site.block.socket(20, 80)).await;
    let servers = || vec![server("one", backend.address)];
    let foreign = TcpListener::bind(site.block.socket(11, 80)).unwrap();
    for last in 10..14 {
        let id = format!("web-{last}");
        site.create(&id, layer7(site.block.socket(last, 80)), servers()).await;
    }
    let status = site.reaches("web-11", State::NotInForce).await;
    assert_eq!(status.rejections.len(), 1);
    let rejection = &status.rejections[0];
    assert_eq!(rejection.reason, "ADDRESS_IN_USE");
    assert_eq!(rejection.agent, "agent-l7");
    assert_eq!(rejection.appliance, "clusters/main/appliances/lb1");
    assert_eq!(rejection.resource, service_name("web-11"));
    assert_eq!(rejection.field, "listener.address");
    assert!(rejection.message.contains("somebody else listens there"), "{rejection:?}");
    assert!(status.message.contains("somebody else listens there"), "{status:?}");
    let event = site.event(&service_name("web-11"), "VIRTUAL_SERVICE_REJECTED").await;
    assert!(event.message.contains("not in force"), "{event:?}");
    for last in [10, 12, 13] {
        site.up(&format!("web-{last}")).await;
        Client::connect(site.block.socket(last, 80)).await.unwrap();
    }
    drop(foreign);
    site.up("web-11").await;
    assert!(site.status("web-11").await.rejections.is_empty());
    Client::connect(site.block.socket(11, 80)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn agent_keeps_the_last_good_form_of_a_service_it_cannot_change() {
    let site = Site::start().await;
    let one = Backend::start("one", site.block.socket(20, 80)).await;
    let (old, new) = (site.block.socket(10, 80), site.block.socket(11, 80));
    site.create("web", layer7(old), vec![server("one", one.address)]).await;
    site.up("web").await;
    let mut held = Client::connect(old).await.unwrap();
    let foreign = TcpListener::bind(new).unwrap();
    let mut moved = site.service("web").await;
    moved.listener = layer7(new).listener;
    let request =
        pb::UpdateVirtualServiceRequest { virtual_service: Some(moved), ..Default::default() };
    site.balancer().update_virtual_service(request).await.unwrap();
    // Degraded: it is the old form that is in force.
    let status = site.reaches("web", State::Degraded).await;
    assert_eq!(status.rejections.len(), 1);
    assert!(status.message.contains("not in force as configured"), "{status:?}");
    held.echoes().await.unwrap();
    Client::connect(old).await.expect("the old address is served still");
    drop(foreign);
    site.up("web").await;
    Client::connect(new).await.unwrap();
    assert!(Client::connect(old).await.is_err(), "the old address is given up");
    held.echoes().await.expect("a move of the listener cuts no connection");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn agent_says_what_it_cannot_carry_out() {
    let site = Site::start().await;
    let backend = Backend::start("one", site.block.socket(20, 80)).await;
    let tcp = Tcp { congestion_control: "nonesuch".to_owned(), ..Default::default() };
    let unknown = pb::Layer7 { tcp: Some(tcp), ..Default::default() };
    let service = pb::VirtualService {
        forwarding: Some(Forwarding::Layer7(unknown)),
        ..layer7(site.block.socket(10, 80))
    };
    site.create("web", service, vec![server("one", backend.address)]).await;
    let status = site.reaches("web", State::NotInForce).await;
    assert_eq!(status.rejections[0].reason, "UNSUPPORTED_TCP");
    assert_eq!(status.rejections[0].field, "layer7.tcp.congestion_control");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn agent_rejects_a_service_though_one_of_its_name_was_in_force_before() {
    let site = Site::start().await;
    let backend = Backend::start("one", site.block.socket(20, 80)).await;
    let listen = site.block.socket(10, 80);
    site.create("web", layer7(listen), vec![server("one", backend.address)]).await;
    site.up("web").await;
    let mut client = Client::connect(listen).await.unwrap();
    eventually("the controller knows of the connection", async || {
        (site.status("web").await.active_connections == 1).then_some(())
    })
    .await;
    let name = service_name("web");
    let request = pb::DeleteVirtualServiceRequest { name, ..Default::default() };
    site.balancer().delete_virtual_service(request).await.unwrap();
    assert!(client.ends().await, "its connections are reset");
    let foreign = eventually("the port is free", async || TcpListener::bind(listen).ok()).await;
    site.create("web", layer7(listen), vec![server("one", backend.address)]).await;
    let status = site.reaches("web", State::NotInForce).await;
    assert_eq!((status.rejections.len(), status.active_connections), (1, 0));
    drop(foreign);
    site.up("web").await;
}
