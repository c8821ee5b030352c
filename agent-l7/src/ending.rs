//! Why connections end: what was seen, and the one reason that it is counted and told as.

use gantry_model::termination::Termination;

use crate::relay::{End, Side};

/// What ended a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// As a relayed connection does.
    Relayed(End),
    /// The client went away before it was served.
    ClientLeft,
    /// The client did not say in time what it has to say first.
    ClientSilent,
    /// The client did not begin with the header that it must.
    Malformed,
    /// The client has, or makes, as many connections as it may.
    Limited,
    /// No TLS session came about with the client.
    Unshaken,
    /// Its time in line was over.
    QueueTimeout,
    /// No real server and no fallback took it; why the one tried last did not, if there was one.
    Unserved(Option<Untaken>),
    /// The real server is no longer to be used.
    ServerTaken(Taken),
    /// The service was disabled or removed.
    ServiceClosed,
    /// A real server did not want the association.
    AssociationRejected,
    /// No route takes the association, or there are as many as there may be.
    AssociationRefused,
    /// This side aborted its association.
    Aborted(Side),
    /// A message was not acknowledged.
    InDoubt,
    /// A message is too long.
    TooLong,
    /// What cannot be.
    Trouble,
    /// An error in the proxy itself.
    Panicked,
}

/// Why a server did not take a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Untaken {
    Refused,
    TimedOut,
    /// It speaks no TLS that will do.
    Unshaken,
    /// It does not want the association now.
    Rejected,
    /// There were no descriptors, ports or memory: nobody's fault but ours.
    Exhausted,
}

/// Why a server may not keep its connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    Failed,
    Halted,
    /// It was draining until now.
    Drained,
    Removed,
}

/// How far a connection had come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The client has to say who it is.
    Greeting,
    /// The client and the proxy agree on keys.
    Tls,
    Queue,
    /// A real server is being connected to.
    Connect,
    /// Bytes may flow both ways.
    Data,
    /// The client has ended its stream.
    ClientEnded,
    /// The real server has ended its stream, and the client perhaps as well.
    ServerEnded,
}

impl Phase {
    /// Of a relayed connection, by which sides have ended their streams.
    pub(crate) fn relayed([client, server]: [bool; 2]) -> Self {
        match (client, server) {
            (_, true) => Self::ServerEnded,
            (true, false) => Self::ClientEnded,
            (false, false) => Self::Data,
        }
    }

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Greeting => "greeting",
            Self::Tls => "tls",
            Self::Queue => "queue",
            Self::Connect => "connect",
            Self::Data => "data",
            Self::ClientEnded => "client-ended",
            Self::ServerEnded => "server-ended",
        }
    }
}

impl Ending {
    pub(crate) fn termination(self, phase: Phase) -> Termination {
        match self {
            Self::Relayed(End::Complete) => Termination::Completed,
            Self::Relayed(End::Reset(side)) => reset(side, phase),
            Self::Relayed(End::Idle(side)) => idle(side, phase),
            Self::Relayed(End::Left(Side::Client)) => Termination::ClientLeftAssociation,
            Self::Relayed(End::Left(Side::Server)) => Termination::ServerLeftAssociation,
            Self::ClientLeft => left(phase),
            Self::ClientSilent if phase == Phase::Tls => Termination::TlsTimeout,
            Self::ClientSilent => Termination::GreetingTimeout,
            Self::Malformed => Termination::GreetingMalformed,
            Self::Limited => Termination::ClientLimited,
            Self::Unshaken => Termination::TlsFailed,
            Self::QueueTimeout => Termination::QueueTimeout,
            Self::Unserved(None) => Termination::NoServer,
            Self::Unserved(Some(why)) => why.termination(),
            Self::ServerTaken(why) => why.termination(),
            Self::ServiceClosed => Termination::ServiceClosed,
            Self::AssociationRejected => Termination::AssociationRejected,
            Self::AssociationRefused => Termination::AssociationRefused,
            Self::InDoubt => Termination::MessageInDoubt,
            Self::TooLong => Termination::MessageTooLong,
            Self::Aborted(Side::Client) => Termination::ClientAborted,
            Self::Aborted(Side::Server) => Termination::ServerAborted,
            Self::Trouble | Self::Panicked => Termination::InternalError,
        }
    }
}

impl Untaken {
    fn termination(self) -> Termination {
        match self {
            Self::Refused => Termination::ConnectRefused,
            Self::TimedOut => Termination::ConnectTimeout,
            Self::Unshaken => Termination::ServerTlsFailed,
            Self::Rejected => Termination::AssociationRejected,
            Self::Exhausted => Termination::OutOfResources,
        }
    }
}

impl Taken {
    pub(crate) fn termination(self) -> Termination {
        match self {
            Self::Failed => Termination::ServerFailed,
            Self::Halted => Termination::ServerHalted,
            Self::Drained => Termination::DrainOver,
            Self::Removed => Termination::ServerRemoved,
        }
    }
}

fn left(phase: Phase) -> Termination {
    match phase {
        Phase::Greeting => Termination::ClientLeftInGreeting,
        Phase::Tls => Termination::ClientLeftInTls,
        Phase::Queue => Termination::ClientLeftInQueue,
        Phase::Connect => Termination::ClientLeftInConnect,
        Phase::Data | Phase::ClientEnded | Phase::ServerEnded => reset(Side::Client, phase),
    }
}

fn reset(side: Side, phase: Phase) -> Termination {
    match (side, phase) {
        (Side::Client, Phase::ClientEnded) => Termination::ClientResetAfterItsEnd,
        (Side::Client, Phase::ServerEnded) => Termination::ClientResetAfterServerEnd,
        (Side::Client, _) => Termination::ClientReset,
        (Side::Server, Phase::ClientEnded) => Termination::ServerResetAfterClientEnd,
        (Side::Server, Phase::ServerEnded) => Termination::ServerResetAfterItsEnd,
        (Side::Server, _) => Termination::ServerReset,
    }
}

fn idle(side: Side, phase: Phase) -> Termination {
    match (side, phase) {
        (Side::Client, Phase::ClientEnded) => Termination::ClientTimeoutAfterItsEnd,
        (Side::Client, Phase::ServerEnded) => Termination::ClientTimeoutAfterServerEnd,
        (Side::Client, _) => Termination::ClientTimeout,
        (Side::Server, Phase::ClientEnded) => Termination::ServerTimeoutAfterClientEnd,
        (Side::Server, Phase::ServerEnded) => Termination::ServerTimeoutAfterItsEnd,
        (Side::Server, _) => Termination::ServerTimeout,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_is_reached_but_those_of_http() {
        use Phase::{ClientEnded, Connect, Data, Greeting, Queue, ServerEnded, Tls};
        let relayed = [Data, ClientEnded, ServerEnded];
        let both = [Side::Client, Side::Server];
        let relay = |of: fn(Side) -> End| {
            both.map(|side| relayed.map(|phase| (Ending::Relayed(of(side)), phase)))
        };
        let mut seen: Vec<(Ending, Phase)> = vec![
            (Ending::Relayed(End::Complete), ServerEnded),
            (Ending::ClientSilent, Greeting),
            (Ending::ClientSilent, Tls),
            (Ending::Malformed, Greeting),
            (Ending::Limited, Greeting),
            (Ending::Unshaken, Tls),
            (Ending::QueueTimeout, Queue),
            (Ending::Unserved(None), Connect),
            (Ending::ServiceClosed, Data),
            (Ending::Panicked, Data),
            (Ending::AssociationRejected, Connect),
            (Ending::AssociationRefused, Greeting),
            (Ending::InDoubt, Data),
            (Ending::TooLong, Data),
        ];
        seen.extend(both.map(|side| (Ending::Aborted(side), Data)));
        seen.extend(both.map(|side| (Ending::Relayed(End::Left(side)), Data)));
        seen.extend(relay(End::Reset).into_iter().chain(relay(End::Idle)).flatten());
        seen.extend([Greeting, Tls, Queue, Connect].map(|phase| (Ending::ClientLeft, phase)));
        let untaken = [Untaken::Refused, Untaken::TimedOut, Untaken::Unshaken, Untaken::Exhausted];
        seen.extend(untaken.map(|why| (Ending::Unserved(Some(why)), Connect)));
        let taken = [Taken::Failed, Taken::Halted, Taken::Drained, Taken::Removed];
        seen.extend(taken.map(|why| (Ending::ServerTaken(why), Data)));
        let mut reached: Vec<Termination> =
            seen.into_iter().map(|(ending, phase)| ending.termination(phase)).collect();
        reached.sort_unstable();
        let of_http = [Termination::RequestTimeout, Termination::RequestMalformed];
        let wanted: Vec<Termination> =
            Termination::ALL.into_iter().filter(|reason| !of_http.contains(reason)).collect();
        assert_eq!(reached, wanted, "each by one way");
    }

    #[test]
    fn what_comes_last_counts_where_both_have_ended() {
        let phases = [[false, false], [true, false], [false, true], [true, true]];
        let named = phases.map(|ended| Phase::relayed(ended).as_str());
        assert_eq!(named, ["data", "client-ended", "server-ended", "server-ended"]);
    }
}
