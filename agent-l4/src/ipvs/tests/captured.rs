//! Held against what `ipvsadm` and the kernel (6.1) said to each other, as `strace` saw it.

use std::collections::BTreeMap;
use std::fs;

use super::super::attribute::{Table, Writer};
use super::super::uapi::{DUMP, command, dest, top};
use super::super::{decode, encode};
use super::*;

/// A request, and the messages that answered it.
struct Exchange {
    request: Vec<u8>,
    replies: Vec<Vec<u8>>,
}

/// The attributes of a message, by kind; of a nest by two.
type Attributes = BTreeMap<(u16, u16), Vec<u8>>;

const MARK4: ServiceKey = ServiceKey::Mark { family: Family::V4, mark: 0x4700_0001 };
const MARK6: ServiceKey = ServiceKey::Mark { family: Family::V6, mark: 0x4700_0001 };

fn exchanges(name: &str) -> Vec<Exchange> {
    let path = format!("{}/tests/data/ipvsadm/{name}.hex", env!("CARGO_MANIFEST_DIR"));
    let mut exchanges = Vec::<Exchange>::new();
    for line in fs::read_to_string(&path).expect(&path).lines() {
        match line.split_at(2) {
            ("> ", hex) => exchanges.push(Exchange { request: unhex(hex), replies: Vec::new() }),
            ("< ", hex) => exchanges.last_mut().unwrap().replies.push(unhex(hex)),
            _ => {}
        }
    }
    exchanges
}

fn exchange(name: &str) -> Exchange {
    let mut exchanges = exchanges(name);
    assert_eq!(exchanges.len(), 1, "{name}");
    exchanges.remove(0)
}

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<_> = text.chars().map(|digit| digit.to_digit(16).unwrap()).collect();
    digits.chunks(2).map(|pair| u8::try_from(pair[0] * 16 + pair[1]).unwrap()).collect()
}

/// What the replies say, as the client would read them.
fn read<T>(
    exchange: &Exchange,
    read: impl Fn(&Table<'_>) -> Result<Option<T>, Error>,
) -> Result<Vec<T>, Error> {
    let sequence = u32::from_ne_bytes(exchange.request[8..12].try_into().unwrap());
    let mut reading = Reading::new(sequence);
    let (last, rest) = exchange.replies.split_last().unwrap();
    assert!(!reading.take(&rest.concat(), &read).unwrap());
    let flags = u16::from_ne_bytes(exchange.request[6..8].try_into().unwrap());
    let listed = flags & DUMP != 0;
    let over = reading.take(last, &read)?;
    // ipvsadm does not wait for the acknowledgement behind a single answer.
    assert!(over || !listed);
    Ok(reading.finish()?.unwrap())
}

fn attributes(request: &[u8]) -> Attributes {
    let message = Messages::new(request).next().unwrap().unwrap();
    let table = message.table().unwrap();
    let mut attributes = Attributes::new();
    for kind in 1..=top::TIMEOUT_UDP {
        let Some(value) = table.get(kind) else { continue };
        if kind >= top::TIMEOUT_TCP {
            attributes.insert((kind, 0), value.to_vec());
            continue;
        }
        let nest = Table::read(value).unwrap();
        attributes.extend(
            (0..16)
                .filter_map(|inner| nest.get(inner).map(|value| ((kind, inner), value.to_vec()))),
        );
    }
    attributes
}

/// What of `ipvsadm`'s request `fill` leaves out; the rest must be the same.
fn left_out(name: &str, command: u8, fill: impl FnOnce(&mut Writer<'_>)) -> Attributes {
    let request = exchange(name).request;
    let envelope = Envelope { family: 0x20, flags: 5, sequence: 1, command };
    let mut written = Vec::new();
    message::write(&mut written, envelope, fill);
    assert_eq!(written[4..8], request[4..8], "{name}: family and flags");
    assert_eq!(written[16..20], request[16..20], "{name}: command");
    let mut theirs = attributes(&request);
    for (kind, value) in attributes(&written) {
        assert_eq!(theirs.remove(&kind), Some(value), "{name}: attribute {kind:?}");
    }
    theirs
}

fn services() -> Vec<(&'static str, Service)> {
    use Scheduler::*;
    let tunable = |port, scheduler, hash_fallback, hash_ports| Service {
        hash_fallback,
        hash_ports,
        ..service(tcp("10.0.0.1", port), scheduler)
    };
    let persistent = |key, timeout, prefix| Service {
        persistence: Some(Persistence { timeout, prefix }),
        ..service(key, WeightedLeastConnection)
    };
    vec![
        ("svc-tcp4", service(tcp("10.0.0.1", 104), RoundRobin)),
        (
            "svc-udp4",
            Service { one_packet: true, ..service(udp("10.0.0.1", 514), WeightedRoundRobin) },
        ),
        ("svc-tcp6", service(tcp("2001:db8::1", 104), LeastConnection)),
        ("svc-udp6", service(udp("2001:db8::1", 514), WeightedLeastConnection)),
        ("svc-mark4", persistent(MARK4, 300, 32)),
        ("svc-mark6", persistent(MARK6, 300, 128)),
        ("svc-persist4", persistent(tcp("10.0.0.1", 11112), 600, 24)),
        ("svc-persist6", persistent(tcp("2001:db8::1", 11112), 600, 64)),
        ("svc-anyport", persistent(tcp("10.0.0.1", 0), 300, 32)),
        ("svc-sh", tunable(2001, SourceHash, true, true)),
        ("svc-mh", tunable(2002, MaglevHash, true, true)),
        ("svc-mh-port", tunable(2010, MaglevHash, false, true)),
        ("svc-fallback", tunable(2008, SourceHash, true, false)),
        ("svc-sed", service(tcp("10.0.0.1", 2003), ShortestExpectedDelay)),
        ("svc-nq", service(tcp("10.0.0.1", 2004), NeverQueue)),
        ("svc-dh", service(tcp("10.0.0.1", 2005), DestinationHash)),
        ("svc-fo", service(tcp("10.0.0.1", 2006), Failover)),
        ("svc-ovf", service(tcp("10.0.0.1", 2007), Overflow)),
    ]
}

/// The servers of `10.0.0.1:104`, as they were added.
fn servers() -> Vec<(&'static str, Destination)> {
    let tunnel = |address, tunnel| server(address, 104, Method::Tunnel(tunnel));
    let gue = |address, checksum| tunnel(address, Tunnel::Gue { port: 6080, checksum });
    let limited =
        Destination { upper: 100, lower: 50, ..server("10.1.0.2", 104, Method::DirectRouting) };
    vec![
        ("dst-nat", Destination { weight: 3, ..server("10.1.0.1", 11104, Method::Masquerade) }),
        ("dst-dr", limited),
        ("dst-ipip", Destination { weight: 0, ..tunnel("10.1.0.3", Tunnel::Ipip) }),
        ("dst-gue", gue("10.1.0.4", Checksum::Full)),
        ("dst-gue-rem", gue("10.1.0.5", Checksum::Remote)),
        ("dst-gue-no", gue("10.1.0.6", Checksum::None)),
        ("dst-gre", tunnel("10.1.0.7", Tunnel::Gre { checksum: Checksum::Full })),
        ("dst-gre-no", tunnel("10.1.0.8", Tunnel::Gre { checksum: Checksum::None })),
        ("dst-local", server("127.0.0.1", 104, Method::DirectRouting)),
        ("dst-v6-in-v4", tunnel("2001:db8:1::9", Tunnel::Ipip)),
    ]
}

#[test]
fn services_are_written_as_ipvsadm_does() {
    for (name, service) in services() {
        let add = Operation::AddService(service);
        let rest = left_out(name, command::NEW_SERVICE, |message| {
            encode::operation(message, &add);
        });
        assert_eq!(rest, Attributes::new(), "{name}");
    }
    let set = Operation::SetService(Service {
        persistence: Some(Persistence { timeout: 120, prefix: 32 }),
        ..service(tcp("10.0.0.1", 2008), Scheduler::WeightedRoundRobin)
    });
    let rest =
        left_out("svc-edit", command::SET_SERVICE, |message| encode::operation(message, &set));
    assert_eq!(rest, Attributes::new());
    // More than the key is not looked at.
    let delete = Operation::DeleteService(MARK6);
    left_out("svc-delete-mark6", command::DEL_SERVICE, |message| {
        encode::operation(message, &delete);
    });
}

#[test]
fn servers_are_written_as_ipvsadm_does() {
    let key = tcp("10.0.0.1", 104);
    let of = |key, name, server| (name, Operation::AddDestination(key, server));
    let mut added: Vec<_> =
        servers().into_iter().map(|(name, server)| of(key, name, server)).collect();
    let six = Destination { weight: 2, ..server("2001:db8:1::1", 104, Method::Masquerade) };
    added.push(of(tcp("2001:db8::1", 104), "dst-v6", six));
    added.push(of(MARK4, "dst-mark", server("10.1.0.1", 0, Method::DirectRouting)));
    added.push(of(MARK6, "dst-mark6", server("2001:db8:1::1", 0, Method::DirectRouting)));
    for (name, add) in added {
        let rest = left_out(name, command::NEW_DEST, |message| encode::operation(message, &add));
        let tunnels = (top::DEST, dest::TUN_TYPE)..=(top::DEST, dest::TUN_FLAGS);
        for (kind, value) in rest.into_iter().filter(|(kind, _)| kind.0 == top::DEST) {
            assert!(tunnels.contains(&kind) && value.iter().all(|byte| *byte == 0), "{name}");
        }
    }
    let drained = Destination { weight: 0, ..server("10.1.0.1", 11104, Method::Masquerade) };
    let set = Operation::SetDestination(key, drained);
    left_out("dst-edit", command::SET_DEST, |message| encode::operation(message, &set));
    let gone = DestinationKey { address: ip("10.1.0.8"), port: 104 };
    let delete = Operation::DeleteDestination(key, gone);
    left_out("dst-delete", command::DEL_DEST, |message| encode::operation(message, &delete));
}

#[test]
fn the_rest_is_written_as_ipvsadm_does() {
    let timeouts = Timeouts { tcp: 7200, tcp_fin: 60, udp: 120 };
    let none = Attributes::new();
    let rest = left_out("timeouts-set", command::SET_CONFIG, |message| {
        encode::timeouts(message, &timeouts);
    });
    assert_eq!(rest, none);
    let key = tcp("10.0.0.1", 9104);
    left_out("zero-one", command::ZERO, |message| encode::service(message, &key));
    assert_eq!(left_out("zero-all", command::ZERO, |_| {}), none);
    for (name, daemon) in [("daemon-start", master()), ("daemon-backup", backup())] {
        let rest = left_out(name, command::NEW_DAEMON, |message| encode::daemon(message, &daemon));
        assert_eq!(rest, none, "{name}");
    }
    let six = SyncDaemon { sync_id: 0, group: Some(ip("ff02::81")), ..master() };
    let rest = left_out("daemon-six", command::NEW_DAEMON, |message| encode::daemon(message, &six));
    assert_eq!(rest, none);
    left_out("daemon-stop", command::DEL_DAEMON, |message| {
        encode::role(message, SyncRole::Master);
    });
}

fn master() -> SyncDaemon {
    SyncDaemon {
        role: SyncRole::Master,
        interface: "d0".to_owned(),
        sync_id: 71,
        max_len: None,
        group: None,
        port: None,
        ttl: None,
    }
}

fn backup() -> SyncDaemon {
    SyncDaemon {
        role: SyncRole::Backup,
        max_len: Some(1400),
        group: Some(ip("224.0.0.82")),
        port: Some(8849),
        ttl: Some(2),
        ..master()
    }
}

#[test]
fn every_service_is_read_and_strangers_are_told_apart() {
    let listed = exchanges("list-stats").remove(0);
    let mut held = read(&listed, decode::service).unwrap();
    held.sort_by_key(|entry| entry.key);
    // All that were added, but for one that was edited and one that was deleted.
    let mut expected: Vec<_> = services()
        .into_iter()
        .filter(|(name, _)| !["svc-fallback", "svc-mark6"].contains(name))
        .map(|(_, service)| (service.key, Some(service)))
        .collect();
    let edited = Service {
        persistence: Some(Persistence { timeout: 120, prefix: 32 }),
        ..service(tcp("10.0.0.1", 2008), Scheduler::WeightedRoundRobin)
    };
    let busy = service(tcp("10.0.0.1", 9104), Scheduler::RoundRobin);
    expected.extend([edited, busy].map(|service| (service.key, Some(service))));
    // A persistence engine, a scheduler of another's, a netmask with a hole.
    expected.push((udp("10.0.0.1", 5060), None));
    expected.push((tcp("10.0.0.1", 3128), None));
    expected.push((tcp("10.0.0.1", 3129), None));
    expected.sort_by_key(|(key, _)| *key);
    let held: Vec<_> = held.iter().map(|entry| (entry.key, entry.service)).collect();
    assert_eq!(held, expected);
}

#[test]
fn every_server_is_read() {
    let mut lists = exchanges("list-stats").into_iter().skip(1).map(|listed| {
        let key = asked_for(&listed.request);
        (key, read(&listed, decode::destination).unwrap())
    });
    let (_, mut held) = lists.find(|(key, _)| *key == Some(tcp("10.0.0.1", 104))).unwrap();
    held.sort_by_key(|entry| entry.destination.key);
    let mut expected: Vec<_> = servers()
        .into_iter()
        .filter(|(name, _)| *name != "dst-gre-no")
        .map(|(name, server)| match name {
            "dst-nat" => Destination { weight: 0, ..server },
            _ => server,
        })
        .collect();
    expected.sort_by_key(|server| server.key);
    assert_eq!(held.iter().map(|entry| entry.destination).collect::<Vec<_>>(), expected);
}

/// Which service a list of servers was asked for.
fn asked_for(request: &[u8]) -> Option<ServiceKey> {
    let message = Messages::new(request).next().unwrap().unwrap();
    decode::service_key(&message.table().unwrap().nest(top::SERVICE).unwrap()).unwrap()
}

#[test]
fn traffic_is_counted() {
    let mut lists = exchanges("list-stats");
    let busy = tcp("10.0.0.1", 9104);
    let servers = lists
        .iter()
        .skip(1)
        .find(|listed| asked_for(&listed.request) == Some(busy))
        .map(|listed| read(listed, decode::destination).unwrap())
        .unwrap();
    let services = read(&lists.remove(0), decode::service).unwrap();
    let service = services.iter().find(|entry| entry.key == busy).unwrap();
    let [server] = servers.as_slice() else { panic!("{servers:?}") };
    for counted in [service.statistics, server.statistics] {
        let totals = [
            counted.connections,
            counted.packets_in,
            counted.packets_out,
            counted.bytes_in,
            counted.bytes_out,
        ];
        // As ipvsadm printed them.
        assert_eq!(totals, [7, 35, 35, 1911, 2576]);
    }
    assert_eq!((server.active, server.inactive, server.persistent), (0, 7, 0));
}

#[test]
fn the_rest_is_read() {
    let daemons = read(&exchange("daemons"), decode::daemon).unwrap();
    let complete = SyncDaemon {
        max_len: Some(1472),
        group: Some(ip("224.0.0.81")),
        port: Some(8848),
        ttl: Some(1),
        ..master()
    };
    assert_eq!(daemons, [complete.clone(), backup()]);
    let daemons = read(&exchange("daemons-six"), decode::daemon).unwrap();
    let group = Some(ip("ff02::81"));
    assert_eq!(daemons[0], SyncDaemon { max_len: Some(1452), group, sync_id: 0, ..complete });
    let timeouts = read(&exchange("timeouts"), decode::timeouts).unwrap();
    assert_eq!(timeouts, [Timeouts { tcp: 7200, tcp_fin: 60, udp: 120 }]);
    let info = read(&exchange("info"), decode::info).unwrap();
    let version = Version { major: 1, minor: 2, patch: 1 };
    assert_eq!(info, [Info { version, connection_table_size: 4096 }]);
    let family = read(&exchange("family"), |table| table.u16(1).map(Some)).unwrap();
    assert_eq!(family, [0x20]);
}

#[test]
fn refusals_are_read() {
    for (name, errno) in [
        ("svc-again", Errno::EXIST),
        ("svc-unknown", Errno::NOENT),
        ("dst-again", Errno::EXIST),
        ("dst-missing", Errno::NOENT),
    ] {
        let refused = read(&exchange(name), |_| Ok(None::<()>)).unwrap_err();
        assert_eq!(refused.errno(), Some(errno), "{name}");
    }
}
