//! The real agent loop, with an [`Apply`] that checks at each call what must always be true.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use gantry_model::name::ServiceName;
use gantry_model::plan::ServicePlan;
use gantry_model::wire;
use gantry_runtime::agent::ledger::Ledger;
use gantry_runtime::agent::{self, Apply, Link, Observe, Rejection};
use gantry_runtime::backoff::Backoff;
use gantry_runtime::tasks::Tasks;

use crate::shared::{Place, Seen, Shared};
use crate::wire::channel;

/// Runs one agent until its host dies.
pub(crate) async fn run(place: Place, shared: Arc<Shared>) -> turmoil::Result {
    let start = shared.starts.fetch_add(1, Ordering::Relaxed);
    let seed = shared.seed << 32 | start;
    let backoff = Backoff::seeded(Duration::from_millis(200), Duration::from_secs(5), seed);
    let link = Link { channel: channel(), backoff };
    shared.agents.lock().entry(place.host).or_default().in_force.clear();
    let ledger = shared.ledger(place.host);
    let recorder = Recorder { place, shared, refused: HashSet::new() };
    let mut tasks = Tasks::new();
    agent::follow(&mut tasks, place.name(), link, &ledger, (recorder, Arc::new(Blind))).await?;
    std::future::pending().await
}

/// Sees nothing.
struct Blind;

impl Observe for Blind {}

struct Recorder {
    place: Place,
    shared: Arc<Shared>,
    /// Ports that were refused once, as if somebody else had them for a while.
    refused: HashSet<u16>,
}

impl Apply for Recorder {
    fn put(&mut self, plan: ServicePlan) -> Result<(), Rejection> {
        let name = plan.service.name.clone();
        let kept = self.kept(&name);
        let kept = kept.and_then(|bytes| wire::decode_plan(&bytes).ok());
        if kept.as_ref() != Some(&plan) {
            self.violation(&format!("puts {name} in force otherwise than its ledger says"));
        }
        let port = first_port(&plan);
        if port.is_multiple_of(7) && self.refused.insert(port) {
            return Err(Rejection {
                reason: "ADDRESS_IN_USE".to_owned(),
                field: "listener.ports".to_owned(),
                message: "another process listens there".to_owned(),
            });
        }
        self.seen(|seen| seen.in_force.insert(name, plan));
        Ok(())
    }

    fn remove(&mut self, name: &ServiceName) {
        if self.kept(name).is_some() {
            self.violation(&format!("removes {name}, which its ledger has"));
        }
        self.seen(|seen| seen.in_force.remove(name));
    }
}

impl Recorder {
    /// What the ledger on disk has of a service. On the way, looks at its revision.
    fn kept(&self, name: &ServiceName) -> Option<bytes::Bytes> {
        let host = self.place.host;
        let held = match Ledger::read(&self.shared.ledger(host)) {
            Ok(held) => held,
            Err(why) => {
                self.violation(&format!("has a ledger that cannot be read: {why}"));
                return None;
            }
        };
        let revision = held.revision();
        let before = self.seen(|seen| std::mem::replace(&mut seen.newest, revision));
        if revision < before {
            self.violation(&format!("went back from {before} to {revision}"));
        }
        let mut contents = self.shared.contents.lock();
        let known = *contents.entry((self.place.kind, revision)).or_insert(held.hash());
        if known != held.hash() {
            self.violation(&format!("holds {revision} with other content than somebody else"));
        }
        held.services().get(&name.to_string()).cloned()
    }

    fn seen<T>(&self, look: impl FnOnce(&mut Seen) -> T) -> T {
        look(self.shared.agents.lock().entry(self.place.host).or_default())
    }

    fn violation(&self, what: &str) {
        self.shared.violation(format!("{} {what}", self.place.host));
    }
}

pub(crate) fn first_port(plan: &ServicePlan) -> u16 {
    let ports = &wire::virtual_service_message(&plan.service).listener.unwrap().ports;
    ports[0].parse().unwrap()
}
