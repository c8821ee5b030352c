//! A client that knows nothing of Gantry: `buf curl` with reflection, without any proto file.

use gantry_tests::backend::Backend;
use gantry_tests::{Site, buf};
use serde_json::{Value, json};
use tonic_reflection::pb::{v1, v1alpha};

async fn call(site: &Site, method: &str, request: Value) -> Value {
    let method = format!("gantry.v1.BalancerService/{method}");
    let answer = buf::call(site, &method, &request.to_string()).await.output();
    serde_json::from_str(&answer).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn api_foreign_client_creates_reads_and_drains() {
    let site = Site::start().await;
    let one = Backend::start("one", site.block.socket(20, 104)).await;
    let two = Backend::start("two", site.block.socket(21, 104)).await;
    let methods = buf::curl(&site, &["--list-methods", &site.url]).await.output();
    for method in ["BalancerService/CreateVirtualService", "ConfigService/ApplyConfig"] {
        assert!(methods.contains(&format!("gantry.v1.{method}")), "{methods}");
    }
    let address = |backend: &Backend| json!({ "address": backend.address.ip().to_string(), "port": backend.address.port() });
    let created = call(
        &site,
        "CreateVirtualService",
        json!({
            "virtualServiceId": "dicom-store",
            "virtualService": {
                "displayName": "DICOM C-STORE",
                "listener": { "address": site.block.address(10).to_string(), "ports": ["104"] },
                "layer7": {},
                "persistence": { "timeout": "300s" },
                "healthCheck": { "interval": "0.200s", "tcpConnect": {} },
            },
            "realServers": [
                { "name": "pacs-1", "endpoint": address(&one) },
                { "name": "pacs-2", "endpoint": address(&two), "weight": 50 },
            ],
        }),
    )
    .await;
    let name = "clusters/main/virtualServices/dicom-store";
    assert_eq!(created["name"], name);
    site.up("dicom-store").await;
    let read = call(&site, "GetVirtualService", json!({ "name": name })).await;
    assert_eq!(read["displayName"], "DICOM C-STORE");
    assert_eq!(read["persistence"]["timeout"], "300s");
    assert_eq!(read["status"]["state"], "UP");
    assert_eq!(read["status"]["realServerCount"], 2);
    assert_eq!(read["etag"], created["etag"]);
    let server = json!({ "name": format!("{name}/realServers/pacs-1") });
    let drained = call(&site, "DrainRealServer", server.clone()).await;
    assert_eq!(drained["adminState"], "DRAIN");
    let read = call(&site, "GetRealServer", server).await;
    assert_eq!(
        (&read["adminState"], &read["status"]["state"]),
        (&json!("DRAIN"), &json!("DRAINING"))
    );
    let all = call(&site, "ListRealServers", json!({ "parent": name })).await;
    assert_eq!(all["realServers"].as_array().unwrap().len(), 2);
    assert_eq!(all["realServers"][1]["weight"], 50);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn api_foreign_client_sees_the_first_violation_in_the_message() {
    let site = Site::controller_only().await;
    let request = json!({
        "virtualServiceId": "web",
        "virtualService": {
            "listener": { "address": "10.1.0", "ports": ["0"] },
            "layer7": {},
        },
    });
    let method = "gantry.v1.BalancerService/CreateVirtualService";
    let refused = buf::call(&site, method, &request.to_string()).await;
    assert!(!refused.status.success());
    let answer: Value = serde_json::from_str(&refused.err).unwrap();
    assert_eq!(answer["code"], "invalid_argument");
    let message = answer["message"].as_str().unwrap();
    assert!(message.starts_with("virtual_service.listener.address: "), "{message}");
    assert!(message.ends_with("(and 1 more violation)"), "{message}");
}

/// The names of all services, as reflection of both versions tells them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn api_foreign_client_is_answered_in_both_versions_of_reflection() {
    let site = Site::controller_only().await;
    let mut new = v1::server_reflection_client::ServerReflectionClient::new(site.channel());
    let request = v1::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(v1::server_reflection_request::MessageRequest::ListServices(
            String::new(),
        )),
    };
    let mut answers =
        new.server_reflection_info(tokio_stream::once(request)).await.unwrap().into_inner();
    let answer = answers.message().await.unwrap().unwrap().message_response.unwrap();
    let v1::server_reflection_response::MessageResponse::ListServicesResponse(list) = answer else {
        panic!("not a list of services: {answer:?}")
    };
    let mut names_v1: Vec<_> = list.service.into_iter().map(|service| service.name).collect();
    let mut old = v1alpha::server_reflection_client::ServerReflectionClient::new(site.channel());
    let request = v1alpha::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(v1alpha::server_reflection_request::MessageRequest::ListServices(
            String::new(),
        )),
    };
    let mut answers =
        old.server_reflection_info(tokio_stream::once(request)).await.unwrap().into_inner();
    let answer = answers.message().await.unwrap().unwrap().message_response.unwrap();
    let v1alpha::server_reflection_response::MessageResponse::ListServicesResponse(list) = answer
    else {
        panic!("not a list of services: {answer:?}")
    };
    let names: Vec<_> = list.service.into_iter().map(|service| service.name).collect();
    for service in ["BalancerService", "ConfigService", "FleetService", "ObserveService"] {
        assert!(names.contains(&format!("gantry.v1.{service}")), "{names:?}");
    }
    assert!(names.contains(&"grpc.health.v1.Health".to_owned()), "{names:?}");
    let without_itself =
        |names: &mut Vec<String>| names.retain(|name| !name.contains("reflection"));
    let mut names = names;
    without_itself(&mut names);
    without_itself(&mut names_v1);
    names.sort();
    names_v1.sort();
    assert_eq!(names, names_v1);
}
