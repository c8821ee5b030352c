//! What is told of it all: counters, findings, notices.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use gantry_model::name::ServiceName;
use gantry_model::plan::ServicePlan;
use gantry_model::wire;
use gantry_proto::agent::v1 as pb;
use gantry_proto::v1;
use gantry_runtime::clock;

use super::{Director, Outcomes};
use crate::desired::Form;
use crate::host::nft::{Listed, PortKey};
use crate::ipvs::{DestinationEntry, DestinationKey, ServiceKey, Statistics};

/// What there is to tell.
#[derive(Debug, Default)]
pub(super) struct Journal {
    pub(super) samples: Arc<[pb::Sample]>,
    pub(super) ailing: Outcomes,
    notices: Vec<pb::Notice>,
    findings: BTreeMap<(&'static str, ServiceName), String>,
}

/// What others may see of the director.
#[derive(Clone, Debug, Default)]
pub struct View {
    pub samples: Arc<[pb::Sample]>,
    pub condition: pb::Condition,
}

/// Notices that are kept for a controller that does not listen.
const MOST_NOTICES: usize = 1000;

impl Journal {
    /// Something happened now, to a service or to the appliance.
    pub(super) fn notice(
        &mut self,
        kind: &str,
        subject: Option<&ServiceName>,
        message: impl Into<String>,
    ) {
        if self.notices.len() < MOST_NOTICES {
            self.notices.push(pb::Notice {
                r#type: kind.to_owned(),
                severity: v1::event::Severity::Warning.into(),
                subject: subject.map(ToString::to_string).unwrap_or_default(),
                message: message.into(),
                time: Some(wire::timestamp_message(clock::wall())),
            });
        }
    }

    /// These are all services of which `reason` is found now.
    pub(super) fn find(&mut self, reason: &'static str, found: BTreeMap<ServiceName, String>) {
        self.findings.retain(|(other, _), _| *other != reason);
        self.findings.extend(found.into_iter().map(|(name, message)| ((reason, name), message)));
    }

    pub(super) fn is_new(&self, reason: &'static str, name: &ServiceName) -> bool {
        !self.findings.contains_key(&(reason, name.clone()))
    }
}

impl<K> Director<K> {
    /// What is to be seen now.
    pub fn view(&self) -> View {
        let findings = self.journal.findings.iter().map(|((reason, name), message)| v1::Finding {
            reason: (*reason).to_owned(),
            message: message.clone(),
            resource: name.to_string(),
            ..v1::Finding::default()
        });
        let settings = self.machine.settings();
        let unmet = settings.iter().filter(|setting| !setting.error.is_empty());
        let unmet = unmet.map(|setting| v1::Finding {
            reason: "SETTING_NOT_MADE".to_owned(),
            message: format!(
                "{} is {:?} and has to be {}: {}; it could not be set ({})",
                setting.name, setting.value, setting.wanted, setting.purpose, setting.error
            ),
            ..v1::Finding::default()
        });
        let findings = findings.chain(unmet).collect();
        View {
            samples: Arc::clone(&self.journal.samples),
            condition: pb::Condition { findings, settings },
        }
    }

    /// What happened since this was asked last.
    pub fn take_notices(&mut self) -> Vec<pb::Notice> {
        std::mem::take(&mut self.journal.notices)
    }
}

/// What a pass saw of one destination.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tally {
    key: DestinationKey,
    active: u32,
    inactive: u32,
    persistent: u32,
    statistics: Statistics,
}

impl Tally {
    pub(super) fn of(entry: &DestinationEntry) -> Self {
        let DestinationEntry { destination, active, inactive, persistent, statistics } = *entry;
        Self { key: destination.key, active, inactive, persistent, statistics }
    }

    fn add_to(&self, sample: &mut pb::Sample) {
        sample.active_connections += i64::from(self.active);
        sample.inactive_connections += i64::from(self.inactive);
        sample.persistent_clients += i64::from(self.persistent);
    }
}

/// The counters of every layer 4 service and its servers.
pub(super) fn samples<'a>(
    services: impl Iterator<Item = (&'a ServiceName, &'a ServicePlan, &'a Form)>,
    statistics: &HashMap<ServiceKey, Statistics>,
    tallies: &HashMap<ServiceKey, Vec<Tally>>,
    listed: Option<&Listed>,
) -> Vec<pb::Sample> {
    let mut samples = Vec::new();
    for (name, plan, form) in services {
        if form.method.is_none() {
            continue;
        }
        let mut whole = pb::Sample { name: name.to_string(), ..pb::Sample::default() };
        let named = |name: String| pb::Sample { name, ..pb::Sample::default() };
        let mut servers: BTreeMap<_, _> = plan
            .servers
            .iter()
            .map(|server| (&server.name, named(server.name.to_string())))
            .collect();
        for key in form.services.keys() {
            if let Some(counted) = statistics.get(key) {
                add(&mut whole, counted);
            }
            whole.ports.extend(port(key, statistics.get(key)));
            for tally in tallies.get(key).into_iter().flatten() {
                tally.add_to(&mut whole);
                let server = form.servers.get(&tally.key).and_then(|name| servers.get_mut(name));
                if let Some(sample) = server {
                    tally.add_to(sample);
                    add(sample, &tally.statistics);
                }
            }
        }
        whole.persistent_clients = 0;
        whole.ports.extend(listed.into_iter().flat_map(|listed| marked_ports(form, listed)));
        samples.push(whole);
        samples.extend(servers.into_values());
    }
    samples
}

fn add(sample: &mut pb::Sample, counted: &Statistics) {
    sample.connections_total += signed(counted.connections);
    sample.received_bytes_total += signed(counted.bytes_in);
    sample.sent_bytes_total += signed(counted.bytes_out);
    sample.received_packets_total += signed(counted.packets_in);
    sample.sent_packets_total += signed(counted.packets_out);
}

fn port(key: &ServiceKey, counted: Option<&Statistics>) -> Option<v1::PortStatus> {
    let ServiceKey::Address { port, .. } = key else { return None };
    let counted = counted.copied().unwrap_or_default();
    Some(v1::PortStatus {
        port: port.to_string(),
        connections_total: Some(signed(counted.connections)),
        received_packets_total: signed(counted.packets_in),
        received_bytes_total: signed(counted.bytes_in),
    })
}

/// The kernel counts a service by its mark as one; by port its packets are counted where they are
/// marked.
fn marked_ports(form: &Form, listed: &Listed) -> impl Iterator<Item = v1::PortStatus> {
    form.rules.marks.keys().map(|key| {
        let counted = listed.counters.get(key).copied().unwrap_or_default();
        v1::PortStatus {
            port: range(key),
            connections_total: listed.connections.get(key).map(|count| signed(*count)),
            received_packets_total: signed(counted.packets),
            received_bytes_total: signed(counted.bytes),
        }
    })
}

fn range(key: &PortKey) -> String {
    if key.first == key.last {
        return key.first.to_string();
    }
    format!("{}-{}", key.first, key.last)
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
