//! Routes to pools, and how HTTP is treated.

use gantry_proto::v1 as pb;
use pb::layer7::header_edit::Action;

use super::{SHORTEST, choice, duration, duration_message, is_dns_name};
use crate::http::{HeaderEdit, HostPattern, Http, Maintenance, Route};
use crate::name::Id;
use crate::violation::Violations;

const MOST_ROUTES: usize = 100;
/// Hosts or path prefixes of one route.
const MOST_PATTERNS: usize = 100;
const LONGEST_PREFIX: usize = 1024;
const MOST_EDITS: usize = 50;
const LONGEST_VALUE: usize = 4096;
const LONGEST_COOKIE: usize = 64;
const LONGEST_PAGE: usize = 64 << 10;
const HEADS: std::ops::RangeInclusive<i32> = 8192..=1 << 20;
const HTML: &str = "text/html; charset=utf-8";

/// Header fields that frame a message, or belong to one connection (RFC 9110, section 7.6.1).
const OWN: [&str; 9] = [
    "connection",
    "content-length",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "expect",
];

pub(super) fn routes(
    violations: &mut Violations,
    messages: &[pb::layer7::Route],
) -> Option<Vec<Route>> {
    each(violations, "routes", messages, MOST_ROUTES, route)
}

fn route(violations: &mut Violations, message: &pb::layer7::Route) -> Option<Route> {
    if message.hosts.is_empty() && message.path_prefixes.is_empty() {
        let what = "fits everything: give hosts or path_prefixes, or leave the route out";
        violations.add("hosts", "REQUIRED", what);
        return None;
    }
    let fits = at_most(violations, "hosts", message.hosts.len(), MOST_PATTERNS)
        & at_most(violations, "path_prefixes", message.path_prefixes.len(), MOST_PATTERNS);
    let hosts: Vec<_> = message
        .hosts
        .iter()
        .enumerate()
        .map(|(at, host)| host_pattern(violations, &format!("hosts[{at}]"), host))
        .collect();
    for (at, prefix) in message.path_prefixes.iter().enumerate() {
        let is_path = prefix.starts_with('/') && prefix.bytes().all(|byte| byte.is_ascii_graphic());
        if !is_path || prefix.contains(['?', '#']) || prefix.len() > LONGEST_PREFIX {
            let what =
                "is not how a path begins: use one such as /dicom-web/, with %20 for a space";
            violations.add(&format!("path_prefixes[{at}]"), "INVALID_PATH", what);
        }
    }
    let pool = pool(violations, &message.pool)?;
    let hosts: Option<Vec<_>> = hosts.into_iter().collect();
    fits.then_some(Route { hosts: hosts?, path_prefixes: message.path_prefixes.clone(), pool })
}

/// The outer option: whether it is right.
pub(in crate::wire) fn pool(violations: &mut Violations, text: &str) -> Option<Option<Id>> {
    match text {
        "" => Some(None),
        text => violations.check("pool", "INVALID_NAME", text.parse()).map(Some),
    }
}

fn host_pattern(violations: &mut Violations, field: &str, text: &str) -> Option<HostPattern> {
    let name = text.to_ascii_lowercase();
    let (pattern, name) = match name.strip_prefix('*') {
        Some(end) => (HostPattern::Wildcard(end.to_owned()), end.strip_prefix('.').unwrap_or("")),
        None => (HostPattern::Exact(name.clone()), name.as_str()),
    };
    if !is_dns_name(name) && name.parse::<std::net::IpAddr>().is_err() {
        let what = "is no host name: use one such as viewer.example.org, or *.example.org for any \
                    one label before it; without a port, and without a dot at its end";
        violations.add(field, "INVALID_NAME", what);
        return None;
    }
    Some(pattern)
}

pub(super) fn http(violations: &mut Violations, message: &pb::layer7::Http) -> Option<Http> {
    let default = Http::default();
    let request_headers =
        each(violations, "request_headers", &message.request_headers, MOST_EDITS, edit);
    let response_headers =
        each(violations, "response_headers", &message.response_headers, MOST_EDITS, edit);
    let maintenance = match &message.maintenance {
        None => Some(None),
        Some(given) => {
            violations.within("maintenance", |violations| maintenance(violations, given)).map(Some)
        }
    };
    let request_timeout =
        duration(violations, "request_timeout", message.request_timeout, SHORTEST);
    let longest_head = match message.max_header_bytes {
        0 => Some(default.longest_head),
        given if HEADS.contains(&given) => u32::try_from(given).ok(),
        given => {
            let what = format!("{given} is out of range: use 8192 to 1048576, or 0 for 65536");
            violations.add("max_header_bytes", "OUT_OF_RANGE", what);
            None
        }
    };
    let cookie = match message.cookie_name.as_str() {
        "" => Some(default.cookie),
        name if is_token(name) && name.len() <= LONGEST_COOKIE => Some(name.to_owned()),
        _ => {
            let what = "is not the name of a cookie: use letters, digits, - and _, at most 64";
            violations.add("cookie_name", "INVALID_NAME", what);
            None
        }
    };
    Some(Http {
        request_headers: request_headers?,
        response_headers: response_headers?,
        redirect_to_https: message.redirect_to_https,
        maintenance: maintenance?,
        request_timeout: request_timeout.unwrap_or(default.request_timeout),
        longest_head: longest_head?,
        trust_forwarded: message.trust_forwarded,
        cookie: cookie?,
    })
}

fn edit(violations: &mut Violations, message: &pb::layer7::HeaderEdit) -> Option<HeaderEdit> {
    let action = choice::<Action>(violations, "action", message.action)?;
    let (name, value) = (message.name.to_ascii_lowercase(), message.value.clone());
    if !is_token(&name) {
        let what = "is not the name of a header field: use one such as X-Frame-Options";
        violations.add("name", "INVALID_NAME", what);
        return None;
    }
    if OWN.contains(&name.as_str()) {
        let what =
            format!("{name} frames messages or belongs to one connection: the proxy sets it");
        violations.add("name", "NOT_ALLOWED", what);
        return None;
    }
    let is_text = |byte: u8| byte == b'\t' || (b' '..=b'~').contains(&byte);
    let is_bad =
        !value.bytes().all(is_text) || value.len() > LONGEST_VALUE || value.trim() != value;
    if action == Action::Remove && !value.is_empty() {
        violations.add("value", "NOT_ALLOWED", "is only for SET and ADD: leave it out");
        return None;
    }
    if is_bad {
        let what = "is not the value of a header field: use at most 4096 printable ASCII characters, \
                    without a space at either end";
        violations.add("value", "INVALID_VALUE", what);
        return None;
    }
    Some(match action {
        Action::Unspecified | Action::Set => HeaderEdit::Set { name, value },
        Action::Add => HeaderEdit::Add { name, value },
        Action::Remove => HeaderEdit::Remove { name },
    })
}

fn maintenance(
    violations: &mut Violations,
    message: &pb::layer7::Maintenance,
) -> Option<Maintenance> {
    let status = match message.status {
        0 => Some(503),
        given @ 200..=599 => u16::try_from(given).ok(),
        given => {
            let what = format!("{given} is no status of an answer: use 200 to 599, or 0 for 503");
            violations.add("status", "OUT_OF_RANGE", what);
            None
        }
    };
    if message.body.len() > LONGEST_PAGE {
        let what = format!("has {} bytes: at most {LONGEST_PAGE}", message.body.len());
        violations.add("body", "TOO_LONG", what);
        return None;
    }
    let content_type = match message.content_type.as_str() {
        "" => HTML,
        given => given,
    };
    if !content_type.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
        violations.add(
            "content_type",
            "INVALID_VALUE",
            "is no media type: use one such as text/html",
        );
        return None;
    }
    let (content_type, body) = (content_type.to_owned(), message.body.clone());
    Some(Maintenance { status: status?, content_type, body })
}

/// Reads a list of at most so many, each below its own place.
pub(super) fn each<M, T>(
    violations: &mut Violations,
    field: &str,
    messages: &[M],
    most: usize,
    read: impl Fn(&mut Violations, &M) -> Option<T>,
) -> Option<Vec<T>> {
    if !at_most(violations, field, messages.len(), most) {
        return None;
    }
    let read = |(at, message): (usize, &M)| {
        violations.within(format!("{field}[{at}]"), |violations| read(violations, message))
    };
    let all: Vec<Option<T>> = messages.iter().enumerate().map(read).collect();
    all.into_iter().collect()
}

fn at_most(violations: &mut Violations, field: &str, count: usize, most: usize) -> bool {
    if count > most {
        violations.add(field, "TOO_MANY", format!("has {count}: at most {most}"));
    }
    count <= most
}

/// A token of RFC 9110, section 5.6.2.
fn is_token(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(fits)
}

pub(super) fn route_message(route: &Route) -> pb::layer7::Route {
    pb::layer7::Route {
        hosts: route.hosts.iter().map(HostPattern::to_string).collect(),
        path_prefixes: route.path_prefixes.clone(),
        pool: route.pool.as_ref().map(Id::to_string).unwrap_or_default(),
    }
}

/// None if nothing is said that would not hold anyway.
pub(super) fn http_message(http: &Http) -> Option<pb::layer7::Http> {
    let default = Http::default();
    (*http != default).then(|| pb::layer7::Http {
        request_headers: http.request_headers.iter().map(edit_message).collect(),
        response_headers: http.response_headers.iter().map(edit_message).collect(),
        redirect_to_https: http.redirect_to_https,
        maintenance: http.maintenance.as_ref().map(|page| pb::layer7::Maintenance {
            status: page.status.into(),
            content_type: page.content_type.clone(),
            body: page.body.clone(),
        }),
        request_timeout: Some(duration_message(http.request_timeout)),
        max_header_bytes: i32::try_from(http.longest_head).unwrap_or(i32::MAX),
        trust_forwarded: http.trust_forwarded,
        cookie_name: http.cookie.clone(),
    })
}

fn edit_message(edit: &HeaderEdit) -> pb::layer7::HeaderEdit {
    let (action, value) = match edit {
        HeaderEdit::Set { value, .. } => (Action::Set, value.as_str()),
        HeaderEdit::Add { value, .. } => (Action::Add, value.as_str()),
        HeaderEdit::Remove { .. } => (Action::Remove, ""),
    };
    let (name, value) = (edit.name().to_owned(), value.to_owned());
    pb::layer7::HeaderEdit { action: action.into(), name, value }
}

#[cfg(test)]
mod tests;
