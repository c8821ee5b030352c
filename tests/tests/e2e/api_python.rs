//! A client in another language: Python, with what grpcio-tools generates from the protos.

use std::path::Path;

use gantry_tests::Site;
use gantry_tests::backend::Backend;
use gantry_tests::process::{python, run};

/// Writes the client's stubs to `out`.
async fn generate(out: &Path) {
    let protos = Path::new(env!("CARGO_MANIFEST_DIR")).join("../proto");
    let mut arguments = ["-m", "grpc_tools.protoc"].map(str::to_owned).to_vec();
    arguments.push(format!("--proto_path={}", protos.display()));
    arguments.push(format!("--python_out={}", out.display()));
    arguments.push(format!("--grpc_python_out={}", out.display()));
    for name in ["balancer", "config", "fleet", "health_check", "observe"] {
        arguments.push(format!("gantry/v1/{name}.proto"));
    }
    run(&python(), arguments, out).await.output();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn api_python_client_does_what_an_integration_does_in_a_day() {
    let site = Site::start().await;
    let one = Backend::start("one", site.block.socket(20, 104)).await;
    let two = Backend::start("two", site.block.socket(21, 104)).await;
    let generated = site.folder("generated");
    generate(&generated).await;
    let client = Path::new(env!("CARGO_MANIFEST_DIR")).join("python/client.py");
    let arguments = [
        client.to_str().unwrap().to_owned(),
        generated.to_str().unwrap().to_owned(),
        site.url.strip_prefix("https://").unwrap().to_owned(),
        site.operator().to_str().unwrap().to_owned(),
        site.block.socket(10, 104).to_string(),
        one.address.to_string(),
        two.address.to_string(),
    ];
    let said = run(&python(), arguments, &generated).await.output();
    assert!(said.ends_with("planned, applied and rolled back\n"), "{said}");
    let made = site.service("pacs").await;
    assert_eq!(made.persistence.unwrap().timeout.unwrap().seconds, 600);
    let events = site.events("clusters/main/virtualServices/pacs").await;
    assert!(events.iter().any(|event| event.comment == "made in Python"), "{events:?}");
}
