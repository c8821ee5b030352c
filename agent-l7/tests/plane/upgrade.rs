//! Another plane takes over: connections, listeners, seats, memory and counters.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::num::{NonZeroU8, NonZeroUsize};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use gantry_agent_l7::handover::{ChannelError, Former, Heir, Loan, Successor};
use gantry_agent_l7::plane::{Plane, Settings};
use gantry_model::server::{AdminState, RealServer};
use gantry_model::service::{ClientLimits, Persistence, PersistenceKey, VirtualService};

use crate::support::{
    Bed, expect_reset, greeter, hear, is_alive, layer7, reset, serve, server, service_name, until,
};

/// What is put in force in both planes.
pub(crate) type Put = (VirtualService, Vec<RealServer>);

/// Hands `old` over to a new plane with so many workers.
fn hand_over(old: &mut Plane, workers: usize, put: &[Put]) -> (Heir, Plane, Former) {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("hand-over.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    thread::scope(|scope| {
        let heir = scope.spawn(|| {
            Successor::meet(listener.accept().unwrap().0).unwrap().hand_over(old).unwrap()
        });
        let settings = Settings { workers: NonZeroUsize::new(workers).unwrap() };
        let mut loan = Loan::ask(&socket, settings).unwrap().unwrap();
        for (service, servers) in put {
            let servers = servers.iter().cloned().map(Arc::new).collect();
            loan.plane().put(Arc::new(service.clone()), servers, Vec::new()).unwrap();
        }
        let (plane, former) = loan.take().unwrap();
        (heir.join().unwrap(), plane, former)
    })
}

/// Replaces the bed's plane; gives the old one.
pub(crate) fn upgrade(bed: &mut Bed, workers: usize, put: &[Put]) -> Plane {
    let (_, new, _) = hand_over(&mut bed.plane, workers, put);
    std::mem::replace(&mut bed.plane, new)
}

#[test]
fn connections_go_on_and_new_ones_come_in_with_more_workers_and_with_fewer() {
    let mut bed = Bed::new();
    let put = [(bed.service("pacs", "104"), vec![server("pacs", "a", greeter('a'))])];
    bed.put(&put[0].0, &put[0].1);
    let mut clients: Vec<TcpStream> = (0..20).map(|_| bed.visit(104).1).collect();
    for (workers, clients_then) in [(3, 21), (1, 22), (2, 23)] {
        let old = upgrade(&mut bed, workers, &put);
        assert_eq!(old.active(), 0);
        drop(old);
        assert!(clients.iter_mut().all(is_alive));
        // Each worker's listener is served by somebody.
        (0..30).for_each(|_| assert_eq!(bed.visit(104).0, 'a'));
        clients.push(bed.visit(104).1);
        until("those that left are forgotten", || bed.sample("pacs").active == clients_then);
        assert_eq!(u64::from(bed.server("pacs", "a").active), clients_then);
    }
    let sample = bed.sample("pacs");
    assert_eq!((sample.accepted, sample.traffic.connections), (113, 113));
    assert!(sample.traffic.bytes_to_clients >= 113 + 60);
}

#[test]
fn bulk_both_ways_loses_and_doubles_nothing() {
    const LENGTH: u64 = 48 << 20;
    let mut bed = Bed::new();
    let echo = serve(|mut stream| {
        let mut out = stream.try_clone().unwrap();
        std::io::copy(&mut stream, &mut out).unwrap();
        out.shutdown(Shutdown::Write).unwrap();
    });
    let put = [(bed.service("pacs", "104"), vec![server("pacs", "a", echo)])];
    bed.put(&put[0].0, &put[0].1);
    let streams: Vec<TcpStream> = (0..4).map(|_| bed.connect(104)).collect();
    thread::scope(|scope| {
        let mut readers = Vec::new();
        for (seed, stream) in streams.iter().enumerate() {
            scope.spawn(move || crate::relay::talk(stream, seed as u64, LENGTH));
            readers.push(scope.spawn(move || {
                crate::relay::listen(stream, seed as u64, LENGTH, Duration::ZERO);
            }));
        }
        let mut workers = 0;
        while !readers.iter().all(thread::ScopedJoinHandle::is_finished) {
            workers = workers % 3 + 1;
            drop(upgrade(&mut bed, workers, &put));
        }
        assert!(workers > 0);
    });
    until("all is counted", || bed.sample("pacs").active == 0);
    let traffic = bed.server("pacs", "a").traffic;
    assert_eq!((traffic.bytes_from_clients, traffic.bytes_to_clients), (4 * LENGTH, 4 * LENGTH));
}

#[test]
fn what_is_held_for_a_slow_reader_and_ends_that_were_said_move_along() {
    const LENGTH: u64 = 12 << 20;
    let mut bed = Bed::new();
    let source = serve(|stream| crate::relay::talk(&stream, 5, LENGTH));
    let put = [(bed.service("pacs", "104"), vec![server("pacs", "a", source)])];
    bed.put(&put[0].0, &put[0].1);
    // Has ended its own direction, and reads nothing yet.
    let client = bed.connect(104);
    client.shutdown(Shutdown::Write).unwrap();
    let mut before = 0;
    until("everything is full", || {
        thread::sleep(Duration::from_millis(20));
        let now = bed.server("pacs", "a").traffic.bytes_to_clients;
        now > 0 && now == std::mem::replace(&mut before, now)
    });
    drop(upgrade(&mut bed, 1, &put));
    drop(upgrade(&mut bed, 2, &put));
    crate::relay::listen(&client, 5, LENGTH, Duration::ZERO);
    until("it ends", || bed.sample("pacs").active == 0);
}

#[test]
fn a_reset_still_reaches_the_other_side() {
    let mut bed = Bed::new();
    let put = [(bed.service("pacs", "104"), vec![server("pacs", "a", greeter('a'))])];
    bed.put(&put[0].0, &put[0].1);
    let client = bed.visit(104).1;
    drop(upgrade(&mut bed, 2, &put));
    reset(client);
    until("it is gone", || bed.server("pacs", "a").active == 0);
}

#[test]
fn maxima_hold_and_those_in_line_stay_in_line() {
    let mut bed = Bed::new();
    let one = RealServer { max_connections: 2, ..server("pacs", "a", greeter('a')) };
    let put = [(bed.service("pacs", "104"), vec![one])];
    bed.put(&put[0].0, &put[0].1);
    let mut inside = vec![bed.visit(104).1, bed.visit(104).1];
    let mut waiting: Vec<TcpStream> = (0..3).map(|_| bed.connect(104)).collect();
    until("they wait", || bed.sample("pacs").queued == 3);
    drop(upgrade(&mut bed, 2, &put));
    until("they wait again", || bed.sample("pacs").queued == 3);
    assert_eq!(bed.server("pacs", "a").active, 2);
    assert!(inside.iter_mut().all(is_alive));
    drop(inside);
    until("two are served", || bed.sample("pacs").queued == 1);
    assert_eq!(bed.server("pacs", "a").active, 2);
    waiting.iter_mut().for_each(|client| client.set_nonblocking(true).unwrap());
    until("two are greeted", || {
        waiting.iter().filter(|client| client.peek(&mut [0]).is_ok()).count() == 2
    });
}

#[test]
fn clients_are_remembered_and_forgotten_as_before() {
    let mut bed = Bed::new();
    let mut service = bed.service("pacs", "104");
    service.persistence = Some(Persistence {
        key: PersistenceKey::SourceIp,
        prefix: NonZeroU8::new(32),
        timeout: Duration::from_secs(3600),
    });
    let servers = vec![server("pacs", "a", greeter('a')), server("pacs", "b", greeter('b'))];
    let put = [(service, servers)];
    bed.put(&put[0].0, &put[0].1);
    let homes: Vec<_> =
        (1..=20).map(|at| ([127, 9, 0, at], bed.visit_from([127, 9, 0, at]))).collect();
    let memory = bed.plane.memory(&service_name("pacs")).unwrap();
    memory.forget("127.9.0.1").unwrap();
    for workers in [1, 2] {
        drop(upgrade(&mut bed, workers, &put));
        let clients = bed.plane.memory(&service_name("pacs")).unwrap().clients(None).unwrap();
        assert_eq!(clients.len(), 19);
        for (client, (name, _)) in &homes[1..] {
            assert_eq!(bed.visit_from(*client).0, *name);
        }
    }
}

#[test]
fn limits_of_clients_count_what_came_before() {
    let mut bed = Bed::new();
    let mut service = bed.service("pacs", "104");
    let connections = std::num::NonZeroU32::new(2);
    layer7(&mut service).client_limits = Some(ClientLimits { connections, per_second: None });
    let put = [(service, vec![server("pacs", "a", greeter('a'))])];
    bed.put(&put[0].0, &put[0].1);
    let mut first = bed.visit(104).1;
    drop(upgrade(&mut bed, 2, &put));
    let _second = bed.visit(104);
    let third = bed.try_connect_from([127, 0, 0, 1]).and_then(|mut it| it.read(&mut [0]));
    assert_eq!(third.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
    assert!(is_alive(&mut first));
    drop(first);
    until("it has gone", || bed.sample("pacs").active == 1);
    bed.visit(104);
}

#[test]
fn a_client_that_has_to_say_who_it_is_may_say_it_to_the_next() {
    let mut bed = Bed::new();
    let mut service = bed.service("pacs", "104");
    layer7(&mut service).accept_proxy_protocol = true;
    let put = [(service, vec![server("pacs", "a", greeter('a'))])];
    bed.put(&put[0].0, &put[0].1);
    let mut client = bed.connect(104);
    client.write_all(b"PROXY TCP4 10.0.0.1 10.0.").unwrap();
    until("it is accepted", || bed.sample("pacs").active == 1);
    drop(upgrade(&mut bed, 2, &put));
    client.write_all(b"0.2 5000 104\r\n").unwrap();
    assert_eq!(hear(&mut client), 'a');
    assert_eq!(bed.sample("pacs").accepted, 1);
}

#[test]
fn a_connection_that_the_next_cannot_carry_finishes_where_it_is() {
    let mut bed = Bed::new();
    let (service, one) = (bed.service("pacs", "104"), server("pacs", "a", greeter('a')));
    bed.put(&service, std::slice::from_ref(&one));
    let mut client = bed.visit(104).1;
    // It knows the service with another server only.
    let (_heir, new, former) =
        hand_over(&mut bed.plane, 2, &[(service.clone(), vec![server("pacs", "b", greeter('b'))])]);
    let mut old = std::mem::replace(&mut bed.plane, new);
    assert_eq!(old.active(), 1);
    assert_eq!(bed.sample("pacs").active, 1);
    assert!(is_alive(&mut client));
    assert_eq!(bed.visit(104).0, 'b');
    drop(former);
    // What is configured anew holds there as well, but nobody is accepted.
    let halted = RealServer { admin_state: AdminState::Halt, ..one };
    old.put(Arc::new(service.clone()), vec![Arc::new(halted)], Vec::new()).unwrap();
    expect_reset(&mut client);
    until("it ends there", || old.active() == 0);
    (0..20).for_each(|_| assert_eq!(bed.visit(104).0, 'b'));
}

#[test]
fn a_successor_that_dies_at_any_step_leaves_all_as_it_was() {
    const HELLO: &[u8] = &[0, 0, 0, 6, 0, 0, 0, 0, 0x0a, 4, 8, 1, 16, 1];
    let mut bed = Bed::new();
    bed.put(&bed.service("pacs", "104"), &[server("pacs", "a", greeter('a'))]);
    let mut clients: Vec<TcpStream> = (0..5).map(|_| bed.visit(104).1).collect();
    for words in [HELLO, &[HELLO, TAKE].concat()] {
        let (mut near, far) = UnixStream::pair().unwrap();
        near.write_all(words).unwrap();
        near.shutdown(Shutdown::Write).unwrap();
        let failed = Successor::meet(far).unwrap().hand_over(&mut bed.plane).unwrap_err();
        assert!(matches!(failed, ChannelError::Io(_)), "{failed}");
        drop(near);
        assert!(clients.iter_mut().all(is_alive));
        (0..10).for_each(|_| assert_eq!(bed.visit(104).0, 'a'));
    }
    // Gone when it would be told to go on.
    let (mut near, far) = UnixStream::pair().unwrap();
    near.write_all(&[HELLO, TAKE, READY].concat()).unwrap();
    drop(near);
    Successor::meet(far).unwrap().hand_over(&mut bed.plane).unwrap_err();
    assert!(clients.iter_mut().all(is_alive));
    assert_eq!(bed.visit(104).0, 'a');
}

const TAKE: &[u8] = &[0, 0, 0, 2, 0, 0, 0, 0, 0x22, 0];
const READY: &[u8] = &[0, 0, 0, 2, 0, 0, 0, 0, 0x42, 0];

/// These very bytes stay understood for ever.
#[test]
fn another_release_gets_the_listeners_at_least() {
    let mut bed = Bed::new();
    bed.put(&bed.service("pacs", "104"), &[server("pacs", "a", greeter('a'))]);
    let mut client = bed.visit(104).1;
    let (mut near, far) = UnixStream::pair().unwrap();
    near.write_all(&[0, 0, 0, 6, 0, 0, 0, 0, 0x0a, 4, 8, 99, 16, 99]).unwrap();
    near.write_all(&[TAKE, READY].concat()).unwrap();
    let heir = Successor::meet(far).unwrap().hand_over(&mut bed.plane).unwrap();
    drop(heir);
    let mut said = Vec::new();
    near.read_to_end(&mut said).unwrap();
    // A listener for each of two workers; the offer of version 0; that was all; go.
    let address = format!("{}:104", bed.address);
    let length = u8::try_from(address.len()).unwrap();
    let listener = [&[0x12, length + 2, 0x0a, length], address.as_bytes()].concat();
    let mut expected = vec![0, 0, 0, length + 4, 0, 0, 0, 2];
    expected.extend(listener);
    for word in [[0x1a, 0], [0x3a, 0], [0x4a, 0]] {
        expected.extend([0, 0, 0, 2, 0, 0, 0, 0]);
        expected.extend(word);
    }
    assert_eq!(said, expected);
    // The connection goes on here, and nobody new is taken.
    assert!(is_alive(&mut client));
    assert!(bed.refuses(104));
}
