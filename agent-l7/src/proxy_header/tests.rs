use proptest::prelude::*;

use super::*;

fn ends(client: &str, listener: &str) -> Ends {
    Ends { client: client.parse().unwrap(), listener: listener.parse().unwrap() }
}

#[test]
fn headers_are_as_they_are_published() {
    let v4 = ends("192.0.2.7:50000", "198.51.100.1:104");
    let text = b"PROXY TCP4 192.0.2.7 198.51.100.1 50000 104\r\n";
    assert_eq!(v4.header(ProxyVersion::V1, b"ignored"), text);
    let bytes = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x07\xc6\x33\x64\x01\xc3\x50\0\x68";
    assert_eq!(v4.header(ProxyVersion::V2, &[]), bytes);
    let v6 = ends("[2001:db8::7]:50000", "[2001:db8::1]:104");
    let text = b"PROXY TCP6 2001:db8::7 2001:db8::1 50000 104\r\n";
    assert_eq!(v6.header(ProxyVersion::V1, &[]), text);
    let mixed = ends("192.0.2.7:50000", "[2001:db8::1]:104").header(ProxyVersion::V1, &[]);
    assert!(mixed.starts_with(b"PROXY TCP6 ::ffff:192.0.2.7 2001:db8::1 "));
}

#[test]
fn what_is_no_header_is_told_as_soon_as_it_is_seen() {
    let long = [b"PROXY TCP4 ".as_slice(), &[b'1'; 100]].concat();
    let cases: [(&[u8], Malformed); 9] = [
        (b"GET / HTTP/1.1\r\n", Malformed::NoHeader),
        (b"PROXx", Malformed::NoHeader),
        (b"\r\n\r\nx", Malformed::NoHeader),
        (&long, Malformed::TooLong),
        (b"PROXY TCP4 ::1 ::2 1 2\r\n", Malformed::Address),
        (b"PROXY TCP4 1.2.3.4 1.2.3.4 1 70000\r\n", Malformed::Address),
        (b"PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n", Malformed::Address),
        (b"\r\n\r\n\0\r\nQUIT\n\x31\x11\0\0", Malformed::Command),
        (b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x04abcd", Malformed::Address),
    ];
    for (bytes, expected) in cases {
        assert_eq!(Header::read(bytes), Err(expected), "{:?}", String::from_utf8_lossy(bytes));
    }
}

#[test]
fn a_sender_may_speak_for_itself() {
    let own = Header { ends: None, additions: Vec::new() };
    let local = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0rest";
    assert_eq!(Header::read(local), Ok(Some((own.clone(), 16))));
    let unix = b"\r\n\r\n\0\r\nQUIT\n\x21\x31\0\x02abrest";
    assert_eq!(Header::read(unix), Ok(Some((own.clone(), 18))));
    let unknown = b"PROXY UNKNOWN ffff::1 what 1 2\r\nrest";
    assert_eq!(Header::read(unknown), Ok(Some((own, 32))));
}

#[test]
fn additions_go_on_without_the_checksum() {
    let additions = b"\x05\0\x02id\x03\0\x04\0\0\0\0\x02\0\x01a\x01\0\xff";
    let header = ends("1.2.3.4:1", "5.6.7.8:2").header(ProxyVersion::V2, additions);
    let (read, length) = Header::read(&header).unwrap().unwrap();
    assert_eq!(
        (read.additions.as_slice(), length),
        (&b"\x05\0\x02id\x02\0\x01a"[..], header.len())
    );
}

proptest! {
    #[test]
    fn what_is_written_is_read_piece_by_piece(
        client: SocketAddr,
        listener: SocketAddr,
        second: bool,
        rest: Vec<u8>,
    ) {
        let version = if second { ProxyVersion::V2 } else { ProxyVersion::V1 };
        let plain = |at: SocketAddr| SocketAddr::new(at.ip(), at.port());
        let ends = Ends { client: plain(client), listener: plain(listener) };
        let header = ends.header(version, &[]);
        for cut in 0..header.len() {
            prop_assert_eq!(Header::read(&header[..cut]), Ok(None));
        }
        let (read, length) = Header::read(&[header.clone(), rest].concat()).unwrap().unwrap();
        prop_assert_eq!(length, header.len());
        let canonical = |at: SocketAddr| SocketAddr::new(at.ip().to_canonical(), at.port());
        let ends = Ends { client: canonical(ends.client), listener: canonical(ends.listener) };
        let read = read.ends.unwrap();
        let read = Ends { client: canonical(read.client), listener: canonical(read.listener) };
        prop_assert_eq!(read, ends);
    }

    #[test]
    fn any_bytes_are_a_header_or_not(bytes: Vec<u8>, begins in 0..3_u8) {
        let begin: &[u8] = match begins { 0 => b"", 1 => V1, _ => V2 };
        let _ = Header::read(&[begin, &bytes].concat());
    }
}
