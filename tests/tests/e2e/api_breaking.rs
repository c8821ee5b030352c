//! The protos are compared with those that landed: what breaks a client is told.

use std::path::Path;

use gantry_tests::buf;
use gantry_tests::process::{Ran, program, run};

/// A copy of the folder with the protos, changed by `sed`.
async fn breaking(file: &str, edit: &str) -> Ran {
    let folder = tempfile::tempdir().unwrap();
    let original = Path::new(env!("CARGO_MANIFEST_DIR")).join("../proto/.");
    let copy = folder.path();
    let arguments = ["-r", original.to_str().unwrap(), copy.to_str().unwrap()];
    run(&program("cp", "coreutils"), arguments, copy).await.output();
    run(&program("sed", "sed"), ["-i", edit, file], copy).await.output();
    run(&buf::program(), ["breaking", "--against", "landed.binpb"], copy).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn api_breaking_changes_are_caught_and_additions_are_not() {
    let file = "gantry/v1/balancer.proto";
    breaking(file, "s/^//").await.output();
    let added = "s/^message Endpoint {/&\\n  \\/\\/ Another one.\\n  string zone = 3;/";
    breaking(file, added).await.output();
    for (edit, words) in [
        ("/^  optional int32 weight = 4;/d", "Previously present field \"4\" with name \"weight\""),
        ("s/optional int32 weight = 4/optional int32 load = 4/", "\"weight\" to \"load\""),
        ("s/int32 priority = 5/string priority = 5/", "priority"),
        ("/rpc DrainRealServer/d", "DrainRealServer"),
    ] {
        let told = breaking(file, edit).await;
        assert!(!told.status.success(), "{edit} is not noticed");
        assert!(told.out.contains(words), "{edit}: {}{}", told.out, told.err);
    }
}
