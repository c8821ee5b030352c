use super::*;

fn names(needs: &Needs) -> Vec<String> {
    settings(needs)
        .into_iter()
        .map(|Setting { name, value, .. }| match value {
            Value::Exactly(value) => format!("{name}={value}"),
            Value::AtLeast(value) => format!("{name}>={value}"),
        })
        .collect()
}

const ALWAYS: [&str; 3] = [
    "net.ipv4.vs.expire_nodest_conn=1",
    "net.ipv4.vs.expire_quiescent_template=1",
    "net.ipv4.vs.conn_reuse_mode=1",
];

#[test]
fn settings_follow_from_what_is_needed() {
    let interface = || BTreeSet::from(["eth0.100".to_owned()]);
    for (needs, more) in [
        (Needs::default(), vec![]),
        (
            Needs { forwards_ipv4: true, forwarding: interface(), ..Needs::default() },
            vec![
                "net.ipv4.ip_forward=1",
                "net.ipv4.conf.all.send_redirects=0",
                "net.ipv4.conf.eth0/100.send_redirects=0",
            ],
        ),
        (
            Needs { forwards_ipv6: true, forwarding: interface(), ..Needs::default() },
            vec!["net.ipv6.conf.all.forwarding=1"],
        ),
        (
            Needs { snat: Some(Duration::from_secs(7200)), ..Needs::default() },
            vec![
                "net.ipv4.vs.conntrack=1",
                "net.netfilter.nf_conntrack_tcp_timeout_established>=7200",
            ],
        ),
        (
            Needs { checked: interface(), ..Needs::default() },
            vec!["net.ipv4.conf.eth0/100.accept_local=1"],
        ),
    ] {
        assert_eq!(names(&needs), [&ALWAYS[..], &more].concat());
    }
}

#[test]
fn a_name_is_a_path() {
    let file = |name| path(Path::new("/"), name).map(|path| path.display().to_string());
    assert_eq!(file("net.ipv4.vs.conntrack").unwrap(), "/net/ipv4/vs/conntrack");
    let vlan = of_interface("ipv4", "eth0.100", "send_redirects");
    assert_eq!(file(&vlan).unwrap(), "/net/ipv4/conf/eth0.100/send_redirects");
    for wrong in ["", "net..ipv4", "net.//.//.x", "net./", "net.a\0b"] {
        assert_eq!(file(wrong).unwrap_err().kind(), io::ErrorKind::InvalidInput, "{wrong:?}");
    }
}

#[test]
fn more_is_right_where_at_least_is_meant() {
    for (value, found, met) in [
        (Value::Exactly(1), "1", true),
        (Value::Exactly(1), "1\n", true),
        (Value::Exactly(1), "2", false),
        (Value::Exactly(0), "", false),
        (Value::Exactly(0), "0\t0", false),
        (Value::AtLeast(900), "900", true),
        (Value::AtLeast(900), "432000", true),
        (Value::AtLeast(900), "899", false),
        (Value::AtLeast(900), "-1", false),
    ] {
        assert_eq!(value.is_met(found), met, "{value:?} {found:?}");
    }
}

#[test]
fn only_what_is_wrong_is_written() {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("low");
    for (before, value, now) in [
        ("0\n", Value::Exactly(1), "1"),
        // As it was, to the byte.
        ("1", Value::Exactly(1), "1"),
        ("600\n", Value::AtLeast(900), "900"),
        ("1200\n", Value::AtLeast(900), "1200"),
    ] {
        fs::write(&file, before).unwrap();
        let outcome = make(root.path(), &Setting { name: "low".to_owned(), value, why: "" });
        assert_eq!(outcome.before.as_deref(), Some(before.trim()));
        assert_eq!(outcome.now.as_deref(), Some(now));
        assert!(outcome.is_right() && outcome.error.is_none());
    }
    fs::write(&file, "1").unwrap();
    make(root.path(), &exactly("low", 1, ""));
    assert_eq!(fs::read(&file).unwrap(), b"1", "not written again with a line end");
}

#[test]
fn what_is_not_there_is_told() {
    let root = tempfile::tempdir().unwrap();
    let outcome = make(root.path(), &exactly("net.ipv4.vs.conntrack", 1, ""));
    assert_eq!((&outcome.before, &outcome.now), (&None, &None));
    assert_eq!(outcome.error.as_ref().map(io::Error::kind), Some(io::ErrorKind::NotFound));
    assert!(!outcome.is_right());
}
