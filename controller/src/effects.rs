//! Which open connections a change ends.
//!
//! Pure: what a virtual service is and what it shall be go in; whose connections end, and why,
//! comes out. It says what the agents do, no more and no less: a test in `tests` opens connections
//! and looks. A change that an agent then rejects ends nothing.

use std::collections::HashSet;

use gantry_model::agent::AgentKind;
use gantry_model::server::{AdminState, RealServer};
use gantry_model::service::VirtualService;
use gantry_proto::v1 as pb;
use jiff::Timestamp;

use crate::observed::of_kind;
use crate::status::{Facts, carrier};

/// A virtual service with its real servers.
#[derive(Clone, Copy, Debug)]
pub struct Whole<'a> {
    pub service: &'a VirtualService,
    pub servers: &'a [&'a RealServer],
}

/// All connections of a virtual service, or of one real server, end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effect {
    /// Whose.
    pub name: String,
    /// Who carries them now.
    pub carrier: AgentKind,
    pub reason: String,
}

/// What going from `before` to `after` ends, at `now` or at the deadline of a drain. Connections
/// are in one effect at most: those of a service that ends as a whole are not told server by server.
pub fn effects(before: Whole<'_>, after: Option<Whole<'_>>, now: Timestamp) -> Vec<Effect> {
    if before.service.disabled {
        return Vec::new();
    }
    let carrier = carrier(before.service);
    let effect = |name: String, reason: String| Effect { name, carrier, reason };
    if let Some(reason) = whole_service(before.service, after.map(|after| after.service)) {
        return vec![effect(before.service.name.to_string(), reason)];
    }
    let servers = after.map_or(&[][..], |after| after.servers);
    let find = |name| servers.iter().copied().find(|server| server.name == name);
    let ends = |old: &&RealServer| {
        let reason = one_server(carrier, old, find(old.name.clone()), now)?;
        Some(effect(old.name.to_string(), reason))
    };
    before.servers.iter().filter_map(ends).collect()
}

/// Why every connection of the service ends, if they do.
fn whole_service(before: &VirtualService, after: Option<&VirtualService>) -> Option<String> {
    let Some(after) = after else { return Some("the virtual service is removed".to_owned()) };
    if after.disabled {
        return Some("the virtual service is disabled".to_owned());
    }
    match (carrier(before), carrier(after)) {
        (AgentKind::L7, AgentKind::L7) => None,
        (AgentKind::L4, AgentKind::L4) => moved(before, after),
        (_, AgentKind::L4) => Some("the virtual service moves to layer 4".to_owned()),
        _ => Some("the virtual service moves to layer 7".to_owned()),
    }
}

/// The proxy's connections outlive their listener. The kernel finds its own by the address, port
/// and protocol that clients sent to, or by a mark, and a service that has others is another one to
/// it. How packets reach the real servers, who chooses them and how long they are remembered is for
/// new connections: those that are open keep what they began with.
fn moved(before: &VirtualService, after: &VirtualService) -> Option<String> {
    let (old, new) = (&before.listener, &after.listener);
    if (old.address, old.protocol) != (new.address, new.protocol) {
        return Some("a layer 4 service gives up its address or protocol".to_owned());
    }
    match (before.needs_mark(), after.needs_mark()) {
        (false, true) => return Some(other_service("by one mark and no longer by its ports")),
        (true, false) => return Some(other_service("by its ports and no longer by one mark")),
        _ => {}
    }
    let kept: HashSet<_> = new.ports.iter().collect();
    let mut gone = old.ports.iter().filter(|port| !kept.contains(port));
    let (first, more) = (gone.next()?, gone.count());
    let which = if more == 0 { format!("port {first}") } else { format!("{} ports", more + 1) };
    Some(format!("a layer 4 service gives up {which}: those connected there end, of these"))
}

/// Persistence over several ports, or very many ports, need a mark.
fn other_service(known: &str) -> String {
    format!(
        "with these ports and this persistence the kernel knows a layer 4 service {known}: that \
             is another one to it"
    )
}

/// Why the connections of one server end, if they do.
fn one_server(
    carrier: AgentKind,
    before: &RealServer,
    after: Option<&RealServer>,
    now: Timestamp,
) -> Option<String> {
    let Some(after) = after else { return Some("the real server is removed".to_owned()) };
    if carrier == AgentKind::L4 && before.endpoint != after.endpoint {
        return Some(
            "to layer 4 a real server with another address or port is another one".to_owned(),
        );
    }
    match (before.admin_state.at(now), after.admin_state.at(now)) {
        (AdminState::Halt, _) => None,
        (_, AdminState::Halt) => Some("the real server is halted".to_owned()),
        (old, new @ AdminState::Drain { halt_at: Some(end) }) if old != new => {
            Some(format!("the real server is drained, and what is left then is halted at {end}"))
        }
        _ => None,
    }
}

impl Effect {
    /// How many connections that is, by what was reported last.
    pub fn counted(self, facts: Facts<'_>) -> pb::Cut {
        let cluster = self.name.split('/').nth(1).and_then(|id| id.parse().ok());
        let carriers: Vec<_> = cluster
            .iter()
            .flat_map(|cluster| of_kind(facts.agents, cluster, self.carrier))
            .map(|(_, agent)| agent)
            .collect();
        let open = carriers.iter().filter_map(|agent| agent.samples.get(&self.name));
        pb::Cut {
            connections: open.map(|counters| counters.sample.active_connections).sum(),
            stale: carriers.is_empty() || carriers.iter().any(|agent| !agent.is_connected()),
            name: self.name,
            reason: self.reason,
        }
    }
}

#[cfg(test)]
mod tests;
