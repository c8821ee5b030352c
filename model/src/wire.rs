//! The only place where messages become types and types become messages.
//!
//! Reading checks everything and reports all that is wrong at once; what comes out cannot be
//! invalid. Writing gives the configuration only: status, etag and times are added by the API.

mod agent;
mod check;
mod layer7;
mod preset;
mod server;
mod service;

use std::net::IpAddr;
use std::time::Duration;

use gantry_proto::v1 as pb;
use jiff::Timestamp;

use crate::port::Port;
use crate::service::Endpoint;
use crate::termination::Termination;
use crate::violation::Violations;

pub use self::agent::{
    AgentError, PlanError, applied, check_result, decode_plan, encode_plan, identity, kind_message,
    update, update_message, verdict, verdict_message,
};
pub use self::server::{real_server, real_server_message};
pub use self::service::{virtual_service, virtual_service_message};

/// A time of day as a message.
pub fn timestamp_message(time: Timestamp) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds: time.as_second(), nanos: time.subsec_nanosecond() }
}

/// A time of day from a message; none if it is out of the years 1 to 9999.
pub fn timestamp(message: &prost_types::Timestamp) -> Option<Timestamp> {
    Timestamp::new(message.seconds, message.nanos).ok()
}

/// A reason as a message.
pub fn termination_message(reason: Termination) -> pb::ended::Termination {
    let number = i32::try_from(reason.number()).unwrap_or_default();
    pb::ended::Termination::try_from(number).unwrap_or_default()
}

/// A reason from a message; none if it is none that this release knows.
pub fn termination(message: i32) -> Option<Termination> {
    Termination::from_number(usize::try_from(message).ok()?)
}

/// A duration as a message.
pub fn duration_message(duration: Duration) -> prost_types::Duration {
    prost_types::Duration {
        seconds: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(duration.subsec_nanos()).unwrap_or(0),
    }
}

/// A duration from a message; none if it is negative or not in its normal form. (The conversion of
/// `prost_types` negates, which the lowest number of seconds does not survive.)
pub fn plain_duration(message: prost_types::Duration) -> Option<Duration> {
    let nanos = u32::try_from(message.nanos).ok().filter(|nanos| *nanos < 1_000_000_000);
    Some(Duration::new(u64::try_from(message.seconds).ok()?, nanos?))
}

/// The longest duration that any field takes: a year.
pub const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

/// A duration from `shortest` to a year; `default` when the field is absent.
pub fn duration(
    violations: &mut Violations,
    field: &str,
    message: Option<prost_types::Duration>,
    shortest: Duration,
) -> Option<Duration> {
    let message = message?;
    let parsed = plain_duration(message).filter(|d| (shortest..=LONGEST).contains(d));
    if parsed.is_none() {
        let shortest = shortest.as_secs_f64();
        let what = format!("use a duration from {shortest}s to {}s", LONGEST.as_secs());
        violations.add(field, "INVALID_DURATION", what);
    }
    parsed
}

/// A whole number from `0` to `most`.
fn number(violations: &mut Violations, field: &str, value: i32, most: u32) -> u32 {
    let parsed = u32::try_from(value).ok().filter(|value| *value <= most);
    if parsed.is_none() {
        let what = format!("{value} is out of range: use 0 to {most}");
        violations.add(field, "OUT_OF_RANGE", what);
    }
    parsed.unwrap_or(0)
}

/// The outer option: whether the field is right; the inner one: whether it is set.
fn port(violations: &mut Violations, field: &str, value: i32) -> Option<Option<Port>> {
    let parsed = u16::try_from(value).ok();
    if parsed.is_none() {
        let what = format!("{value} is not a port: use 1 to 65535, or 0 for the default");
        violations.add(field, "INVALID_PORT", what);
    }
    parsed.map(Port::new)
}

fn address(violations: &mut Violations, field: &str, text: &str) -> Option<IpAddr> {
    if text.is_empty() {
        let what = "is required: give an IPv4 or IPv6 address, such as \"10.12.1.100\"";
        violations.add(field, "REQUIRED", what);
        return None;
    }
    let parsed = text.parse::<IpAddr>().ok();
    let Some(parsed) = parsed else {
        let shown: String = text.chars().take(80).collect();
        let what = format!("{shown:?} is not an IPv4 or IPv6 address");
        violations.add(field, "INVALID_ADDRESS", what);
        return None;
    };
    if parsed.is_unspecified() || parsed.is_multicast() {
        let what = format!("{parsed} is not the address of one host");
        violations.add(field, "INVALID_ADDRESS", what);
        return None;
    }
    Some(parsed)
}

fn endpoint(violations: &mut Violations, message: &pb::Endpoint) -> Option<Endpoint> {
    let address = address(violations, "address", &message.address);
    let port = port(violations, "port", message.port);
    Some(Endpoint { address: address?, port: port? })
}

fn endpoint_message(endpoint: &Endpoint) -> pb::Endpoint {
    pb::Endpoint { address: endpoint.address.to_string(), port: port_message(endpoint.port) }
}

fn port_message(port: Option<Port>) -> i32 {
    port.map_or(0, |port| i32::from(port.get()))
}

/// A label of at most 63 characters that fits on one line of a table.
pub fn label(violations: &mut Violations, text: &str) -> String {
    let field = "display_name";
    if text.chars().count() > 63 {
        violations.add(field, "TOO_LONG", "is longer than the 63 characters a label may have");
    } else if text.chars().any(char::is_control) {
        violations.add(field, "INVALID_LABEL", "has control characters, which a label may not");
    } else if text.trim() != text {
        violations.add(field, "INVALID_LABEL", "begins or ends with a space");
    }
    text.to_owned()
}

/// The value of an open enum; unknown numbers, which newer clients may send, are violations.
fn choice<T: TryFrom<i32>>(violations: &mut Violations, field: &str, value: i32) -> Option<T> {
    let parsed = T::try_from(value).ok();
    if parsed.is_none() {
        let what = format!("this version does not know the value {value}");
        violations.add(field, "UNKNOWN_VALUE", what);
    }
    parsed
}

#[cfg(test)]
mod tests;
