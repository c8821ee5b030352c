use rcgen::{CertificateParams, KeyPair};
use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::PrivateKeyDer;

use super::*;

fn certified(names: &[&str]) -> Arc<CertifiedKey> {
    let key = KeyPair::generate().unwrap();
    let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
    let certificate = CertificateParams::new(names).unwrap().self_signed(&key).unwrap();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let key = any_supported_type(&key).unwrap();
    Arc::new(CertifiedKey::new(vec![certificate.der().clone()], key))
}

#[test]
fn the_certificate_that_covers_the_name_is_shown() {
    let own = certified(&["pacs.example", "archive.example"]);
    let viewer = certified(&["viewer.example", "*.web.example"]);
    let late = certified(&["viewer.example", "a.web.example"]);
    let mut names = Names::new(Arc::clone(&own));
    names.add(&viewer);
    names.add(&late);
    for (asked, expected) in [
        (None, &own),
        (Some("pacs.example"), &own),
        (Some("archive.example"), &own),
        (Some("stranger.example"), &own),
        (Some("viewer.example"), &viewer),
        (Some("VIEWER.Example"), &viewer),
        (Some("b.web.example"), &viewer),
        // An exact name goes before a wildcard, which stands for one label.
        (Some("a.web.example"), &late),
        (Some("b.a.web.example"), &own),
        (Some("web.example"), &own),
        (Some("viewer"), &own),
    ] {
        assert!(Arc::ptr_eq(&names.find(asked), expected), "{asked:?}");
    }
}
