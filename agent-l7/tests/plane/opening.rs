//! Clients that are given a real server by what they say first: the host that TLS asks for, the cookie of
//! Remote Desktop.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use gantry_model::http::{HostPattern, Route};
use gantry_model::server::RealServer;
use gantry_model::service::{Persistence, PersistenceKey, VirtualService};
use gantry_model::termination::Termination;

use crate::support::*;
use crate::tls::{Authority, BOTH, client_config, exchange, secret_echo};

const HOUR: Duration = Duration::from_secs(3600);

fn route(host: HostPattern, pool: &str) -> Route {
    Route { hosts: vec![host], path_prefixes: Vec::new(), pool: pool.parse().ok() }
}

fn in_pool(id: &str, at: SocketAddr, pool: &str) -> RealServer {
    RealServer { pool: pool.parse().ok(), ..server("pacs", id, at) }
}

/// Two pools by host, at the server `x` all else.
fn routed(bed: &Bed) -> VirtualService {
    let mut service = bed.service("pacs", "104");
    layer7(&mut service).routes = vec![
        route(HostPattern::Exact("pacs.example".to_owned()), "pacs"),
        route(HostPattern::Wildcard(".wards.example".to_owned()), "wards"),
    ];
    service
}

/// Sends `words`, and hears who answers.
fn greeted(stream: &mut TcpStream, words: &[u8]) -> char {
    stream.write_all(words).unwrap();
    hear(stream)
}

#[test]
fn tls_that_passes_goes_where_its_host_is_served() {
    let authority = Authority::new();
    let pacs = authority.issue("pacs", &["pacs.example"]);
    let wards = authority.issue("wards", &["*.wards.example"]);
    let mut bed = Bed::new();
    let servers = [
        in_pool("p", secret_echo(&pacs, None), "pacs"),
        in_pool("w", secret_echo(&wards, None), "wards"),
        server("pacs", "x", greeter('x')),
    ];
    bed.put(&routed(&bed), &servers);
    let config = client_config(&authority, None, &BOTH);
    // The certificate is the server's own: with another server's the handshake would fail.
    for name in ["pacs.example", "PACS.example", "three.wards.example", "four.wards.example"] {
        let heard = exchange(&mut bed.call(&config, name), b"hello").unwrap();
        assert_eq!(heard, b"hello", "{name}");
    }
    for (id, connections) in [("p", 2), ("w", 2), ("x", 0)] {
        assert_eq!(bed.server("pacs", id).traffic.connections, connections, "{id}");
    }
    let mut unknown = bed.call(&config, "other.example");
    assert!(exchange(&mut unknown, b"hello").is_err(), "that server speaks no TLS");
    assert_eq!(bed.server("pacs", "x").traffic.connections, 1);
    assert_eq!(greeted(&mut bed.connect(104), b"no TLS at all"), 'x');
}

#[test]
fn tls_that_ends_here_goes_by_its_host_as_well() {
    let authority = Authority::new();
    let site = authority.issue("site", &["pacs.example", "a.wards.example", "other.example"]);
    let mut bed = Bed::new();
    let mut service = routed(&bed);
    layer7(&mut service).tls = layer7(&mut bed.secret()).tls.clone();
    let servers = [
        in_pool("p", greeter('p'), "pacs"),
        in_pool("w", greeter('w'), "wards"),
        server("pacs", "x", greeter('x')),
    ];
    let servers = servers.map(std::sync::Arc::new).to_vec();
    bed.plane.put(std::sync::Arc::new(service), servers, vec![site]).unwrap();
    let config = client_config(&authority, None, &BOTH);
    for (name, expected) in
        [("pacs.example", b"p"), ("a.wards.example", b"w"), ("other.example", b"x")]
    {
        assert_eq!(exchange(&mut bed.call(&config, name), b"").unwrap(), expected, "{name}");
    }
}

#[test]
fn a_host_may_come_in_pieces_and_one_without_a_server_is_refused() {
    let hello = {
        let config = client_config(&Authority::new(), None, &BOTH);
        let name = "pacs.example".try_into().unwrap();
        let mut client = rustls::ClientConnection::new(config, name).unwrap();
        let mut hello = Vec::new();
        client.write_tls(&mut hello).unwrap();
        hello
    };
    let mut bed = Bed::new();
    let service = routed(&bed);
    bed.put(&service, &[in_pool("p", greeter('p'), "pacs"), server("pacs", "x", greeter('x'))]);
    let mut stream = bed.connect(104);
    stream.set_nodelay(true).unwrap();
    let (last, all_but_one) = hello.split_last().unwrap();
    for piece in all_but_one.chunks(50) {
        stream.write_all(piece).unwrap();
    }
    assert_eq!(bed.server("pacs", "p").traffic.connections, 0, "it is not known yet");
    assert_eq!(greeted(&mut stream, &[*last]), 'p');
    let mut echoed = vec![0; hello.len()];
    stream.read_exact(&mut echoed).unwrap();
    assert_eq!(echoed, hello, "as it came");

    bed.put(&service, &[server("pacs", "x", greeter('x'))]);
    let mut stream = bed.connect(104);
    stream.write_all(&hello).unwrap();
    expect_reset(&mut stream);
}

#[test]
fn who_says_too_little_to_be_served_is_told_apart() {
    let mut bed = Bed::new();
    bed.put(&routed(&bed), &[server("pacs", "x", greeter('x'))]);
    let mut half = bed.connect(104);
    half.write_all(b"\x16\x03\x01\x02").unwrap();
    half.shutdown(Shutdown::Write).unwrap();
    expect_reset(&mut half);
    drop(bed.connect(104));
    let silent = bed.connect(104);
    until("the silent one has had its time", || {
        let sample = bed.sample("pacs");
        sample.ended.contains(&(Termination::GreetingTimeout, 1)) && sample.malformed == 1
    });
    drop(silent);
    assert!(bed.sample("pacs").ended.contains(&(Termination::ClientLeftInGreeting, 2)));
}

/// What a Remote Desktop client begins with.
fn connection_request(line: &str) -> Vec<u8> {
    let negotiation = [1, 0, 8, 0, 3, 0, 0, 0];
    let said = [line.as_bytes(), b"\r\n", &negotiation].concat();
    let length = u8::try_from(11 + said.len()).unwrap();
    [&[3, 0, 0, length, length - 5, 0xe0, 0, 0, 0, 0, 0], &said[..]].concat()
}

#[test]
fn a_remote_desktop_user_comes_back_to_its_session() {
    let mut bed = Bed::new();
    let mut service = bed.service("pacs", "104");
    let key = PersistenceKey::RdpCookie;
    service.persistence = Some(Persistence { key, timeout: HOUR, prefix: None });
    let addresses = [greeter('a'), greeter('b')];
    let servers = [("a", addresses[0]), ("b", addresses[1])].map(|(id, at)| server("pacs", id, at));
    bed.put(&service, &servers);
    let visit = |line: &str| greeted(&mut bed.connect(104), &connection_request(line));
    let (ann, bob) = (visit("Cookie: mstshash=ann"), visit("Cookie: mstshash=bob"));
    assert_ne!(ann, bob, "round robin");
    for _ in 0..3 {
        assert_eq!(visit("Cookie: mstshash=ann"), ann);
        assert_eq!(visit("Cookie: mstshash=ANN"), ann, "it is the same user");
        assert_eq!(visit("Cookie: mstshash=bob"), bob);
    }
    let anonymous = [visit("Nothing: of this"), visit("Nothing: of this")];
    assert_ne!(anonymous[0], anonymous[1], "who says nothing is not remembered");

    for (at, name) in addresses.into_iter().zip(['a', 'b']) {
        let std::net::IpAddr::V4(address) = at.ip() else { panic!() };
        let token = format!(
            "Cookie: msts={}.{}.0000",
            address.to_bits().swap_bytes(),
            at.port().swap_bytes()
        );
        assert_eq!(visit(&token), name, "a broker has sent it there");
    }

    let memory = bed.plane.memory(&service.name).unwrap();
    let clients = memory.clients(Some("Ann")).unwrap();
    assert_eq!((clients.len(), clients[0].client.as_str()), (1, "ann"));
    assert_eq!(clients[0].server.as_str(), ann.to_string());
    let sample = bed.sample("pacs").persistence;
    assert_eq!((sample.clients, sample.new, sample.kept, sample.moved), (2, 2, 9, 0));
}
