//! Heads of requests and responses: what a proxy takes out and puts in.
//!
//! Sources: RFC 9110, section 7.6 (what belongs to one connection); RFC 9112, section 3.2 (whom a
//! request is for); RFC 7239 (Forwarded).

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use gantry_model::http::HeaderEdit;
use hyper::header::{
    CONNECTION, CONTENT_LENGTH, COOKIE, EXPECT, FORWARDED, HOST, HeaderMap, HeaderName,
    HeaderValue, TE, TRANSFER_ENCODING, UPGRADE,
};
use hyper::http::request::Parts;
use hyper::{Method, Uri, Version};

const FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// What belongs to one connection, or is answered by this proxy.
const HOP_BY_HOP: [HeaderName; 6] =
    [KEEP_ALIVE, PROXY_CONNECTION, TE, TRANSFER_ENCODING, UPGRADE, EXPECT];

/// What a client's connection adds to each of its requests.
#[derive(Debug)]
pub(super) struct Introduction {
    client: HeaderValue,
    proto: HeaderValue,
    forwarded: HeaderValue,
}

/// A request that makes no sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

impl Introduction {
    pub(super) fn new(client: SocketAddr, is_secure: bool) -> Self {
        let ip = client.ip().to_canonical();
        let proto = if is_secure { "https" } else { "http" };
        // IPv6 addresses are quoted, in brackets (RFC 7239, section 6).
        let node = match ip {
            IpAddr::V4(address) => address.to_string(),
            IpAddr::V6(address) => format!("\"[{address}]\""),
        };
        let value = |text: &str| HeaderValue::from_str(text).expect("addresses are ASCII");
        Self {
            client: value(&ip.to_string()),
            proto: HeaderValue::from_static(proto),
            forwarded: value(&format!("for={node};proto={proto}")),
        }
    }

    /// Tells the real server who asks, and for what. What is there counts if clients are trusted.
    pub(super) fn tell(&self, headers: &mut HeaderMap, is_trusted: bool) {
        if is_trusted {
            add_to_list(headers, FOR, &self.client);
            add_to_list(headers, FORWARDED, &self.forwarded);
            if !headers.contains_key(PROTO) {
                headers.insert(PROTO, self.proto.clone());
            }
        } else {
            headers.insert(FOR, self.client.clone());
            headers.insert(FORWARDED, self.forwarded.clone());
            headers.insert(PROTO, self.proto.clone());
        }
        if !(is_trusted && headers.contains_key(FORWARDED_HOST)) {
            match headers.get(HOST).cloned() {
                Some(host) => headers.insert(FORWARDED_HOST, host),
                None => headers.remove(FORWARDED_HOST),
            };
        }
    }
}

fn add_to_list(headers: &mut HeaderMap, name: HeaderName, value: &HeaderValue) {
    let mut whole: Vec<u8> = Vec::new();
    for part in headers.get_all(&name) {
        whole.extend_from_slice(part.as_bytes());
        whole.extend_from_slice(b", ");
    }
    whole.extend_from_slice(value.as_bytes());
    // Its parts are values, so that it is one.
    headers.insert(name, HeaderValue::from_bytes(&whole).unwrap_or_else(|_| value.clone()));
}

/// Makes whom the request is for plain: a Host field, and a path.
pub(super) fn address(parts: &mut Parts) -> Result<(), Malformed> {
    let mut hosts = parts.headers.get_all(HOST).iter();
    let (host, another) = (hosts.next(), hosts.next());
    if another.is_some() {
        return Err(Malformed);
    }
    let authority =
        parts.uri.authority().map(|authority| HeaderValue::from_str(authority.as_str()));
    match authority {
        // A target that names a host goes before the Host field.
        Some(Ok(authority)) => {
            parts.headers.insert(HOST, authority);
        }
        Some(Err(_)) => return Err(Malformed),
        None if host.is_none() && parts.version >= Version::HTTP_11 => return Err(Malformed),
        None => {}
    }
    if parts.uri.scheme().is_some() || parts.uri.authority().is_some() {
        let path = parts.uri.path_and_query().cloned();
        let mut plain = hyper::http::uri::Parts::default();
        plain.path_and_query = path.or_else(|| "/".parse().ok());
        parts.uri = Uri::from_parts(plain).map_err(|_| Malformed)?;
    }
    Ok(())
}

/// The host that is asked for, without a port.
pub(super) fn host(headers: &HeaderMap) -> Option<&str> {
    let host = headers.get(HOST)?.to_str().ok()?;
    if host.starts_with('[') {
        return host.split_once(']').map(|(address, _)| &address[1..]);
    }
    Some(host.split_once(':').map_or(host, |(name, _)| name))
}

/// The protocol that the sender wants to switch to.
pub(super) fn upgrade(headers: &HeaderMap) -> Option<HeaderValue> {
    let wanted = headers.get(UPGRADE)?;
    names_in(headers, CONNECTION)
        .any(|name| name.eq_ignore_ascii_case("upgrade"))
        .then(|| wanted.clone())
}

/// Takes out what belongs to one connection.
pub(super) fn strip(headers: &mut HeaderMap) {
    if headers.contains_key(CONNECTION) {
        let named: Vec<HeaderName> =
            names_in(headers, CONNECTION).filter_map(|name| name.parse().ok()).collect();
        // A client does not get rid of what says whom its request is for.
        let named = named.into_iter().filter(|name| *name != HOST && *name != CONTENT_LENGTH);
        for name in named {
            headers.remove(name);
        }
        headers.remove(CONNECTION);
    }
    // Most heads have none of these, and a comparison is less than a search.
    while let Some(name) = headers.keys().find(|name| HOP_BY_HOP.contains(name)).cloned() {
        headers.remove(name);
    }
}

/// Asks for the switch, or agrees to it.
pub(super) fn switch(headers: &mut HeaderMap, to: HeaderValue) {
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, to);
}

fn names_in(headers: &HeaderMap, field: HeaderName) -> impl Iterator<Item = &str> {
    let values = headers.get_all(field).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim).filter(|name| !name.is_empty())
}

/// Edits a head as configured.
pub(super) fn edit(headers: &mut HeaderMap, edits: &[HeaderEdit]) {
    for edit in edits {
        // They were checked when they came in.
        let Ok(name) = edit.name().parse::<HeaderName>() else { continue };
        match edit {
            HeaderEdit::Remove { .. } => {
                headers.remove(name);
            }
            HeaderEdit::Set { value, .. } => {
                if let Ok(value) = HeaderValue::from_str(value) {
                    headers.insert(name, value);
                }
            }
            HeaderEdit::Add { value, .. } => {
                if let Ok(value) = HeaderValue::from_str(value) {
                    headers.append(name, value);
                }
            }
        }
    }
}

/// What a cookie of persistence says: which server, and when that was written, in minutes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) server: u64,
    pub(super) minute: u64,
}

impl Token {
    /// The one in the cookie `name` (RFC 6265, section 4.2).
    pub(super) fn read(headers: &HeaderMap, name: &str) -> Option<Self> {
        let values = headers.get_all(COOKIE).into_iter().filter_map(|value| value.to_str().ok());
        let pairs = values.flat_map(|value| value.split(';'));
        let value = pairs
            .filter_map(|pair| pair.trim().split_once('='))
            .find_map(|(key, value)| (key == name).then_some(value))?;
        let (server, minute) = value.split_once('-')?;
        let number = |text| u64::from_str_radix(text, 16).ok();
        Some(Self { server: number(server)?, minute: number(minute)? })
    }

    /// The Set-Cookie field that has a client keep it for so long.
    pub(super) fn write(self, name: &str, kept: Duration, is_secure: bool) -> Option<HeaderValue> {
        let Self { server, minute } = self;
        let secure = if is_secure { "; Secure" } else { "" };
        let seconds = kept.as_secs().max(1);
        HeaderValue::from_str(&format!(
            "{name}={server:016x}-{minute:x}; Path=/; Max-Age={seconds}; HttpOnly; \
             SameSite=Lax{secure}"
        ))
        .ok()
    }
}

/// A request may be sent once more if it is not known what came of it (RFC 9110, section 9.2.2).
pub(super) fn may_repeat(method: &Method) -> bool {
    [Method::GET, Method::HEAD, Method::OPTIONS, Method::PUT, Method::DELETE, Method::TRACE]
        .contains(method)
}

#[cfg(test)]
mod tests;
