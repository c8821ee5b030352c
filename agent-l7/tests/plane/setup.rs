//! Which server a connection gets, and what happens when one fails.

use std::io::{Read, Write};
use std::net::{Ipv6Addr, TcpListener};
use std::num::NonZeroU8;
use std::time::Duration;

use gantry_agent_l7::steer::Door;
use gantry_model::server::{AdminState, Weight};
use gantry_model::service::{Algorithm, Persistence, PersistenceKey, Strategy};
use gantry_proto::agent::v1::question::{Assign, Entries, Forget};
use gantry_runtime::agent::{Ask, Observe};

use crate::support::{
    Bed, Deaf, endpoint, expect_reset, greeter, greeter_at, is_alive, layer7, nobody, server, until,
};

const HOUR: Duration = Duration::from_secs(3600);

fn sticky(timeout: Duration, prefix: u8) -> Option<Persistence> {
    let prefix = NonZeroU8::new(prefix);
    Some(Persistence { key: PersistenceKey::SourceIp, timeout, prefix })
}

#[test]
fn round_robin_follows_the_weights() {
    let mut bed = Bed::new();
    let mut servers = [("a", 'a'), ("b", 'b')].map(|(id, name)| server("pacs", id, greeter(name)));
    servers[0].weight = Weight::new(30).unwrap();
    servers[1].weight = Weight::new(10).unwrap();
    bed.put(&bed.service("pacs", "104"), &servers);
    let came: Vec<char> = (0..40).map(|_| bed.visit(104).0).collect();
    assert_eq!(came.iter().filter(|name| **name == 'a').count(), 30);
}

#[test]
fn least_connection_looks_at_what_is_open() {
    let mut bed = Bed::new();
    let servers = [("a", 'a'), ("b", 'b')].map(|(id, name)| server("pacs", id, greeter(name)));
    let mut service = bed.service("pacs", "104");
    layer7(&mut service).algorithm = Algorithm::WeightedLeastConnection;
    bed.put(&service, &servers);
    let open: Vec<_> = (0..10).map(|_| bed.visit(104)).collect();
    assert_eq!(open.iter().filter(|(name, _)| *name == 'a').count(), 5);
    let (kept, closed): (Vec<_>, Vec<_>) = open.into_iter().partition(|(name, _)| *name == 'a');
    drop(closed);
    until("b is idle", || bed.server("pacs", "b").active == 0);
    let next: Vec<_> = (0..5).map(|_| bed.visit(104)).collect();
    assert!(next.iter().all(|(name, _)| *name == 'b'));
    drop(kept);
}

#[test]
fn source_hash_and_failover_stay_where_they_are() {
    let mut bed = Bed::new();
    let mut servers = [("a", 'a'), ("b", 'b')].map(|(id, name)| server("pacs", id, greeter(name)));
    servers[0].priority = 2;
    servers[1].priority = 1;
    let mut service = bed.service("pacs", "104");
    layer7(&mut service).algorithm = Algorithm::SourceHash;
    bed.put(&service, &servers);
    let first = bed.visit(104).0;
    assert!((0..10).all(|_| bed.visit(104).0 == first));

    service.strategy = Strategy::Failover;
    bed.put(&service, &servers);
    assert_eq!(bed.visit(104).0, 'b');
    bed.verdict("pacs", "b", Some(false));
    assert_eq!(bed.visit(104).0, 'a');
    bed.verdict("pacs", "b", Some(true));
    assert_eq!(bed.visit(104).0, 'b');
}

#[test]
fn a_refused_connection_goes_elsewhere_unseen() {
    let mut bed = Bed::new();
    let servers = [
        server("pacs", "a", nobody()),
        server("pacs", "b", nobody()),
        server("pacs", "c", greeter('c')),
    ];
    bed.put(&bed.service("pacs", "104"), &servers);
    for _ in 0..20 {
        assert_eq!(bed.visit(104).0, 'c');
    }
    assert!(bed.server("pacs", "a").traffic.connect_failures > 0);
    assert_eq!(bed.sample("pacs").unserved, 0);
    assert_eq!(bed.server("pacs", "c").traffic.connections, 20);
}

#[test]
fn a_server_that_does_not_answer_is_given_up() {
    let deaf = Deaf::new();
    let at = deaf.at;
    let mut bed = Bed::new();
    let mut service = bed.service("pacs", "104");
    service.strategy = Strategy::Failover;
    layer7(&mut service).timeouts.connect = Duration::from_millis(50);
    bed.put(&service, &[server("pacs", "a", at), server("pacs", "b", greeter('b'))]);
    assert_eq!(bed.visit(104).0, 'b');
    assert_eq!(bed.server("pacs", "a").traffic.connect_failures, 1);
    bed.put(&service, &[server("pacs", "a", at)]);
    expect_reset(&mut bed.connect(104));
    assert_eq!(bed.sample("pacs").unserved, 1);
}

#[test]
fn early_words_of_the_client_survive_a_retry() {
    let mut bed = Bed::new();
    let servers = [server("pacs", "a", nobody()), server("pacs", "b", greeter('b'))];
    bed.put(&bed.service("pacs", "104"), &servers);
    let mut stream = bed.connect(104);
    stream.write_all(b"hello").unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut heard = String::new();
    stream.read_to_string(&mut heard).unwrap();
    assert_eq!(heard, "bhello");
}

#[test]
fn the_fallback_serves_when_no_server_does() {
    let mut bed = Bed::new();
    let mut service = bed.service("pacs", "104");
    service.fallback = Some(endpoint(greeter('f')));
    let servers = [server("pacs", "a", greeter('a')), server("pacs", "b", nobody())];
    bed.put(&service, &servers);
    assert_eq!(bed.visit(104).0, 'a');
    bed.verdict("pacs", "a", Some(false));
    assert_eq!(bed.visit(104).0, 'f', "a is down and b refuses");
    bed.verdict("pacs", "b", Some(false));
    assert_eq!(bed.visit(104).0, 'f');
    bed.put(&service, &[]);
    assert_eq!(bed.visit(104).0, 'f');

    service.fallback = None;
    bed.put(&service, &[]);
    expect_reset(&mut bed.connect(104));
    assert_eq!(bed.sample("pacs").unserved, 1);
}

#[test]
fn a_client_that_is_forgotten_goes_elsewhere() {
    let mut bed = Bed::new();
    let mut service = bed.service("pacs", "104");
    service.persistence = sticky(HOUR, 24);
    let servers = [("a", 'a'), ("b", 'b')].map(|(id, name)| server("pacs", id, greeter(name)));
    bed.put(&service, &servers);
    let (home, mut open) = bed.visit_from([127, 1, 1, 1]);
    let _other = bed.visit_from([127, 1, 2, 1]);
    let memory = bed.plane.memory(&service.name).unwrap();
    let clients = memory.clients(Some("127.1.1.9")).unwrap();
    assert_eq!(clients.len(), 1);
    assert_eq!((clients[0].client.as_str(), clients[0].left), ("127.1.1.0/24", HOUR));
    assert_eq!(clients[0].server.as_str(), home.to_string());
    let at = servers.iter().find(|server| server.name.server == clients[0].server).unwrap();
    assert_eq!(clients[0].endpoint, Some(at.endpoint));
    assert_eq!(memory.clients(None).unwrap().len(), 2);
    memory.forget("127.1.1.7").unwrap();
    assert_eq!(memory.clients(None).unwrap().len(), 1);
    // Round robin: the next one of two is due to the server that it had.
    let again = bed.visit_from([127, 1, 1, 1]).0;
    assert_eq!(again, home);
    memory.forget("127.1.1.7").unwrap();
    assert_ne!(bed.visit_from([127, 1, 1, 1]).0, home, "it has no home");
    assert!(is_alive(&mut open), "what is open goes on");
}

#[test]
fn questions_about_clients_are_answered() {
    let mut bed = Bed::new();
    let mut service = bed.service("pacs", "104");
    service.persistence = sticky(HOUR, 0);
    let at = greeter('a');
    bed.put(&service, &[server("pacs", "a", at)]);
    let _open = [bed.visit_from([127, 1, 1, 1]), bed.visit_from([127, 1, 1, 2])];
    let door = Door::new(bed.plane);
    let entries = |service: &str, client: &str, most| {
        let (service, client) = (service.to_owned(), client.to_owned());
        door.answer(Ask::PersistenceEntries(Entries { service, client, most }))
    };
    let name = service.name.to_string();
    let answer = entries(&name, "127.1.1.2", 10);
    assert_eq!((answer.total_size, answer.refusal.as_str()), (1, ""));
    let entry = &answer.persistence_entries[0];
    assert_eq!((entry.client.as_str(), entry.endpoint.clone()), ("127.1.1.2", at.to_string()));
    assert_eq!(entry.real_server, format!("{name}/realServers/a"));
    assert_eq!(entry.expires_in.unwrap().seconds, 3600);
    let cut = entries(&name, "", 1);
    assert_eq!((cut.total_size, cut.persistence_entries.len()), (2, 1));
    assert_eq!(entries("clusters/main/virtualServices/other", "", 10).total_size, 0);
    assert_eq!(entries(&name, "pacs.example", 10).refusal, "INVALID_CLIENT");
    let forget = |client: &str| {
        door.answer(Ask::Forget(Forget { service: name.clone(), client: client.to_owned() }))
    };
    assert_eq!(forget("").refusal, "NO_CLIENT");
    assert_eq!(forget("127.1.1.2").refusal, "");
    assert_eq!(entries(&name, "", 10).total_size, 1);
    let assign = |client: &str, server: &str| {
        let (real_server, client) = (format!("{name}/realServers/{server}"), client.to_owned());
        door.answer(Ask::Assign(Assign { real_server, client }))
    };
    assert_eq!(assign("", "a").refusal, "NO_CLIENT");
    assert_eq!(assign("pacs.example", "a").refusal, "INVALID_CLIENT");
    assert_eq!(assign("127.1.1.9", "b").refusal, "UNKNOWN_REAL_SERVER");
    assert_eq!(assign("127.1.1.9", "a").refusal, "");
    assert_eq!(entries(&name, "127.1.1.9", 10).total_size, 1);
    let connections = door.answer(Ask::Connections(Entries::default()));
    assert_eq!(connections.refusal, "UNSUPPORTED");
}

#[test]
fn a_client_that_is_given_a_server_goes_there_next() {
    let mut bed = Bed::new();
    let mut service = bed.service("pacs", "104");
    service.persistence = sticky(HOUR, 0);
    let servers = [("a", 'a'), ("b", 'b')].map(|(id, name)| server("pacs", id, greeter(name)));
    bed.put(&service, &servers);
    let memory = bed.plane.memory(&service.name).unwrap();
    let mut open = Vec::new();
    for (client, id, name) in [(1, "b", 'b'), (2, "b", 'b'), (1, "a", 'a'), (3, "b", 'b')] {
        memory.assign(&format!("127.1.1.{client}"), &id.parse().unwrap()).unwrap();
        open.push(bed.visit_from([127, 1, 1, client]));
        assert_eq!(open.last().unwrap().0, name);
    }
    assert!(open.iter_mut().all(|(_, stream)| is_alive(stream)), "what is open goes on");
    let sample = bed.sample("pacs").persistence;
    assert_eq!((sample.clients, sample.new, sample.kept, sample.moved), (3, 0, 4, 0));
    bed.verdict("pacs", "b", Some(false));
    assert_eq!(bed.visit_from([127, 1, 1, 3]).0, 'a');
    assert_eq!(bed.sample("pacs").persistence.moved, 1);
}

#[test]
fn a_client_stays_with_its_server() {
    let mut bed = Bed::new();
    let mut service = bed.service("pacs", "104");
    service.persistence = sticky(HOUR, 24);
    let mut servers = [("a", 'a'), ("b", 'b')].map(|(id, name)| server("pacs", id, greeter(name)));
    bed.put(&service, &servers);
    let home = bed.visit_from([127, 1, 1, 1]).0;
    for host in 2..10 {
        assert_eq!(bed.visit_from([127, 1, 1, host]).0, home, "one prefix is one client");
    }
    assert_ne!(bed.visit_from([127, 1, 2, 1]).0, home, "round robin for the next");

    let at_home = usize::from(home == 'b');
    servers[at_home].weight = Weight::new(0).unwrap();
    bed.put(&service, &servers);
    assert_eq!(bed.visit_from([127, 1, 1, 1]).0, home, "weight 0 keeps its clients");
    servers[at_home].admin_state = AdminState::Drain { halt_at: None };
    bed.put(&service, &servers);
    let (moved, _) = bed.visit_from([127, 1, 1, 1]);
    assert_ne!(moved, home, "a drain moves them");
    servers[at_home].admin_state = AdminState::Online;
    servers[at_home].weight = Weight::DEFAULT;
    bed.put(&service, &servers);
    assert_eq!(bed.visit_from([127, 1, 1, 1]).0, moved, "and they stay moved");
}

#[test]
fn a_client_is_forgotten_after_its_last_connection() {
    let mut bed = Bed::new();
    let mut service = bed.service("pacs", "104");
    service.persistence = sticky(Duration::ZERO, 0);
    let servers = [("a", 'a'), ("b", 'b')].map(|(id, name)| server("pacs", id, greeter(name)));
    bed.put(&service, &servers);
    let (home, first) = bed.visit(104);
    for _ in 0..5 {
        assert_eq!(bed.visit(104).0, home, "it has a connection open");
    }
    drop(first);
    until("all have ended", || bed.sample("pacs").active == 0);
    assert_ne!(bed.visit(104).0, home);
}

#[test]
fn a_client_moves_when_its_server_fails() {
    let mut bed = Bed::new();
    let mut service = bed.service("pacs", "104");
    service.persistence = sticky(HOUR, 0);
    let servers = [("a", 'a'), ("b", 'b')].map(|(id, name)| server("pacs", id, greeter(name)));
    bed.put(&service, &servers);
    let (home, mut open) = bed.visit(104);
    bed.verdict("pacs", &home.to_string(), Some(false));
    assert_ne!(bed.visit(104).0, home);
    assert!(is_alive(&mut open), "what is open is left alone");
}

#[test]
fn clients_and_servers_may_be_of_different_address_families() {
    let mut bed = Bed::new();
    bed.address = Ipv6Addr::LOCALHOST.into();
    let port = TcpListener::bind((bed.address, 0)).unwrap().local_addr().unwrap().port();
    let servers = [
        server("pacs", "four", greeter('4')),
        server("pacs", "six", greeter_at('6', Ipv6Addr::LOCALHOST.into())),
    ];
    let mut service = bed.service("pacs", &port.to_string());
    service.persistence = sticky(HOUR, 64);
    bed.put(&service, &servers);
    let first = bed.visit(port).0;
    assert!((0..4).all(|_| bed.visit(port).0 == first), "one prefix is one client");
    bed.verdict("pacs", if first == '4' { "four" } else { "six" }, Some(false));
    let (other, mut stream) = bed.visit(port);
    assert_ne!(other, first);
    assert!(is_alive(&mut stream));
}
