use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, SanType,
};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
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
fn nonsense_is_not_signed() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::open(dir.path()).unwrap();
    for request in ["", "nonsense", &authority.pem()] {
        assert!(matches!(authority.sign("users/x", request), Err(AuthorityError::Request(_))));
    }
}

fn leaf(authority: &Authority, key: &str) -> CertificateDer<'static> {
    let key = KeyPair::from_pem(key).unwrap();
    let request = CertificateParams::default().serialize_request(&key).unwrap().pem().unwrap();
    let signed = authority.sign("users/admin", &request).unwrap();
    CertificateDer::from_pem_slice(signed.pem.as_bytes()).unwrap()
}

#[test]
fn while_a_ca_takes_the_place_of_another_both_are_trusted() {
    let dir = tempfile::tempdir().unwrap();
    let admin = dir.path().join("operators/admin");
    let key = KeyPair::generate().unwrap().serialize_pem();
    let authority = Authority::open(dir.path()).unwrap();
    authority.issue_operator("admin", &admin).unwrap();
    let (old, by_old) = (authority.trust(), leaf(&authority, &key));
    assert!(matches!(authority.retire(), Err(AuthorityError::Turn(Refusal::NotUnderWay))));
    let changing = authority.rotate().unwrap();
    let by_new = leaf(&authority, &key);
    assert!(matches!(authority.rotate(), Err(AuthorityError::Turn(Refusal::UnderWay))));
    for trust in [&changing, &Authority::open(dir.path()).unwrap().trust()] {
        assert_eq!(trust.showing.id(), old.signing.id());
        assert_eq!(trust.read(std::slice::from_ref(&by_old)).unwrap().ca, old.signing.id());
        assert_eq!(trust.read(std::slice::from_ref(&by_new)).unwrap().ca, changing.signing.id());
        assert_eq!(trust.pem(), format!("{}{}", changing.signing.pem(), old.signing.pem()));
    }
    assert_eq!(Identity::load(&admin).unwrap().ca, changing.pem(), "the first operator is served");
    let after = authority.retire().unwrap();
    for trust in [&after, &Authority::open(dir.path()).unwrap().trust()] {
        assert_eq!(trust.showing.id(), changing.signing.id());
        assert_eq!(trust.read(std::slice::from_ref(&by_old)), None);
        assert!(trust.read(std::slice::from_ref(&by_new)).is_some());
        assert!(!trust.trusts(&old.signing.id()) && !trust.is_changing());
    }
    let held = Identity::load(&admin).unwrap();
    assert!(after.is_newest(&held) && held.ca == after.signing.pem());
}

#[test]
fn the_first_operator_keeps_its_key_and_stays_away_when_taken_away() {
    let dir = tempfile::tempdir().unwrap();
    let admin = dir.path().join("operators/admin");
    let options =
        AuthorityOptions { certificate_lifetime: "5s".parse().unwrap(), ..Default::default() };
    let short = Authority::open_with(dir.path(), &options, &[]).unwrap();
    short.issue_operator("admin", &admin).unwrap();
    let before = Identity::load(&admin).unwrap();
    // Signed by another CA than the one that signs now: due at once.
    short.rotate().unwrap();
    let after = Identity::load(&admin).unwrap();
    assert!(after.key == before.key && after.certificate != before.certificate);
    short.renew_own().unwrap();
    assert_eq!(Identity::load(&admin).unwrap(), after, "nothing is due");
    std::fs::remove_dir_all(&admin).unwrap();
    short.renew_own().unwrap();
    assert!(!admin.exists());
}
