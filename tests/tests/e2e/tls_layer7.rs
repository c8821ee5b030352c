//! TLS of agent-l7 with peers from another house: OpenSSL's client and server, and curl.

use std::net::SocketAddr;
use std::path::Path;

use gantry_proto::v1 as pb;
use gantry_tests::Site;
use gantry_tests::openssl::Authority;
use gantry_tests::process::{Ran, run};
use gantry_tests::services::{connect_check, layer7, server};
use gantry_tests::wait::listens;
use pb::layer7::{ServerTls, Tls, tls};
use pb::virtual_service::Forwarding;

/// Imports the certificate that the authority signed as `name`.
async fn import(site: &Site, authority: &Authority, name: &str) {
    let [chain, key] = ["", "-key"].map(|it| authority.file(&format!("{name}{it}.pem")));
    site.import(name, &chain, &key).await;
}

fn secured(at: SocketAddr, layer7_of: pb::Layer7) -> pb::VirtualService {
    pb::VirtualService {
        forwarding: Some(Forwarding::Layer7(layer7_of)),
        health_check: Some(connect_check()),
        ..layer7(at)
    }
}

#[track_caller]
fn served(ran: &Ran, words: &[&str]) {
    assert!(ran.status.success() && ran.out.contains("olleh\n"), "{ran:?}");
    assert!(words.iter().all(|word| ran.out.contains(word)), "{words:?}: {}", ran.out);
}

#[track_caller]
fn refused(ran: &Ran, alert: &str) {
    assert!(!ran.out.contains("olleh\n") && ran.err.contains(alert), "{ran:?}");
}

/// A site, an authority that signed `pacs` and `viewer`, and a real server of OpenSSL's.
async fn scene(names: &[&str]) -> (Site, Authority) {
    let site = Site::start().await;
    let authority = Authority::make(site.folder("tls")).await;
    for name in names {
        authority.issue(name, &format!("{name}.example")).await;
        import(&site, &authority, name).await;
    }
    (site, authority)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_is_terminated_for_openssl_and_begun_anew_to_openssl() {
    let (site, authority) = scene(&["pacs", "viewer"]).await;
    authority.issue("archive", "archive.example").await;
    let [listen, real] = [10, 20].map(|at| site.block.socket(at, 8443));
    let _archive = authority.server(real, "archive", &["-rev", "-no_tls1_2"]);
    listens(real).await;
    let layer7 = pb::Layer7 {
        certificate: "certificates/pacs".to_owned(),
        reencrypt: true,
        tls: Some(Tls {
            more_certificates: vec!["certificates/viewer".to_owned()],
            ..Default::default()
        }),
        server_tls: Some(ServerTls {
            authorities: authority.pem(),
            server_name: "archive.example".to_owned(),
            ..Default::default()
        }),
        ..Default::default()
    };
    site.create("web", secured(listen, layer7), vec![server("archive", real)]).await;
    site.up("web").await;

    let newest = authority.call(listen, "pacs.example", &[]).await;
    served(&newest, &["subject=CN = pacs\n", "TLSv1.3", "Verify return code: 0 (ok)"]);
    let older = authority.call(listen, "pacs.example", &["-tls1_2"]).await;
    served(&older, &["Protocol  : TLSv1.2", "ECDHE-RSA-"]);
    served(&authority.call(listen, "viewer.example", &[]).await, &["subject=CN = viewer\n"]);
    refused(&authority.call(listen, "pacs.example", &["-tls1_1"]).await, "alert");
    let weak = ["-tls1_2", "-cipher", "AES128-SHA"];
    refused(&authority.call(listen, "pacs.example", &weak).await, "alert handshake failure");

    for version in ["-tls1_2", "-tls1_3"] {
        let session = authority.file("session");
        let first = authority.call(listen, "pacs.example", &[version, "-sess_out", &session]).await;
        served(&first, &["New, TLSv1."]);
        let again = authority.call(listen, "pacs.example", &[version, "-sess_in", &session]).await;
        served(&again, &["Reused, TLSv1."]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_clients_show_certificates_where_the_service_asks_for_them() {
    let (site, authority) = scene(&["pacs"]).await;
    authority.issue("modality", "ct1.example").await;
    let strangers = Authority::make(site.folder("strangers")).await;
    strangers.issue("stranger", "ct1.example").await;
    let [listen, real] = [10, 20].map(|at| site.block.socket(at, 8443));
    let anchors = authority.file("authority.pem");
    let asking = ["-rev", "-Verify", "1", "-verify_return_error", "-CAfile", &anchors];
    let _archive = authority.server(real, "modality", &asking);
    listens(real).await;
    let tls = Tls {
        client_certificates: tls::ClientCertificates::Required.into(),
        client_authorities: authority.pem(),
        minimum_version: tls::Version::Tls13.into(),
        ..Default::default()
    };
    let server_tls =
        ServerTls { certificate: "certificates/pacs".to_owned(), ..Default::default() };
    let layer7 = pb::Layer7 {
        certificate: "certificates/pacs".to_owned(),
        reencrypt: true,
        tls: Some(tls),
        server_tls: Some(server_tls),
        ..Default::default()
    };
    site.create("web", secured(listen, layer7), vec![server("archive", real)]).await;
    site.up("web").await;

    refused(&authority.call(listen, "pacs.example", &[]).await, "certificate required");
    let [chain, key] = ["modality.pem", "modality-key.pem"].map(|it| authority.file(it));
    let own = ["-cert", &chain, "-key", &key];
    served(&authority.call(listen, "pacs.example", &own).await, &["TLSv1.3"]);
    let [chain, key] = ["stranger.pem", "stranger-key.pem"].map(|it| strangers.file(it));
    let foreign = ["-cert", &chain, "-key", &key];
    refused(&authority.call(listen, "pacs.example", &foreign).await, "alert");
    let old = [&own[..], &["-tls1_2"]].concat();
    refused(&authority.call(listen, "pacs.example", &old).await, "alert protocol version");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_certificate_renewed_by_import_is_shown_at_once_and_cuts_nothing() {
    let (site, authority) = scene(&["pacs"]).await;
    let [listen, real, other] = [10, 20, 21].map(|at| site.block.socket(at, 8443));
    // OpenSSL's server serves one client at a time.
    let _archives = [real, other].map(|at| authority.server(at, "pacs", &["-rev"]));
    listens(real).await;
    listens(other).await;
    let layer7 = pb::Layer7 {
        certificate: "certificates/pacs".to_owned(),
        reencrypt: true,
        ..Default::default()
    };
    site.create("web", secured(listen, layer7), vec![server("one", real), server("two", other)])
        .await;
    site.up("web").await;
    let shows = |ran: &Ran, certificate: &str| ran.out.contains(certificate);
    let before = std::fs::read_to_string(authority.file("pacs.pem")).unwrap();
    let secret = std::fs::read_to_string(authority.file("pacs-key.pem")).unwrap();
    let mut held = authority.connect(listen, "pacs.example", &[]);
    assert!(held.is_answered().await);

    authority.issue("pacs", "pacs.example").await;
    let after = std::fs::read_to_string(authority.file("pacs.pem")).unwrap();
    import(&site, &authority, "pacs").await;
    site.settled("web").await;
    let anew = authority.call(listen, "pacs.example", &[]).await;
    served(&anew, &["Verify return code: 0 (ok)"]);
    assert!(shows(&anew, &after), "{anew:?}");
    assert!(held.is_answered().await);
    let held = held.end().await;
    assert!(held.status.success() && shows(&held, &before), "{held:?}");

    let line = secret.lines().nth(1).unwrap();
    let agents = [&site.agent_l7, &site.healthd].map(|it| it.as_ref().unwrap().log());
    for log in agents.into_iter().chain([site.controller.log()]) {
        assert!(!log.contains(line) && !log.contains("PRIVATE KEY"), "{log}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_carries_pages_to_curl() {
    let (site, authority) = scene(&["pacs"]).await;
    let [listen, real] = [10, 20].map(|at| site.block.socket(at, 8443));
    let _page = authority.server(real, "pacs", &["-www"]);
    listens(real).await;
    let layer7 = pb::Layer7 {
        certificate: "certificates/pacs".to_owned(),
        reencrypt: true,
        ..Default::default()
    };
    site.create("web", secured(listen, layer7), vec![server("archive", real)]).await;
    site.up("web").await;
    let resolve = format!("pacs.example:8443:{}", listen.ip());
    let anchors = authority.file("authority.pem");
    let arguments =
        ["-sS", "--cacert", &anchors, "--resolve", &resolve, "https://pacs.example:8443/"];
    let page = run(Path::new("curl"), arguments, site.dir()).await.output();
    assert!(page.contains("s_server -accept"), "{page}");
}
