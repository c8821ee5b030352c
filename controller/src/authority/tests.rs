use rcgen::{CertificateParams, KeyUsagePurpose};
use x509_parser::parse_x509_certificate;

use super::*;

#[test]
fn of_a_request_only_the_key_counts() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::open(dir.path()).unwrap();
    let key = KeyPair::generate().unwrap();
    let mut wishes = CertificateParams::new(vec!["gantry-controller".to_owned()]).unwrap();
    wishes.distinguished_name.push(DnType::CommonName, "somebody else");
    wishes.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    wishes.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    wishes.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let uri = "gantry:users/admin".try_into().unwrap();
    wishes.subject_alt_names.push(SanType::URI(uri));
    let request = wishes.serialize_request(&key).unwrap().pem().unwrap();

    let name = "clusters/main/appliances/lb1";
    let signed = authority.sign(name, &request).unwrap();
    assert_eq!(identity::name_in(&signed.pem).as_deref(), Some(name));
    let pem = ::pem::parse(&signed.pem).unwrap();
    let (_, certificate) = parse_x509_certificate(pem.contents()).unwrap();
    assert_eq!(certificate.subject().iter_common_name().count(), 1);
    assert_eq!(certificate.subject().iter_common_name().next().unwrap().as_str(), Ok("lb1"));
    assert!(!certificate.is_ca());
    let names = certificate.subject_alternative_name().unwrap().unwrap();
    assert_eq!(names.value.general_names.len(), 1);
    let usage = certificate.key_usage().unwrap().unwrap().value;
    assert!(usage.digital_signature() && !usage.key_cert_sign());
    let extended = certificate.extended_key_usage().unwrap().unwrap().value;
    assert!(extended.client_auth && !extended.server_auth);
    let days = certificate.validity().time_to_expiration().unwrap().whole_days();
    assert!((360..=365).contains(&days), "{days}");
    assert_eq!(key_hash(pem.contents()), Some(signed.key_hash));
}

#[test]
fn it_is_the_same_authority_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let made = Authority::open(dir.path()).unwrap();
    let opened = Authority::open(dir.path()).unwrap();
    assert_eq!(made.fingerprint(), opened.fingerprint());
    opened.issue_operator("admin", &dir.path().join("admin")).unwrap();
    assert_eq!(Identity::load(&dir.path().join("admin")).unwrap().name(), "users/admin");
}

#[test]
fn half_an_authority_is_not_made_whole_by_guessing() {
    let dir = tempfile::tempdir().unwrap();
    Authority::open(dir.path()).unwrap();
    std::fs::remove_file(dir.path().join("ca-key.pem")).unwrap();
    assert!(matches!(Authority::open(dir.path()), Err(AuthorityError::Half { .. })));
}

/// A first start that was killed between the two files.
#[test]
fn a_key_without_a_certificate_gets_one_and_what_it_signed_still_counts() {
    let dir = tempfile::tempdir().unwrap();
    let first = Authority::open(dir.path()).unwrap();
    let (_, request) = identity::new_key().unwrap();
    let signed = first.sign("users/admin", &request).unwrap();
    std::fs::remove_file(dir.path().join("ca.pem")).unwrap();
    let again = Authority::open(dir.path()).unwrap();
    assert_ne!(again.fingerprint(), first.fingerprint());
    let leaf = ::pem::parse(&signed.pem).unwrap();
    let (_, leaf) = parse_x509_certificate(leaf.contents()).unwrap();
    let (_, ca) = parse_x509_certificate(again.der()).unwrap();
    assert_eq!(leaf.issuer(), ca.subject());
    let (_, old) = parse_x509_certificate(first.der()).unwrap();
    assert_eq!(ca.public_key().raw, old.public_key().raw);
}

#[test]
fn nonsense_is_not_signed() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::open(dir.path()).unwrap();
    for request in ["", "nonsense", authority.pem()] {
        assert!(matches!(authority.sign("users/x", request), Err(AuthorityError::Request(_))));
    }
}
