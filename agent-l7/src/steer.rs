//! Steers the plane: desired state and verdicts in, counters out.
//!
//! The plane has one door for changes; three tasks share it, one call at a time. No call waits for
//! traffic.

use std::sync::Arc;

use gantry_model::name::{ServerName, ServiceName};
use gantry_model::plan::ServicePlan;
use gantry_proto::agent::v1 as pb;
use gantry_runtime::agent::{Apply, Observe, Rejection};
use gantry_runtime::feed::Hear;
use parking_lot::Mutex;

use crate::plane::{Plane, Refusal};
use crate::stats::{Sample, ServerSample};

/// The door of a running plane.
#[derive(Clone, Debug)]
pub struct Door(Arc<Mutex<Plane>>);

impl Door {
    pub fn new(plane: Plane) -> Self {
        Self(Arc::new(Mutex::new(plane)))
    }
}

impl Apply for Door {
    fn put(&mut self, plan: ServicePlan) -> Result<(), Rejection> {
        let servers = plan.servers.into_iter().map(Arc::new).collect();
        self.0.lock().put(Arc::new(plan.service), servers).map_err(|refusal| {
            let Refusal { reason, field, message } = refusal;
            Rejection { reason: reason.to_owned(), field, message }
        })
    }

    fn remove(&mut self, name: &ServiceName) {
        self.0.lock().remove(name);
    }
}

impl Hear for Door {
    fn hear(&mut self, server: &ServerName, healthy: Option<bool>) {
        self.0.lock().verdict(server, healthy);
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
}

fn service_message(sample: &Sample) -> pb::Sample {
    pb::Sample {
        name: sample.service.to_string(),
        active_connections: signed(sample.active),
        connections_total: signed(sample.accepted),
        received_bytes_total: signed(sample.traffic.bytes_from_clients),
        sent_bytes_total: signed(sample.traffic.bytes_to_clients),
        queued: signed(sample.queued),
        connect_failures_total: signed(sample.traffic.connect_failures),
        refused_total: signed(sample.unserved + sample.queue_timeouts),
        ..pb::Sample::default()
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
        ..pb::Sample::default()
    }
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
