use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use gantry_agent_l4::host::nft::{
    Counter, Listed, NftError, PortKey, Rules, change, foreign_marks, read,
};
use gantry_model::service::Protocol::{self, Tcp, Udp};

use crate::space::{Pair, Space, eventually, run};

fn key(address: &str, protocol: Protocol, first: u16, last: u16) -> PortKey {
    PortKey { address: address.parse().unwrap(), protocol, first, last }
}

fn marks(marks: &[(PortKey, u32)]) -> Rules {
    Rules { marks: marks.iter().copied().collect(), ..Rules::default() }
}

fn listed() -> Listed {
    read().expect("a kernel with nf_tables and the program nft are needed").expect("the table")
}

/// Changes the table, and makes sure that it does then what it should.
fn make(before: Option<&Rules>, after: &Rules) -> Listed {
    change(before, after).unwrap();
    let listed = listed();
    assert!(listed.whole, "{listed:?}");
    assert_eq!(&listed.rules, after);
    listed
}

/// Everything that a table can hold.
fn much() -> Rules {
    Rules {
        marks: BTreeMap::from([
            (key("10.12.1.100", Tcp, 104, 104), 0x4700_0001),
            (key("10.12.1.100", Tcp, 11112, 11119), 0x4700_0001),
            (key("10.12.1.100", Udp, 104, 104), 0x4700_0002),
            (key("10.12.1.101", Tcp, 1, 65535), 0xffff_ffff),
            (key("fd12::100", Tcp, 104, 104), 0x4700_0001),
            (key("fd12::100", Udp, 514, 600), 0x4700_0003),
        ]),
        sources: BTreeMap::from([
            (key("10.12.1.100", Tcp, 104, 104), "10.12.1.99".parse().unwrap()),
            (key("10.12.1.100", Udp, 104, 110), "10.12.1.99".parse().unwrap()),
            (key("fd12::100", Tcp, 104, 104), "fd12::99".parse().unwrap()),
        ]),
        transparent: true,
    }
}

/// Other marks, other ranges that overlap those of `much`, some gone.
fn less() -> Rules {
    Rules {
        marks: BTreeMap::from([
            (key("10.12.1.100", Tcp, 104, 104), 0x4700_0009),
            (key("10.12.1.100", Tcp, 11110, 11120), 0x4700_0001),
            (key("fd12::100", Tcp, 100, 110), 0x4700_0001),
        ]),
        sources: BTreeMap::from([(
            key("10.12.1.100", Tcp, 104, 104),
            "10.12.1.98".parse().unwrap(),
        )]),
        transparent: false,
    }
}

#[test]
fn the_table_does_what_it_is_told() {
    Space::new().enter(|| {
        assert_eq!(read().expect("a kernel with nf_tables and the program nft are needed"), None);
        let (nothing, much, less) = (Rules::default(), much(), less());
        make(None, &nothing);
        make(Some(&nothing), &much);
        make(Some(&much), &less);
        let no_sources = Rules { sources: BTreeMap::new(), ..less.clone() };
        make(Some(&less), &no_sources);
        assert!(!run("nft", &["list", "ruleset"]).contains("hook postrouting"));
        make(Some(&no_sources), &less);
        change(Some(&less), &less).unwrap();
        // From nothing, over what is there.
        make(None, &much);
        make(Some(&much), &nothing);
    });
}

#[test]
fn a_change_is_made_as_a_whole_or_not_at_all() {
    Space::new().enter(|| {
        let before = marks(&[(key("10.12.1.100", Tcp, 104, 104), 1)]);
        make(None, &before);
        let overlapping = marks(&[
            (key("10.12.1.100", Tcp, 200, 210), 2),
            (key("10.12.1.100", Tcp, 205, 220), 3),
        ]);
        let refused = change(Some(&before), &overlapping);
        assert!(matches!(refused, Err(NftError::Refused(_))), "{refused:?}");
        assert_eq!(listed().rules, before);
        // What somebody else has taken away cannot be taken away again.
        let wrong = marks(&[(key("10.12.1.100", Tcp, 1, 2), 2)]);
        let refused = change(Some(&wrong), &before);
        assert!(matches!(refused, Err(NftError::Refused(_))), "{refused:?}");
        assert_eq!(listed().rules, before);
    });
}

#[test]
fn a_table_that_others_have_changed_is_not_whole() {
    for edit in [
        "flush chain inet gantry_l4 prerouting",
        "add rule inet gantry_l4 prerouting meta mark set 0x1",
        "add chain inet gantry_l4 more",
        "add set inet gantry_l4 more { type mark; }",
        "flush set inet gantry_l4 opened4",
        "add element inet gantry_l4 marks4 { 10.0.0.0/8 . tcp . 1 : 7 }",
        "add element inet gantry_l4 marks4 { 10.0.0.1 . sctp . 1 : 7 }",
    ] {
        Space::new().enter(|| {
            let rules = marks(&[(key("10.12.1.100", Tcp, 104, 104), 1)]);
            make(None, &rules);
            run("nft", &[edit]);
            assert!(!listed().whole, "{edit}");
            make(None, &rules);
        });
    }
}

#[test]
fn packets_and_connections_are_counted_by_port() {
    let pair = Pair::new();
    let one = key("10.12.1.1", Tcp, 104, 104);
    let range = key("fd12::1", Tcp, 11112, 11119);
    let udp = key("10.12.1.1", Udp, 514, 514);
    let rules = marks(&[(one, 0x4700_0001), (range, 0x4700_0001), (udp, 0x4700_0002)]);
    pair.near.enter(|| make(None, &rules));
    pair.far.enter(|| {
        for server in ["10.12.1.1:104", "10.12.1.1:104", "[fd12::1]:11115", "10.12.1.1:9"] {
            let server: SocketAddr = server.parse().unwrap();
            // Nobody listens: the SYN is answered by a reset.
            TcpStream::connect_timeout(&server, Duration::from_secs(5)).unwrap_err();
        }
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.send_to(&[0; 100], "10.12.1.1:514").unwrap();
    });
    pair.near.enter(|| {
        let counted = eventually("the datagram", || {
            Some(listed()).filter(|listed| listed.counters[&udp].packets == 1)
        });
        assert_eq!(counted.connections, BTreeMap::from([(one, 2), (range, 1)]));
        assert_eq!(counted.counters[&one].packets, 2);
        assert!(counted.counters[&range].packets == 1 && counted.counters[&range].bytes >= 60);
        assert_eq!(counted.counters[&udp], Counter { packets: 1, bytes: 128 });

        // What stays goes on counting; what has changed begins anew.
        let more = marks(&[(one, 7), (range, 0x4700_0001), (key("10.12.1.1", Tcp, 1, 1), 9)]);
        let after = make(Some(&rules), &more);
        assert_eq!(after.counters[&range], counted.counters[&range]);
        assert_eq!(after.connections[&range], 1);
        assert_eq!(after.connections[&one], 2, "the mark is another, the ports are the same");
        assert_eq!(after.counters[&one], Counter::default());
    });
}

#[test]
fn the_mark_is_the_whole_mark() {
    let pair = Pair::new();
    let address: IpAddr = "10.12.1.1".parse().unwrap();
    let key = PortKey { address, protocol: Tcp, first: 104, last: 110 };
    pair.near.enter(|| {
        let witness = "table inet witness { chain pre { type filter hook prerouting priority -1; \
                       meta mark 0x47000001 counter; }; chain early { type filter hook prerouting \
                       priority -200; meta mark set 0xffff; }; }";
        run("nft", &[witness]);
        make(None, &marks(&[(key, 0x4700_0001)]));
        let foreign = foreign_marks().unwrap();
        assert_eq!(foreign, ["table inet witness, chain early: meta mark set 0x0000ffff"]);
    });
    pair.far.enter(|| TcpStream::connect((address, 107)).unwrap_err());
    pair.near.enter(|| {
        let shown = run("nft", &["list", "chain", "inet", "witness", "pre"]);
        assert!(shown.contains("counter packets 1"), "{shown}");
    });
}
