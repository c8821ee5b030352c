//! Status: what configuration and observation together say, worked out when somebody asks.
//!
//! Pure: nothing here is stored, and the time comes in as a value.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use gantry_model::agent::{AgentKind, AgentName};
use gantry_model::name::{ApplianceName, ClusterName};
use gantry_model::revision::{Revision, SetHash};
use gantry_model::server::{AdminState, RealServer};
use gantry_model::service::{Forwarding, VirtualService};
use gantry_model::verdict::Verdict;
use gantry_model::wire::{duration_message, timestamp_message};
use gantry_proto::agent::v1::{Applied, Sample};
use gantry_proto::v1 as pb;
use jiff::Timestamp;
use pb::real_server_status::State as ServerState;
use pb::virtual_service_status::State as ServiceState;

use crate::observed::{Agent, of_cluster, of_kind};
use crate::state::Service;

/// What agents are to have.
pub trait Desired: std::fmt::Debug {
    /// The hash of what agents of this kind in this cluster are to have.
    fn hash(&self, cluster: &ClusterName, kind: AgentKind) -> Option<SetHash>;
}

/// All that a status is worked out from, besides the resource itself.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    pub agents: &'a BTreeMap<AgentName, Agent>,
    pub desired: &'a dyn Desired,
    pub now: Timestamp,
}

impl Facts<'_> {
    /// Whether an agent took the newest desired state; rejections are another matter.
    fn is_current(&self, name: &AgentName, agent: &Agent) -> bool {
        let desired = self.desired.hash(&name.appliance.cluster(), name.kind);
        let applied = agent.applied.as_ref().map(|applied| &applied.hash);
        desired.is_some() && desired.as_ref().map(ToString::to_string).as_ref() == applied
    }

    /// The newest desired state, if that is what the agent holds back.
    fn held_back<'a>(&self, name: &AgentName, agent: &'a Agent) -> Option<&'a Applied> {
        let desired = self.desired.hash(&name.appliance.cluster(), name.kind)?.to_string();
        agent.held_back().filter(|held| held.hash == desired)
    }
}

/// The status of a virtual service.
pub fn service(service: &Service, facts: Facts<'_>) -> pb::VirtualServiceStatus {
    let name = service.config.name.to_string();
    let cluster = &service.config.name.cluster;
    let agents = Involved::new(&service.config, facts);
    let Involved { kind, carriers, bearers, checkers } = &agents;
    let servers: Vec<_> = service.real_servers().map(|server| real_server(server, facts)).collect();
    let healthy = servers.iter().filter(|status| status.state() == ServerState::Serving).count();
    let rejections: Vec<_> =
        agents.all().flat_map(|(_, agent)| rejections(agent, &name)).cloned().collect();
    let findings: Vec<_> = of_cluster(facts.agents, cluster)
        .flat_map(|(_, agent)| agent.condition.findings_of(&name))
        .cloned()
        .collect();
    let runs = carriers.iter().any(|carrier| agents.carries(carrier, &name))
        || rejections.iter().any(|rejection| rejection.former_in_force);
    let stale = silent(carriers) || silent(bearers) || silent(checkers);
    let held = agents.all().find_map(|seen| held_back(seen, facts));
    let (kind, rejected, found) = (*kind, &rejections, &findings);
    let sight =
        Sight { service, kind, carriers, rejections: rejected, findings: found, held, runs };
    let (state, message) = sight.state(healthy, &servers, stale);
    let samples: Vec<_> = carriers
        .iter()
        .filter_map(|(_, agent)| agent.samples.get(&name))
        .map(|counters| &counters.sample)
        .collect();
    pb::VirtualServiceStatus {
        state: state.into(),
        reconciling: agents.all().any(|(agent_name, agent)| !facts.is_current(agent_name, agent)),
        healthy_count: i32::try_from(healthy).unwrap_or(i32::MAX),
        real_server_count: i32::try_from(servers.len()).unwrap_or(i32::MAX),
        message,
        active_connections: sum(&samples, |sample| sample.active_connections),
        rejections,
        stale,
        inactive_connections: sum(&samples, |sample| sample.inactive_connections),
        ports: by_port(&samples),
        findings,
        ended: ended(&samples),
        queue: queue(&samples),
        persistence: persistence(&samples),
        http: http(&samples),
        dicom: dicom(&samples),
        mllp: mllp(&samples),
    }
}

/// The status of a real server.
pub fn real_server(server: &RealServer, facts: Facts<'_>) -> pb::RealServerStatus {
    let cluster = &server.name.service.cluster;
    let name = server.name.to_string();
    let checkers: Vec<_> = of_kind(facts.agents, cluster, AgentKind::Health).collect();
    let verdicts = checkers.iter().filter_map(|(_, agent)| agent.verdicts.get(&server.name));
    let verdict = best(verdicts);
    let samples: Vec<_> = of_cluster(facts.agents, cluster)
        .filter_map(|(_, agent)| agent.samples.get(&name))
        .map(|counters| &counters.sample)
        .collect();
    let state = match server.admin_state.at(facts.now) {
        AdminState::Halt => ServerState::Halted,
        AdminState::Drain { .. } => ServerState::Draining,
        AdminState::Online => match verdict {
            None => ServerState::Unspecified,
            Some(verdict) if verdict.healthy => ServerState::Serving,
            Some(_) => ServerState::Failed,
        },
    };
    pb::RealServerStatus {
        state: state.into(),
        since: verdict.map(|verdict| timestamp_message(verdict.since)),
        last_check: verdict.map(|verdict| verdict.last.to_string()).unwrap_or_default(),
        active_connections: sum(&samples, |sample| sample.active_connections),
        last_check_time: verdict.map(|verdict| timestamp_message(verdict.last.at)),
        last_check_layer: verdict.map(|verdict| verdict.last.layer.to_string()).unwrap_or_default(),
        stale: silent(&checkers),
        inactive_connections: sum(&samples, |sample| sample.inactive_connections),
        persistent_clients: sum(&samples, |sample| sample.persistent_clients),
        mllp: mllp(&samples),
    }
}

/// The status of each agent of an appliance.
pub fn agents(appliance: &ApplianceName, facts: Facts<'_>) -> Vec<pb::AgentStatus> {
    let own = of_cluster(facts.agents, &appliance.cluster)
        .filter(|(name, _)| name.appliance == *appliance);
    own.map(|(name, agent)| {
        let applied = agent.applied.as_ref();
        let revision = applied.and_then(|applied| applied.revision);
        let shown = |revision| Revision::from(revision).to_string();
        let held = facts.held_back(name, agent);
        pb::AgentStatus {
            agent: name.kind.to_string(),
            version: agent.version.clone(),
            connected: agent.is_connected(),
            current: facts.is_current(name, agent),
            revision: revision.map(shown).unwrap_or_default(),
            rejection_count: applied
                .map_or(0, |applied| i32::try_from(applied.rejections.len()).unwrap_or(i32::MAX)),
            last_seen_time: Some(timestamp_message(agent.last_seen)),
            apply_duration: applied.and_then(|applied| applied.took),
            certificate_expire_time: agent
                .shown
                .as_ref()
                .map(|shown| timestamp_message(shown.expire_time)),
            held_removal_count: held.map_or(0, |held| held.removal_count),
            held_revision: held.and_then(|held| held.revision).map(shown).unwrap_or_default(),
            settings: agent.condition.settings.clone(),
            findings: agent.condition.findings_of(&appliance.to_string()).to_vec(),
        }
    })
    .collect()
}

/// The kind of agent that carries a service's traffic.
pub fn carrier(service: &VirtualService) -> AgentKind {
    match service.forwarding {
        Forwarding::Layer4(_) => AgentKind::L4,
        Forwarding::Layer7(_) => AgentKind::L7,
    }
}

/// `lb1's agent-l7 holds back revision 2.7, which would …`
fn held_back((name, agent): &Seen<'_>, facts: Facts<'_>) -> Option<String> {
    let held = facts.held_back(name, agent)?;
    let (id, kind) = (&name.appliance.appliance, name.kind);
    let revision = held.revision.map(Revision::from).unwrap_or_default();
    let count = held.removal_count;
    Some(format!(
        "{id}'s {kind} holds back revision {revision}, which would take {count} virtual services \
         from it; look at what is gone, then `gantry approve {id}`"
    ))
}

type Seen<'a> = (&'a AgentName, &'a Agent);

/// Nobody that would know is heard from now, though somebody was.
fn silent(agents: &[Seen<'_>]) -> bool {
    !agents.is_empty() && agents.iter().all(|(_, agent)| !agent.is_connected())
}

/// The verdict that counts when appliances differ: a server that one of them reaches serves.
fn best<'a>(verdicts: impl Iterator<Item = &'a Verdict>) -> Option<&'a Verdict> {
    verdicts.max_by_key(|verdict| (verdict.healthy, verdict.last.at))
}

/// The agents that have a part in one service.
struct Involved<'a> {
    /// What carries its traffic.
    kind: AgentKind,
    carriers: Vec<Seen<'a>>,
    /// Of a layer 7 service: those that bring its address up, where there are any.
    bearers: Vec<Seen<'a>>,
    checkers: Vec<Seen<'a>>,
}

impl<'a> Involved<'a> {
    fn new(service: &'a VirtualService, facts: Facts<'a>) -> Self {
        let of = |kind| of_kind(facts.agents, &service.name.cluster, kind).collect();
        let kind = carrier(service);
        Self {
            kind,
            carriers: of(kind),
            bearers: if kind == AgentKind::L7 { of(AgentKind::L4) } else { Vec::new() },
            checkers: of(AgentKind::Health),
        }
    }

    fn all(&self) -> impl Iterator<Item = &Seen<'a>> {
        self.carriers.iter().chain(&self.bearers).chain(&self.checkers)
    }

    /// Whether some form of the service is in force at `carrier` and clients reach it there: what
    /// listens on an address that is not up serves nobody.
    fn carries(&self, (name, agent): &Seen<'a>, service: &str) -> bool {
        let without_address = |(bearer, agent): &Seen<'a>| {
            bearer.appliance == name.appliance
                && rejections(agent, service).any(|rejection| !rejection.former_in_force)
        };
        agent.samples.contains_key(service) && !self.bearers.iter().any(without_address)
    }
}

/// What this agent rejects of a resource.
fn rejections<'a>(agent: &'a Agent, resource: &str) -> impl Iterator<Item = &'a pb::Rejection> {
    let all = agent.applied.iter().flat_map(|applied| &applied.rejections);
    all.filter(move |rejection| rejection.resource == resource)
}

fn sum(samples: &[&Sample], count: impl Fn(&Sample) -> i64) -> i64 {
    samples.iter().map(|sample| count(sample)).fold(0, i64::saturating_add)
}

/// Why connections ended, over all appliances: the most frequent reason first.
fn ended(samples: &[&Sample]) -> Vec<pb::Ended> {
    let mut by_reason: BTreeMap<i32, i64> = BTreeMap::new();
    for one in samples.iter().flat_map(|sample| &sample.ended) {
        let count = by_reason.entry(one.reason).or_default();
        *count = count.saturating_add(one.connections_total);
    }
    let mut all: Vec<_> = by_reason
        .into_iter()
        .map(|(reason, connections_total)| pb::Ended { reason, connections_total })
        .collect();
    all.sort_by_key(|one| Reverse(one.connections_total));
    all
}

/// How clients wait, over all appliances; none where nobody ever did.
fn queue(samples: &[&Sample]) -> Option<pb::QueueStatus> {
    let waits = || samples.iter().filter_map(|sample| sample.queue_wait);
    let queued = sum(samples, |sample| sample.queued);
    if queued == 0 && waits().next().is_none() {
        return None;
    }
    let served = waits().map(|wait| wait.served_total).fold(0, i64::saturating_add);
    let of = |message: Option<prost_types::Duration>| {
        message.and_then(|message| Duration::try_from(message).ok())
    };
    let total = waits().filter_map(|wait| of(wait.wait_total));
    let total = total.fold(Duration::ZERO, Duration::saturating_add);
    let mean = u32::try_from(served).ok().and_then(|served| total.checked_div(served));
    Some(pb::QueueStatus {
        queued,
        longest_wait: waits().filter_map(|wait| of(wait.longest_now)).max().map(duration_message),
        served_total: served,
        mean_wait: mean.map(duration_message),
    })
}

/// How clients were kept on their real servers, over all appliances; none where nobody ever was.
fn persistence(samples: &[&Sample]) -> Option<pb::PersistenceStatus> {
    let all = samples.iter().filter_map(|sample| sample.persistence);
    all.reduce(|a, b| pb::PersistenceStatus {
        clients: a.clients.saturating_add(b.clients),
        new_total: a.new_total.saturating_add(b.new_total),
        kept_total: a.kept_total.saturating_add(b.kept_total),
        moved_total: a.moved_total.saturating_add(b.moved_total),
    })
}

/// What was asked and answered, over all appliances.
fn http(samples: &[&Sample]) -> Option<pb::HttpStatistics> {
    let all = samples.iter().filter_map(|sample| sample.http);
    all.reduce(|a, b| pb::HttpStatistics {
        requests_total: a.requests_total.saturating_add(b.requests_total),
        succeeded_total: a.succeeded_total.saturating_add(b.succeeded_total),
        redirected_total: a.redirected_total.saturating_add(b.redirected_total),
        client_errors_total: a.client_errors_total.saturating_add(b.client_errors_total),
        server_errors_total: a.server_errors_total.saturating_add(b.server_errors_total),
        own_answers_total: a.own_answers_total.saturating_add(b.own_answers_total),
    })
}

/// What became of associations, over all appliances.
fn dicom(samples: &[&Sample]) -> Option<pb::DicomStatistics> {
    let all = || samples.iter().filter_map(|sample| sample.dicom.as_ref());
    all().next()?;
    let mut titles: BTreeMap<&str, pb::DicomCounts> = BTreeMap::new();
    for one in all().flat_map(|statistics| &statistics.ae_titles) {
        let counts = titles.entry(&one.ae_title).or_default();
        *counts = dicom_counts(*counts, one.counts.unwrap_or_default());
    }
    let title = |(title, counts): (&str, pb::DicomCounts)| pb::AeTitleCounts {
        ae_title: title.to_owned(),
        counts: Some(counts),
    };
    Some(pb::DicomStatistics {
        all: all().filter_map(|statistics| statistics.all).reduce(dicom_counts),
        ae_titles: titles.into_iter().map(title).collect(),
    })
}

fn dicom_counts(a: pb::DicomCounts, b: pb::DicomCounts) -> pb::DicomCounts {
    pb::DicomCounts {
        associations: a.associations.saturating_add(b.associations),
        requested_total: a.requested_total.saturating_add(b.requested_total),
        accepted_total: a.accepted_total.saturating_add(b.accepted_total),
        rejected_total: a.rejected_total.saturating_add(b.rejected_total),
        refused_total: a.refused_total.saturating_add(b.refused_total),
        aborted_total: a.aborted_total.saturating_add(b.aborted_total),
        stored_total: a.stored_total.saturating_add(b.stored_total),
        store_warnings_total: a.store_warnings_total.saturating_add(b.store_warnings_total),
        store_failures_total: a.store_failures_total.saturating_add(b.store_failures_total),
        out_of_resources_total: a.out_of_resources_total.saturating_add(b.out_of_resources_total),
    }
}

/// Messages and their acknowledgements, over all appliances.
fn mllp(samples: &[&Sample]) -> Option<pb::MllpStatistics> {
    let all = || samples.iter().filter_map(|sample| sample.mllp.as_ref());
    all().next()?;
    let sum = |count: fn(&pb::MllpStatistics) -> i64| all().map(count).fold(0, i64::saturating_add);
    let waited = all().filter_map(|one| one.acknowledgement_time_total);
    let waited = waited.filter_map(|time| Duration::try_from(time).ok());
    let codes = by_name(all().flat_map(|one| &one.acknowledgements), |one| (&one.code, one.total));
    let types = by_name(all().flat_map(|one| &one.types), |one| (&one.r#type, one.total));
    Some(pb::MllpStatistics {
        messages_total: sum(|one| one.messages_total),
        acknowledgements: codes
            .map(|(code, total)| pb::AcknowledgementCount { code, total })
            .collect(),
        acknowledgement_time_total: Some(duration_message(
            waited.fold(Duration::ZERO, Duration::saturating_add),
        )),
        in_doubt_total: sum(|one| one.in_doubt_total),
        resent_total: sum(|one| one.resent_total),
        replayed_total: sum(|one| one.replayed_total),
        reused_control_ids_total: sum(|one| one.reused_control_ids_total),
        strays_total: sum(|one| one.strays_total),
        types: types.map(|(r#type, total)| pb::MessageTypeCount { r#type, total }).collect(),
    })
}

/// Adds up what has the same name.
fn by_name<'a, T: 'a>(
    all: impl Iterator<Item = &'a T>,
    read: impl Fn(&'a T) -> (&'a String, i64),
) -> impl Iterator<Item = (String, i64)> {
    let mut sums: BTreeMap<&String, i64> = BTreeMap::new();
    for (name, total) in all.map(read) {
        let sum = sums.entry(name).or_default();
        *sum = sum.saturating_add(total);
    }
    sums.into_iter().map(|(name, total)| (name.clone(), total))
}

/// The traffic of each port over all appliances. Connections are counted by port everywhere, or
/// nobody knows how many there were.
fn by_port(samples: &[&Sample]) -> Vec<pb::PortStatus> {
    let mut ports: Vec<pb::PortStatus> = Vec::new();
    let mut places: HashMap<&str, usize> = HashMap::new();
    for one in samples.iter().flat_map(|sample| &sample.ports) {
        let place = *places.entry(&one.port).or_insert(ports.len());
        let Some(port) = ports.get_mut(place) else {
            ports.push(one.clone());
            continue;
        };
        let connections = port.connections_total.zip(one.connections_total);
        port.connections_total = connections.map(|(a, b)| a.saturating_add(b));
        let add = |total: &mut i64, more: i64| *total = total.saturating_add(more);
        add(&mut port.received_packets_total, one.received_packets_total);
        add(&mut port.received_bytes_total, one.received_bytes_total);
    }
    ports
}

/// What is seen of one service, to tell its state from.
struct Sight<'a> {
    service: &'a Service,
    kind: AgentKind,
    carriers: &'a [Seen<'a>],
    rejections: &'a [pb::Rejection],
    findings: &'a [pb::Finding],
    /// Who holds which configuration back, and the way out.
    held: Option<String>,
    /// Some form of the service is in force somewhere.
    runs: bool,
}

impl Sight<'_> {
    fn state(
        &self,
        healthy: usize,
        servers: &[pb::RealServerStatus],
        stale: bool,
    ) -> (ServiceState, String) {
        if self.service.config.disabled {
            return (ServiceState::Off, "disabled by an operator".to_owned());
        }
        if let Some(why) = self.not_in_force() {
            let state = if self.runs { ServiceState::Degraded } else { ServiceState::NotInForce };
            return (state, why);
        }
        if servers.iter().all(|status| status.state() == ServerState::Unspecified)
            && !servers.is_empty()
        {
            return (ServiceState::Unspecified, "no health check has answered yet".to_owned());
        }
        let (state, message) = self.by_servers(healthy, servers);
        if stale && state == ServiceState::Up {
            return (ServiceState::Degraded, "the agents are silent: this may be old".to_owned());
        }
        if let (ServiceState::Up, Some(finding)) = (state, self.findings.first()) {
            return (ServiceState::Degraded, finding.message.clone());
        }
        (state, message)
    }

    fn not_in_force(&self) -> Option<String> {
        let (kind, cluster) = (self.kind, &self.service.config.name.cluster);
        if self.carriers.is_empty() {
            return Some(format!(
                "not in force: no {kind} of cluster {cluster} has reported since the controller \
                 started"
            ));
        }
        if let Some(held) = &self.held {
            let sure =
                if self.runs { "perhaps not in force as configured" } else { "not in force" };
            return Some(format!("{sure}: {held}"));
        }
        let own = self.rejections.iter().find(|rejection| rejection.agent == kind.as_str());
        own.or(self.rejections.first()).map(|rejection| {
            let field = match rejection.field.as_str() {
                "" => String::new(),
                field => format!("{field}: "),
            };
            let old = if self.runs { "not in force as configured" } else { "not in force" };
            format!("{old}: {field}{}", rejection.message)
        })
    }

    fn by_servers(
        &self,
        healthy: usize,
        servers: &[pb::RealServerStatus],
    ) -> (ServiceState, String) {
        let count = |state| servers.iter().filter(|status| status.state() == state).count();
        if servers.is_empty() {
            return (ServiceState::Down, "it has no real servers".to_owned());
        }
        if healthy == servers.len() {
            return (ServiceState::Up, String::new());
        }
        let parts = [
            (count(ServerState::Failed), "failed"),
            (count(ServerState::Draining), "draining"),
            (count(ServerState::Halted), "halted"),
            (count(ServerState::Unspecified), "not checked yet"),
        ];
        let parts: Vec<_> = parts
            .iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, what)| format!("{count} {what}"))
            .collect();
        let parts = parts.join(", ");
        if healthy > 0 {
            let message = format!("{healthy} of {} real servers serve: {parts}", servers.len());
            return (ServiceState::Degraded, message);
        }
        if self.service.config.fallback.is_some() {
            return (ServiceState::Degraded, format!("the fallback serves: {parts}"));
        }
        (ServiceState::Down, format!("no real server serves: {parts}"))
    }
}

#[cfg(test)]
mod tests;
