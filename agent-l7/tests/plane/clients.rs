//! How many connections one client may have, and how fast it may make them.

use std::io::{Read, Write};
use std::num::NonZeroU32;

use gantry_model::service::{ClientLimits, Mode};
use gantry_model::termination::Termination;

use crate::support::*;

fn limits(connections: u32, per_second: u32) -> Option<ClientLimits> {
    let [connections, per_second] = [connections, per_second].map(NonZeroU32::new);
    Some(ClientLimits { connections, per_second })
}

fn limited(bed: &Bed) -> u64 {
    let ended = bed.sample("pacs").ended;
    ended.iter().find(|(why, _)| *why == Termination::ClientLimited).map_or(0, |(_, count)| *count)
}

/// Connects, and is served.
fn greeted(bed: &Bed, client: [u8; 4]) -> std::io::Result<()> {
    bed.try_connect_from(client)?.read_exact(&mut [0])
}

/// A client that may not have one more is reset, which it may hear of while it connects.
fn expect_refused(bed: &Bed, client: [u8; 4]) {
    let refused = greeted(bed, client).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionReset);
}

#[test]
fn one_client_has_as_many_as_it_may_and_others_are_not_touched() {
    let mut bed = Bed::new();
    let mut service = bed.service("pacs", "104");
    layer7(&mut service).client_limits = limits(2, 0);
    bed.put(&service, &[server("pacs", "a", greeter('a'))]);
    let mut open = vec![bed.visit_from([127, 1, 1, 1]).1, bed.visit_from([127, 1, 1, 1]).1];
    for _ in 0..3 {
        expect_refused(&bed, [127, 1, 1, 1]);
    }
    let _other = bed.visit_from([127, 1, 1, 2]);
    assert!(open.iter_mut().all(is_alive));
    until("all of them are counted", || limited(&bed) == 3);
    assert_eq!(bed.sample("pacs").accepted, 6);
    open.pop();
    until("one has gone", || bed.sample("pacs").active == 2);
    let _again = bed.visit_from([127, 1, 1, 1]);
    expect_refused(&bed, [127, 1, 1, 1]);

    layer7(&mut service).client_limits = None;
    bed.put(&service, &[server("pacs", "a", greeter('a'))]);
    let _more: Vec<_> = (0..5).map(|_| bed.visit_from([127, 1, 1, 1])).collect();
}

#[test]
fn one_client_makes_them_as_fast_as_it_may() {
    let mut bed = Bed::new();
    let mut service = bed.service("pacs", "104");
    // One a second, so that no second can pass unseen.
    layer7(&mut service).client_limits = limits(0, 1);
    bed.put(&service, &[server("pacs", "a", greeter('a'))]);
    let mut came = 0;
    let mut refused = 0;
    while came < 2 {
        match greeted(&bed, [127, 1, 1, 1]) {
            Ok(()) => came += 1,
            Err(_) => refused += 1,
        }
    }
    assert!(refused > 0, "two came within a second");
    until("all are counted", || limited(&bed) == refused);
}

#[test]
fn clients_behind_a_proxy_are_those_that_it_tells_of() {
    let mut bed = Bed::new();
    let mut service = bed.service("pacs", "104");
    layer7(&mut service).client_limits = limits(1, 0);
    layer7(&mut service).accept_proxy_protocol = true;
    bed.put(&service, &[server("pacs", "a", greeter('a'))]);
    let come = |client: &str| {
        let mut stream = bed.connect(104);
        let header = format!("PROXY TCP4 {client} 198.51.100.1 50000 104\r\n");
        stream.write_all(header.as_bytes()).unwrap();
        stream
    };
    let mut held: Vec<_> = ["192.0.2.1", "192.0.2.2", "192.0.2.3"].map(come).into();
    assert!(held.iter_mut().all(|stream| hear(stream) == 'a'));
    expect_reset(&mut come("192.0.2.2"));
}

#[test]
fn clients_of_http_are_limited_too() {
    let mut bed = Bed::new();
    let mut service = bed.service("pacs", "104");
    layer7(&mut service).mode = Mode::Http;
    layer7(&mut service).client_limits = limits(1, 0);
    bed.put(&service, &[]);
    let ask = |mut stream: &std::net::TcpStream| {
        stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        stream.read(&mut [0; 12]).unwrap()
    };
    let first = bed.connect(104);
    assert_eq!(ask(&first), 12, "there is an answer, if only that nobody serves it");
    expect_refused(&bed, [127, 0, 0, 1]);
    drop(first);
    until("it has gone", || bed.sample("pacs").active == 0);
    assert_eq!(ask(&bed.connect(104)), 12);
}
