//! Why connections of layer 7 end: one word for each reason, the same in counters, log and commands.
//!
//! What each reason means to an operator is said in the API, whose numbers these are.

/// Why a client's connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Termination {
    Completed = 1,
    ClientLeftInGreeting,
    ClientLeftInTls,
    ClientLeftInQueue,
    ClientLeftInConnect,
    ClientReset,
    ClientResetAfterItsEnd,
    ClientResetAfterServerEnd,
    GreetingTimeout,
    TlsTimeout,
    RequestTimeout,
    ClientTimeout,
    ClientTimeoutAfterItsEnd,
    ClientTimeoutAfterServerEnd,
    GreetingMalformed,
    TlsFailed,
    RequestMalformed,
    QueueTimeout,
    NoServer,
    ConnectRefused,
    ConnectTimeout,
    ServerTlsFailed,
    ServerReset,
    ServerResetAfterClientEnd,
    ServerResetAfterItsEnd,
    ServerTimeout,
    ServerTimeoutAfterClientEnd,
    ServerTimeoutAfterItsEnd,
    ServerFailed,
    ServerHalted,
    DrainOver,
    ServerRemoved,
    ServiceClosed,
    OutOfResources,
    InternalError,
    ClientLimited,
    AssociationRejected,
    AssociationRefused,
    ClientAborted,
    ServerAborted,
    ClientLeftAssociation,
    ServerLeftAssociation,
    MessageInDoubt,
    MessageTooLong,
}

impl Termination {
    /// All of them, in the order of their numbers, which begin with 1.
    pub const ALL: [Self; 44] = [
        Self::Completed,
        Self::ClientLeftInGreeting,
        Self::ClientLeftInTls,
        Self::ClientLeftInQueue,
        Self::ClientLeftInConnect,
        Self::ClientReset,
        Self::ClientResetAfterItsEnd,
        Self::ClientResetAfterServerEnd,
        Self::GreetingTimeout,
        Self::TlsTimeout,
        Self::RequestTimeout,
        Self::ClientTimeout,
        Self::ClientTimeoutAfterItsEnd,
        Self::ClientTimeoutAfterServerEnd,
        Self::GreetingMalformed,
        Self::TlsFailed,
        Self::RequestMalformed,
        Self::QueueTimeout,
        Self::NoServer,
        Self::ConnectRefused,
        Self::ConnectTimeout,
        Self::ServerTlsFailed,
        Self::ServerReset,
        Self::ServerResetAfterClientEnd,
        Self::ServerResetAfterItsEnd,
        Self::ServerTimeout,
        Self::ServerTimeoutAfterClientEnd,
        Self::ServerTimeoutAfterItsEnd,
        Self::ServerFailed,
        Self::ServerHalted,
        Self::DrainOver,
        Self::ServerRemoved,
        Self::ServiceClosed,
        Self::OutOfResources,
        Self::InternalError,
        Self::ClientLimited,
        Self::AssociationRejected,
        Self::AssociationRefused,
        Self::ClientAborted,
        Self::ServerAborted,
        Self::ClientLeftAssociation,
        Self::ServerLeftAssociation,
        Self::MessageInDoubt,
        Self::MessageTooLong,
    ];

    /// The number that the API has for it.
    pub fn number(self) -> usize {
        self as usize
    }

    /// The reason that the API has this number for.
    pub fn from_number(number: usize) -> Option<Self> {
        Self::ALL.get(number.checked_sub(1)?).copied()
    }

    /// What programs call it, as the API does: `QUEUE_TIMEOUT`.
    pub fn name(self) -> &'static str {
        self.row().0
    }

    /// What HAProxy says at the end of such a session; `*` stands for the phase.
    pub fn haproxy(self) -> &'static str {
        self.row().1
    }

    /// What people are told.
    pub fn as_str(self) -> &'static str {
        self.row().2
    }

    fn row(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Completed => ("COMPLETED", "--", "both sides had ended"),
            Self::ClientLeftInGreeting => {
                ("CLIENT_LEFT_IN_GREETING", "CR", "the client left before it had said who it is")
            }
            Self::ClientLeftInTls => {
                ("CLIENT_LEFT_IN_TLS", "CR", "the client left during its TLS handshake")
            }
            Self::ClientLeftInQueue => {
                ("CLIENT_LEFT_IN_QUEUE", "CQ", "the client left while it waited in the queue")
            }
            Self::ClientLeftInConnect => (
                "CLIENT_LEFT_IN_CONNECT",
                "CC",
                "the client left while a real server was connected to",
            ),
            Self::ClientReset => ("CLIENT_RESET", "CD", "the client reset it"),
            Self::ClientResetAfterItsEnd => (
                "CLIENT_RESET_AFTER_ITS_END",
                "CD",
                "the client reset it after it had ended its stream",
            ),
            Self::ClientResetAfterServerEnd => (
                "CLIENT_RESET_AFTER_SERVER_END",
                "CL",
                "the client reset it after the real server had ended",
            ),
            Self::GreetingTimeout => {
                ("GREETING_TIMEOUT", "cR", "the client did not say who it is in time")
            }
            Self::TlsTimeout => ("TLS_TIMEOUT", "cR", "the client did not agree on keys in time"),
            Self::RequestTimeout => ("REQUEST_TIMEOUT", "cR", "the client sent no request in time"),
            Self::ClientTimeout => ("CLIENT_TIMEOUT", "cD", "the client was silent for too long"),
            Self::ClientTimeoutAfterItsEnd => (
                "CLIENT_TIMEOUT_AFTER_ITS_END",
                "cD",
                "the client was silent for too long after it had ended its stream",
            ),
            Self::ClientTimeoutAfterServerEnd => (
                "CLIENT_TIMEOUT_AFTER_SERVER_END",
                "cL",
                "the client was silent for too long after the real server had ended",
            ),
            Self::GreetingMalformed => {
                ("GREETING_MALFORMED", "PR", "it did not begin with what it must")
            }
            Self::TlsFailed => ("TLS_FAILED", "PR", "no TLS session came about with the client"),
            Self::RequestMalformed => {
                ("REQUEST_MALFORMED", "PR", "the client sent no valid request")
            }
            Self::QueueTimeout => ("QUEUE_TIMEOUT", "sQ", "its time in the queue was over"),
            Self::NoServer => ("NO_SERVER", "SC", "no real server is in service"),
            Self::ConnectRefused => ("CONNECT_REFUSED", "SC", "no real server took it"),
            Self::ConnectTimeout => ("CONNECT_TIMEOUT", "sC", "no real server took it in time"),
            Self::ServerTlsFailed => {
                ("SERVER_TLS_FAILED", "SC", "no TLS session came about with a real server")
            }
            Self::ServerReset => ("SERVER_RESET", "SD", "the real server reset it"),
            Self::ServerResetAfterClientEnd => (
                "SERVER_RESET_AFTER_CLIENT_END",
                "SD",
                "the real server reset it after the client had ended its stream",
            ),
            Self::ServerResetAfterItsEnd => (
                "SERVER_RESET_AFTER_ITS_END",
                "SD",
                "the real server reset it after it had ended its stream",
            ),
            Self::ServerTimeout => {
                ("SERVER_TIMEOUT", "sD", "the real server was silent for too long")
            }
            Self::ServerTimeoutAfterClientEnd => (
                "SERVER_TIMEOUT_AFTER_CLIENT_END",
                "sD",
                "the real server was silent for too long after the client had ended",
            ),
            Self::ServerTimeoutAfterItsEnd => (
                "SERVER_TIMEOUT_AFTER_ITS_END",
                "sD",
                "the real server was silent for too long after it had ended its stream",
            ),
            Self::ServerFailed => ("SERVER_FAILED", "D*", "its real server failed its check"),
            Self::ServerHalted => ("SERVER_HALTED", "K*", "its real server was halted"),
            Self::DrainOver => ("DRAIN_OVER", "K*", "the drain of its real server was over"),
            Self::ServerRemoved => ("SERVER_REMOVED", "K*", "its real server was removed"),
            Self::ServiceClosed => ("SERVICE_CLOSED", "K*", "the service was closed"),
            Self::OutOfResources => (
                "OUT_OF_RESOURCES",
                "RC",
                "the appliance had no descriptors, ports or memory for it",
            ),
            Self::InternalError => ("INTERNAL_ERROR", "I*", "an error in the proxy"),
            Self::ClientLimited => {
                ("CLIENT_LIMITED", "PR", "the client has as many connections as it may")
            }
            Self::AssociationRejected => {
                ("ASSOCIATION_REJECTED", "--", "a real server rejected the association")
            }
            Self::AssociationRefused => {
                ("ASSOCIATION_REFUSED", "PR", "a route or a limit forbids the association")
            }
            Self::ClientAborted => ("CLIENT_ABORTED", "CD", "the client aborted the association"),
            Self::ServerAborted => {
                ("SERVER_ABORTED", "SD", "the real server aborted the association")
            }
            Self::ClientLeftAssociation => {
                ("CLIENT_LEFT_ASSOCIATION", "CD", "the client left in mid-association")
            }
            Self::ServerLeftAssociation => {
                ("SERVER_LEFT_ASSOCIATION", "SD", "the real server left in mid-association")
            }
            Self::MessageInDoubt => {
                ("MESSAGE_IN_DOUBT", "SD", "the real server did not acknowledge a message")
            }
            Self::MessageTooLong => {
                ("MESSAGE_TOO_LONG", "PR", "the client sent a message that is too long")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_count_on() {
        for (at, reason) in Termination::ALL.into_iter().enumerate() {
            assert_eq!(reason.number(), at + 1);
            assert_eq!(Termination::from_number(at + 1), Some(reason));
        }
        assert_eq!(Termination::from_number(0), None);
        assert_eq!(Termination::from_number(Termination::ALL.len() + 1), None);
    }

    #[test]
    fn no_two_are_told_alike() {
        let mut words: Vec<_> = Termination::ALL.into_iter().map(Termination::as_str).collect();
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), Termination::ALL.len());
    }

    #[test]
    fn the_guide_has_all_of_them() {
        let guide = include_str!("../../docs/deployment-guide.md");
        for reason in Termination::ALL {
            let row = format!("| `{}` | `{}` |", reason.name(), reason.haproxy());
            assert!(guide.contains(&row), "{row}");
        }
    }
}
