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

use crate::api::Control;
use crate::api::certificate::check_used;
use crate::api::edit::{self, Asked, Draft, Named, Resource};
use crate::api::error::{ApiError, sound};
use crate::api::filter::{self, Filter};
use crate::api::page::Page;
use crate::api::resources::{cluster_of, parent_of, virtual_service};
use crate::state::{Service, State};
use crate::status::Facts;
use crate::store::Write;

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
    let asked = Asked::new(actor, &request.comment)?.only_validate(request.validate_only).once(
        &request.request_id,
        &name,
        &request,
    )?;
    let draft = |state: &State, name: &ServiceName| {
        let (config, servers) = parse(state, name, &request)?;
        let message = format!("created with {} real servers", servers.len());
        let with = servers.into_iter().map(|(_, server)| Write::PutServer(Box::new(server)));
        Ok(Draft { config, with: with.collect(), message })
    };
    edit::create::<Service>(control, asked, name, draft).await
}

impl Named for Service {
    type Name = ServiceName;
    const KIND: &'static str = "virtual service";

    fn find<'a>(state: &'a State, name: &ServiceName) -> Option<&'a Self> {
        state.service(name).map(AsRef::as_ref)
    }
}

impl Resource for Service {
    type Config = VirtualService;
    type Message = pb::VirtualService;

    const FIELD: &'static str = "virtual_service";
    const EVENTS: [&'static str; 3] =
        ["VIRTUAL_SERVICE_CREATED", "VIRTUAL_SERVICE_UPDATED", "VIRTUAL_SERVICE_DELETED"];

    fn name(&self) -> &ServiceName {
        &self.config.name
    }

    fn number(&self) -> u64 {
        self.number
    }

    fn message(&self) -> pb::VirtualService {
        wire::virtual_service_message(&self.config)
    }

    fn message_of(config: &VirtualService) -> pb::VirtualService {
        wire::virtual_service_message(config)
    }

    fn shown(&self, facts: Facts<'_>) -> pb::VirtualService {
        virtual_service(self, facts)
    }

    fn name_and_etag(message: &pb::VirtualService) -> (&str, &str) {
        (&message.name, &message.etag)
    }

    fn read(
        state: &State,
        current: &Self,
        message: &pb::VirtualService,
    ) -> Result<VirtualService, ApiError> {
        let mut violations = Violations::new();
        let parsed = violations.within(Self::FIELD, |violations| {
            wire::virtual_service(violations, current.config.name.clone(), message)
        });
        if let Some(service) = &parsed {
            let servers = current.real_servers();
            let servers = servers.map(|server| (server.name.to_string(), server));
            rules::check_together(&mut violations, service, servers);
            check_neighbours(&mut violations, state, service, Self::FIELD);
        }
        sound(violations, parsed)
    }

    fn put(config: VirtualService) -> Write {
        Write::PutService(Box::new(config))
    }

    fn deletion(_: &State, current: &Self) -> Result<(Write, String), ApiError> {
        let message = format!("deleted with {} real servers", current.servers.len());
        Ok((Write::DeleteService(current.config.name.clone()), message))
    }
}

/// Records under `field` what of `service` collides with its neighbours, or lacks them.
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
    violations.within(field, |violations| {
        for conflict in rules::conflicts(others.chain([service]), &changed) {
            violations.add(conflict.field, conflict.reason, conflict.message);
        }
        check_used(violations, state, service);
    });
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
