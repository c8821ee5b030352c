//! Steers the plane: desired state and verdicts in, counters out, and answers to questions.
//!
//! The plane has one door for changes; three tasks share it, one call at a time. No call waits for
//! traffic.

use std::net::SocketAddr;
use std::sync::{Arc, Weak};

use gantry_medical::hl7::Code;
use gantry_model::name::{ServerName, ServiceName};
use gantry_model::plan::ServicePlan;
use gantry_model::service::Endpoint;
use gantry_model::termination::Termination;
use gantry_model::wire::{duration_message, termination_message};
use gantry_proto::agent::v1 as pb;
use gantry_proto::v1;
use gantry_runtime::agent::question::refusal;
use gantry_runtime::agent::{Apply, Ask, Observe, Rejection};
use gantry_runtime::feed::{Hear, News};
use parking_lot::Mutex;
use pb::question::{Assign, Entries, Forget};

use crate::memory::{Client, Memory, Unknown};
use crate::plane::{Plane, Refusal};
use crate::stats::{
    DicomSample, HttpSample, MllpSample, PersistenceSample, Sample, ServerSample, WaitSample,
};

/// The door of a running plane.
#[derive(Clone, Debug)]
pub struct Door(Arc<Mutex<Plane>>);

/// The door of a plane that may have gone.
#[derive(Clone, Debug)]
pub struct WeakDoor(Weak<Mutex<Plane>>);

impl Door {
    pub fn new(plane: Plane) -> Self {
        Self(Arc::new(Mutex::new(plane)))
    }

    /// The door for as long as somebody else has it.
    pub fn downgrade(&self) -> WeakDoor {
        WeakDoor(Arc::downgrade(&self.0))
    }

    /// Does `work` with the plane; all else waits.
    pub fn with<T>(&self, work: impl FnOnce(&mut Plane) -> T) -> T {
        work(&mut self.0.lock())
    }
}

impl WeakDoor {
    /// Does `work` with the plane, if it is there.
    pub(crate) fn with(&self, work: impl FnOnce(&mut Plane)) {
        if let Some(plane) = self.0.upgrade() {
            work(&mut plane.lock());
        }
    }
}

/// Puts one service of the ledger in force.
pub fn put(plane: &mut Plane, plan: ServicePlan) -> Result<(), Rejection> {
    let servers = plan.servers.into_iter().map(Arc::new).collect();
    plane.put(Arc::new(plan.service), servers, plan.key_pairs).map_err(|refusal| {
        let Refusal { reason, field, message } = refusal;
        Rejection { reason: reason.to_owned(), field, message }
    })
}

impl Apply for Door {
    fn put(&mut self, plan: ServicePlan) -> Result<(), Rejection> {
        put(&mut self.0.lock(), plan)
    }

    fn remove(&mut self, name: &ServiceName) {
        self.0.lock().remove(name);
    }
}

impl Hear for Door {
    fn hear(&mut self, news: Vec<News>) {
        let mut plane = self.0.lock();
        for (server, healthy) in &news {
            plane.verdict(server, *healthy);
        }
    }
}

impl Observe for Door {
    fn samples(&self) -> Vec<pb::Sample> {
        let samples = self.0.lock().samples();
        let mut messages = Vec::with_capacity(samples.len() * 4);
        for sample in &samples {
            messages.push(service_message(sample));
            messages.extend(sample.servers.iter().map(server_message));
        }
        messages
    }

    fn answer(&self, question: Ask) -> pb::Answer {
        match question {
            Ask::PersistenceEntries(asked) => self.remembered(&asked).unwrap_or_else(unknown),
            Ask::Forget(asked) if asked.client.is_empty() => nobody(),
            Ask::Forget(asked) => self.forget(&asked).map_or_else(unknown, done),
            Ask::Assign(asked) if asked.client.is_empty() => nobody(),
            Ask::Assign(asked) => self.assign(&asked).map_or_else(unknown, done),
            Ask::Connections(_) => {
                let what = "the proxy counts its connections and does not list them: look at the \
                            counters";
                refusal("UNSUPPORTED", what)
            }
        }
    }
}

impl Door {
    /// What is not in force here remembers nobody.
    fn memory(&self, service: &str) -> Option<Memory> {
        self.0.lock().memory(&service.parse().ok()?)
    }

    fn remembered(&self, asked: &Entries) -> Result<pb::Answer, Unknown> {
        let only = Some(asked.client.as_str()).filter(|client| !client.is_empty());
        let clients = self.memory(&asked.service).map(|memory| memory.clients(only));
        Ok(entries(asked, &clients.transpose()?.unwrap_or_default()))
    }

    fn forget(&self, asked: &Forget) -> Result<(), Unknown> {
        self.memory(&asked.service).map_or(Ok(()), |memory| memory.forget(&asked.client))
    }

    fn assign(&self, asked: &Assign) -> Result<(), Unknown> {
        let server: ServerName = asked.real_server.parse().map_err(|_| Unknown::Server)?;
        let memory = self.0.lock().memory(&server.service);
        memory.ok_or(Unknown::Server)?.assign(&asked.client, &server.server)
    }
}

fn done((): ()) -> pb::Answer {
    pb::Answer::default()
}

fn nobody() -> pb::Answer {
    refusal("NO_CLIENT", "no client is named: give one")
}

fn unknown(why: Unknown) -> pb::Answer {
    let reason = match why {
        Unknown::Client => "INVALID_CLIENT",
        Unknown::Server => "UNKNOWN_REAL_SERVER",
        Unknown::Nobody => "NO_PERSISTENCE",
    };
    refusal(reason, why.to_string())
}

fn entries(asked: &Entries, clients: &[Client]) -> pb::Answer {
    let most = usize::try_from(asked.most).unwrap_or(0);
    let entry = |client: &Client| v1::PersistenceEntry {
        client: client.client.clone(),
        real_server: format!("{}/realServers/{}", asked.service, client.server),
        endpoint: client.endpoint.map(endpoint).unwrap_or_default(),
        expires_in: Some(duration_message(client.left)),
        appliance: String::new(),
    };
    pb::Answer {
        persistence_entries: clients.iter().take(most).map(entry).collect(),
        total_size: i64::try_from(clients.len()).unwrap_or(i64::MAX),
        ..pb::Answer::default()
    }
}

fn endpoint(endpoint: Endpoint) -> String {
    match endpoint.port {
        Some(port) => SocketAddr::new(endpoint.address, port.get()).to_string(),
        None => endpoint.address.to_string(),
    }
}

fn service_message(sample: &Sample) -> pb::Sample {
    let limited = sample.ended.iter().find(|(reason, _)| *reason == Termination::ClientLimited);
    let refused = sample.unserved
        + sample.queue_timeouts
        + sample.malformed
        + sample.unshaken
        + limited.map_or(0, |(_, count)| *count);
    pb::Sample {
        name: sample.service.to_string(),
        active_connections: signed(sample.active),
        connections_total: signed(sample.accepted),
        received_bytes_total: signed(sample.traffic.bytes_from_clients),
        sent_bytes_total: signed(sample.traffic.bytes_to_clients),
        queued: signed(sample.queued),
        connect_failures_total: signed(sample.traffic.connect_failures),
        refused_total: signed(refused),
        http: http(&sample.http),
        queue_wait: queue_wait(sample.waits),
        persistence: persistence(sample.persistence),
        ended: sample.ended.iter().map(ended).collect(),
        dicom: dicom(sample),
        mllp: mllp(&sample.mllp),
        ..pb::Sample::default()
    }
}

fn ended((reason, count): &(Termination, u64)) -> v1::Ended {
    v1::Ended { reason: termination_message(*reason).into(), connections_total: signed(*count) }
}

/// None where nobody ever waited.
fn queue_wait(waits: WaitSample) -> Option<pb::QueueWait> {
    (waits != WaitSample::default()).then(|| pb::QueueWait {
        served_total: signed(waits.served),
        wait_total: Some(duration_message(waits.waited)),
        longest_now: waits.longest_now.map(duration_message),
    })
}

/// None where nobody ever was remembered.
fn persistence(sample: PersistenceSample) -> Option<v1::PersistenceStatus> {
    let PersistenceSample { clients, new, kept, moved } = sample;
    (sample != PersistenceSample::default()).then(|| v1::PersistenceStatus {
        clients: signed(clients),
        new_total: signed(new),
        kept_total: signed(kept),
        moved_total: signed(moved),
    })
}

/// None where nobody has asked for anything.
fn http(sample: &HttpSample) -> Option<v1::HttpStatistics> {
    let [succeeded, redirected, client_errors, server_errors] = sample.answers.map(signed);
    (*sample != HttpSample::default()).then(|| v1::HttpStatistics {
        requests_total: signed(sample.requests),
        succeeded_total: succeeded,
        redirected_total: redirected,
        client_errors_total: client_errors,
        server_errors_total: server_errors,
        own_answers_total: signed(sample.own_answers),
    })
}

/// None where nobody has asked for an association.
fn dicom(sample: &Sample) -> Option<v1::DicomStatistics> {
    let title = |(title, sample): &(Arc<str>, DicomSample)| v1::AeTitleCounts {
        ae_title: title.to_string(),
        counts: Some(dicom_counts(sample)),
    };
    (sample.dicom != DicomSample::default()).then(|| v1::DicomStatistics {
        all: Some(dicom_counts(&sample.dicom)),
        ae_titles: sample.titles.iter().map(title).collect(),
    })
}

fn dicom_counts(sample: &DicomSample) -> v1::DicomCounts {
    v1::DicomCounts {
        associations: signed(sample.open),
        requested_total: signed(sample.requested),
        accepted_total: signed(sample.accepted),
        rejected_total: signed(sample.rejected),
        refused_total: signed(sample.refused),
        aborted_total: signed(sample.aborted),
        stored_total: signed(sample.stored),
        store_warnings_total: signed(sample.store_warnings),
        store_failures_total: signed(sample.store_failures),
        out_of_resources_total: signed(sample.out_of_resources),
    }
}

fn server_message(sample: &ServerSample) -> pb::Sample {
    pb::Sample {
        name: sample.server.to_string(),
        active_connections: i64::from(sample.active),
        connections_total: signed(sample.traffic.connections),
        received_bytes_total: signed(sample.traffic.bytes_from_clients),
        sent_bytes_total: signed(sample.traffic.bytes_to_clients),
        connect_failures_total: signed(sample.traffic.connect_failures),
        mllp: mllp(&sample.mllp),
        ..pb::Sample::default()
    }
}

/// None where there never was a message.
fn mllp(sample: &MllpSample) -> Option<v1::MllpStatistics> {
    let code = |(code, total): &(Option<Code>, u64)| v1::AcknowledgementCount {
        code: code.map(|code| code.as_str().to_owned()).unwrap_or_default(),
        total: signed(*total),
    };
    let kind = |(kind, total): &(String, u64)| v1::MessageTypeCount {
        r#type: kind.clone(),
        total: signed(*total),
    };
    (*sample != MllpSample::default()).then(|| v1::MllpStatistics {
        messages_total: signed(sample.messages),
        acknowledgements: sample.codes.iter().map(code).collect(),
        acknowledgement_time_total: Some(duration_message(sample.waited)),
        in_doubt_total: signed(sample.in_doubt),
        resent_total: signed(sample.resent),
        replayed_total: signed(sample.replayed),
        reused_control_ids_total: signed(sample.reused),
        strays_total: signed(sample.strays),
        types: sample.types.iter().map(kind).collect(),
    })
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
