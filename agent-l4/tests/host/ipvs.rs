//! Together with IPVS: what the table, the settings and the list of connections are for.
//!
//! Few kernels of build machines have IPVS, so these run only when asked for:
//! `cargo test -p gantry-agent-l4 --test host -- --ignored`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use gantry_agent_l4::host::connections::{self, Carried};
use gantry_agent_l4::host::nft::{self, PortKey, Rules};
use gantry_agent_l4::host::route::Route;
use gantry_agent_l4::host::sysctl::{Needs, ensure, settings};
use gantry_model::service::Protocol::{Tcp, Udp};
use gantry_runtime::clock;

use crate::space::{NEAR, Pair, Space, interface, ip, local, run};

const MARK: u32 = 0x4700_0001;

/// A client, a load balancer, and a server that knows no way back to the client.
struct Site {
    client: Space,
    balancer: Space,
    server: Space,
}

impl Site {
    /// Virtual addresses 10.12.1.100 and fd12::100; the server has 10.13.1.2 and fd13::2, and the
    /// load balancer 10.13.1.99 and fd13::99 for it to see.
    fn new() -> Self {
        let Pair { near: balancer, far: client } = Pair::new();
        let server = Space::new();
        balancer.enter(|| {
            ip(&format!("link add back type veth peer name front netns {}", server.path()));
            ip("address add 10.13.1.1/24 dev back");
            ip("address add fd13::1/64 dev back nodad");
            ip("link set back up");
            let mut route = Route::open().unwrap();
            for (name, address) in [
                (NEAR, "10.12.1.100"),
                (NEAR, "fd12::100"),
                ("back", "10.13.1.99"),
                ("back", "fd13::99"),
            ] {
                let index = interface(name).index;
                route.add_address(index, address.parse().unwrap(), None).unwrap();
            }
        });
        server.enter(|| {
            ip("address add 10.13.1.2/24 dev front");
            ip("address add fd13::2/64 dev front nodad");
            ip("link set front up");
            local("fd13::2");
        });
        balancer.enter(|| ["fd12::100", "fd13::99"].map(local));
        Self { client, balancer, server }
    }
}

/// Runs `ipvsadm` with these words.
fn ipvsadm(words: &str) {
    run("ipvsadm", &words.split(' ').collect::<Vec<_>>());
}

fn key(address: &str, protocol: gantry_model::service::Protocol, first: u16, last: u16) -> PortKey {
    PortKey { address: address.parse().unwrap(), protocol, first, last }
}

/// A service of several ports by mark and SNAT, of both families.
fn translate() -> Rules {
    let keys = |tcp: fn(&str) -> PortKey| ["10.12.1.100", "fd12::100"].map(tcp);
    let ports = [
        keys(|address| key(address, Tcp, 104, 104)),
        keys(|address| key(address, Tcp, 11112, 11119)),
        keys(|address| key(address, Udp, 514, 514)),
    ];
    let source = |key: &PortKey| -> IpAddr {
        let text = if key.address.is_ipv4() { "10.13.1.99" } else { "fd13::99" };
        text.parse().unwrap()
    };
    let ports = ports.as_flattened();
    Rules {
        marks: ports.iter().map(|key| (*key, MARK)).collect(),
        sources: ports.iter().map(|key| (*key, source(key))).collect(),
    }
}

fn prepare(rules: &Rules) {
    for family in ["", " -6"] {
        ipvsadm(&format!("-A -f {MARK}{family} -s rr -p 300"));
    }
    ipvsadm(&format!("-a -f {MARK} -r 10.13.1.2 -m"));
    ipvsadm(&format!("-a -f {MARK} -6 -r [fd13::2]:0 -m"));
    nft::change(None, rules).unwrap();
    let needs = Needs {
        forwards_ipv4: true,
        forwards_ipv6: true,
        forwarding: BTreeSet::from([NEAR.to_owned()]),
        snat: Some(Duration::from_secs(1_000_000)),
        ..Needs::default()
    };
    for outcome in ensure(&settings(&needs)) {
        assert!(outcome.is_right() && outcome.error.is_none(), "{outcome:?}");
    }
}

#[test]
#[ignore = "needs a kernel with IPVS"]
fn a_service_by_mark_is_translated_at_its_own_ports_only() {
    let site = Site::new();
    let rules = translate();
    site.balancer.enter(|| prepare(&rules));
    for (virtual_address, server, seen, own) in [
        ("10.12.1.100", "10.13.1.2", "10.13.1.99", "10.13.1.1"),
        ("fd12::100", "fd13::2", "fd13::99", "fd13::1"),
    ] {
        let [virtual_address, server, seen, own] =
            [virtual_address, server, seen, own].map(|text| text.parse::<IpAddr>().unwrap());
        for port in [104, 11115] {
            let listener = site.server.enter(|| TcpListener::bind((server, port)).unwrap());
            let from = site.client.enter(|| tcp((virtual_address, port).into()));
            let (_, peer) = listener.accept().unwrap();
            assert_eq!(peer, (seen, from.local_addr().unwrap().port()).into(), "port is kept");
            // What the load balancer itself says to the server is left alone.
            let _check = site.balancer.enter(|| tcp((server, port).into()));
            assert_eq!(listener.accept().unwrap().1.ip(), own);
        }
        let socket = site.server.enter(|| UdpSocket::bind((server, 514)).unwrap());
        site.client.enter(|| udp((virtual_address, 514).into()));
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        assert_eq!(socket.recv_from(&mut [0; 8]).unwrap().1.ip(), seen);
    }
    site.balancer.enter(|| counted(&rules));
}

fn tcp(server: SocketAddr) -> TcpStream {
    TcpStream::connect_timeout(&server, Duration::from_secs(10)).unwrap()
}

fn udp(server: SocketAddr) {
    let any: IpAddr = if server.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
    UdpSocket::bind((any, 0)).unwrap().send_to(b"x", server).unwrap();
}

/// Packets, connections, and the persistence of both clients.
fn counted(rules: &Rules) {
    let listed = nft::read().unwrap().unwrap();
    assert!(listed.whole && listed.rules == *rules);
    let ones: BTreeMap<_, _> = listed.connections.keys().map(|key| (*key, 1)).collect();
    assert_eq!(listed.connections, ones);
    assert_eq!(listed.counters[&key("10.12.1.100", Udp, 514, 514)].packets, 1);
    let found = connections::read(1000).unwrap();
    assert_eq!((found.skipped, found.cut), (0, false));
    let templates: Vec<_> = found.entries.iter().filter(|entry| entry.template).collect();
    assert_eq!(templates.len(), 2, "one persistence over all ports: {found:?}");
    for template in templates {
        assert_eq!((template.mark(), template.protocol), (Some(MARK), Carried::Any));
        assert!(template.expires <= Duration::from_secs(300));
    }
    assert_eq!(found.entries.len(), 2 + 6, "{found:?}");
}

#[test]
#[ignore = "needs a kernel with IPVS"]
fn a_hundred_thousand_connections_are_read_in_bounded_time() {
    const EACH: u16 = 25_000;
    let site = Site::new();
    site.balancer.enter(|| {
        ipvsadm("-A -u 10.12.1.100:514 -s rr");
        ipvsadm("-a -u 10.12.1.100:514 -r 10.13.1.2:514 -m");
    });
    site.client.enter(|| {
        for number in 11..15 {
            ip(&format!("address add 10.12.1.{number}/24 dev far"));
            for port in 2000..2000 + EACH {
                let socket = UdpSocket::bind((Ipv4Addr::new(10, 12, 1, number), port)).unwrap();
                socket.send_to(b"x", "10.12.1.100:514").unwrap();
            }
        }
    });
    site.balancer.enter(|| {
        for limit in [1000, 10_000, 20_000, 200_000] {
            let begin = clock::monotonic();
            let found = connections::read(limit).unwrap();
            let took = clock::monotonic().duration_since(begin);
            let number = found.entries.len();
            assert!(found.cut == (number < 100_000) && found.skipped == 0, "{number}");
            assert!(took < Duration::from_secs(10), "{took:?}");
            #[expect(clippy::print_stdout, reason = "what was measured")]
            {
                println!("read {number} connections in {took:?}");
            }
        }
    });
}
