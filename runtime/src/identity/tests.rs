use super::*;

#[test]
fn a_certificate_is_renewed_when_a_quarter_of_its_life_is_left() {
    let from: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
    for (life, delay, expected) in [
        (400, 0.0, 300),
        (400, 1.0, 320),
        (400, 0.5, 310),
        (400, 7.0, 320),
        (8, 0.0, 6),
        (0, 0.0, 0),
        // A certificate that ends before it begins is due at its end.
        (-400, 0.0, -400),
    ] {
        let validity = Validity { from, until: from + SignedDuration::from_secs(life) };
        let after = validity.renew_time(delay).duration_since(from);
        assert_eq!(after, SignedDuration::from_secs(expected), "{life} {delay}");
    }
}

#[test]
fn a_request_is_over_the_key_that_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    let uri = format!("{URI_SCHEME}users/admin").try_into().unwrap();
    params.subject_alt_names.push(rcgen::SanType::URI(uri));
    let certificate = params.self_signed(&key).unwrap().pem();
    Identity::save(dir.path(), "ca", &certificate, &key.serialize_pem()).unwrap();
    let identity = Identity::load(dir.path()).unwrap();
    let request = identity.request(dir.path()).unwrap();
    let parsed = rcgen::CertificateSigningRequestParams::from_pem(&request).unwrap();
    assert_eq!(rcgen::PublicKeyData::der_bytes(&parsed.public_key), key.public_key_raw());
    assert!(identity.validity().is_some_and(|validity| validity.from < validity.until));
}

#[test]
fn replacing_keeps_the_key_and_the_modes_of_the_files() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let path = |name| dir.path().join(name);
    Identity::save(dir.path(), "ca", "certificate", "key").unwrap();
    let mode = |name| std::fs::metadata(path(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!([CA, CERTIFICATE, KEY].map(mode), [0o600; 3]);
    std::fs::set_permissions(path(CERTIFICATE), PermissionsExt::from_mode(0o640)).unwrap();
    Identity::replace(dir.path(), "new ca", "new certificate").unwrap();
    let text = |name| std::fs::read_to_string(path(name)).unwrap();
    assert_eq!([CA, CERTIFICATE, KEY].map(text), ["new ca", "new certificate", "key"]);
    assert_eq!([CA, CERTIFICATE, KEY].map(mode), [0o600, 0o640, 0o600]);
}
