//! What a process and its successor say to each other: messages, each with the descriptors that it
//! speaks of.
//!
//! `Hello`, `Listener`, `Offer`, `Take`, `All`, `Ready` and `Go` stay as they are for ever, so that any
//! two releases come to terms on listeners. All else belongs to a version: the processes use the newest that both know, and where
//! there is none, every connection finishes in the old process. Fields may be added within a version
//! if who does not know them loses nothing.

/// The versions that this release speaks.
pub(crate) const OLDEST: u32 = 1;
pub(crate) const NEWEST: u32 = 1;

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Letter {
    #[prost(oneof = "Word", tags = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10")]
    pub(crate) word: Option<Word>,
}

/// In the order in which they are said.
#[derive(Clone, PartialEq, prost::Oneof)]
pub(crate) enum Word {
    /// The successor greets.
    #[prost(message, tag = "1")]
    Hello(Hello),
    /// The old process lends the sockets of one listener.
    #[prost(message, tag = "2")]
    Listener(Listener),
    /// That was all of them.
    #[prost(message, tag = "3")]
    Offer(Offer),
    /// The successor has its services, and wants the rest. The old process stands still from here on.
    #[prost(message, tag = "4")]
    Take(Take),
    #[prost(message, tag = "5")]
    Service(Service),
    #[prost(message, tag = "6")]
    Connection(Connection),
    /// That was all of them.
    #[prost(message, tag = "7")]
    All(All),
    /// The successor has all that it can use, and touches nothing yet.
    #[prost(message, tag = "8")]
    Ready(Ready),
    /// From here on everything lent is the successor's.
    #[prost(message, tag = "9")]
    Go(Go),
    /// What the old process still has, told again whenever that changes.
    #[prost(message, tag = "10")]
    Remaining(Remaining),
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Hello {
    #[prost(uint32, tag = "1")]
    pub(crate) oldest: u32,
    #[prost(uint32, tag = "2")]
    pub(crate) newest: u32,
}

/// Its descriptors listen at this address.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Listener {
    #[prost(string, tag = "1")]
    pub(crate) address: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Offer {
    /// 0: there is none that both know.
    #[prost(uint32, tag = "1")]
    pub(crate) version: u32,
    /// What the health checks said last.
    #[prost(message, repeated, tag = "2")]
    pub(crate) verdicts: Vec<Verdict>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Verdict {
    #[prost(string, tag = "1")]
    pub(crate) server: String,
    #[prost(bool, tag = "2")]
    pub(crate) healthy: bool,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(crate) struct Take {}

/// What a service has counted and whom it remembers.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Service {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    /// In the order of `ServiceCounts::all`, to which a release only adds at the end.
    #[prost(uint64, repeated, tag = "2")]
    pub(crate) counts: Vec<u64>,
    /// Of the fallback, and of servers that have left.
    #[prost(message, optional, tag = "3")]
    pub(crate) other: Option<Traffic>,
    #[prost(message, repeated, tag = "4")]
    pub(crate) servers: Vec<Server>,
    #[prost(message, repeated, tag = "5")]
    pub(crate) remembered: Vec<Remembered>,
    #[prost(message, repeated, tag = "6")]
    pub(crate) ended: Vec<Ended>,
}

/// Connections that ended for one reason.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(crate) struct Ended {
    /// As the API numbers it.
    #[prost(uint32, tag = "1")]
    pub(crate) reason: u32,
    #[prost(uint64, tag = "2")]
    pub(crate) connections: u64,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(crate) struct Traffic {
    #[prost(uint64, tag = "1")]
    pub(crate) connections: u64,
    #[prost(uint64, tag = "2")]
    pub(crate) connect_failures: u64,
    #[prost(uint64, tag = "3")]
    pub(crate) from_clients: u64,
    #[prost(uint64, tag = "4")]
    pub(crate) to_clients: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Server {
    #[prost(string, tag = "1")]
    pub(crate) id: String,
    #[prost(message, optional, tag = "2")]
    pub(crate) traffic: Option<Traffic>,
    /// Connections that the old process has to it and keeps.
    #[prost(uint32, tag = "3")]
    pub(crate) active: u32,
}

/// A client of the persistence table.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Remembered {
    #[prost(string, tag = "1")]
    pub(crate) client: String,
    #[prost(string, tag = "2")]
    pub(crate) server: String,
    #[prost(uint64, tag = "3")]
    pub(crate) left_ms: u64,
}

/// A client's connection. The client's socket is the first of its descriptors.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Connection {
    #[prost(string, tag = "1")]
    pub(crate) service: String,
    /// There if the log is to be told of its end.
    #[prost(message, optional, tag = "2")]
    pub(crate) record: Option<Record>,
    #[prost(oneof = "Stage", tags = "3, 4")]
    pub(crate) stage: Option<Stage>,
    /// By which it can be refused.
    #[prost(uint32, tag = "5")]
    pub(crate) number: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Record {
    #[prost(string, tag = "1")]
    pub(crate) peer: String,
    #[prost(uint64, tag = "2")]
    pub(crate) age_ms: u64,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub(crate) enum Stage {
    /// No byte of it was read yet, but for a PROXY protocol header.
    #[prost(message, tag = "3")]
    Newcomer(Newcomer),
    #[prost(message, tag = "4")]
    Relay(Relay),
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Newcomer {
    #[prost(string, tag = "1")]
    pub(crate) peer: String,
    /// The port it came to.
    #[prost(uint32, tag = "2")]
    pub(crate) port: u32,
    #[prost(message, optional, tag = "3")]
    pub(crate) greeting: Option<Greeting>,
    /// It has waited in line, and may wait for so long yet.
    #[prost(uint64, optional, tag = "4")]
    pub(crate) queue_left_ms: Option<u64>,
}

/// The PROXY protocol header that was read.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Greeting {
    /// Empty with `listener`: the sender spoke for itself.
    #[prost(string, tag = "1")]
    pub(crate) client: String,
    #[prost(string, tag = "2")]
    pub(crate) listener: String,
    #[prost(bytes = "vec", tag = "3")]
    pub(crate) additions: Vec<u8>,
}

/// Two connected sockets: the second descriptor is the server's.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Relay {
    /// The id of the real server; empty: the fallback.
    #[prost(string, tag = "1")]
    pub(crate) server: String,
    /// Whom persistence counts it for; empty: nobody.
    #[prost(string, tag = "2")]
    pub(crate) remembered_as: String,
    #[prost(message, optional, tag = "3")]
    pub(crate) from_client: Option<Direction>,
    #[prost(message, optional, tag = "4")]
    pub(crate) from_server: Option<Direction>,
    #[prost(message, optional, tag = "5")]
    pub(crate) client: Option<Pulse>,
    #[prost(message, optional, tag = "6")]
    pub(crate) server_side: Option<Pulse>,
    /// Whose connections are limited and it is one of; empty: nobody's.
    #[prost(string, tag = "7")]
    pub(crate) counted_for: String,
}

/// One direction. Where bytes are in a pipe, its read end and its write end follow the sockets.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Direction {
    #[prost(enumeration = "Phase", tag = "1")]
    pub(crate) phase: i32,
    #[prost(bool, tag = "2")]
    pub(crate) ending: bool,
    #[prost(bool, tag = "3")]
    pub(crate) severed: bool,
    /// Read and not yet written.
    #[prost(bytes = "vec", tag = "4")]
    pub(crate) held: Vec<u8>,
    /// The same, in a pipe.
    #[prost(uint64, tag = "5")]
    pub(crate) piped: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
pub(crate) enum Phase {
    Flowing = 0,
    /// The source has ended; what is held still goes out.
    Ending = 1,
    /// The source reset the connection; what is held still goes out.
    Resetting = 2,
    Closed = 3,
    Reset = 4,
    Broken = 5,
}

/// One side's signs of life.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(crate) struct Pulse {
    #[prost(uint64, tag = "1")]
    pub(crate) silent_ms: u64,
    #[prost(uint64, tag = "2")]
    pub(crate) patience_ms: u64,
    /// Bytes that came from it.
    #[prost(uint64, tag = "3")]
    pub(crate) carried: u64,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(crate) struct All {}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(crate) struct Go {}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Ready {
    /// Connections that the successor cannot carry, by their numbers.
    #[prost(uint32, repeated, tag = "1")]
    pub(crate) refused: Vec<u32>,
}

/// What the old process keeps, and what it has counted since it spoke last. What is not spoken of is as
/// it was.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Remaining {
    #[prost(message, repeated, tag = "1")]
    pub(crate) services: Vec<Kept>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Kept {
    #[prost(uint64, tag = "1")]
    pub(crate) active: u64,
    /// With the connections to each server; of counts, what is new.
    #[prost(message, optional, tag = "2")]
    pub(crate) service: Option<Service>,
}

/// The newest version that both sides speak; 0 if there is none.
pub(crate) fn agree(hello: Hello) -> u32 {
    let version = hello.newest.min(NEWEST);
    if version >= hello.oldest.max(OLDEST) { version } else { 0 }
}
