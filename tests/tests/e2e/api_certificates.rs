//! Certificates from the command line: what goes in, what is told, and what never comes out.

use gantry_tests::Site;
use rcgen::{CertificateParams, KeyPair};

/// A new self-signed certificate and its key in files of the site's; gives the key's PEM.
fn make(site: &Site, name: &str) -> String {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec![format!("{name}.example")]).unwrap();
    let folder = site.folder("pem");
    let chain = params.self_signed(&key).unwrap().pem();
    std::fs::write(folder.join(format!("{name}.pem")), chain).unwrap();
    std::fs::write(folder.join(format!("{name}-key.pem")), key.serialize_pem()).unwrap();
    key.serialize_pem()
}

async fn import(site: &Site, name: &str, chain: &str, key: &str) -> gantry_tests::process::Ran {
    let file = |name: &str| site.folder("pem").join(name).to_str().unwrap().to_owned();
    let (chain, key) = (file(chain), file(key));
    let arguments = ["import", "certificate", name, "--chain", &chain, "--key", &key, "-m", "new"];
    site.gantry(&arguments).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn api_certificates_go_in_by_the_command_line_and_their_keys_stay_there() {
    let site = Site::controller_only().await;
    let secret = make(&site, "pacs");
    make(&site, "other");
    let missing = site
        .gantry(&["create", "vs", "web", "--address", "127.0.0.1", "--port", "443", "--layer7"])
        .await;
    missing.output();
    let used = ["set", "web", "layer7.certificate=certificates/pacs"];
    let refused = site.gantry(&used).await;
    assert!(refused.err.contains("there is no certificates/pacs: import it first"), "{refused:?}");

    let mixed = import(&site, "pacs", "pacs.pem", "other-key.pem").await;
    assert!(mixed.err.contains("private_key_pem: is not the key of the first"), "{mixed:?}");
    let said = import(&site, "pacs", "pacs.pem", "pacs-key.pem").await.output();
    assert!(said.starts_with("imported certificates/pacs: "), "{said}");
    site.gantry(&used).await.output();

    let table = site.gantry(&["get", "certificates"]).await.output();
    assert!(table.lines().nth(1).unwrap().ends_with("web"), "{table}");
    let told = site.gantry(&["describe", "certificates/pacs"]).await.output();
    assert!(told.contains("pacs.example") && told.contains("new"), "{told}");
    let refused = site.gantry(&["delete", "certificates/pacs", "--yes"]).await;
    assert!(refused.err.contains("is used by clusters/main/virtualServices/web"), "{refused:?}");
    let exported = site.gantry(&["export"]).await.output();
    let whole = site.gantry(&["get", "certificates", "pacs", "-o", "json"]).await.output();
    let line = secret.lines().nth(1).unwrap();
    for text in [table, told, exported, whole, site.controller.log()] {
        assert!(!text.contains(line) && !text.contains("PRIVATE KEY"), "{text}");
    }
    site.gantry(&["set", "web", "layer7.certificate="]).await.output();
    site.gantry(&["delete", "certificates/pacs", "--yes"]).await.output();
    let near = site.gantry(&["describe", "certificates/pacs"]).await;
    assert!(near.err.contains("there is no certificate there yet"), "{near:?}");
}
