use proptest::prelude::*;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore};

use super::*;

/// What a client of today says that asks for `host`.
fn modern(host: &str) -> Vec<u8> {
    let config =
        ClientConfig::builder_with_provider(rustls::crypto::ring::default_provider().into())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth();
    let name = ServerName::try_from(host.to_owned()).unwrap();
    let mut client = ClientConnection::new(config.into(), name).unwrap();
    let mut stream = Vec::new();
    client.write_tls(&mut stream).unwrap();
    stream
}

/// A ClientHello as TLS 1.0 had it, with these extensions.
fn old(extensions: &[u8]) -> Vec<u8> {
    let prefixed = |bytes: &[u8]| {
        let length = u16::try_from(bytes.len()).unwrap().to_be_bytes();
        [&length, bytes].concat()
    };
    let suites_and_compression = [0, 2, 0, 0x2f, 1, 0];
    let body = [&[3, 1][..], &[7; 32], &[0], &suites_and_compression, extensions].concat();
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    let message = [&[1], &length[1..], &body].concat();
    [&[22, 3, 1], &prefixed(&message)[..]].concat()
}

/// The same in records of `size` bytes.
fn in_records(stream: &[u8], size: usize) -> Vec<u8> {
    let records = stream[5..].chunks(size).flat_map(|piece| {
        let length = u16::try_from(piece.len()).unwrap().to_be_bytes();
        [&[22, 3, 1, length[0], length[1]], piece].concat()
    });
    records.collect()
}

fn name(host: &str) -> Told<String> {
    Told::This(host.to_owned())
}

#[test]
fn a_host_is_told_as_soon_as_all_of_the_hello_is_there() {
    let host = "pacs.example.org";
    for stream in [modern(host), in_records(&modern(host), 7), modern("PACS.Example.ORG")] {
        assert_eq!(server_name(&stream), name(host));
        assert_eq!(server_name(&[&stream[..], b"early data"].concat()), name(host));
        for seen in 0..stream.len() {
            assert_eq!(server_name(&stream[..seen]), Told::Unfinished, "{seen}");
        }
    }
}

#[test]
fn a_client_that_asks_for_nobody_tells_nothing() {
    let unasked = modern("192.0.2.1");
    assert_eq!(server_name(&unasked), Told::Nothing);
    assert_eq!(server_name(&old(&[])), Told::Nothing);
    let asked = [0, 10, 0, 0, 0, 6, 0, 4, 0, 0, 1, b'a'];
    assert_eq!(server_name(&old(&asked)), name("a"));
    let other_kind = [0, 10, 0, 0, 0, 6, 0, 4, 9, 0, 1, b'a'];
    assert_eq!(server_name(&old(&other_kind)), Told::Nothing);
    let too_short = [0, 10, 0, 0, 0, 6, 0, 9, 0, 0, 1, b'a'];
    assert_eq!(server_name(&old(&too_short)), Told::Nothing);
}

#[test]
fn what_is_not_tls_tells_nothing_at_once() {
    for stream in
        [&b"GET / HTTP/1.1\r\n"[..], b"\x16\x02", b"\x16\x03\x01\0\0", b"\x16\x03\x01\0\x01\x02"]
    {
        assert_eq!(server_name(stream), Told::Nothing, "{stream:?}");
    }
    let far_too_long = b"\x16\x03\x01\0\x04\x01\x01\0\0";
    assert_eq!(server_name(far_too_long), Told::Nothing);
}

proptest! {
    #[test]
    fn damage_is_harmless(at in 0_usize..300, byte: u8, cut in 0_usize..600) {
        let mut stream = modern("pacs.example.org");
        let length = stream.len();
        stream[at % length] = byte;
        stream.truncate(cut);
        server_name(&stream);
    }
}
