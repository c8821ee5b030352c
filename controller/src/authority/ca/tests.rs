use rcgen::{CertifiedIssuer, GeneralSubtree, NameConstraints};

use super::*;

type Made = CertifiedIssuer<'static, KeyPair>;

fn ca(name: &str, limit: Option<u8>) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(match limit {
        Some(limit) => BasicConstraints::Constrained(limit),
        None => BasicConstraints::Unconstrained,
    });
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
}

fn root(params: CertificateParams) -> Made {
    Made::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn below(params: CertificateParams, above: &Made) -> Made {
    Made::signed_by(params, KeyPair::generate().unwrap(), above).unwrap()
}

fn chain(made: &[&Made]) -> String {
    made.iter().map(|made| made.pem()).collect()
}

#[test]
fn a_root_and_an_intermediate_can_sign() {
    let top = root(ca("top", None));
    let middle = below(ca("middle", Some(1)), &top);
    let lower = below(ca("lower", Some(0)), &middle);
    for (made, anchor) in [
        (vec![&top], &top),
        (vec![&middle, &top], &top),
        (vec![&lower, &middle, &top], &top),
        // Clients trust the top of what is given, root or not.
        (vec![&middle], &middle),
        (vec![&lower, &middle], &middle),
    ] {
        let read = Ca::read(&chain(&made), &made[0].key().serialize_pem()).unwrap();
        assert_eq!(read.anchor(), anchor.der());
        assert_eq!(read.fingerprint(), join::fingerprint(anchor.der()));
        assert_eq!(read.id(), join::fingerprint(made[0].der()));
    }
}

#[test]
fn what_another_ca_of_the_same_root_signed_is_not_good_for_clients() {
    let top = root(ca("top", None));
    let [ours, theirs] = ["ours", "theirs"].map(|name| below(ca(name, Some(0)), &top));
    let [ours, theirs] =
        [ours, theirs].map(|it| Ca::read(&chain(&[&it, &top]), &it.key().serialize_pem()).unwrap());
    let (_, request) = identity::new_key().unwrap();
    let signed = theirs.sign("users/admin", &request, Lifetime::default()).unwrap();
    let leaf = CertificateDer::from_pem_slice(signed.pem.as_bytes()).unwrap();
    theirs.verify(std::slice::from_ref(&leaf)).unwrap();
    ours.verify(&[leaf, theirs.chain[0].clone()]).unwrap_err();
}

#[test]
fn files_that_cannot_be_right_are_told_apart() {
    let top = root(ca("top", None));
    let other = root(ca("other", None));
    let narrow = root(ca("narrow", Some(0)));
    let key = |made: &Made| made.key().serialize_pem();
    let with = |change: fn(&mut CertificateParams)| {
        let mut params = ca("odd", None);
        change(&mut params);
        root(params)
    };
    let plain = with(|params| params.is_ca = IsCa::ExplicitNoCa);
    let mute = with(|params| params.key_usages = vec![KeyUsagePurpose::CrlSign]);
    let past = with(|params| params.not_after = rcgen::date_time_ymd(2020, 1, 1));
    let future = with(|params| params.not_before = rcgen::date_time_ymd(3000, 1, 1));
    let constrained = with(|params| {
        let only = vec![GeneralSubtree::DnsName("example.org".to_owned())];
        params.name_constraints =
            Some(NameConstraints { permitted_subtrees: only, excluded_subtrees: Vec::new() });
    });
    let under_narrow = below(ca("lower", None), &narrow);
    let lowest = below(ca("lowest", None), &under_narrow);
    for (text, key, words) in [
        (String::new(), key(&top), "there is no certificate in it"),
        (key(&top), key(&top), "there is no certificate in it"),
        (
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_owned(),
            key(&top),
            "certificate 1 in it cannot be read",
        ),
        (chain(&[&plain]), key(&plain), "CN=odd is not the certificate of a CA"),
        (chain(&[&mute]), key(&mute), "CN=odd may not sign certificates"),
        (chain(&[&past]), key(&past), "not valid yet, or not any more: from 1975-01-01"),
        (chain(&[&future]), key(&future), "CN=odd is not valid yet"),
        (chain(&[&top]), key(&other), "the key is not that of CN=top"),
        (chain(&[&top]), "nonsense".to_owned(), "the key cannot be read"),
        (chain(&[&top, &other]), key(&top), "CN=top was not signed by CN=other"),
        (
            chain(&[&lowest, &under_narrow, &narrow]),
            key(&lowest),
            "CN=narrow allows 0 CAs below it",
        ),
        (chain(&[&constrained]), key(&constrained), "name constraints"),
    ] {
        let error = Ca::read(&text, &key).unwrap_err();
        assert!(error.to_string().contains(words), "{words}: {error}");
    }
}

#[test]
fn a_chain_whose_names_fit_and_signatures_do_not_is_refused() {
    let (top, double) = (root(ca("top", None)), root(ca("top", None)));
    let lower = below(ca("lower", None), &top);
    let error = Ca::read(&chain(&[&lower, &double]), &lower.key().serialize_pem()).unwrap_err();
    assert!(matches!(error, CaError::Rejected(_)), "{error}");
}

#[test]
fn what_is_signed_ends_with_the_ca() {
    let mut params = ca("short", None);
    let end = clock::wall() + SignedDuration::from_hours(1);
    params.not_after = time::OffsetDateTime::from_unix_timestamp(end.as_second()).unwrap();
    let short = root(params);
    let short = Ca::read(&short.pem(), &short.key().serialize_pem()).unwrap();
    let (_, request) = identity::new_key().unwrap();
    let signed = short.sign("users/admin", &request, Lifetime::default()).unwrap();
    assert_eq!(signed.expire_time.as_second(), end.as_second());
}
