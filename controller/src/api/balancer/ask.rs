//! What agents know and the controller does not: who is remembered, and which connections there are.
//!
//! Every appliance that carries the service is asked at once, now; nothing is kept. What one of them
//! does not tell is missing from the whole, so then the whole is refused, and it is said by whom.

use std::net::IpAddr;
use std::time::Duration;

use futures_util::future::join_all;
use gantry_model::agent::AgentName;
use gantry_model::name::{ServerName, ServiceName};
use gantry_model::service::{Forwarding, PersistenceKey};
use gantry_model::wire;
use gantry_proto::agent::v1 as agent_pb;
use gantry_proto::v1 as pb;

use crate::api::Control;
use crate::api::edit::{self, Asked};
use crate::api::error::ApiError;
use crate::condition::text;
use crate::observed::of_kind;
use crate::questions::Unanswered;
use crate::state::{Server, Service};
use crate::status::carrier;
use crate::store::NewEvent;
use agent_pb::question::{Ask, Assign, Entries, Forget};

/// How long an agent may look.
const PATIENCE: Duration = Duration::from_secs(5);
const DEFAULT: i32 = 1000;
const MOST: i32 = 10_000;
const LONGEST_CLIENT: usize = 255;

pub(super) async fn persistence(
    control: &Control,
    request: pb::ListPersistenceEntriesRequest,
) -> Result<pb::ListPersistenceEntriesResponse, ApiError> {
    let state = control.state();
    let service = edit::find::<Service>(&state, "parent", &request.parent)?;
    let wanted = Wanted::read(service, &request.client, request.page_size)?;
    let answers = whole(ask(control, service, &Ask::PersistenceEntries(wanted.ask())).await?)?;
    let total_size = total(&answers, |answer| answer.persistence_entries.len());
    let entries = answers.into_iter().flat_map(|(agent, answer)| {
        let of_agent = answer.persistence_entries.into_iter().take(wanted.most());
        let appliance = agent.appliance.to_string();
        of_agent.map(move |entry| entry_of(service, appliance.clone(), entry))
    });
    let mut entries: Vec<_> = entries.collect();
    entries.sort_by_key(|entry| std::cmp::Reverse(entry.expires_in.and_then(wire::plain_duration)));
    entries.truncate(wanted.most());
    Ok(pb::ListPersistenceEntriesResponse { entries, total_size })
}

pub(super) async fn connections(
    control: &Control,
    request: pb::ListConnectionsRequest,
) -> Result<pb::ListConnectionsResponse, ApiError> {
    let state = control.state();
    let service = edit::find::<Service>(&state, "parent", &request.parent)?;
    let wanted = Wanted::read(service, &request.client, request.page_size)?;
    if matches!(service.config.forwarding, Forwarding::Layer7(_)) {
        let message = format!(
            "{} is at layer 7, and only the kernel's connections can be listed: its status says how \
             many are open",
            service.config.name
        );
        return Err(refused("NEEDS_LAYER4", &service.config.name, message));
    }
    let answers = whole(ask(control, service, &Ask::Connections(wanted.ask())).await?)?;
    let total_size = total(&answers, |answer| answer.connections.len());
    let connections = answers.into_iter().flat_map(|(agent, answer)| {
        let of_agent = answer.connections.into_iter().take(wanted.most());
        let appliance = agent.appliance.to_string();
        of_agent.map(move |connection| connection_of(service, appliance.clone(), connection))
    });
    let connections = connections.take(wanted.most()).collect();
    Ok(pb::ListConnectionsResponse { connections, total_size })
}

/// Lets every appliance forget a client. What one of them did is on record, also when another
/// could not.
pub(super) async fn forget(
    control: &Control,
    actor: String,
    request: pb::DeletePersistenceEntryRequest,
) -> Result<(), ApiError> {
    let asked = Asked::new(actor, &request.comment)?;
    let state = control.state();
    let service = edit::find::<Service>(&state, "parent", &request.parent)?;
    let client = one_client(service, &request.client)?;
    let name = &service.config.name;
    let question = Ask::Forget(Forget { service: name.to_string(), client: client.clone() });
    let outcomes = ask(control, service, &question).await?;
    let message = |done: &str| {
        let message = format!("{client} is forgotten on {done}");
        NewEvent::info("PERSISTENCE_ENTRY_DELETED", name, message)
    };
    record(control, &asked, &outcomes, message).await?;
    whole(outcomes).map(drop)
}

/// Lets every appliance remember a client for one real server. What one of them did is on record, also
/// when another could not.
pub(super) async fn assign(
    control: &Control,
    actor: String,
    request: pb::SetPersistenceEntryRequest,
) -> Result<(), ApiError> {
    let asked = Asked::new(actor, &request.comment)?;
    let state = control.state();
    let server = &edit::find::<Server>(&state, "real_server", &request.real_server)?.config.name;
    let service = edit::find::<Service>(&state, "real_server", &server.service.to_string())?;
    remembers(service)?;
    let client = one_client(service, &request.client)?;
    let question = Ask::Assign(Assign { real_server: server.to_string(), client: client.clone() });
    let outcomes = ask(control, service, &question).await?;
    let message = |done: &str| {
        let message = format!("{client} belongs to {} on {done}", server.server);
        NewEvent::info("PERSISTENCE_ENTRY_SET", &service.config.name, message)
    };
    record(control, &asked, &outcomes, message).await?;
    whole(outcomes).map(drop)
}

/// Writes down on which appliances something was done, if on any.
async fn record(
    control: &Control,
    asked: &Asked,
    outcomes: &[(AgentName, Outcome)],
    event: impl FnOnce(&str) -> NewEvent,
) -> Result<(), ApiError> {
    let done = outcomes.iter().filter(|(_, outcome)| outcome.is_ok()).map(|(agent, _)| id(agent));
    let done: Vec<_> = done.collect();
    if !done.is_empty() {
        let mut change = asked.change();
        change.events.push(event(&done.join(", ")));
        control.change(|_| Ok((change, ()))).await?;
    }
    Ok(())
}

/// Clients can only be remembered where somebody remembers them.
fn remembers(service: &Service) -> Result<(), ApiError> {
    let key = service.config.persistence.map(|persistence| persistence.key);
    let why = match key {
        None => "has no persistence: set it first",
        Some(PersistenceKey::Cookie) => "keeps clients by cookies, which they bring themselves",
        Some(_) => return Ok(()),
    };
    let name = &service.config.name;
    Err(refused("NEEDS_PERSISTENCE", name, format!("{name} {why}")))
}

/// Which clients are asked for, and how many of them.
struct Wanted {
    service: String,
    client: String,
    most: i32,
}

impl Wanted {
    fn read(service: &Service, client: &str, page_size: i32) -> Result<Self, ApiError> {
        let client = match client {
            "" => String::new(),
            given => client_of(service, given, "give one, such as 10.12.2.7, or leave it out")?,
        };
        let most = match page_size {
            0 => DEFAULT,
            size if size > 0 => size.min(MOST),
            size => {
                let what = format!("{size} is negative: use 1 to {MOST}, or 0 for {DEFAULT}");
                return Err(ApiError::field("page_size", "OUT_OF_RANGE", what));
            }
        };
        Ok(Self { service: service.config.name.to_string(), client, most })
    }

    fn ask(&self) -> Entries {
        let Self { service, client, most } = self;
        Entries { service: service.clone(), client: client.clone(), most: *most }
    }

    fn most(&self) -> usize {
        usize::try_from(self.most).unwrap_or(0)
    }
}

fn one_client(service: &Service, given: &str) -> Result<String, ApiError> {
    match given {
        "" => Err(ApiError::field("client", "REQUIRED", "is required: give one client")),
        given => client_of(service, given, "give one, such as 10.12.2.7"),
    }
}

/// How a client of this service is known: by its address, or by what it calls itself.
fn client_of(service: &Service, given: &str, way_out: &str) -> Result<String, ApiError> {
    let key = service.config.persistence.map(|persistence| persistence.key);
    if !matches!(key, Some(PersistenceKey::RdpCookie | PersistenceKey::CallingAeTitle)) {
        return Ok(address(given, way_out)?.to_string());
    }
    if given.chars().count() > LONGEST_CLIENT || given.chars().any(char::is_control) {
        let what = format!("is no name of a client: use at most {LONGEST_CLIENT} characters");
        return Err(ApiError::field("client", "INVALID_CLIENT", what));
    }
    Ok(given.to_owned())
}

fn address(given: &str, way_out: &str) -> Result<IpAddr, ApiError> {
    let shown: String = given.chars().take(80).collect();
    let what = format!("{shown:?} is not an IPv4 or IPv6 address: {way_out}");
    let parsed: IpAddr =
        given.parse().map_err(|_| ApiError::field("client", "INVALID_ADDRESS", what))?;
    Ok(parsed.to_canonical())
}

type Outcome = Result<agent_pb::Answer, ApiError>;

/// Asks all that carry the service and are connected; there is one of them at least.
async fn ask(
    control: &Control,
    service: &Service,
    question: &Ask,
) -> Result<Vec<(AgentName, Outcome)>, ApiError> {
    let (name, kind) = (&service.config.name, carrier(&service.config));
    let carriers: Vec<AgentName> = control.observed.read(|agents| {
        let all = of_kind(agents, &name.cluster, kind);
        all.filter(|(_, agent)| agent.is_connected()).map(|(name, _)| name.clone()).collect()
    });
    if carriers.is_empty() {
        let message = format!(
            "no {kind} of cluster {} is connected, and nobody else knows: look at \
             `gantry overview`",
            name.cluster
        );
        return Err(ApiError::Unavailable { reason: "NO_AGENT", message });
    }
    let asked = carriers.into_iter().map(|agent| ask_one(control, name, agent, question.clone()));
    Ok(join_all(asked).await)
}

async fn ask_one(
    control: &Control,
    service: &ServiceName,
    agent: AgentName,
    question: Ask,
) -> (AgentName, Outcome) {
    let answer = match control.questions.ask(&agent, question) {
        Err(why) => Err(unanswered(&agent, why)),
        Ok(asked) => match tokio::time::timeout(PATIENCE, asked.answered()).await {
            Ok(answer) => answer.map_err(|why| unanswered(&agent, why)),
            Err(_) => Err(late(&agent)),
        },
    };
    let answer = answer.and_then(|answer| match answer.refusal.as_str() {
        "" => Ok(answer),
        _ => {
            let message = format!("{} of {}: {}", agent.kind, id(&agent), text(&answer.message));
            Err(refused("AGENT_REFUSED", service, message))
        }
    });
    (agent, answer)
}

fn unanswered(agent: &AgentName, why: Unanswered) -> ApiError {
    let message = format!("{} of {} did not answer: {why}; repeat the call", agent.kind, id(agent));
    ApiError::Unavailable { reason: "NO_ANSWER", message }
}

fn late(agent: &AgentName) -> ApiError {
    let (kind, id, seconds) = (agent.kind, id(agent), PATIENCE.as_secs());
    ApiError::Late { message: format!("{kind} of {id} did not answer within {seconds} s") }
}

fn refused(reason: &'static str, service: &ServiceName, message: String) -> ApiError {
    ApiError::Precondition { reason, subject: service.to_string(), message }
}

/// The answers of all, or why one of them is missing.
fn whole(
    outcomes: Vec<(AgentName, Outcome)>,
) -> Result<Vec<(AgentName, agent_pb::Answer)>, ApiError> {
    outcomes.into_iter().map(|(agent, outcome)| Ok((agent, outcome?))).collect()
}

fn id(agent: &AgentName) -> &str {
    agent.appliance.appliance.as_str()
}

/// How many there are everywhere; an agent may say so, and what it lists it has.
fn total(
    answers: &[(AgentName, agent_pb::Answer)],
    listed: impl Fn(&agent_pb::Answer) -> usize,
) -> i64 {
    let of_one = |answer: &agent_pb::Answer| {
        answer.total_size.max(i64::try_from(listed(answer)).unwrap_or(i64::MAX))
    };
    answers.iter().map(|(_, answer)| of_one(answer)).fold(0, i64::saturating_add)
}

fn entry_of(
    service: &Service,
    appliance: String,
    entry: pb::PersistenceEntry,
) -> pb::PersistenceEntry {
    pb::PersistenceEntry {
        client: text(&entry.client),
        real_server: server_of(service, entry.real_server),
        endpoint: text(&entry.endpoint),
        expires_in: entry.expires_in,
        appliance,
    }
}

fn connection_of(
    service: &Service,
    appliance: String,
    connection: pb::Connection,
) -> pb::Connection {
    pb::Connection {
        client: text(&connection.client),
        listener: text(&connection.listener),
        real_server: server_of(service, connection.real_server),
        endpoint: text(&connection.endpoint),
        state: text(&connection.state),
        expires_in: connection.expires_in,
        appliance,
    }
}

/// A real server that the service has; an agent may be behind, or the server gone.
fn server_of(service: &Service, named: String) -> String {
    let name: Option<ServerName> = named.parse().ok();
    let known = name.is_some_and(|name| {
        name.service == service.config.name && service.servers.contains_key(&name.server)
    });
    if known { named } else { String::new() }
}
