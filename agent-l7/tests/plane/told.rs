//! What proxies tell each other of the client: headers of the PROXY protocol, in and out.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};

use gantry_model::service::{Persistence, PersistenceKey, ProxyVersion, VirtualService};

use crate::support::*;

/// A server that gives back all that it was sent, once the client has ended.
fn parrot() -> std::net::SocketAddr {
    serve(|mut stream| {
        let mut heard = Vec::new();
        stream.read_to_end(&mut heard).unwrap();
        stream.write_all(&heard).unwrap();
    })
}

/// Sends these pieces, each by itself, and gives what the server was sent.
fn say(stream: &mut TcpStream, pieces: &[&[u8]]) -> Vec<u8> {
    stream.set_nodelay(true).unwrap();
    for piece in pieces {
        stream.write_all(piece).unwrap();
    }
    stream.shutdown(Shutdown::Write).unwrap();
    let mut heard = Vec::new();
    stream.read_to_end(&mut heard).unwrap();
    heard
}

fn accepting(bed: &Bed) -> VirtualService {
    let mut service = bed.service("pacs", "104");
    layer7(&mut service).accept_proxy_protocol = true;
    service
}

const V1: &[u8] = b"PROXY TCP4 192.0.2.7 198.51.100.1 50000 104\r\n";
const V2: &[u8] =
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x11\xc0\0\x02\x07\xc6\x33\x64\x01\xc3\x50\0\x68\x05\0\x02id";

#[test]
fn real_servers_are_told_of_the_client() {
    let mut bed = Bed::new();
    let mut service = bed.service("pacs", "104");
    layer7(&mut service).send_proxy_protocol = Some(ProxyVersion::V1);
    bed.put(&service, &[server("pacs", "a", parrot())]);
    let mut stream = bed.connect_from([127, 0, 0, 9]);
    let port = stream.local_addr().unwrap().port();
    let heard = String::from_utf8(say(&mut stream, &[b"hello"])).unwrap();
    assert_eq!(heard, format!("PROXY TCP4 127.0.0.9 {} {port} 104\r\nhello", bed.address));
    layer7(&mut service).send_proxy_protocol = Some(ProxyVersion::V2);
    bed.put(&service, &[server("pacs", "a", parrot())]);
    let heard = say(&mut bed.connect(104), &[b"hello"]);
    assert!(heard.starts_with(b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x7f"), "{heard:?}");
    assert_eq!((heard.len(), heard.ends_with(b"hello")), (33, true));
}

#[test]
fn clients_are_who_the_header_says() {
    let mut bed = Bed::new();
    let mut service = accepting(&bed);
    bed.put(&service, &[server("pacs", "a", parrot())]);
    for header in [V1, V2] {
        assert_eq!(say(&mut bed.connect(104), &[header, b"hello"]), b"hello");
        let (one, other) = header.split_at(9);
        assert_eq!(say(&mut bed.connect(104), &[one, other, b"hello"]), b"hello", "in pieces");
        assert_eq!(say(&mut bed.connect(104), &[&[header, b"hello"].concat()]), b"hello");
    }
    layer7(&mut service).send_proxy_protocol = Some(ProxyVersion::V2);
    bed.put(&service, &[server("pacs", "a", parrot())]);
    let passed_on = [V2, b"hello"].concat();
    assert_eq!(say(&mut bed.connect(104), &[V2, b"hello"]), passed_on, "with what was added");
    assert_eq!(say(&mut bed.connect(104), &[V1, b"hello"])[..12], passed_on[..12]);
}

#[test]
fn persistence_goes_by_the_address_that_is_told() {
    let mut bed = Bed::new();
    let mut service = accepting(&bed);
    let hour = std::time::Duration::from_secs(3600);
    let key = PersistenceKey::SourceIp;
    service.persistence = Some(Persistence { key, timeout: hour, prefix: None });
    let servers = [("a", 'a'), ("b", 'b')].map(|(id, name)| server("pacs", id, greeter(name)));
    bed.put(&service, &servers);
    let visit = |last: u8| {
        let mut stream = bed.connect(104);
        let header = format!("PROXY TCP4 192.0.2.{last} 198.51.100.1 50000 104\r\n");
        stream.write_all(header.as_bytes()).unwrap();
        hear(&mut stream)
    };
    let first = [1, 2].map(visit);
    assert_ne!(first[0], first[1]);
    for _ in 0..3 {
        assert_eq!([1, 2].map(visit), first);
    }
}

#[test]
fn who_does_not_say_who_it_is_is_not_served_and_holds_up_nobody() {
    let mut bed = Bed::new();
    bed.put(&accepting(&bed), &[server("pacs", "a", parrot())]);
    let mut silent = bed.connect(104);
    silent.write_all(&V2[..10]).unwrap();
    let mut wrong = bed.connect(104);
    wrong.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    expect_reset(&mut wrong);
    let mut short = bed.connect(104);
    short.write_all(b"PROXY").unwrap();
    short.shutdown(Shutdown::Write).unwrap();
    expect_reset(&mut short);
    assert_eq!(say(&mut bed.connect(104), &[V1, b"hello"]), b"hello");
    assert_eq!(bed.sample("pacs").malformed, 2);
    // It runs out of time.
    expect_reset(&mut silent);
    let sample = bed.sample("pacs");
    assert_eq!(sample.malformed, 3);
    for reason in ["CLIENT_LEFT_IN_GREETING", "GREETING_MALFORMED", "GREETING_TIMEOUT"] {
        assert!(sample.ended.iter().any(|(seen, count)| (seen.name(), *count) == (reason, 1)));
    }
}
