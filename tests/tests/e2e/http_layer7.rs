//! HTTP mode of agent-l7 with peers from other houses: curl, h2load and wrk in front, nginx behind, and
//! WebSocket on both sides.

use std::net::SocketAddr;
use std::path::Path;

use gantry_proto::v1 as pb;
use gantry_tests::openssl::Authority;
use gantry_tests::process::{Process, python, run};
use gantry_tests::services::{connect_check, layer7, server};
use gantry_tests::wait::listens;
use gantry_tests::{Site, eventually};
use pb::layer7::{Http, Mode, Route};
use pb::virtual_service::Forwarding;

const NAME: &str = "viewer.example";

/// nginx at `at`, which answers with its name, the host, and who it was told asks for what.
async fn nginx(site: &Site, name: &str, at: SocketAddr) -> Process {
    let folder = site.folder(name);
    let (home, config) = (folder.display(), folder.join("nginx.conf"));
    let text = format!(
        "daemon off;\nmaster_process off;\nworker_processes 1;\npid {home}/pid;\n\
         error_log {home}/error.log;\nevents {{ worker_connections 1000; }}\nhttp {{\n \
         access_log off;\n client_body_temp_path {home}/body;\n proxy_temp_path {home}/proxy;\n \
         fastcgi_temp_path {home}/fastcgi;\n uwsgi_temp_path {home}/uwsgi;\n \
         scgi_temp_path {home}/scgi;\n server {{\n  listen {at};\n  location / {{\n   return 200 \
         \"{name} $host $http_x_forwarded_for $http_x_forwarded_proto $http_forwarded $request_uri\\n\";\
         \n  }}\n }}\n}}\n"
    );
    std::fs::write(&config, text).unwrap();
    let arguments = ["-c", config.to_str().unwrap(), "-p", folder.to_str().unwrap()];
    let process = Process::start(name, Path::new("nginx"), arguments, &folder);
    listens(at).await;
    process
}

/// A site with an authority whose certificate `viewer` is imported.
async fn scene() -> (Site, Authority) {
    let site = Site::start().await;
    let authority = Authority::make(site.folder("tls")).await;
    authority.issue("viewer", NAME).await;
    let [chain, key] = ["viewer.pem", "viewer-key.pem"].map(|it| authority.file(it));
    site.import("viewer", &chain, &key).await;
    (site, authority)
}

fn http(at: SocketAddr, is_secure: bool, more: pb::Layer7) -> pb::VirtualService {
    let certificate = if is_secure { "certificates/viewer" } else { "" };
    let forwarding =
        pb::Layer7 { mode: Mode::HttpMode.into(), certificate: certificate.to_owned(), ..more };
    pb::VirtualService {
        forwarding: Some(Forwarding::Layer7(forwarding)),
        health_check: Some(connect_check()),
        ..layer7(at)
    }
}

/// What curl shows for a path at `at`, which it takes for `host`.
async fn curl(
    site: &Site,
    authority: &Authority,
    host: &str,
    at: SocketAddr,
    more: &[&str],
) -> String {
    let resolve = format!("{host}:{}:{}", at.port(), at.ip());
    let anchors = authority.file("authority.pem");
    let begin = ["-sS", "--cacert", &anchors, "--resolve", &resolve];
    let arguments = [&begin[..], more].concat();
    run(Path::new("curl"), arguments, site.dir()).await.output()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http_of_both_versions_reaches_its_pool_and_tells_of_the_client() {
    let (site, authority) = scene().await;
    let [plain, secure] = [(10, 8080), (10, 8443)].map(|(at, port)| site.block.socket(at, port));
    let [one, two] = [20, 21].map(|at| site.block.socket(at, 8080));
    let _viewer = nginx(&site, "viewer", one).await;
    let _files = nginx(&site, "files", two).await;
    let route = Route {
        path_prefixes: vec!["/files/".to_owned()],
        pool: "files".to_owned(),
        ..Default::default()
    };
    let routed = pb::Layer7 { routes: vec![route], log_connections: true, ..Default::default() };
    let pooled = pb::RealServer { pool: "files".to_owned(), ..server("files", two) };
    site.create("web", http(secure, true, routed), vec![server("viewer", one), pooled]).await;
    let redirect = Http { redirect_to_https: true, ..Default::default() };
    let redirecting = pb::Layer7 { http: Some(redirect), ..Default::default() };
    site.create("redirect", http(plain, false, redirecting), vec![server("viewer", one)]).await;
    site.up("web").await;
    site.up("redirect").await;

    let url = |path: &str| format!("https://{NAME}:8443{path}");
    for (version, reported) in [("--http1.1", "1.1"), ("--http2", "2")] {
        let (page, files) = (url("/?a=b"), url("/files/1"));
        let shown = ["-w", "%{http_version}", version, &page];
        let said = curl(&site, &authority, NAME, secure, &shown).await;
        let told = "127.0.0.1 https for=127.0.0.1;proto=https /?a=b\n";
        assert_eq!(said, format!("viewer {NAME} {told}{reported}"));
        let said = curl(&site, &authority, NAME, secure, &[version, &files]).await;
        assert!(said.starts_with("files "), "{said}");
    }
    let asked = format!("http://{NAME}:8080/a?b=c");
    let shown = ["-o", "/dev/null", "-w", "%{http_code} %{redirect_url}", &asked];
    let said = curl(&site, &authority, NAME, plain, &shown).await;
    assert_eq!(said, format!("308 https://{NAME}/a?b=c"));

    let agent = site.agent_l7.as_ref().unwrap();
    let line = agent.says(&["request answered", "server=\"files\""]).await;
    assert!(line.contains("status=200") && !line.contains("/files"), "{line}");
    let counted = eventually("the requests are counted", async || {
        site.status("web").await.http.filter(|http| http.requests_total == 4)
    });
    assert_eq!(counted.await.succeeded_total, 4);
    let told = site.gantry(&["describe", "web"]).await.output();
    assert!(told.contains("Requests of HTTP: 4"), "{told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http_load_of_other_houses_has_no_error_while_a_server_dies() {
    let (site, _authority) = scene().await;
    let [plain, secure] = [(10, 8080), (10, 8443)].map(|(at, port)| site.block.socket(at, port));
    let [one, two] = [20, 21].map(|at| site.block.socket(at, 8080));
    let mut dying = nginx(&site, "one", one).await;
    let _other = nginx(&site, "two", two).await;
    let servers = || vec![server("one", one), server("two", two)];
    site.create("plain", http(plain, false, pb::Layer7::default()), servers()).await;
    site.create("secure", http(secure, true, pb::Layer7::default()), servers()).await;
    site.up("plain").await;
    site.up("secure").await;

    let (https, plain) = (format!("https://{secure}/"), format!("http://{plain}/"));
    let load = ["-n", "5000", "-c", "10", "-m", "20", https.as_str()];
    let said = run(Path::new("h2load"), load, site.dir()).await.output();
    assert!(said.contains("5000 succeeded, 0 failed, 0 errored, 0 timeout"), "{said}");
    assert!(said.contains("Application protocol: h2"), "{said}");

    let load = ["-t", "2", "-c", "20", "-d", "3s", plain.as_str()];
    let (said, ()) = tokio::join!(run(Path::new("wrk"), load, site.dir()), async {
        let busy = async || {
            let http = site.status("plain").await.http;
            http.filter(|http| http.requests_total > 100)
        };
        eventually("the servers are busy", busy).await;
        dying.kill();
    });
    let said = said.output();
    assert!(said.contains("Requests/sec"), "{said}");
    assert!(!said.contains("Socket errors") && !said.contains("Non-2xx"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http_carries_websockets() {
    let (site, authority) = scene().await;
    let [listen, real] = [(10, 8443), (20, 8080)].map(|(at, port)| site.block.socket(at, port));
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("python/websocket.py");
    let script = script.to_str().unwrap();
    let (ip, port) = (real.ip().to_string(), real.port().to_string());
    let arguments = [script, "serve", &ip, &port];
    let _server = Process::start("websocket", &python(), arguments, site.dir());
    listens(real).await;
    site.create("web", http(listen, true, pb::Layer7::default()), vec![server("one", real)]).await;
    site.up("web").await;
    let (ip, port) = (listen.ip().to_string(), listen.port().to_string());
    let anchors = authority.file("authority.pem");
    let arguments = [script, "ask", &ip, &port, NAME, &anchors];
    let said = run(&python(), arguments, site.dir()).await.output();
    assert_eq!(said, "100 messages came back\n");
}
