//! Real servers that are left aside after connections to them failed.
//!
//! All is failover: each client is for a, unless a is left aside.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use gantry_model::server::{AdminState, RealServer};
use gantry_model::service::{Mode, PassiveHealth, Strategy, VirtualService};

use crate::support::{Bed, greeter, layer7, nobody, serve, server};

const HOUR: Duration = Duration::from_secs(3600);

fn failover(bed: &Bed, failures: u8, hold: Duration) -> VirtualService {
    let mut service = bed.service("pacs", "104");
    service.strategy = Strategy::Failover;
    layer7(&mut service).passive_health =
        PassiveHealth { failures: failures.try_into().unwrap(), hold, disabled: false };
    service
}

/// One that refuses, and one that works.
fn two() -> [RealServer; 2] {
    [server("pacs", "a", nobody()), server("pacs", "b", greeter('b'))]
}

/// How many of `count` clients, all of them served by b, were first sent to a.
fn tries(bed: &Bed, count: usize) -> u64 {
    let failed = || bed.server("pacs", "a").traffic.connect_failures;
    let before = failed();
    assert!((0..count).all(|_| bed.visit(104).0 == 'b'));
    failed() - before
}

/// Serves one client at `at`, and then nobody.
fn serve_one(at: SocketAddr) -> JoinHandle<()> {
    let listener = TcpListener::bind(at).unwrap();
    thread::spawn(move || listener.accept().unwrap().0.write_all(b"a").unwrap())
}

#[test]
fn a_server_is_left_aside_after_so_many_failures_in_a_row() {
    for failures in [1, 3] {
        let mut bed = Bed::new();
        bed.put(&failover(&bed, failures, HOUR), &two());
        assert_eq!(tries(&bed, 10), u64::from(failures));
    }
}

#[test]
fn a_success_ends_the_row() {
    let mut bed = Bed::new();
    let servers = two();
    let (address, port) = (servers[0].endpoint.address, servers[0].endpoint.port.unwrap());
    bed.put(&failover(&bed, 3, HOUR), &servers);
    assert_eq!(tries(&bed, 2), 2);
    let once = serve_one(SocketAddr::new(address, port.get()));
    assert_eq!(bed.visit(104).0, 'a');
    once.join().unwrap();
    assert_eq!(tries(&bed, 10), 3);
}

#[test]
fn nobody_is_left_aside_where_that_is_disabled() {
    let mut bed = Bed::new();
    let mut service = failover(&bed, 1, HOUR);
    let servers = two();
    bed.put(&service, &servers);
    assert_eq!(tries(&bed, 5), 1);
    layer7(&mut service).passive_health.disabled = true;
    bed.put(&service, &servers);
    assert_eq!(tries(&bed, 5), 5, "also one that was left aside before");
}

#[test]
fn it_is_tried_again_when_the_hold_is_over_or_it_is_put_right() {
    let mut bed = Bed::new();
    let mut service = failover(&bed, 1, HOUR);
    let mut servers = two();
    bed.put(&service, &servers);
    assert_eq!(tries(&bed, 5), 1);
    bed.verdict("pacs", "a", Some(false));
    bed.verdict("pacs", "b", Some(true));
    assert_eq!(tries(&bed, 5), 0);
    bed.verdict("pacs", "a", Some(true));
    assert_eq!(tries(&bed, 5), 1, "it was found healthy again");
    for state in [AdminState::Drain { halt_at: None }, AdminState::Online] {
        servers[0].admin_state = state;
        bed.put(&service, &servers);
    }
    assert_eq!(tries(&bed, 5), 1, "it was put online again");
    layer7(&mut service).passive_health.hold = Duration::from_millis(1);
    bed.put(&service, &servers);
    crate::support::until("the hold is over", || tries(&bed, 1) == 1);
}

#[test]
fn one_that_is_left_aside_serves_when_nobody_else_does() {
    let mut bed = Bed::new();
    let service = failover(&bed, 1, HOUR);
    let servers = two();
    let at = SocketAddr::new(servers[0].endpoint.address, servers[0].endpoint.port.unwrap().get());
    bed.put(&service, &servers);
    assert_eq!(tries(&bed, 1), 1);
    let once = serve_one(at);
    bed.put(&service, &servers[..1]);
    assert_eq!(bed.visit(104).0, 'a');
    once.join().unwrap();
}

#[test]
fn requests_count_servers_that_do_not_answer_as_well() {
    let mut bed = Bed::new();
    let mut service = failover(&bed, 3, HOUR);
    layer7(&mut service).mode = Mode::Http;
    // It takes each connection, and ends it at the first word.
    let mute = serve(|mut stream| drop(stream.read(&mut [0; 512])));
    let good = serve(|mut stream| {
        let mut heard = [0; 4096];
        while matches!(stream.read(&mut heard), Ok(1..)) {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nb");
        }
    });
    bed.put(&service, &[server("pacs", "a", mute), server("pacs", "b", good)]);
    for _ in 0..10 {
        let mut client = bed.connect(104);
        client.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
        let mut heard = String::new();
        client.read_to_string(&mut heard).unwrap();
        assert!(heard.ends_with("\r\n\r\nb"), "{heard}");
    }
    assert_eq!(bed.server("pacs", "a").traffic.connections, 3);
}
