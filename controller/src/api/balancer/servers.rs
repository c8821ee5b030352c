//! Real servers.

use std::time::Duration;

use gantry_model::name::{Id, ServerName};
use gantry_model::rules;
use gantry_model::server::{AdminState, RealServer};
use gantry_model::violation::Violations;
use gantry_model::wire;
use gantry_proto::v1 as pb;
use gantry_runtime::clock;

use crate::api::Control;
use crate::api::edit::{self, Asked, Draft, Named, Resource};
use crate::api::error::{ApiError, sound};
use crate::api::filter::{self, Filter};
use crate::api::page::Page;
use crate::api::resources::real_server;
use crate::state::{Server, Service, State};
use crate::status::Facts;
use crate::store::{NewEvent, Write};

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
            edit::find::<Service>(state, "parent", given)?;
        }
        Ok(parent)
    }

    fn covers(&self, service: &Service) -> bool {
        let name = &service.config.name;
        self.cluster.as_ref().is_none_or(|cluster| *cluster == name.cluster)
            && self.service.as_ref().is_none_or(|service| *service == name.service)
    }
}

pub(super) async fn create(
    control: &Control,
    actor: String,
    request: pb::CreateRealServerRequest,
) -> Result<pb::RealServer, ApiError> {
    let state = control.state();
    let service = edit::find::<Service>(&state, "parent", &request.parent)?;
    let given = request.real_server.clone().unwrap_or_default();
    let id: Id = request.real_server_id.parse().map_err(|error| {
        let rest = check(service, &service.config.name.server(Id::lowest()), &given).err();
        ApiError::name("real_server_id", &error).and(rest)
    })?;
    let name = service.config.name.server(id);
    let asked = Asked::new(actor, &request.comment)?.only_validate(request.validate_only).once(
        &request.request_id,
        &name,
        &request,
    )?;
    let draft = |state: &State, name: &ServerName| {
        let service = edit::find::<Service>(state, "parent", &request.parent)?;
        let config = check(service, name, &given)?;
        Ok(Draft { config, with: Vec::new(), message: "created".to_owned() })
    };
    edit::create::<Server>(control, asked, name, draft).await
}

impl Named for Server {
    type Name = ServerName;
    const KIND: &'static str = "real server";

    fn find<'a>(state: &'a State, name: &ServerName) -> Option<&'a Self> {
        state.server(name)
    }
}

impl Resource for Server {
    type Config = RealServer;
    type Message = pb::RealServer;

    const FIELD: &'static str = "real_server";
    const EVENTS: [&'static str; 3] =
        ["REAL_SERVER_CREATED", "REAL_SERVER_UPDATED", "REAL_SERVER_DELETED"];

    fn name(&self) -> &ServerName {
        &self.config.name
    }

    fn number(&self) -> u64 {
        self.number
    }

    fn message(&self) -> pb::RealServer {
        wire::real_server_message(&self.config)
    }

    fn message_of(config: &RealServer) -> pb::RealServer {
        wire::real_server_message(config)
    }

    fn shown(&self, facts: Facts<'_>) -> pb::RealServer {
        real_server(self, facts)
    }

    fn name_and_etag(message: &pb::RealServer) -> (&str, &str) {
        (&message.name, &message.etag)
    }

    fn read(
        state: &State,
        current: &Self,
        message: &pb::RealServer,
    ) -> Result<RealServer, ApiError> {
        let name = &current.config.name;
        let service = edit::find::<Service>(state, "parent", &name.service.to_string())?;
        check(service, name, message)
    }

    fn put(config: RealServer) -> Write {
        Write::PutServer(Box::new(config))
    }

    fn deletion(_: &State, current: &Self) -> Result<(Write, String), ApiError> {
        Ok((Write::DeleteServer(current.config.name.clone()), "deleted".to_owned()))
    }
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
    let asked = Asked::new(actor, &intent.comment)?;
    let decide = |state: &State| {
        let current = edit::find::<Server>(state, "name", &name)?;
        let mut change = asked.change();
        if current.config.admin_state != intent.state {
            let server = RealServer { admin_state: intent.state, ..current.config.clone() };
            change.events.push(NewEvent::info(intent.kind, &server.name, intent.message));
            change.writes.push(Write::PutServer(Box::new(server)));
        }
        Ok((change, ()))
    };
    control.change(decide).await?;
    edit::get::<Server>(control, &name)
}

/// Reads a server and checks it against its service and the other servers there.
fn check(
    service: &Service,
    name: &ServerName,
    message: &pb::RealServer,
) -> Result<RealServer, ApiError> {
    let mut violations = Violations::new();
    let server = violations.within(Server::FIELD, |violations| {
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
