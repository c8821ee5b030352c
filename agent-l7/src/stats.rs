//! What the plane counts, and the form in which it is read.
//!
//! Counters only grow and are relaxed atomics: the byte path takes no lock, and reading disturbs
//! nobody. Two figures of one sample may be a connection apart.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use gantry_medical::hl7::Code;
use gantry_model::name::{Id, ServerName, ServiceName};
use gantry_model::termination::Termination;

use crate::mllp::MllpCounts;

/// The figures of one virtual service, fallback included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    pub service: ServiceName,
    /// Clients connected now, waiting ones included.
    pub active: u64,
    /// Clients waiting now for a server that is at its maximum.
    pub queued: u64,
    /// Clients ever accepted.
    pub accepted: u64,
    pub traffic: TrafficSample,
    /// Clients reset because their time in the queue was over.
    pub queue_timeouts: u64,
    /// Clients reset because no real server and no fallback took them.
    pub unserved: u64,
    /// Clients reset because they did not begin with the PROXY protocol header that they must.
    pub malformed: u64,
    /// Clients with which no TLS session came about.
    pub unshaken: u64,
    /// Connections ended because a side was silent for too long.
    pub idle_timeouts: u64,
    /// Connections ended by an error in the proxy itself.
    pub panics: u64,
    pub http: HttpSample,
    pub waits: WaitSample,
    pub persistence: PersistenceSample,
    /// Associations of DICOM, of all clients together.
    pub dicom: DicomSample,
    /// The same by calling AE title.
    pub titles: Vec<(Arc<str>, DicomSample)>,
    /// Messages of HL7.
    pub mllp: MllpSample,
    /// Reasons for which connections ended, and how many did.
    pub ended: Vec<(Termination, u64)>,
    /// The real servers of the service, by name.
    pub servers: Vec<ServerSample>,
}

/// Requests of HTTP, and their answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HttpSample {
    pub requests: u64,
    /// Answers by the first digit of their status, from 2 on; 101 counts as one of 2xx.
    pub answers: [u64; 4],
    /// Of these, those that the proxy gave itself.
    pub own_answers: u64,
}

/// What became of associations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DicomSample {
    /// Open now, or asked for and not answered yet.
    pub open: u64,
    pub requested: u64,
    /// By a real server.
    pub accepted: u64,
    /// By a real server.
    pub rejected: u64,
    /// Rejected by the proxy itself.
    pub refused: u64,
    /// Accepted, and not released in the end.
    pub aborted: u64,
    /// C-STORE operations that succeeded, those with a warning included.
    pub stored: u64,
    pub store_warnings: u64,
    /// C-STORE operations that failed.
    pub store_failures: u64,
    /// Of these, those for want of resources.
    pub out_of_resources: u64,
}

/// Messages of HL7, and how they were acknowledged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MllpSample {
    pub messages: u64,
    /// Acknowledgements by code, those that occurred. No code: they cannot be read.
    pub codes: Vec<(Option<Code>, u64)>,
    /// How long these took together.
    pub waited: Duration,
    /// Sent to a real server, and not acknowledged.
    pub in_doubt: u64,
    /// Of these, sent to another one at once.
    pub resent: u64,
    /// Repetitions that got the acknowledgement that was kept.
    pub replayed: u64,
    /// Control ids that came again with other content.
    pub reused: u64,
    /// What real servers sent and nobody waited for.
    pub strays: u64,
    /// By type.
    pub types: Vec<(String, u64)>,
}

/// How clients wait for a server that has room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WaitSample {
    /// Those that waited, and got a server in the end.
    pub served: u64,
    /// How long these waited together.
    pub waited: Duration,
    /// How long the one who waits longest waits by now.
    pub longest_now: Option<Duration>,
}

/// How persistence kept clients on their real servers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PersistenceSample {
    /// Clients remembered now.
    pub clients: u64,
    /// Times a client was given a real server that was not remembered.
    pub new: u64,
    /// Times one was given the real server that it is remembered for.
    pub kept: u64,
    /// Times one was given another, because that could not serve it.
    pub moved: u64,
}

/// The figures of one real server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerSample {
    pub server: ServerName,
    /// Connections it has now, those being opened included.
    pub active: u32,
    pub traffic: TrafficSample,
    /// Messages of HL7 that it was sent.
    pub mllp: MllpSample,
}

/// What went to and from real servers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TrafficSample {
    /// Connections established.
    pub connections: u64,
    /// Attempts that failed: refused, unreachable, timed out.
    pub connect_failures: u64,
    pub bytes_from_clients: u64,
    pub bytes_to_clients: u64,
}

/// A counter that anyone may move.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

/// The traffic of one real server, or of a fallback.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    pub(crate) connections: Count,
    pub(crate) connect_failures: Count,
    pub(crate) from_clients: Count,
    pub(crate) to_clients: Count,
}

/// What is counted for a service as a whole.
#[derive(Debug, Default)]
pub(crate) struct ServiceCounts {
    pub(crate) active: Count,
    pub(crate) accepted: Count,
    pub(crate) queue_timeouts: Count,
    pub(crate) unserved: Count,
    pub(crate) malformed: Count,
    pub(crate) unshaken: Count,
    pub(crate) idle_timeouts: Count,
    pub(crate) panics: Count,
    pub(crate) http: HttpCounts,
    pub(crate) ended: EndedCounts,
    pub(crate) waits: WaitCounts,
    pub(crate) persistence: PersistenceCounts,
    pub(crate) dicom: DicomCounts,
    pub(crate) mllp: MllpCounts,
}

#[derive(Debug, Default)]
pub(crate) struct DicomCounts {
    pub(crate) open: Count,
    pub(crate) requested: Count,
    pub(crate) accepted: Count,
    pub(crate) rejected: Count,
    pub(crate) refused: Count,
    pub(crate) aborted: Count,
    pub(crate) stored: Count,
    pub(crate) store_warnings: Count,
    pub(crate) store_failures: Count,
    pub(crate) out_of_resources: Count,
}

#[derive(Debug, Default)]
pub(crate) struct PersistenceCounts {
    new: Count,
    kept: Count,
    moved: Count,
}

#[derive(Debug, Default)]
pub(crate) struct WaitCounts {
    pub(crate) served: Count,
    /// In microseconds.
    pub(crate) waited: Count,
}

/// Connections by the reason for which they ended.
#[derive(Debug)]
pub(crate) struct EndedCounts([Count; Termination::ALL.len()]);

#[derive(Debug, Default)]
pub(crate) struct HttpCounts {
    pub(crate) requests: Count,
    answers: [Count; 4],
    pub(crate) own_answers: Count,
}

impl Count {
    pub(crate) fn add(&self, more: u64) {
        self.0.fetch_add(more, Relaxed);
    }

    pub(crate) fn sub(&self, less: u64) {
        self.0.fetch_sub(less, Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

impl Default for EndedCounts {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Count::default()))
    }
}

impl EndedCounts {
    pub(crate) fn count(&self, reason: Termination) -> &Count {
        &self.0[reason.number() - 1]
    }

    /// Reasons that have occurred.
    pub(crate) fn sample(&self) -> Vec<(Termination, u64)> {
        let all = Termination::ALL.into_iter().map(|reason| (reason, self.count(reason).get()));
        all.filter(|(_, count)| *count > 0).collect()
    }
}

impl ServiceCounts {
    /// All that only grow, but for those of reasons: in an order that stays.
    pub(crate) fn all(&self) -> Vec<&Count> {
        let [requests, succeeded, redirected, client_errors, server_errors, own] = self.http.all();
        let PersistenceCounts { new, kept, moved } = &self.persistence;
        let own = [
            &self.accepted,
            &self.queue_timeouts,
            &self.unserved,
            &self.malformed,
            &self.unshaken,
            &self.idle_timeouts,
            &self.panics,
            requests,
            succeeded,
            redirected,
            client_errors,
            server_errors,
            own,
            &self.waits.served,
            &self.waits.waited,
            new,
            kept,
            moved,
            &self.dicom.requested,
            &self.dicom.accepted,
            &self.dicom.rejected,
            &self.dicom.refused,
            &self.dicom.aborted,
            &self.dicom.stored,
            &self.dicom.store_warnings,
            &self.dicom.store_failures,
            &self.dicom.out_of_resources,
        ];
        own.into_iter().chain(self.mllp.all()).collect()
    }
}

impl PersistenceCounts {
    /// A client that is remembered for `home` was given `server`.
    pub(crate) fn settled(&self, home: Option<&Id>, server: &Id) {
        let count = match home {
            None => &self.new,
            Some(home) if home == server => &self.kept,
            Some(_) => &self.moved,
        };
        count.add(1);
    }

    pub(crate) fn sample(&self, clients: u64) -> PersistenceSample {
        let Self { new, kept, moved } = self;
        PersistenceSample { clients, new: new.get(), kept: kept.get(), moved: moved.get() }
    }
}

impl DicomCounts {
    pub(crate) fn sample(&self) -> DicomSample {
        DicomSample {
            open: self.open.get(),
            requested: self.requested.get(),
            accepted: self.accepted.get(),
            rejected: self.rejected.get(),
            refused: self.refused.get(),
            aborted: self.aborted.get(),
            stored: self.stored.get(),
            store_warnings: self.store_warnings.get(),
            store_failures: self.store_failures.get(),
            out_of_resources: self.out_of_resources.get(),
        }
    }
}

impl WaitCounts {
    pub(crate) fn add(&self, wait: Duration) {
        self.served.add(1);
        self.waited.add(u64::try_from(wait.as_micros()).unwrap_or(u64::MAX));
    }

    pub(crate) fn sample(&self) -> WaitSample {
        WaitSample {
            served: self.served.get(),
            waited: Duration::from_micros(self.waited.get()),
            longest_now: None,
        }
    }
}

impl HttpCounts {
    pub(crate) fn answered(&self, status: u16) {
        let class = usize::from(status / 100).clamp(2, 5);
        self.answers[class - 2].add(1);
    }

    fn all(&self) -> [&Count; 6] {
        let [succeeded, redirected, client_errors, server_errors] = &self.answers;
        [&self.requests, succeeded, redirected, client_errors, server_errors, &self.own_answers]
    }

    pub(crate) fn sample(&self) -> HttpSample {
        HttpSample {
            requests: self.requests.get(),
            answers: self.answers.each_ref().map(Count::get),
            own_answers: self.own_answers.get(),
        }
    }
}

impl Traffic {
    pub(crate) fn sample(&self) -> TrafficSample {
        TrafficSample {
            connections: self.connections.get(),
            connect_failures: self.connect_failures.get(),
            bytes_from_clients: self.from_clients.get(),
            bytes_to_clients: self.to_clients.get(),
        }
    }
}

impl std::ops::AddAssign for TrafficSample {
    fn add_assign(&mut self, other: Self) {
        self.connections += other.connections;
        self.connect_failures += other.connect_failures;
        self.bytes_from_clients += other.bytes_from_clients;
        self.bytes_to_clients += other.bytes_to_clients;
    }
}
