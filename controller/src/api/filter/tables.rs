//! The fields that the filter of each list may name, as the comments of its request say.

use gantry_proto::v1 as pb;
use pb::virtual_service::Forwarding;

use super::Kind::{Address, Bool, Choice, Grade, Number, Revision, Text, Time};
use super::{Field, Value, Values, choice, number, revision, text, text_if_any, time, truth};

pub(in crate::api) const VIRTUAL_SERVICES: &[Field<pb::VirtualService>] = &[
    Field::new("name", Text, |service| text(&service.name)),
    Field::new("display_name", Text, |service| text(&service.display_name)),
    Field::new("listener.address", Address, |service| {
        service.listener.iter().flat_map(|listener| text(&listener.address)).collect()
    }),
    Field::new("listener.ports", Number, |service| {
        let ports = service.listener.iter().flat_map(|listener| &listener.ports);
        ports.filter_map(|range| ports_of(range)).collect()
    }),
    Field::new("listener.protocol", Choice("gantry.v1.Listener.Protocol"), |service| {
        service.listener.iter().flat_map(|listener| choice(listener.protocol)).collect()
    }),
    Field::new("layer", Number, |service| match &service.forwarding {
        Some(Forwarding::Layer4(_)) => number(4),
        Some(Forwarding::Layer7(_)) => number(7),
        None => Vec::new(),
    }),
    Field::new("mode", Choice("gantry.v1.Layer7.Mode"), |service| match &service.forwarding {
        Some(Forwarding::Layer7(layer7)) => choice(layer7.mode),
        _ => Vec::new(),
    }),
    Field::new("method", Choice("gantry.v1.Layer4.Method"), |service| match &service.forwarding {
        Some(Forwarding::Layer4(layer4)) => choice(layer4.method),
        _ => Vec::new(),
    }),
    Field::new("strategy", Choice("gantry.v1.VirtualService.Strategy"), |service| {
        choice(service.strategy)
    }),
    Field::new("disabled", Bool, |service| truth(service.disabled)),
    Field::new("fallback.address", Address, |service| {
        service.fallback.iter().flat_map(|fallback| text(&fallback.address)).collect()
    }),
    Field::new("persistence.key", Choice("gantry.v1.Persistence.Key"), |service| {
        service.persistence.iter().flat_map(|persistence| choice(persistence.key)).collect()
    }),
    Field::new("status.state", Choice("gantry.v1.VirtualServiceStatus.State"), |service| {
        service.status.iter().flat_map(|status| choice(status.state)).collect()
    }),
    Field::new("status.healthy_count", Number, |service| {
        service.status.iter().flat_map(|status| number(status.healthy_count)).collect()
    }),
    Field::new("status.real_server_count", Number, |service| {
        service.status.iter().flat_map(|status| number(status.real_server_count)).collect()
    }),
    Field::new("status.active_connections", Number, |service| {
        service.status.iter().flat_map(|status| number(status.active_connections)).collect()
    }),
    Field::new("create_time", Time, |service| time(service.create_time.as_ref())),
    Field::new("update_time", Time, |service| time(service.update_time.as_ref())),
];

pub(in crate::api) const REAL_SERVERS: &[Field<pb::RealServer>] = &[
    Field::new("name", Text, |server| text(&server.name)),
    Field::new("display_name", Text, |server| text(&server.display_name)),
    Field::new("endpoint.address", Address, |server| {
        server.endpoint.iter().flat_map(|endpoint| text(&endpoint.address)).collect()
    }),
    Field::new("endpoint.port", Number, |server| {
        server.endpoint.iter().flat_map(|endpoint| number(endpoint.port)).collect()
    }),
    Field::new("weight", Number, |server| server.weight.into_iter().flat_map(number).collect()),
    Field::new("priority", Number, |server| number(server.priority)),
    Field::new("min_connections", Number, |server| number(server.min_connections)),
    Field::new("max_connections", Number, |server| number(server.max_connections)),
    Field::new("admin_state", Choice("gantry.v1.RealServer.AdminState"), |server| {
        choice(server.admin_state)
    }),
    Field::new("status.state", Choice("gantry.v1.RealServerStatus.State"), |server| {
        server.status.iter().flat_map(|status| choice(status.state)).collect()
    }),
    Field::new("status.active_connections", Number, |server| {
        server.status.iter().flat_map(|status| number(status.active_connections)).collect()
    }),
    Field::new("status.last_check", Text, |server| {
        server.status.iter().flat_map(|status| text(&status.last_check)).collect()
    }),
];

pub(in crate::api) const CLUSTERS: &[Field<pb::Cluster>] = &[
    Field::new("name", Text, |cluster| text(&cluster.name)),
    Field::new("display_name", Text, |cluster| text(&cluster.display_name)),
    Field::new("create_time", Time, |cluster| time(cluster.create_time.as_ref())),
];

pub(in crate::api) const APPLIANCES: &[Field<pb::Appliance>] = &[
    Field::new("name", Text, |appliance| text(&appliance.name)),
    Field::new("join_time", Time, |appliance| time(appliance.join_time.as_ref())),
    Field::new("last_seen_time", Time, |appliance| time(appliance.last_seen_time.as_ref())),
    Field::new("connected", Bool, |appliance| {
        truth_of_all(&appliance.agents, |agent| agent.connected)
    }),
    Field::new("current", Bool, |appliance| truth_of_all(&appliance.agents, |agent| agent.current)),
    Field::new("version", Text, |appliance| {
        appliance.agents.iter().flat_map(|agent| text_if_any(&agent.version)).collect()
    }),
];

pub(in crate::api) const CERTIFICATES: &[Field<pb::Certificate>] = &[
    Field::new("name", Text, |certificate| text(&certificate.name)),
    Field::new("subject", Text, |certificate| text(&certificate.subject)),
    Field::new("fingerprint", Text, |certificate| text(&certificate.fingerprint)),
    Field::new("expire_time", Time, |certificate| time(certificate.expire_time.as_ref())),
    Field::new("create_time", Time, |certificate| time(certificate.create_time.as_ref())),
    Field::new("update_time", Time, |certificate| time(certificate.update_time.as_ref())),
];

pub(in crate::api) const USERS: &[Field<pb::User>] = &[
    Field::new("name", Text, |user| text(&user.name)),
    Field::new("role", Choice("gantry.v1.User.Role"), |user| choice(user.role)),
    Field::new("create_time", Time, |user| time(user.create_time.as_ref())),
    Field::new("password_time", Time, |user| time(user.password_time.as_ref())),
];

pub(in crate::api) const EVENTS: &[Field<pb::Event>] = &[
    Field::new("time", Time, |event| time(event.time.as_ref())),
    Field::new("severity", Grade("gantry.v1.Event.Severity"), |event| choice(event.severity)),
    Field::new("type", Text, |event| text(&event.r#type)),
    Field::new("subject", Text, |event| text(&event.subject)),
    Field::new("actor", Text, |event| text(&event.actor)),
    Field::new("message", Text, |event| text(&event.message)),
    Field::new("comment", Text, |event| text(&event.comment)),
    Field::new("revision", Revision, |event| revision(&event.revision)),
];

/// An appliance of which no agent was ever heard is neither connected nor current.
fn truth_of_all<'a>(
    agents: &[pb::AgentStatus],
    holds: impl Fn(&pb::AgentStatus) -> bool,
) -> Values<'a> {
    truth(!agents.is_empty() && agents.iter().all(holds))
}

/// A port or a range of ports: a service that listens on 8000-8010 listens on 8005.
fn ports_of<'a>(range: &str) -> Option<Value<'a>> {
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    Some(Value::Numbers(first.parse().ok()?, last.parse().ok()?))
}
