//! A whole cluster as it shall be, and what makes the present one equal to it.
//!
//! It comes from a client's document, or from history. Either way the same rules hold.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use gantry_model::name::{ClusterName, Id, ServerName, ServiceName};
use gantry_model::rules;
use gantry_model::server::RealServer;
use gantry_model::service::VirtualService;
use gantry_model::violation::Violations;
use gantry_model::wire;
use gantry_proto::v1 as pb;
use jiff::Timestamp;

use crate::api::balancer::{Placed, places, real_servers};
use crate::api::certificate::check_used;
use crate::api::error::{ApiError, sound};
use crate::difference::{Difference, Resource, Resources};
use crate::effects::{Effect, Whole, effects};
use crate::state::{Service as StoredService, State};
use crate::store::Write;

/// What a cluster shall be, found sound in itself.
#[derive(Clone)]
pub(super) struct Document {
    services: BTreeMap<ServiceName, Entry>,
}

#[derive(Clone)]
struct Entry {
    service: VirtualService,
    servers: Vec<Placed>,
    /// Where the service stands, for field paths.
    place: String,
}

/// What has to be done, as it is told and as it is written.
#[derive(Default)]
pub(super) struct Plan {
    pub(super) differences: Vec<Difference>,
    pub(super) writes: Vec<Write>,
}

impl Document {
    /// Reads a client's document.
    pub(super) fn parse(cluster: &ClusterName, config: &pb::Config) -> Result<Self, ApiError> {
        let mut violations = Violations::new();
        let mut document = Self { services: BTreeMap::new() };
        for (at, entry) in config.services.iter().enumerate() {
            let place = format!("config.services[{at}]");
            violations.within(&place, |violations| {
                document.read(violations, cluster, &place, entry);
            });
        }
        document.check_neighbours(&mut violations);
        sound(violations, Some(document))
    }

    fn read(
        &mut self,
        violations: &mut Violations,
        cluster: &ClusterName,
        place: &str,
        entry: &pb::config::Service,
    ) {
        let given = entry.virtual_service.clone().unwrap_or_default();
        let prefix = format!("{cluster}/virtualServices/");
        let id = given.name.strip_prefix(&prefix).unwrap_or(&given.name);
        let id = violations.check("virtual_service.name", "INVALID_NAME", id.parse::<Id>());
        let Some(name) = id.map(|id| cluster.service(id)) else { return };
        let service = violations.within("virtual_service", |violations| {
            wire::virtual_service(violations, name.clone(), &given)
        });
        let servers = real_servers(violations, &name, &entry.real_servers);
        let Some(service) = service else { return };
        rules::check_together(violations, &service, places(&servers));
        let place = format!("{place}.virtual_service");
        if self.services.insert(name.clone(), Entry { service, servers, place }).is_some() {
            let what = format!("{} stands in the document twice", name.service);
            violations.add("virtual_service.name", "DUPLICATE", what);
        }
    }

    /// Reads what history says that a cluster was, by the rules of today.
    pub(super) fn remember(resources: &Resources) -> Result<Self, ApiError> {
        let mut violations = Violations::new();
        let mut document = Self { services: BTreeMap::new() };
        for (name, resource) in resources {
            let Resource::Service(message) = resource else { continue };
            let Ok(name) = name.parse::<ServiceName>() else { continue };
            let place = format!("virtualServices/{}", name.service);
            violations.within(&place, |violations| {
                let service = wire::virtual_service(violations, name.clone(), message);
                let servers = servers_of(violations, resources, &name);
                let Some(service) = service else { return };
                rules::check_together(violations, &service, places(&servers));
                let place = place.clone();
                document.services.insert(name, Entry { service, servers, place });
            });
        }
        document.check_neighbours(&mut violations);
        sound(violations, Some(document)).map_err(not_today)
    }

    /// Certificates are no part of a document: those that it names must be there.
    pub(super) fn check_certificates(&self, state: &State) -> Result<(), ApiError> {
        let mut violations = Violations::new();
        for Entry { service, place, .. } in self.services.values() {
            violations.within(place, |violations| check_used(violations, state, service));
        }
        sound(violations, Some(()))
    }

    /// The same, but every real server that `state` has serves, or does not, as it does there.
    pub(super) fn with_admin_states_of(mut self, state: &State) -> Self {
        for (_, server) in self.services.values_mut().flat_map(|entry| &mut entry.servers) {
            if let Some(present) = state.server(&server.name) {
                server.admin_state = present.config.admin_state;
            }
        }
        self
    }

    /// What makes the cluster equal to this document: removals first, since what is new may want
    /// the address of what goes.
    pub(super) fn plan(&self, state: &State, cluster: &ClusterName) -> Plan {
        let mut plan = Plan::default();
        for service in state.services_of(cluster) {
            if !self.services.contains_key(&service.config.name) {
                plan.delete_service(service);
            }
        }
        for (name, entry) in &self.services {
            plan.put_service(state.service(name).map(AsRef::as_ref), entry);
        }
        plan
    }

    /// Which connections end when the cluster is made equal to this document.
    pub(super) fn effects(
        &self,
        state: &State,
        cluster: &ClusterName,
        now: Timestamp,
    ) -> Vec<Effect> {
        let of_service = |before: &Arc<StoredService>| {
            let after = self.services.get(&before.config.name);
            let old: Vec<_> = before.real_servers().collect();
            let new: Vec<_> = after.iter().flat_map(|entry| entry.servers()).collect();
            let whole = Whole { service: &before.config, servers: &old };
            let after = after.map(|entry| Whole { service: &entry.service, servers: &new });
            effects(whole, after, now)
        };
        state.services_of(cluster).flat_map(of_service).collect()
    }

    fn check_neighbours(&self, violations: &mut Violations) {
        let all = self.services.values().map(|entry| &entry.service);
        let names: HashSet<_> = self.services.keys().collect();
        for conflict in rules::conflicts(all, &names) {
            let place = self.services.get(conflict.service).map(|entry| entry.place.as_str());
            violations.within(place.unwrap_or_default(), |violations| {
                violations.add(conflict.field, conflict.reason, conflict.message);
            });
        }
    }
}

impl Entry {
    fn servers(&self) -> impl Iterator<Item = &RealServer> {
        self.servers.iter().map(|(_, server)| server)
    }
}

/// Tells violations of what history holds under the field `revision`, which is what the client chose.
pub(super) fn not_today(error: ApiError) -> ApiError {
    let ApiError::Invalid(found) = error else { return error };
    let found = found.into_iter().map(|mut violation| {
        let field = std::mem::replace(&mut violation.field, "revision".to_owned());
        violation.message =
            format!("does not pass the rules of today: {field}: {}", violation.message);
        violation
    });
    ApiError::Invalid(found.collect())
}

/// The real servers of a service, each with its place in the service.
fn servers_of(
    violations: &mut Violations,
    resources: &Resources,
    service: &ServiceName,
) -> Vec<Placed> {
    let prefix = format!("{service}/realServers/");
    let own = resources.range(prefix.clone()..).take_while(|(name, _)| name.starts_with(&prefix));
    let mut servers = Vec::new();
    for (name, resource) in own {
        let (Resource::Server(message), Ok(name)) = (resource, name.parse::<ServerName>()) else {
            continue;
        };
        let place = format!("realServers/{}", name.server);
        let read = |violations: &mut Violations| wire::real_server(violations, name, message);
        servers.extend(violations.within(&place, read).map(|server| (place, server)));
    }
    servers
}

impl Plan {
    fn delete_service(&mut self, service: &StoredService) {
        let before = Some((&service.config).into());
        self.differ(&service.config.name, before, None);
        self.writes.push(Write::DeleteService(service.config.name.clone()));
    }

    fn put_service(&mut self, before: Option<&StoredService>, entry: &Entry) {
        let Entry { service, servers, .. } = entry;
        if before.is_none_or(|before| before.config != *service) {
            let old = before.map(|before| (&before.config).into());
            self.differ(&service.name, old, Some(service.into()));
            self.writes.push(Write::PutService(Box::new(service.clone())));
        }
        let wanted: HashSet<_> = servers.iter().map(|(_, server)| &server.name).collect();
        for server in before.iter().flat_map(|before| before.real_servers()) {
            if !wanted.contains(&server.name) {
                self.differ(&server.name, Some(server.into()), None);
                self.writes.push(Write::DeleteServer(server.name.clone()));
            }
        }
        for (_, server) in servers {
            let old = before.and_then(|before| before.servers.get(&server.name.server));
            if old.is_none_or(|old| old.config != *server) {
                let old = old.map(|old| (&old.config).into());
                self.differ(&server.name, old, Some(server.into()));
                self.writes.push(Write::PutServer(Box::new(server.clone())));
            }
        }
    }

    fn differ(&mut self, name: &impl ToString, before: Option<Resource>, after: Option<Resource>) {
        self.differences.push(Difference { name: name.to_string(), before, after });
    }
}

#[cfg(test)]
mod tests;
