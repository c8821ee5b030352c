//! What an agent says to a question beside the answer itself.

use std::net::IpAddr;

use gantry_proto::agent::v1 as pb;

/// It cannot be done, and why: for programs, and for people with the way out.
pub fn refusal(reason: &str, message: impl Into<String>) -> pb::Answer {
    pb::Answer { refusal: reason.to_owned(), message: message.into(), ..pb::Answer::default() }
}

/// The client that a question names, if it names one; else what to answer.
pub fn client(given: &str) -> Result<Option<IpAddr>, pb::Answer> {
    match (given, given.parse()) {
        ("", _) => Ok(None),
        (_, Ok(address)) => Ok(Some(address)),
        _ => Err(refusal("INVALID_CLIENT", "the client is not an IPv4 or IPv6 address")),
    }
}
