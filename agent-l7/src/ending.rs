//! Why connections end, in words for the log.

use crate::relay::{End, Side};

/// Why a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// As a relayed connection does.
    Relayed(End),
    /// The client went away before it was served.
    ClientLeft,
    /// The client did not begin with the header that it must.
    Malformed,
    /// No TLS session came about with the client.
    Unshaken,
    /// Its time in line was over.
    QueueTimeout,
    /// No real server and no fallback took it.
    Unserved,
    /// The real server was halted, removed, or failed, or its drain was over.
    ServerTaken,
    /// The service was disabled or removed.
    ServiceClosed,
    /// The kernel refused something.
    Trouble,
    /// An error in the proxy itself.
    Panicked,
}

impl Ending {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Relayed(End::Complete) => "both sides had ended",
            Self::Relayed(End::Reset(Side::Client)) => "the client reset it",
            Self::Relayed(End::Reset(Side::Server)) => "the real server reset it",
            Self::Relayed(End::Idle(Side::Client)) => "the client was silent for too long",
            Self::Relayed(End::Idle(Side::Server)) => "the real server was silent for too long",
            Self::ClientLeft => "the client left before it was served",
            Self::Malformed => "it did not begin with a PROXY protocol header",
            Self::Unshaken => "no TLS session came about with the client",
            Self::QueueTimeout => "its time in the queue was over",
            Self::Unserved => "no real server took it",
            Self::ServerTaken => "its real server was taken out",
            Self::ServiceClosed => "the service was closed",
            Self::Trouble => "a socket could not be set up",
            Self::Panicked => "an error in the proxy",
        }
    }
}
