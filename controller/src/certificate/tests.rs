use gantry_runtime::clock;
use jiff::SignedDuration;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};

use super::*;

/// An authority and a leaf of it: their PEMs and the leaf's key.
struct Made {
    leaf: String,
    root: String,
    key: String,
}

fn params(name: &str) -> CertificateParams {
    let names = vec!["pacs.example".to_owned(), "10.12.1.100".to_owned()];
    let mut params = CertificateParams::new(names).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2090, 1, 1);
    params
}

fn make(change: impl FnOnce(&mut CertificateParams)) -> Made {
    let mut ca = params("Hospital CA");
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_key = KeyPair::generate().unwrap();
    let root = ca.self_signed(&ca_key).unwrap().pem();
    let mut leaf = params("pacs.example");
    change(&mut leaf);
    let key = KeyPair::generate().unwrap();
    let leaf = leaf.signed_by(&key, &Issuer::new(ca, ca_key)).unwrap().pem();
    Made { leaf, root, key: key.serialize_pem() }
}

/// What is wrong, as `field REASON` each.
fn found(chain: &str, key: &str) -> Vec<String> {
    let mut violations = Violations::new();
    let material = Material::read(&mut violations, chain, key, clock::wall());
    let found = violations.finish(material).map(|_| Vec::new()).unwrap_or_else(|found| found);
    found.into_iter().map(|one| format!("{} {}", one.field, one.reason)).collect()
}

#[test]
fn a_chain_and_its_key_are_read_and_told_of() {
    let made = make(|_| {});
    let chain = format!("subject=/CN=pacs\n{}\r\n{}\n", made.leaf, made.root);
    let mut violations = Violations::new();
    let material =
        Material::read(&mut violations, &chain, &made.key, clock::wall()).expect("sound");
    violations.finish(Some(())).unwrap();
    assert_eq!(material.facts.subject, "CN=pacs.example");
    assert_eq!(material.facts.names, ["pacs.example", "10.12.1.100"]);
    assert_eq!(material.facts.expire_time.to_string(), "2090-01-01T00:00:00Z");
    assert_eq!(material.facts.fingerprint.len(), 64);
    assert_eq!(facts(&material.chain).as_ref(), Some(&material.facts));
    assert!(!material.chain.contains("subject="), "what stands between blocks is dropped");
    assert_eq!(found(&made.leaf, &made.key), [""; 0], "a leaf alone will do");
}

#[test]
fn the_key_is_shown_nowhere() {
    let made = make(|_| {});
    let material =
        Material::read(&mut Violations::new(), &made.leaf, &made.key, clock::wall()).unwrap();
    let secret = made.key.lines().nth(1).unwrap();
    assert!(material.key.reveal().contains(secret));
    assert!(!format!("{material:?}").contains(secret));
    assert!(!material.chain.contains("PRIVATE"));
}

#[test]
fn what_cannot_work_is_refused_by_name() {
    let (one, other) = (make(|_| {}), make(|_| {}));
    let old = make(|params| params.not_after = date_time_ymd(2021, 1, 1));
    let soon = make(|params| params.not_before = date_time_ymd(2089, 1, 1));
    let Made { leaf, root, key } = &one;
    let encrypted =
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let legacy = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\nAAAA\n-----END RSA PRIVATE KEY-----\n";
    let junk = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    let no_certificate = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let half = &leaf[..leaf.len() / 2];
    let many = format!("{leaf}{}", root.repeat(10));
    let long = " ".repeat(LONGEST_PEM) + leaf;
    for (chain, key, expected) in [
        ("", "", "chain_pem REQUIRED, private_key_pem REQUIRED"),
        ("\u{0}\u{1}", key.as_str(), "chain_pem INVALID_PEM"),
        (half, key, "chain_pem INVALID_PEM"),
        (no_certificate, key, "chain_pem INVALID_CERTIFICATE"),
        (key, key, "chain_pem UNEXPECTED_KEY"),
        (&long, key, "chain_pem TOO_LONG"),
        (&many, key, "chain_pem TOO_LONG"),
        (&format!("{root}{leaf}"), key, "chain_pem WRONG_ORDER, private_key_pem KEY_MISMATCH"),
        (&format!("{leaf}{leaf}"), key, "chain_pem WRONG_ORDER"),
        (&format!("{leaf}{root}{root}"), key, "chain_pem WRONG_ORDER"),
        (&format!("{leaf}{}", other.root), key, "chain_pem BAD_SIGNATURE"),
        (leaf, leaf, "private_key_pem INVALID_KEY"),
        (leaf, &format!("{key}{}", other.key), "private_key_pem INVALID_KEY"),
        (leaf, encrypted, "private_key_pem ENCRYPTED_KEY"),
        (leaf, legacy, "private_key_pem ENCRYPTED_KEY"),
        (leaf, junk, "private_key_pem UNSUPPORTED_KEY"),
        (leaf, &other.key, "private_key_pem KEY_MISMATCH"),
        (&old.leaf, &old.key, "chain_pem EXPIRED"),
        (&soon.leaf, &soon.key, "chain_pem NOT_YET_VALID"),
    ] {
        assert_eq!(found(chain, key).join(", "), expected);
    }
}

#[test]
fn an_expired_certificate_says_the_way_out() {
    let made = make(|_| {});
    let later = "2090-01-01T00:00:00Z".parse::<Timestamp>().unwrap() + SignedDuration::from_secs(1);
    let mut violations = Violations::new();
    Material::read(&mut violations, &made.leaf, &made.key, later);
    let found = violations.finish::<()>(None).unwrap_err();
    let expected = "certificate 1 (CN=pacs.example) expired at 2090-01-01T00:00:00Z: have it \
                    renewed and import the new one";
    assert_eq!(found[0].message, expected);
}
