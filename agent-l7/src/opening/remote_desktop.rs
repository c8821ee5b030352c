//! Who a Remote Desktop client is, or which server it was sent to: the cookie or the routing token of its
//! X.224 Connection Request (MS-RDPBCGR, section 2.2.1.1), in a TPKT (RFC 1006, section 6).

use std::net::{Ipv4Addr, SocketAddr};

use super::{Told, cut, number};

/// How a client is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Cookie {
    /// By the user that logs in, in lower case. Clients send the first few characters only.
    User(String),
    /// A connection broker has sent it to this server.
    Server(SocketAddr),
}

/// TPKT version and its reserved byte.
const TPKT: [u8; 2] = [3, 0];
/// The code of a Connection Request, without its credit (ITU-T X.224, section 13.3).
const CONNECTION_REQUEST: usize = 0xe0;
const LONGEST: usize = 1024;
const USER: &str = "Cookie: mstshash=";
const SERVER: &str = "Cookie: msts=";

/// The cookie. Nothing: the stream is not of Remote Desktop, or has none.
pub(crate) fn cookie(stream: &[u8]) -> Told<Cookie> {
    if !stream.iter().zip(TPKT).all(|(byte, expected)| *byte == expected) {
        return Told::Nothing;
    }
    let Some(&[_, _, high, low]) = stream.first_chunk() else { return Told::Unfinished };
    let length = usize::from(u16::from_be_bytes([high, low]));
    match stream.get(TPKT.len() + 2..length) {
        _ if length > LONGEST => Told::Nothing,
        Some(request) => cookie_in(request).map_or(Told::Nothing, Told::This),
        None if length > stream.len() => Told::Unfinished,
        None => Told::Nothing,
    }
}

fn cookie_in(request: &[u8]) -> Option<Cookie> {
    let mut rest = request;
    let _length = number::<1>(&mut rest)?;
    let code = number::<1>(&mut rest)?;
    let references_and_class = 5;
    cut(&mut rest, references_and_class)?;
    let end = rest.windows(2).position(|two| two == b"\r\n")?;
    let line = str::from_utf8(&rest[..end]).ok().filter(|_| code & 0xf0 == CONNECTION_REQUEST)?;
    if let Some(token) = line.strip_prefix(SERVER) {
        return server(token).map(Cookie::Server);
    }
    let user = line.strip_prefix(USER).filter(|user| !user.is_empty())?;
    Some(Cookie::User(user.to_lowercase()))
}

/// `ADDRESS.PORT.0000`, both as decimal numbers of bytes in network order, read as little endian.
fn server(token: &str) -> Option<SocketAddr> {
    let mut parts = token.split('.');
    let address: u32 = parts.next()?.parse().ok()?;
    let port: u16 = parts.next()?.parse().ok()?;
    let address = Ipv4Addr::from(address.swap_bytes());
    Some(SocketAddr::from((address, port.swap_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A Connection Request that says `line`, and asks for TLS as clients do.
    fn request(line: &str) -> Vec<u8> {
        let negotiation = [1, 0, 8, 0, 3, 0, 0, 0];
        let said = [line.as_bytes(), &negotiation].concat();
        let x224 = u8::try_from(6 + said.len()).unwrap();
        let length = u16::try_from(4 + 7 + said.len()).unwrap().to_be_bytes();
        [&[3, 0, length[0], length[1], x224, 0xe0, 0, 0, 0, 0, 0], &said[..]].concat()
    }

    #[test]
    fn a_client_is_known_by_its_user_or_the_server_it_was_sent_to() {
        let user = |name: &str| Told::This(Cookie::User(name.to_owned()));
        let server = |at: &str| Told::This(Cookie::Server(at.parse().unwrap()));
        for (line, told) in [
            ("Cookie: mstshash=eltons\r\n", user("eltons")),
            ("Cookie: mstshash=CLINIC\\Ann\r\n", user("clinic\\ann")),
            ("Cookie: mstshash=\r\n", Told::Nothing),
            ("Cookie: mstshash=ann", Told::Nothing),
            // The example of MS-RDPBCGR, section 3.2.5.3.1.
            ("Cookie: msts=3640205228.15629.0000\r\n", server("172.31.249.216:3389")),
            ("Cookie: msts=4294967296.15629.0000\r\n", Told::Nothing),
            ("Cookie: msts=3640205228\r\n", Told::Nothing),
            ("Biscuit: mstshash=ann\r\n", Told::Nothing),
            ("", Told::Nothing),
        ] {
            let stream = request(line);
            assert_eq!(cookie(&stream), told, "{line:?}");
            assert_eq!(cookie(&[&stream[..], b"more"].concat()), told, "{line:?}");
            for seen in 0..stream.len() {
                assert_eq!(cookie(&stream[..seen]), Told::Unfinished, "{line:?} {seen}");
            }
        }
    }

    #[test]
    fn what_is_not_remote_desktop_tells_nothing() {
        let mut other_code = request("Cookie: mstshash=ann\r\n");
        other_code[5] = 0xd0;
        for stream in [
            &b"GET / HTTP/1.1"[..],
            &[3, 1],
            &[3, 0, 0, 0],
            &[3, 0, 0, 4],
            &[3, 0, 0, 5, 0],
            &[3, 0, 255, 255],
            &other_code,
        ] {
            assert_eq!(cookie(stream), Told::Nothing, "{stream:?}");
        }
    }
}
