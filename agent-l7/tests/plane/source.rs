//! Where connections to real servers come from.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use gantry_model::service::{Mode, Strategy};

use crate::support::{
    Bed, endpoint, expect_reset, greeter, layer7, own_address, serve, server, until,
};

/// A server that tells each client what address it has.
fn mirror() -> SocketAddr {
    serve(|mut stream| {
        let peer = stream.peer_addr().unwrap().ip().to_string();
        let _ = stream.write_all(peer.as_bytes());
    })
}

/// The same over HTTP. It keeps its connections for the next request.
fn teller() -> SocketAddr {
    serve(|mut stream| {
        let peer = stream.peer_addr().unwrap().ip().to_string();
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{peer}", peer.len());
        let mut heard = [0; 4096];
        while matches!(stream.read(&mut heard), Ok(1..))
            && stream.write_all(answer.as_bytes()).is_ok()
        {}
    })
}

fn seen(bed: &Bed) -> IpAddr {
    let mut heard = String::new();
    bed.connect(104).read_to_string(&mut heard).unwrap();
    heard.parse().unwrap()
}

#[test]
fn real_servers_and_the_fallback_see_the_source_address() {
    let mut bed = Bed::new();
    let mut service = bed.service("pacs", "104");
    let (first, second) = (own_address(), own_address());
    let servers = [server("pacs", "a", mirror()), server("pacs", "b", mirror())];
    for source in [Some(first), Some(second), None] {
        layer7(&mut service).source_address = source;
        bed.put(&service, &servers);
        for _ in 0..4 {
            assert_eq!(Some(seen(&bed)) == source, source.is_some());
        }
    }
    service.fallback = Some(endpoint(mirror()));
    layer7(&mut service).source_address = Some(first);
    bed.put(&service, &[]);
    assert_eq!(seen(&bed), first);
}

#[test]
fn the_source_address_may_be_of_ipv6() {
    let mut bed = Bed::new();
    let mut service = bed.service("pacs", "104");
    layer7(&mut service).source_address = Some(Ipv6Addr::LOCALHOST.into());
    let at = crate::support::greeter_at('6', Ipv6Addr::LOCALHOST.into());
    bed.put(&service, &[server("pacs", "a", at)]);
    assert_eq!(bed.visit(104).0, '6');
}

#[test]
fn requests_come_from_it_as_well_and_from_a_new_one_at_once() {
    let mut bed = Bed::new();
    let mut service = bed.service("viewer", "104");
    layer7(&mut service).mode = Mode::Http;
    let at = teller();
    for source in [own_address(), own_address()] {
        layer7(&mut service).source_address = Some(source);
        bed.put(&service, &[server("viewer", "a", at)]);
        for _ in 0..3 {
            let mut client = bed.connect(104);
            client.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
            let mut heard = String::new();
            client.read_to_string(&mut heard).unwrap();
            assert!(heard.ends_with(&format!("\r\n{source}")), "{source}: {heard}");
        }
    }
}

#[test]
fn real_servers_see_the_client_itself_and_the_fallback_does_not() {
    let mut bed = Bed::new();
    let mut service = bed.service("pacs", "104");
    layer7(&mut service).transparent_source = true;
    service.fallback = Some(endpoint(mirror()));
    bed.put(&service, &[server("pacs", "a", mirror())]);
    let seen_from = |client: [u8; 4]| {
        let mut heard = String::new();
        bed.connect_from(client).read_to_string(&mut heard).unwrap();
        heard
    };
    assert_eq!(seen_from([127, 1, 1, 7]), "127.1.1.7");
    assert_eq!(seen_from([127, 1, 1, 8]), "127.1.1.8");
    bed.put(&service, &[]);
    let bed = &bed;
    let mut heard = String::new();
    bed.connect_from([127, 1, 1, 7]).read_to_string(&mut heard).unwrap();
    assert_ne!(heard, "127.1.1.7");
}

#[test]
fn each_request_comes_from_its_own_client() {
    let mut bed = Bed::new();
    let mut service = bed.service("viewer", "104");
    layer7(&mut service).mode = Mode::Http;
    layer7(&mut service).transparent_source = true;
    bed.put(&service, &[server("viewer", "a", teller())]);
    let mut clients = [7, 8].map(|last| bed.connect_from([127, 1, 1, last]));
    for _ in 0..3 {
        for (client, own) in clients.iter_mut().zip(["127.1.1.7", "127.1.1.8"]) {
            client.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
            let mut heard = Vec::new();
            while !heard.ends_with(own.as_bytes()) {
                let mut byte = [0];
                client.read_exact(&mut byte).unwrap();
                heard.push(byte[0]);
            }
        }
    }
}

#[test]
fn an_address_that_the_appliance_lacks_is_not_the_servers_fault() {
    let mut bed = Bed::new();
    let mut service = bed.service("pacs", "104");
    service.strategy = Strategy::Failover;
    let servers = [server("pacs", "a", greeter('a')), server("pacs", "b", greeter('b'))];
    layer7(&mut service).source_address = Some("192.0.2.77".parse().unwrap());
    bed.put(&service, &servers);
    expect_reset(&mut bed.connect(104));
    until("it has gone", || bed.sample("pacs").active == 0);
    assert_eq!(bed.sample("pacs").unserved, 1);
    layer7(&mut service).source_address = None;
    bed.put(&service, &servers);
    assert_eq!(bed.visit(104).0, 'a', "a suspect would be passed over");
}
