//! What the successor does with the configuration, for the connections that it could not take over: a
//! server that is halted lets go of those, too.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use gantry_model::name::ServiceName;
use gantry_model::wire;
use gantry_runtime::agent::Apply;
use gantry_runtime::agent::ledger::Ledger;
use tracing::warn;

use crate::steer::Door;

/// Reads the ledger of another process, whenever that has written.
#[derive(Debug)]
pub struct Reader {
    state: PathBuf,
    /// Number and length of the file when it was read last: it only grows, or is replaced.
    seen: Option<(u64, u64)>,
    services: BTreeMap<String, Bytes>,
}

impl Reader {
    pub fn new(state: &Path, door: &Door) -> Self {
        let samples = door.with(|plane| plane.samples());
        let names = samples.into_iter().map(|sample| (sample.service.to_string(), Bytes::new()));
        Self { state: state.to_owned(), seen: None, services: names.collect() }
    }

    /// Puts in force what is new.
    pub fn follow(&mut self, door: &Door) {
        let metadata = std::fs::metadata(self.state.join("ledger"));
        let seen = metadata.map(|file| (file.ino(), file.len())).ok();
        if seen == self.seen {
            return;
        }
        self.seen = seen;
        match Ledger::read(&self.state) {
            Ok(desired) => self.change(desired.services().clone(), door.clone()),
            Err(error) => warn!(%error, "what is configured anew does not hold here"),
        }
    }

    fn change(&mut self, services: BTreeMap<String, Bytes>, mut door: Door) {
        let gone = self.services.keys().filter(|name| !services.contains_key(*name));
        for name in gone.filter_map(|name| name.parse::<ServiceName>().ok()) {
            door.remove(&name);
        }
        for (name, plan) in &services {
            if self.services.get(name) == Some(plan) {
                continue;
            }
            if let Ok(plan) = wire::decode_plan(plan)
                && let Err(rejection) = door.put(plan)
            {
                warn!(name, reason = rejection.reason, "not in force");
            }
        }
        self.services = services;
    }
}
