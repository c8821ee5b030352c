//! `buf curl`: a gRPC client that knows nothing of Gantry but what reflection tells it.

use std::path::PathBuf;

use crate::process::{Ran, run};
use crate::site::Site;

/// `GANTRY_BUF`, or the one that npm installed under the target folder.
pub fn program() -> PathBuf {
    let installed = || {
        let test = std::env::current_exe().unwrap();
        let target = test.ancestors().find(|folder| folder.ends_with("target"));
        target.map(|target| target.join("npm/node_modules/.bin/buf")).unwrap_or_default()
    };
    let path = std::env::var_os("GANTRY_BUF").map_or_else(installed, PathBuf::from);
    assert!(
        path.exists(),
        "buf is missing: type `npm install --prefix target/npm @bufbuild/buf`, or set GANTRY_BUF"
    );
    path
}

/// Calls the controller with the operator's certificate and no proto file.
pub async fn curl(site: &Site, arguments: &[&str]) -> Ran {
    let identity = site.operator();
    let file = |name| identity.join(name).to_str().unwrap().to_owned();
    let mut all: Vec<String> = ["curl", "--protocol", "grpc"].map(str::to_owned).to_vec();
    for (flag, name) in
        [("--cacert", "ca.pem"), ("--cert", "certificate.pem"), ("--key", "key.pem")]
    {
        all.extend([flag.to_owned(), file(name)]);
    }
    all.extend(arguments.iter().map(|argument| (*argument).to_owned()));
    run(&program(), all, site.dir()).await
}

/// Calls one method; `request` is JSON.
pub async fn call(site: &Site, method: &str, request: &str) -> Ran {
    let url = format!("{}/{method}", site.url);
    curl(site, &["-d", request, &url]).await
}
