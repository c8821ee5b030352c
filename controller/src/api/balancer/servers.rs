//! Real servers.

use std::time::Duration;

use gantry_model::name::{Id, ServerName};
use gantry_model::rules;
use gantry_model::server::{AdminState, RealServer};
use gantry_model::violation::Violations;
use gantry_model::wire;
use gantry_proto::v1 as pb;
use gantry_runtime::clock;

use super::services::find as find_service;
use super::{Repeat, repeated};
use crate::api::error::{ApiError, sound};
use crate::api::filter::{self, Filter};
use crate::api::page::Page;
use crate::api::resources::{check_etag, real_server};
use crate::api::{Control, fields};
use crate::state::{Server, Service, State};
use crate::store::{Change, NewEvent, Write};

pub(super) fn list(
    control: &Control,
    request: &pb::ListRealServersRequest,
) -> Result<pb::ListRealServersResponse, ApiError> {
    let filter = Filter::parse(&request.filter, filter::REAL_SERVERS)?;
    let asked = ["realServers", &request.parent, &request.filter];
    let page = Page::parse(request.page_size, &request.page_token, &asked)?;
    let state = control.state();
    let parent = Parent::parse(&state, &request.parent)?;
    let services = state.services().filter(|service| parent.covers(service));
    let all = services.flat_map(|service| service.servers.values());
    control.with_facts(|facts| {
        let name = |server: &&Server| server.config.name.clone();
        let wanted =
            |server: &&Server| filter.is_empty() || filter.matches(&real_server(server, facts));
        let (page, next_page_token) = page.cut(all, name, wanted)?;
        let real_servers = page.iter().map(|server| real_server(server, facts)).collect();
        Ok(pb::ListRealServersResponse { real_servers, next_page_token })
    })
}

/// Whose real servers are asked for; `-` stands for all.
struct Parent {
    cluster: Option<Id>,
    service: Option<Id>,
}

impl Parent {
    fn parse(state: &State, given: &str) -> Result<Self, ApiError> {
        let form = "clusters/{cluster}/virtualServices/{virtual_service}";
        let parts: Vec<_> = given.split('/').collect();
        let ["clusters", cluster, "virtualServices", service] = parts[..] else {
            let what = format!("does not have the form {form}; \"-\" stands for all");
            return Err(ApiError::field("parent", "INVALID_NAME", what));
        };
        let id = |text: &str| match text {
            "-" => Ok(None),
            text => text.parse().map(Some).map_err(|error| ApiError::name("parent", &error)),
        };
        let parent = Self { cluster: id(cluster)?, service: id(service)? };
        if parent.cluster.is_some() && parent.service.is_some() {
            find_service(state, "parent", given)?;
        }
        Ok(parent)
    }

    fn covers(&self, service: &Service) -> bool {
        let name = &service.config.name;
        self.cluster.as_ref().is_none_or(|cluster| *cluster == name.cluster)
            && self.service.as_ref().is_none_or(|service| *service == name.service)
    }
}

pub(super) fn get(control: &Control, name: &str) -> Result<pb::RealServer, ApiError> {
    let state = control.state();
    let server = find(&state, "name", name)?;
    Ok(control.with_facts(|facts| real_server(server, facts)))
}

pub(super) async fn create(
    control: &Control,
    actor: String,
    request: pb::CreateRealServerRequest,
) -> Result<pb::RealServer, ApiError> {
    let state = control.state();
    let service = find_service(&state, "parent", &request.parent)?.config.name.clone();
    let given = request.real_server.clone().unwrap_or_default();
    let id: Id = request.real_server_id.parse().map_err(|error| {
        let rest = check(&state, &request.parent, &service.server(Id::lowest()), &given).err();
        ApiError::name("real_server_id", &error).and(rest)
    })?;
    let name = service.server(id);
    let text = name.to_string();
    let remember = match repeated(control, &request.request_id, &text, &request).await? {
        Repeat::Yes(name) => return get(control, &name),
        Repeat::No(remember) => remember,
    };
    let decide = |state: &State| {
        if state.server(&name).is_some() {
            return Err(ApiError::AlreadyExists { kind: "real server", name: name.to_string() });
        }
        let server = check(state, &request.parent, &name, &given)?;
        let event = NewEvent::info("REAL_SERVER_CREATED", &name, "created".to_owned());
        let writes = vec![Write::PutServer(Box::new(server))];
        let comment = request.comment.clone();
        Ok(Change { actor, comment, writes, events: vec![event], request: remember })
    };
    if request.validate_only {
        decide(&control.state())?;
        return Ok(pb::RealServer { name: text, ..given });
    }
    control.change(|state| Ok((decide(state)?, ()))).await?;
    get(control, &text)
}

pub(super) async fn update(
    control: &Control,
    actor: String,
    request: pb::UpdateRealServerRequest,
) -> Result<pb::RealServer, ApiError> {
    let given = request.real_server.unwrap_or_default();
    let name = given.name.clone();
    let decide = |state: &State| {
        let current = find(state, "real_server.name", &name)?;
        check_etag(&name, &given.etag, current.number)?;
        let old = wire::real_server_message(&current.config);
        let merged = fields::merge(&old, &given, request.update_mask.as_ref())?;
        let server_name = &current.config.name;
        let server = check(state, &server_name.service.to_string(), server_name, &merged)?;
        let comment = request.comment.clone();
        let mut change = Change { actor, comment, ..Change::default() };
        if server != current.config {
            let changed = fields::difference(&old, &wire::real_server_message(&server));
            let message = format!("changed {}", changed.join(", "));
            change.events.push(NewEvent::info("REAL_SERVER_UPDATED", server_name, message));
            change.writes.push(Write::PutServer(Box::new(server)));
        }
        Ok((change, merged))
    };
    if request.validate_only {
        return Ok(decide(&control.state())?.1);
    }
    control.change(decide).await?;
    get(control, &name)
}

pub(super) async fn delete(
    control: &Control,
    actor: String,
    request: pb::DeleteRealServerRequest,
) -> Result<(), ApiError> {
    let decide = |state: &State| {
        let current = find(state, "name", &request.name)?;
        check_etag(&request.name, &request.etag, current.number)?;
        let name = current.config.name.clone();
        let events = vec![NewEvent::info("REAL_SERVER_DELETED", &name, "deleted".to_owned())];
        let writes = vec![Write::DeleteServer(name)];
        let comment = request.comment.clone();
        Ok((Change { actor, comment, writes, events, request: None }, ()))
    };
    control.change(decide).await?;
    Ok(())
}

pub(super) async fn drain(
    control: &Control,
    actor: String,
    request: pb::DrainRealServerRequest,
) -> Result<pb::RealServer, ApiError> {
    let mut violations = Violations::new();
    let shortest = Duration::ZERO;
    let after = wire::duration(&mut violations, "halt_after", request.halt_after, shortest);
    sound(violations, Some(()))?;
    let (halt_at, message) = match after {
        None => (None, "draining until its connections end".to_owned()),
        Some(after) => (
            Some(clock::wall() + after),
            format!("draining; what is left is halted in {} s", after.as_secs_f64()),
        ),
    };
    let intent = Intent {
        state: AdminState::Drain { halt_at },
        kind: "REAL_SERVER_DRAINED",
        message,
        comment: request.comment,
    };
    intend(control, actor, request.name, intent).await
}

pub(super) async fn halt(
    control: &Control,
    actor: String,
    request: pb::HaltRealServerRequest,
) -> Result<pb::RealServer, ApiError> {
    let intent = Intent {
        state: AdminState::Halt,
        kind: "REAL_SERVER_HALTED",
        message: "halted: its connections are reset".to_owned(),
        comment: request.comment,
    };
    intend(control, actor, request.name, intent).await
}

pub(super) async fn online(
    control: &Control,
    actor: String,
    request: pb::OnlineRealServerRequest,
) -> Result<pb::RealServer, ApiError> {
    let intent = Intent {
        state: AdminState::Online,
        kind: "REAL_SERVER_ONLINE",
        message: "put back into service".to_owned(),
        comment: request.comment,
    };
    intend(control, actor, request.name, intent).await
}

/// What an operator wants of a real server, and how it is put on record.
struct Intent {
    state: AdminState,
    kind: &'static str,
    message: String,
    comment: String,
}

async fn intend(
    control: &Control,
    actor: String,
    name: String,
    intent: Intent,
) -> Result<pb::RealServer, ApiError> {
    let decide = |state: &State| {
        let current = find(state, "name", &name)?;
        let mut change = Change { actor, comment: intent.comment, ..Change::default() };
        if current.config.admin_state != intent.state {
            let server = RealServer { admin_state: intent.state, ..current.config.clone() };
            change.events.push(NewEvent::info(intent.kind, &server.name, intent.message));
            change.writes.push(Write::PutServer(Box::new(server)));
        }
        Ok((change, ()))
    };
    control.change(decide).await?;
    get(control, &name)
}

fn find<'a>(state: &'a State, field: &str, name: &str) -> Result<&'a Server, ApiError> {
    let parsed: ServerName = name.parse().map_err(|error| ApiError::name(field, &error))?;
    let not_found = || ApiError::NotFound { kind: "real server", name: name.to_owned() };
    state.server(&parsed).ok_or_else(not_found)
}

/// Reads a server and checks it against its service and the other servers there.
fn check(
    state: &State,
    parent: &str,
    name: &ServerName,
    message: &pb::RealServer,
) -> Result<RealServer, ApiError> {
    let service = find_service(state, "parent", parent)?;
    let mut violations = Violations::new();
    let server = violations.within("real_server", |violations| {
        let server = wire::real_server(violations, name.clone(), message)?;
        rules::check_server(violations, &service.config, &server);
        let twin = service.real_servers().find(|other| {
            other.name != *name && !other.label.is_empty() && other.label == server.label
        });
        if let Some(twin) = twin {
            let what = format!("{:?} is the label of {} already", server.label, twin.name);
            violations.add("display_name", "DUPLICATE", what);
        }
        Some(server)
    });
    sound(violations, server)
}
