//! What controller and agents say to each other.

use bytes::Bytes;
use gantry_proto::agent::v1 as pb;
use gantry_proto::v1;
use pb::watch_config_response as wire;
use prost::Message;

use super::{
    duration_message, plain_duration, real_server, real_server_message, timestamp,
    timestamp_message, virtual_service, virtual_service_message,
};
use crate::agent::{AgentKind, AgentName};
use crate::desired::{Change, Update};
use crate::key_pair::{KeyPair, PrivateKey};
use crate::mark::Mark;
use crate::name::{CertificateName, ServerName};
use crate::plan::ServicePlan;
use crate::revision::Revision;
use crate::verdict::{CheckResult, Layer, Verdict};
use crate::violation::{Violation, Violations};

/// A message between controller and agent that makes no sense.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    #[error("{field} is missing")]
    Missing { field: &'static str },
    #[error("{field} is not valid: {why}")]
    Invalid { field: &'static str, why: String },
}

/// A plan that this version cannot read.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    #[error("it is not a ServicePlan message")]
    Decode(#[source] prost::DecodeError),
    #[error("{0}")]
    Name(String),
    #[error("{first}", first = .0.first().map(ToString::to_string).unwrap_or_default())]
    Invalid(Vec<Violation>),
}

pub fn encode_plan(plan: &ServicePlan) -> Bytes {
    let message = pb::ServicePlan {
        service: Some(virtual_service_message(&plan.service)),
        real_servers: plan.servers.iter().map(real_server_message).collect(),
        firewall_mark: plan.mark.map_or(0, Mark::get),
        key_pairs: plan.key_pairs.iter().map(key_pair_message).collect(),
    };
    message.encode_to_vec().into()
}

pub fn decode_plan(plan: &[u8]) -> Result<ServicePlan, PlanError> {
    let message = pb::ServicePlan::decode(plan).map_err(PlanError::Decode)?;
    let service = message.service.unwrap_or_default();
    let name = service.name.parse();
    let name = name.map_err(|error: crate::name::NameError| PlanError::Name(error.to_string()))?;
    let mut violations = Violations::new();
    let parsed = violations.within("service", |v| virtual_service(v, name, &service));
    let mut servers = Vec::with_capacity(message.real_servers.len());
    for (at, server) in message.real_servers.iter().enumerate() {
        let name = server.name.parse::<ServerName>();
        let name = name.map_err(|error| PlanError::Name(error.to_string()))?;
        let field = format!("real_servers[{at}]");
        servers.extend(violations.within(field, |v| real_server(v, name, server)));
    }
    let mark = match message.firewall_mark {
        0 => None,
        mark => violations.check("firewall_mark", "INVALID_MARK", Mark::of_service(mark)),
    };
    let key_pairs = message.key_pairs.into_iter().enumerate();
    let key_pairs = key_pairs.filter_map(|(at, message)| key_pair(&mut violations, at, message));
    let key_pairs = key_pairs.collect();
    let plan = parsed.map(|service| ServicePlan { service, servers, mark, key_pairs });
    violations.finish(plan).map_err(PlanError::Invalid)
}

fn key_pair(violations: &mut Violations, at: usize, message: pb::KeyPair) -> Option<KeyPair> {
    let name = message.name.parse::<CertificateName>();
    let name = violations.check(&format!("key_pairs[{at}].name"), "INVALID_NAME", name)?;
    let key = PrivateKey::new(message.private_key);
    Some(KeyPair { name: name.certificate, chain: message.chain, key })
}

fn key_pair_message(pair: &KeyPair) -> pb::KeyPair {
    pb::KeyPair {
        name: CertificateName { certificate: pair.name.clone() }.to_string(),
        chain: pair.chain.clone(),
        private_key: pair.key.reveal().to_owned(),
    }
}

/// Which agent a message says it is from.
pub fn identity(message: Option<&pb::AgentIdentity>) -> Result<AgentName, AgentError> {
    let message = message.ok_or(AgentError::Missing { field: "agent" })?;
    let kind = match message.kind() {
        pb::agent_identity::Kind::L4 => AgentKind::L4,
        pb::agent_identity::Kind::L7 => AgentKind::L7,
        pb::agent_identity::Kind::Health => AgentKind::Health,
        pb::agent_identity::Kind::Unspecified => {
            return Err(AgentError::Missing { field: "agent.kind" });
        }
    };
    let appliance = parse("agent.appliance", &message.appliance)?;
    Ok(AgentName { appliance, kind })
}

/// What an agent does, as a message.
pub fn kind_message(kind: AgentKind) -> pb::agent_identity::Kind {
    match kind {
        AgentKind::L4 => pb::agent_identity::Kind::L4,
        AgentKind::L7 => pb::agent_identity::Kind::L7,
        AgentKind::Health => pb::agent_identity::Kind::Health,
    }
}

/// An update, as it goes to an agent and into its ledger.
pub fn update_message(update: &Update<Bytes>) -> pb::WatchConfigResponse {
    let encode = |services: &[(String, Bytes)]| {
        let one = |(name, plan): &(String, Bytes)| pb::EncodedServicePlan {
            name: name.clone(),
            plan: plan.clone(),
        };
        services.iter().map(one).collect()
    };
    let change = match &update.change {
        Change::Snapshot(services) => {
            wire::Change::Snapshot(wire::Snapshot { services: encode(services) })
        }
        Change::Delta { upserts, removed } => {
            wire::Change::Delta(wire::Delta { upserts: encode(upserts), removed: removed.clone() })
        }
        Change::Current => wire::Change::Current(wire::Current {}),
    };
    pb::WatchConfigResponse {
        revision: Some(update.revision.into()),
        hash: update.hash.to_string(),
        change: Some(change),
        removals_approved: update.removals_approved,
    }
}

pub fn update(message: pb::WatchConfigResponse) -> Result<Update<Bytes>, AgentError> {
    let decode = |services: Vec<pb::EncodedServicePlan>| {
        services.into_iter().map(|service| (service.name, service.plan)).collect()
    };
    let change = match message.change.ok_or(AgentError::Missing { field: "change" })? {
        wire::Change::Snapshot(snapshot) => Change::Snapshot(decode(snapshot.services)),
        wire::Change::Delta(delta) => {
            Change::Delta { upserts: decode(delta.upserts), removed: delta.removed }
        }
        wire::Change::Current(_) => Change::Current,
    };
    let revision = message.revision.ok_or(AgentError::Missing { field: "revision" })?.into();
    let removals_approved = message.removals_approved;
    Ok(Update { revision, hash: parse("hash", &message.hash)?, change, removals_approved })
}

/// How an agent took an update. `rejections` are all that stand, whichever update brought them.
pub fn applied(
    revision: Revision,
    hash: String,
    rejections: Vec<v1::Rejection>,
    took: std::time::Duration,
) -> pb::Applied {
    use pb::applied::Outcome;
    let outcome = if rejections.is_empty() { Outcome::Applied } else { Outcome::Partial };
    pb::Applied {
        revision: Some(revision.into()),
        hash,
        outcome: outcome.into(),
        rejections,
        took: Some(duration_message(took)),
        refusal: String::new(),
        removal_count: 0,
    }
}

pub fn verdict_message(verdict: &Verdict) -> pb::Verdict {
    let last = &verdict.last;
    pb::Verdict {
        real_server: verdict.server.to_string(),
        healthy: verdict.healthy,
        since: Some(timestamp_message(verdict.since)),
        last: Some(pb::CheckResult {
            healthy: last.healthy,
            layer: match last.layer {
                Layer::None => pb::check_result::Layer::Unspecified,
                Layer::Connection => pb::check_result::Layer::Connection,
                Layer::Tls => pb::check_result::Layer::Tls,
                Layer::Application => pb::check_result::Layer::Application,
            }
            .into(),
            cause: last.cause.clone(),
            time: Some(timestamp_message(last.at)),
            took: Some(duration_message(last.took)),
        }),
        gone: false,
    }
}

/// A verdict from a message; the error side of the pair is a server that is gone.
pub fn verdict(message: &pb::Verdict) -> Result<Result<Verdict, ServerName>, AgentError> {
    let server = parse("real_server", &message.real_server)?;
    if message.gone {
        return Ok(Err(server));
    }
    let last = message.last.as_ref().ok_or(AgentError::Missing { field: "last" })?;
    Ok(Ok(Verdict {
        server,
        healthy: message.healthy,
        since: time("since", message.since.as_ref())?,
        last: check_result(last)?,
    }))
}

pub fn check_result(message: &pb::CheckResult) -> Result<CheckResult, AgentError> {
    Ok(CheckResult {
        healthy: message.healthy,
        layer: match message.layer() {
            pb::check_result::Layer::Unspecified => Layer::None,
            pb::check_result::Layer::Connection => Layer::Connection,
            pb::check_result::Layer::Tls => Layer::Tls,
            pb::check_result::Layer::Application => Layer::Application,
        },
        cause: message.cause.clone(),
        at: time("last.time", message.time.as_ref())?,
        took: message.took.and_then(plain_duration).unwrap_or_default(),
    })
}

impl From<Revision> for pb::Revision {
    fn from(revision: Revision) -> Self {
        let clamp = |value| i64::try_from(value).unwrap_or(i64::MAX);
        Self { epoch: clamp(revision.epoch), number: clamp(revision.number) }
    }
}

impl From<pb::Revision> for Revision {
    fn from(message: pb::Revision) -> Self {
        let clamp = |value| u64::try_from(value).unwrap_or(0);
        Self { epoch: clamp(message.epoch), number: clamp(message.number) }
    }
}

fn parse<T: std::str::FromStr<Err: std::fmt::Display>>(
    field: &'static str,
    text: &str,
) -> Result<T, AgentError> {
    text.parse().map_err(|error: T::Err| AgentError::Invalid { field, why: error.to_string() })
}

fn time(
    field: &'static str,
    message: Option<&prost_types::Timestamp>,
) -> Result<jiff::Timestamp, AgentError> {
    message.and_then(timestamp).ok_or(AgentError::Missing { field })
}
