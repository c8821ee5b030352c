//! What a health check concluded about a real server.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;

use crate::name::ServerName;

/// The standing conclusion about one real server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    pub server: ServerName,
    pub healthy: bool,
    /// When this conclusion was reached.
    pub since: Timestamp,
    /// The check that confirmed it last.
    pub last: CheckResult,
}

/// The result of one check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckResult {
    pub healthy: bool,
    /// How far the check got.
    pub layer: Layer,
    /// What was seen there, in the check's own words: `C-ECHO 0x0000`, `connection refused`.
    pub cause: String,
    pub at: Timestamp,
    pub took: Duration,
}

/// How far up the stack a check got before it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Layer {
    /// Nothing was tried: there is no check.
    None,
    /// TCP, or the route below it.
    Connection,
    Tls,
    /// DICOM, HTTP, HL7 or whatever the service speaks.
    Application,
}

impl fmt::Display for Layer {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::None => "none",
            Self::Connection => "connection",
            Self::Tls => "tls",
            Self::Application => "application",
        })
    }
}

impl fmt::Display for CheckResult {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.layer == Layer::None {
            return out.write_str(&self.cause);
        }
        write!(out, "{} in {} ms", self.cause, self.took.as_millis())
    }
}
