//! The client of IPVS, by itself, against a real kernel: what no virtual service asks for, and numbers
//! that no hospital has.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use gantry_agent_l4::ipvs::{
    Checksum, Client, Destination, DestinationKey, Family, Method, Operation, Persistence,
    Scheduler, Service, ServiceKey, SyncDaemon, SyncRole, Timeouts, Tunnel,
};
use gantry_model::service::Protocol;
use gantry_tests::eventually;
use gantry_tests::lab::{self, Lab, Server};
use libtest_mimic::Trial;

pub(crate) fn trials() -> Vec<Trial> {
    trials![
        layer4_client_what_is_written_is_read_back,
        layer4_client_four_thousand_servers_are_read_whole,
        layer4_client_a_refused_operation_stops_no_other,
        layer4_client_timeouts_sync_daemon_and_zero,
        layer4_client_counters_have_64_bits_and_are_ipvsadms,
        layer4_client_services_of_others_are_read_as_such,
    ]
}

/// One node with a loopback, which adding servers needs.
fn node() -> Lab {
    Lab::build().network("lan").node("lb", &[("lan", &["10.77.0.11/24", "fd77::11/64"])]).up()
}

fn key(address: &str, port: u16) -> ServiceKey {
    ServiceKey::Address { protocol: Protocol::Tcp, address: address.parse().unwrap(), port }
}

fn service(key: ServiceKey) -> Service {
    Service {
        key,
        scheduler: Scheduler::RoundRobin,
        hash_ports: false,
        hash_fallback: false,
        one_packet: false,
        persistence: None,
    }
}

fn destination(address: IpAddr, method: Method) -> Destination {
    let key = DestinationKey { address, port: 104 };
    Destination { key, method, weight: 100, upper: 0, lower: 0 }
}

fn ipvsadm(lab: &Lab, arguments: &str) -> String {
    let arguments: Vec<_> = arguments.split_whitespace().collect();
    lab.node("lb").run("ipvsadm", &arguments).output()
}

fn layer4_client_what_is_written_is_read_back() {
    let lab = node();
    let udp = |address: &str| ServiceKey::Address {
        protocol: Protocol::Udp,
        address: address.parse().unwrap(),
        port: 514,
    };
    let marks = [Family::V4, Family::V6].map(|family| ServiceKey::Mark { family, mark: 7 });
    let keys =
        [key("10.77.0.100", 104), key("fd77::100", 104), udp("10.77.0.100"), udp("fd77::100")];
    let mut services: Vec<_> = keys.into_iter().chain(marks).map(service).collect();
    services[0].persistence = Some(Persistence { timeout: 3600, prefix: 24 });
    services[1].persistence = Some(Persistence { timeout: 60, prefix: 64 });
    services[2].one_packet = true;
    for (service, port) in Scheduler::ALL.iter().zip(1000..) {
        let hashes = matches!(service, Scheduler::SourceHash | Scheduler::MaglevHash);
        services.push(Service {
            scheduler: *service,
            hash_ports: hashes,
            hash_fallback: hashes,
            ..self::service(key("10.77.0.101", port))
        });
    }
    let v4: IpAddr = "10.77.0.21".parse().unwrap();
    let v6: IpAddr = "fd77::21".parse().unwrap();
    let gue = Tunnel::Gue { port: 6080, checksum: Checksum::Remote };
    let gre = Tunnel::Gre { checksum: Checksum::Full };
    let methods = [
        Method::Masquerade,
        Method::DirectRouting,
        Method::Tunnel(Tunnel::Ipip),
        Method::Tunnel(gue),
        Method::Tunnel(gre),
    ];
    let mut operations: Vec<_> = services.iter().copied().map(Operation::AddService).collect();
    for (at, service) in services.iter().enumerate() {
        let address = if service.key.family() == Family::V4 { v4 } else { v6 };
        let mut one = destination(address, methods[at % methods.len()]);
        (one.weight, one.upper, one.lower) = (u32::try_from(at).unwrap(), 9, 3);
        operations.push(Operation::AddDestination(service.key, one));
    }
    lab.node("lb").enter(|| {
        let mut client = Client::open().unwrap();
        assert_eq!(client.apply(&operations).unwrap(), []);
        let mut read: Vec<_> =
            client.services().unwrap().into_iter().map(|entry| entry.service.unwrap()).collect();
        read.sort_by_key(|service| service.key);
        services.sort_by_key(|service| service.key);
        assert_eq!(read, services);
        for operation in &operations {
            let Operation::AddDestination(key, wanted) = operation else { continue };
            let held = client.destinations(key).unwrap();
            assert_eq!((held.len(), held[0].destination), (1, *wanted));
        }
        let edits: Vec<_> = services
            .iter()
            .map(|service| {
                Operation::SetService(Service {
                    scheduler: Scheduler::Failover,
                    hash_ports: false,
                    hash_fallback: false,
                    persistence: None,
                    ..*service
                })
            })
            .chain(services.iter().map(|service| Operation::DeleteService(service.key)))
            .collect();
        assert_eq!(client.apply(&edits).unwrap(), []);
        assert_eq!(client.services().unwrap(), []);
    });
}

fn layer4_client_four_thousand_servers_are_read_whole() {
    let lab = node();
    let at = key("10.77.0.100", 104);
    let address = |number: u32| IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + number));
    let servers = (1..=4000).map(|number| {
        Operation::AddDestination(at, destination(address(number), Method::Masquerade))
    });
    let operations: Vec<_> =
        std::iter::once(Operation::AddService(service(at))).chain(servers).collect();
    lab.node("lb").enter(|| {
        let mut client = Client::open().unwrap();
        assert_eq!(client.apply(&operations).unwrap(), []);
        let mut read: Vec<_> = client
            .destinations(&at)
            .unwrap()
            .iter()
            .map(|entry| entry.destination.key.address)
            .collect();
        read.sort_unstable();
        assert_eq!(read, (1..=4000).map(address).collect::<Vec<_>>());
    });
}

fn layer4_client_a_refused_operation_stops_no_other() {
    let lab = node();
    let (one, two, none) = (key("10.77.0.100", 104), key("10.77.0.100", 105), key("10.77.0.1", 1));
    let server = destination("10.77.0.21".parse().unwrap(), Method::Masquerade);
    let operations = [
        Operation::AddService(service(one)),
        Operation::AddService(service(one)),
        Operation::SetDestination(one, server),
        Operation::DeleteService(none),
        Operation::AddDestination(one, Destination { lower: 9, upper: 3, ..server }),
        Operation::AddService(service(two)),
    ];
    lab.node("lb").enter(|| {
        let mut client = Client::open().unwrap();
        let refused = client.apply(&operations).unwrap();
        let at: Vec<_> = refused.iter().map(|failure| failure.at).collect();
        assert_eq!(at, [1, 2, 3, 4], "{refused:?}");
        assert!(refused.iter().all(|failure| !failure.message.is_empty()), "{refused:?}");
        assert_eq!(client.services().unwrap().len(), 2);
    });
}

fn layer4_client_timeouts_sync_daemon_and_zero() {
    let lab = node();
    lab.node("lb").enter(|| {
        let mut client = Client::open().unwrap();
        client.set_timeouts(Timeouts { tcp: 86_400, tcp_fin: 60, udp: 0 }).unwrap();
        let held = client.timeouts().unwrap();
        assert_eq!((held.tcp, held.tcp_fin, held.udp), (86_400, 60, 300));
        let daemon = SyncDaemon {
            role: SyncRole::Master,
            interface: "eth0".to_owned(),
            sync_id: 7,
            max_len: None,
            group: None,
            port: Some(8849),
            ttl: None,
        };
        client.start_sync(&daemon).unwrap();
        client.start_sync(&SyncDaemon { role: SyncRole::Backup, ..daemon.clone() }).unwrap();
        let running = client.sync_daemons().unwrap();
        assert_eq!(running.len(), 2, "both roles at once: {running:?}");
        assert!(running.iter().all(|one| one.sync_id == 7 && one.port == Some(8849)));
        client.stop_sync(SyncRole::Master).unwrap();
        client.stop_sync(SyncRole::Backup).unwrap();
        assert_eq!(client.sync_daemons().unwrap(), []);
        client.zero(None).unwrap();
        let info = client.info().unwrap();
        assert!(info.version.major >= 1 && info.connection_table_size > 0);
    });
}

fn layer4_client_counters_have_64_bits_and_are_ipvsadms() {
    let lab = Lab::two_arm();
    let (lb1, c1) = (lab.node("lb1"), lab.node("c1"));
    lb1.ip(&["addr add 10.78.0.100/32 dev eth1"]);
    let _server = Server::tcp(lab.node("rs1"), "rs1", &[104]);
    let at = key("10.78.0.100", 104);
    let server = destination("10.77.0.21".parse().unwrap(), Method::Masquerade);
    let mut client = lb1.enter(|| {
        let mut client = Client::open().unwrap();
        let operations =
            [Operation::AddService(service(at)), Operation::AddDestination(at, server)];
        assert_eq!(client.apply(&operations).unwrap(), []);
        client
    });
    let mut held =
        lab::Client::connect(c1, None, SocketAddr::from(([10, 78, 0, 100], 104))).unwrap();
    held.echoes().unwrap();
    // The kernel adds its counters up every two seconds.
    let counted = lb1.block_on(async || {
        eventually("the connection is counted", async || {
            let counted = client.services().unwrap()[0].statistics;
            (counted.packets_in >= 5 && counted.packets_out >= 3).then_some(counted)
        })
        .await
    });
    let entry = client.destinations(&at).unwrap().remove(0);
    assert_eq!((entry.active, entry.inactive, counted.connections), (1, 0, 1));
    let shown = lb1.run("ipvsadm", &["-Ln", "--stats", "--exact"]).output();
    let line = shown.lines().find(|line| line.contains("10.78.0.100:104")).unwrap();
    let numbers: Vec<u64> =
        line.split_whitespace().skip(2).map(|number| number.parse().unwrap()).collect();
    let now = client.services().unwrap()[0].statistics;
    let ours = [now.connections, now.packets_in, now.packets_out, now.bytes_in, now.bytes_out];
    assert_eq!(numbers, ours, "{shown}");
    client.zero(Some(&at)).unwrap();
    assert_eq!(client.services().unwrap()[0].statistics.connections, 0);
}

fn layer4_client_services_of_others_are_read_as_such() {
    let lab = node();
    // Not by way of ipvsadm, which waits for the module with the lock of all of IPVS; the module waits
    // for the namespaces that are being taken down, and these wait for that lock.
    lab.node("lb").run("modprobe", &["ip_vs_lblc"]).output();
    ipvsadm(&lab, "-A -t 10.77.0.100:80 -s lblc");
    ipvsadm(&lab, "-A -t 10.77.0.100:81 -s rr");
    ipvsadm(&lab, "-A --sctp-service 10.77.0.100:82 -s rr");
    lab.node("lb").enter(|| {
        let entries = Client::open().unwrap().services().unwrap();
        let mut told: Vec<_> =
            entries.iter().map(|entry| (entry.key, entry.service.is_some())).collect();
        told.sort_unstable();
        assert_eq!(told, [(key("10.77.0.100", 80), false), (key("10.77.0.100", 81), true)]);
    });
}
