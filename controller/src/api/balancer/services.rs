//! Virtual services.

use std::collections::HashSet;
use std::sync::Arc;

use gantry_model::name::{Id, ServiceName};
use gantry_model::rules;
use gantry_model::server::RealServer;
use gantry_model::service::VirtualService;
use gantry_model::violation::Violations;
use gantry_model::wire;
use gantry_proto::v1 as pb;

use super::{Repeat, repeated};
use crate::api::error::{ApiError, sound};
use crate::api::filter::{self, Filter};
use crate::api::page::Page;
use crate::api::resources::{check_etag, cluster_of, parent_of, virtual_service};
use crate::api::{Control, fields};
use crate::state::{Service, State};
use crate::store::{Change, NewEvent, Write};

pub(super) fn list(
    control: &Control,
    request: &pb::ListVirtualServicesRequest,
) -> Result<pb::ListVirtualServicesResponse, ApiError> {
    let filter = Filter::parse(&request.filter, filter::VIRTUAL_SERVICES)?;
    let asked = ["virtualServices", &request.parent, &request.filter];
    let page = Page::parse(request.page_size, &request.page_token, &asked)?;
    let state = control.state();
    let parent = parent_of(&state, &request.parent)?;
    let all = state
        .services()
        .filter(|s| parent.as_ref().is_none_or(|p| p.cluster == s.config.name.cluster));
    control.with_facts(|facts| {
        let name = |service: &&Arc<Service>| service.config.name.clone();
        let wanted = |service: &&Arc<Service>| {
            filter.is_empty() || filter.matches(&virtual_service(service, facts))
        };
        let (page, next_page_token) = page.cut(all, name, wanted)?;
        let virtual_services = page.iter().map(|s| virtual_service(s, facts)).collect();
        Ok(pb::ListVirtualServicesResponse { virtual_services, next_page_token })
    })
}

pub(super) fn get(control: &Control, name: &str) -> Result<pb::VirtualService, ApiError> {
    let state = control.state();
    let service = find(&state, "name", name)?;
    Ok(control.with_facts(|facts| virtual_service(service, facts)))
}

pub(super) async fn create(
    control: &Control,
    actor: String,
    request: pb::CreateVirtualServiceRequest,
) -> Result<pb::VirtualService, ApiError> {
    let state = control.state();
    let cluster = cluster_of(&state, "parent", &request.parent)?;
    let id: Id = request.virtual_service_id.parse().map_err(|error| {
        let rest = parse(&state, &cluster.service(Id::lowest()), &request).err();
        ApiError::name("virtual_service_id", &error).and(rest)
    })?;
    let name = cluster.service(id);
    let text = name.to_string();
    let remember = match repeated(control, &request.request_id, &text, &request).await? {
        Repeat::Yes(name) => return get(control, &name),
        Repeat::No(remember) => remember,
    };
    let decide = |state: &State| {
        if state.service(&name).is_some() {
            return Err(ApiError::AlreadyExists {
                kind: "virtual service",
                name: name.to_string(),
            });
        }
        let (service, servers) = parse(state, &name, &request)?;
        let message = format!("created with {} real servers", servers.len());
        let event = NewEvent::info("VIRTUAL_SERVICE_CREATED", &name, message);
        let mut writes = vec![Write::PutService(Box::new(service))];
        writes.extend(servers.into_iter().map(|(_, server)| Write::PutServer(Box::new(server))));
        let comment = request.comment.clone();
        Ok(Change { actor, comment, writes, events: vec![event], request: remember })
    };
    if request.validate_only {
        decide(&control.state())?;
        let given = request.virtual_service.unwrap_or_default();
        return Ok(pb::VirtualService { name: text, ..given });
    }
    control.change(|state| Ok((decide(state)?, ()))).await?;
    get(control, &text)
}

pub(super) async fn update(
    control: &Control,
    actor: String,
    request: pb::UpdateVirtualServiceRequest,
) -> Result<pb::VirtualService, ApiError> {
    let given = request.virtual_service.unwrap_or_default();
    let name = given.name.clone();
    let decide = |state: &State| {
        let current = find(state, "virtual_service.name", &name)?;
        check_etag(&name, &given.etag, current.number)?;
        let old = wire::virtual_service_message(&current.config);
        let merged = fields::merge(&old, &given, request.update_mask.as_ref())?;
        let mut violations = Violations::new();
        let parsed = violations.within("virtual_service", |violations| {
            wire::virtual_service(violations, current.config.name.clone(), &merged)
        });
        if let Some(service) = &parsed {
            let servers = current.real_servers();
            let servers = servers.map(|server| (server.name.to_string(), server));
            rules::check_together(&mut violations, service, servers);
            check_neighbours(&mut violations, state, service, "virtual_service");
        }
        let service = sound(violations, parsed)?;
        let comment = request.comment.clone();
        let mut change = Change { actor, comment, ..Change::default() };
        if service != current.config {
            let changed = fields::difference(&old, &wire::virtual_service_message(&service));
            let message = format!("changed {}", changed.join(", "));
            let name = &service.name;
            change.events.push(NewEvent::info("VIRTUAL_SERVICE_UPDATED", name, message));
            change.writes.push(Write::PutService(Box::new(service)));
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
    request: pb::DeleteVirtualServiceRequest,
) -> Result<(), ApiError> {
    let decide = |state: &State| {
        let current = find(state, "name", &request.name)?;
        check_etag(&request.name, &request.etag, current.number)?;
        let name = current.config.name.clone();
        let message = format!("deleted with {} real servers", current.servers.len());
        let events = vec![NewEvent::info("VIRTUAL_SERVICE_DELETED", &name, message)];
        let writes = vec![Write::DeleteService(name)];
        let comment = request.comment.clone();
        Ok((Change { actor, comment, writes, events, request: None }, ()))
    };
    control.change(decide).await?;
    Ok(())
}

pub(super) fn find<'a>(state: &'a State, field: &str, name: &str) -> Result<&'a Service, ApiError> {
    let parsed: ServiceName = name.parse().map_err(|error| ApiError::name(field, &error))?;
    let found = state.service(&parsed).map(AsRef::as_ref);
    let not_found = || ApiError::NotFound { kind: "virtual service", name: name.to_owned() };
    found.ok_or_else(not_found)
}

/// Records under `field` what of `service` collides with its neighbours.
fn check_neighbours(
    violations: &mut Violations,
    state: &State,
    service: &VirtualService,
    field: &str,
) {
    let cluster = service.name.cluster();
    let others = state.services_of(&cluster).map(|other| &other.config);
    let others = others.filter(|other| other.name != service.name);
    let changed = HashSet::from([&service.name]);
    for conflict in rules::conflicts(others.chain([service]), &changed) {
        violations.within(field, |violations| {
            violations.add(conflict.field, conflict.reason, conflict.message);
        });
    }
}

/// A real server, and where in the request it stands.
pub(in crate::api) type Placed = (String, RealServer);

/// Reads what is to be created, and finds all that is wrong with it.
fn parse(
    state: &State,
    name: &ServiceName,
    request: &pb::CreateVirtualServiceRequest,
) -> Result<(VirtualService, Vec<Placed>), ApiError> {
    let mut violations = Violations::new();
    let given = request.virtual_service.clone().unwrap_or_default();
    let service = violations.within("virtual_service", |violations| {
        wire::virtual_service(violations, name.clone(), &given)
    });
    let servers = real_servers(&mut violations, name, &request.real_servers);
    if let Some(service) = &service {
        rules::check_together(&mut violations, service, places(&servers));
        check_neighbours(&mut violations, state, service, "virtual_service");
    }
    sound(violations, service.map(|service| (service, servers)))
}

/// Reads real servers that come with their service: each is named by an id or by its whole name.
pub(in crate::api) fn real_servers(
    violations: &mut Violations,
    service: &ServiceName,
    given: &[pb::RealServer],
) -> Vec<Placed> {
    let mut servers = Vec::with_capacity(given.len());
    let mut ids = HashSet::new();
    for (at, message) in given.iter().enumerate() {
        let place = format!("real_servers[{at}]");
        violations.within(place.clone(), |violations| {
            let prefix = format!("{service}/realServers/");
            let id = message.name.strip_prefix(&prefix).unwrap_or(&message.name);
            let id = violations.check("name", "INVALID_NAME", id.parse::<Id>());
            let Some(id) = id else { return };
            if !ids.insert(id.clone()) {
                violations.add("name", "DUPLICATE", format!("{id} is given twice"));
            }
            let server = wire::real_server(violations, service.server(id), message);
            servers.extend(server.map(|server| (place, server)));
        });
    }
    servers
}

/// Real servers as the rules look at them.
pub(in crate::api) fn places(servers: &[Placed]) -> impl Iterator<Item = (String, &RealServer)> {
    servers.iter().map(|(place, server)| (place.clone(), server))
}
