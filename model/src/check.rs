//! How a real server is judged: what is asked of it, how often, and how many answers count.

use std::time::Duration;

use crate::port::Port;
use crate::service::Protocol;

/// A health check, the same for every real server of its virtual service.
#[derive(Clone, Debug, PartialEq)]
pub struct HealthCheck {
    /// From the start of one check to the start of the next.
    pub interval: Duration,
    /// The longest that one check may take.
    pub timeout: Duration,
    /// Successes in a row before a server is put back.
    pub rise: u32,
    /// Failures in a row before a server is taken out.
    pub fall: u32,
    /// Check this port instead of the one that traffic goes to.
    pub port: Option<Port>,
    /// Ask the virtual address, by way of the real server, as clients' packets come to it.
    pub through_virtual_address: bool,
    /// Keep a connection open, whose end is the reason for a check.
    pub hold_connection: bool,
    pub probe: Probe,
}

/// What one check does. Where a probe speaks TLS, any certificate will do: the check asks about the
/// application, and real servers are checked by address.
#[derive(Clone, Debug, PartialEq)]
pub enum Probe {
    /// A TCP connection opens.
    TcpConnect,
    Exchange(Exchange),
    Http(Http),
    DicomEcho(DicomEcho),
    Mllp(Mllp),
    /// No check: always healthy.
    None,
}

/// Bytes sent and bytes expected back.
#[derive(Clone, Debug, PartialEq)]
pub struct Exchange {
    /// Sent once connected; may be empty.
    pub send: Vec<u8>,
    /// What the reply must match somewhere.
    pub expect: Pattern,
    pub tls: bool,
}

/// An HTTP/1.1 request.
#[derive(Clone, Debug, PartialEq)]
pub struct Http {
    /// `GET` or another token of RFC 9110, section 5.6.2.
    pub method: String,
    /// Path and query, beginning with a slash.
    pub path: String,
    /// The Host header; empty: the server's address.
    pub host: String,
    /// The request's body; may be empty.
    pub body: String,
    /// The Content-Type header; empty: none is sent.
    pub content_type: String,
    /// Accepted status codes; empty: 200 to 399.
    pub expect_statuses: Vec<u16>,
    /// What the body must match somewhere.
    pub expect_body: Option<Pattern>,
    pub tls: bool,
}

/// A DICOM C-ECHO (DICOM PS3.7, section 9.1.5): the verification that an application entity
/// answers, and with which status.
#[derive(Clone, Debug, PartialEq)]
pub struct DicomEcho {
    pub calling: AeTitle,
    pub called: AeTitle,
    pub tls: bool,
}

/// An HL7 version 2 message over MLLP and its acknowledgement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mllp {
    pub message: String,
    /// Accepted MSA-1 codes.
    pub expect_codes: Vec<String>,
    pub tls: bool,
}

/// An application entity title: 1 to 16 characters of the default repertoire, not all spaces,
/// without backslash or control characters (DICOM PS3.5, section 6.2, VR AE).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AeTitle(String);

/// A compiled regular expression over bytes; equal to another when written the same.
#[derive(Clone, Debug)]
pub struct Pattern(regex::bytes::Regex);

/// Why text is not an application entity title.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not an application entity title: use 1 to 16 printable ASCII characters without \
     backslash, not only spaces"
)]
pub struct AeTitleError(String);

impl HealthCheck {
    /// A TCP connect, as the reference appliance does when nothing else is asked for.
    pub fn connect() -> Self {
        Self {
            interval: Duration::from_secs(4),
            timeout: Duration::from_secs(3),
            rise: 2,
            fall: 2,
            port: None,
            through_virtual_address: false,
            hold_connection: false,
            probe: Probe::TcpConnect,
        }
    }

    /// What holds when nothing is said: a connect. There is no such thing over UDP.
    pub fn default_for(protocol: Protocol) -> Self {
        match protocol {
            Protocol::Tcp => Self::connect(),
            Protocol::Udp => Self { probe: Probe::None, ..Self::connect() },
        }
    }
}

impl AeTitle {
    pub fn new(text: &str) -> Result<Self, AeTitleError> {
        let trimmed = text.trim_matches(' ');
        let good = |byte: u8| (b' '..=b'~').contains(&byte) && byte != b'\\';
        if trimmed.is_empty() || trimmed.len() > 16 || !trimmed.bytes().all(good) {
            return Err(AeTitleError(text.chars().take(40).collect()));
        }
        Ok(Self(trimmed.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Pattern {
    /// What a compiled pattern may weigh; a longer one is refused rather than slow.
    const SIZE_LIMIT: usize = 1 << 20;

    pub fn new(text: &str) -> Result<Self, regex::Error> {
        regex::bytes::RegexBuilder::new(text).size_limit(Self::SIZE_LIMIT).build().map(Self)
    }

    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    pub fn is_match(&self, bytes: &[u8]) -> bool {
        self.0.is_match(bytes)
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}
