//! The host that a TLS client asks for: server_name of its ClientHello (RFC 6066, section 3; RFC 8446,
//! section 4.1.2).
//!
//! Only what leads to the name is read. Whether the rest is sound is for whom it is sent to: versions
//! and extensions that are too old or too new for this proxy pass.

use super::{LONGEST, Told, cut, number};

const HANDSHAKE: u8 = 22;
/// The first byte of every version, SSL 3.0 to TLS 1.3 (RFC 8446, section 5.1).
const MAJOR: u8 = 3;
const CLIENT_HELLO: usize = 1;
const SERVER_NAME: usize = 0;
const HOST_NAME: usize = 0;

/// The host in lower case. Nothing: the stream is not of TLS, or no host is asked for.
pub(crate) fn server_name(stream: &[u8]) -> Told<String> {
    let name = hello(stream).map(|hello| name_in(&hello).map(str::to_ascii_lowercase));
    match name {
        Told::This(Some(name)) => Told::This(name),
        Told::This(None) | Told::Nothing => Told::Nothing,
        Told::Unfinished => Told::Unfinished,
    }
}

/// The body of the ClientHello, which may be spread over several records.
fn hello(stream: &[u8]) -> Told<Vec<u8>> {
    let mut said = Vec::new();
    let mut rest = stream;
    loop {
        let Some(&[kind, major, _, high, low]) = rest.first_chunk() else {
            let begins = [HANDSHAKE, MAJOR];
            let fits = rest.iter().zip(begins).all(|(byte, expected)| *byte == expected);
            return if fits { Told::Unfinished } else { Told::Nothing };
        };
        let length = usize::from(u16::from_be_bytes([high, low]));
        if kind != HANDSHAKE || major != MAJOR || length == 0 {
            return Told::Nothing;
        }
        let fragment = &rest[5..];
        said.extend_from_slice(&fragment[..length.min(fragment.len())]);
        match whole(&said) {
            Told::Unfinished if fragment.len() >= length => rest = &fragment[length..],
            told => return told.map(<[u8]>::to_vec),
        }
    }
}

fn whole(said: &[u8]) -> Told<&[u8]> {
    let mut rest = said;
    let (kind, length) = (number::<1>(&mut rest), number::<3>(&mut rest));
    match (kind, length) {
        (Some(kind), _) if kind != CLIENT_HELLO => Told::Nothing,
        (_, Some(length)) if length > LONGEST => Told::Nothing,
        (_, Some(length)) => cut(&mut rest, length).map_or(Told::Unfinished, Told::This),
        _ => Told::Unfinished,
    }
}

fn name_in(hello: &[u8]) -> Option<&str> {
    let mut rest = hello;
    let (version, random) = (2, 32);
    cut(&mut rest, version + random)?;
    let _session = block::<1>(&mut rest)?;
    let _cipher_suites = block::<2>(&mut rest)?;
    let _compression = block::<1>(&mut rest)?;
    let mut extensions = block::<2>(&mut rest)?;
    while !extensions.is_empty() {
        let kind = number::<2>(&mut extensions)?;
        let mut body = block::<2>(&mut extensions)?;
        if kind == SERVER_NAME {
            let mut names = block::<2>(&mut body)?;
            let kind = number::<1>(&mut names)?;
            let name = block::<2>(&mut names)?;
            return str::from_utf8(name).ok().filter(|_| kind == HOST_NAME);
        }
    }
    None
}

/// Cuts off what a number of `LENGTH` bytes in front of it gives the length of.
fn block<'a, const LENGTH: usize>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = number::<LENGTH>(bytes)?;
    cut(bytes, length)
}

#[cfg(test)]
mod tests;
