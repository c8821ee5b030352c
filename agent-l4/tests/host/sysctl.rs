use std::collections::BTreeSet;

use gantry_agent_l4::host::sysctl::{Needs, ensure, read, settings, write};

use crate::space::{Space, ip};

#[test]
fn settings_are_those_of_the_namespace() {
    let other = Space::new();
    Space::new().enter(|| {
        ip("link add eth0.100 type veth peer name peer");
        write("net.ipv4.conf.eth0/100.send_redirects", "1").unwrap();
        let needs = Needs {
            forwards_ipv4: true,
            forwards_ipv6: true,
            forwarding: BTreeSet::from(["eth0.100".to_owned()]),
            checked: BTreeSet::from(["eth0.100".to_owned()]),
            ..Needs::default()
        };
        let mut wanted = settings(&needs);
        wanted.retain(|setting| !setting.name.starts_with("net.ipv4.vs."));
        let outcomes = ensure(&wanted);
        assert_eq!(outcomes.len(), 5);
        for outcome in outcomes {
            assert!(outcome.is_right() && outcome.error.is_none(), "{outcome:?}");
        }
        assert_eq!(read("net.ipv4.ip_forward").as_deref(), Some("1"));
        assert_eq!(read("net.ipv4.conf.eth0/100.send_redirects").as_deref(), Some("0"));
        assert_eq!(read("net.ipv4.conf.eth0/100.accept_local").as_deref(), Some("1"));
        assert_eq!(read("net.ipv4.conf.lo.accept_local").as_deref(), Some("0"));
    });
    other.enter(|| assert_eq!(read("net.ipv4.conf.eth0/100.send_redirects"), None));
}

#[test]
fn a_value_that_the_kernel_refuses_is_told() {
    Space::new().enter(|| {
        let error = write("net.ipv4.conf.lo.rp_filter", "much").unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
    });
}
