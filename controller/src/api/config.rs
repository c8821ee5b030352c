//! ConfigService: a cluster as one document.

use gantry_model::name::{ClusterName, Id, ServiceName};
use gantry_model::rules;
use gantry_model::server::RealServer;
use gantry_model::service::VirtualService;
use gantry_model::violation::Violations;
use gantry_model::wire::{self, real_server_message, virtual_service_message};
use gantry_proto::v1 as pb;
use pb::change::Action;
use pb::config_service_server::ConfigService;
use std::collections::{BTreeMap, HashSet};
use tonic::{Request, Response, Status};

use super::balancer::{Placed, places, real_servers};
use super::certificate::check_used;
use super::edit::Asked;
use super::error::{ApiError, sound};
use super::resources::{cluster_of, etag};
use super::{Calls, Control, caller, fields};
use crate::state::{Service as StoredService, State};
use crate::store::{Change, NewEvent, Write};

#[tonic::async_trait]
impl ConfigService for Calls {
    async fn plan_config(
        &self,
        _request: Request<pb::PlanConfigRequest>,
    ) -> Result<Response<pb::PlanConfigResponse>, Status> {
        Err(Status::unimplemented("under construction"))
    }

    async fn rollback_config(
        &self,
        _request: Request<pb::RollbackConfigRequest>,
    ) -> Result<Response<pb::RollbackConfigResponse>, Status> {
        Err(Status::unimplemented("under construction"))
    }

    async fn list_revisions(
        &self,
        _request: Request<pb::ListRevisionsRequest>,
    ) -> Result<Response<pb::ListRevisionsResponse>, Status> {
        Err(Status::unimplemented("under construction"))
    }

    async fn get_revision(
        &self,
        _request: Request<pb::GetRevisionRequest>,
    ) -> Result<Response<pb::Revision>, Status> {
        Err(Status::unimplemented("under construction"))
    }

    async fn diff_revisions(
        &self,
        _request: Request<pb::DiffRevisionsRequest>,
    ) -> Result<Response<pb::DiffRevisionsResponse>, Status> {
        Err(Status::unimplemented("under construction"))
    }

    async fn export_config(
        &self,
        request: Request<pb::ExportConfigRequest>,
    ) -> Result<Response<pb::Config>, Status> {
        Ok(Response::new(export(&self.control.state(), &request.into_inner().name)?))
    }

    async fn apply_config(
        &self,
        request: Request<pb::ApplyConfigRequest>,
    ) -> Result<Response<pb::ApplyConfigResponse>, Status> {
        let actor = caller::of(&request).actor();
        Ok(Response::new(apply(&self.control, actor, &request.into_inner()).await?))
    }
}

fn export(state: &State, name: &str) -> Result<pb::Config, ApiError> {
    let cluster = cluster_of(state, "name", name)?;
    let services = state.services_of(&cluster).map(|service| pb::config::Service {
        virtual_service: Some(pb::VirtualService {
            name: service.config.name.service.to_string(),
            ..virtual_service_message(&service.config)
        }),
        real_servers: service
            .real_servers()
            .map(|server| pb::RealServer {
                name: server.name.server.to_string(),
                ..real_server_message(server)
            })
            .collect(),
    });
    Ok(pb::Config {
        name: cluster.to_string(),
        services: services.collect(),
        etag: config_etag(state, &cluster),
    })
}

async fn apply(
    control: &Control,
    actor: String,
    request: &pb::ApplyConfigRequest,
) -> Result<pb::ApplyConfigResponse, ApiError> {
    let Some(config) = request.config.clone() else {
        // Taken for an empty document, this would delete everything.
        let what = "is required: the document that the configuration is to be equal to";
        return Err(ApiError::field("config", "REQUIRED", what));
    };
    let cluster = cluster_of(&control.state(), "config.name", &config.name)?;
    let document = Document::parse(&cluster, &config)?;
    let asked = Asked::new(actor, &request.comment)?;
    let decide = |state: &State| {
        check_base(state, &cluster, &request.base_etag)?;
        document.check_certificates(state)?;
        let (changes, writes) = document.changes(state, &cluster);
        let events = applied_event(&cluster, &changes);
        Ok((Change { writes, events, ..asked.change() }, changes))
    };
    let (changes, state) = if request.validate_only {
        let state = control.state();
        (decide(&state)?.1, state)
    } else {
        control.change(decide).await?
    };
    Ok(pb::ApplyConfigResponse {
        changes,
        etag: config_etag(&state, &cluster),
        revision: state.revision.to_string(),
    })
}

fn config_etag(state: &State, cluster: &ClusterName) -> String {
    etag(state.cluster(cluster).map_or(0, |cluster| cluster.config_number))
}

fn check_base(state: &State, cluster: &ClusterName, given: &str) -> Result<(), ApiError> {
    let current = config_etag(state, cluster);
    if given.is_empty() || given == current {
        return Ok(());
    }
    Err(ApiError::Stale { name: cluster.to_string(), given: given.to_owned(), current })
}

fn applied_event(cluster: &ClusterName, changes: &[pb::Change]) -> Vec<NewEvent> {
    if changes.is_empty() {
        return Vec::new();
    }
    let count = |action| changes.iter().filter(|change| change.action() == action).count();
    let message = format!(
        "applied a document: {} created, {} changed, {} deleted",
        count(Action::Create),
        count(Action::Update),
        count(Action::Delete)
    );
    vec![NewEvent::info("CONFIG_APPLIED", cluster, message)]
}

/// A document, read and found sound in itself.
struct Document {
    services: BTreeMap<ServiceName, (VirtualService, Vec<Placed>)>,
    /// Where in the document each service stands, for field paths.
    places: BTreeMap<ServiceName, usize>,
}

impl Document {
    fn parse(cluster: &ClusterName, config: &pb::Config) -> Result<Self, ApiError> {
        let mut violations = Violations::new();
        let mut document = Self { services: BTreeMap::new(), places: BTreeMap::new() };
        for (at, entry) in config.services.iter().enumerate() {
            violations.within(format!("config.services[{at}]"), |violations| {
                document.read(violations, cluster, at, entry);
            });
        }
        document.check_neighbours(&mut violations);
        sound(violations, Some(document))
    }

    fn read(
        &mut self,
        violations: &mut Violations,
        cluster: &ClusterName,
        at: usize,
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
        violations.within("virtual_service", |found| rules::check_service(found, &service));
        rules::check_together(violations, &service, places(&servers));
        self.places.insert(name.clone(), at);
        if self.services.insert(name.clone(), (service, servers)).is_some() {
            let what = format!("{} stands in the document twice", name.service);
            violations.add("virtual_service.name", "DUPLICATE", what);
        }
    }

    /// What makes the cluster equal to this document: removals first, since what is new may want
    /// the label of what goes.
    fn changes(&self, state: &State, cluster: &ClusterName) -> (Vec<pb::Change>, Vec<Write>) {
        let mut changes = Changes::default();
        for service in state.services_of(cluster) {
            if !self.services.contains_key(&service.config.name) {
                changes.delete_service(service);
            }
        }
        for (name, (service, servers)) in &self.services {
            changes.put_service(state.service(name).map(AsRef::as_ref), service, servers);
        }
        (changes.listed, changes.writes)
    }

    /// Certificates are no part of a document: those that it names must be there.
    fn check_certificates(&self, state: &State) -> Result<(), ApiError> {
        let mut violations = Violations::new();
        for (name, (service, _)) in &self.services {
            let at = self.places.get(name).copied().unwrap_or_default();
            let path = format!("config.services[{at}].virtual_service");
            violations.within(path, |violations| check_used(violations, state, service));
        }
        sound(violations, Some(()))
    }

    fn check_neighbours(&self, violations: &mut Violations) {
        let all = self.services.values().map(|(service, _)| service);
        let names: HashSet<_> = self.services.keys().collect();
        for conflict in rules::conflicts(all, &names) {
            let at = self.places.get(conflict.service).copied().unwrap_or_default();
            let path = format!("config.services[{at}].virtual_service");
            violations.within(path, |violations| {
                violations.add(conflict.field, conflict.reason, conflict.message);
            });
        }
    }
}

/// Differences, as they are listed and as they are written.
#[derive(Default)]
struct Changes {
    listed: Vec<pb::Change>,
    writes: Vec<Write>,
}

impl Changes {
    fn delete_service(&mut self, service: &StoredService) {
        self.list(Action::Delete, &service.config.name, Vec::new());
        self.writes.push(Write::DeleteService(service.config.name.clone()));
    }

    fn put_service(
        &mut self,
        before: Option<&StoredService>,
        service: &VirtualService,
        servers: &[Placed],
    ) {
        match before {
            None => {
                self.list(Action::Create, &service.name, Vec::new());
                self.writes.push(Write::PutService(Box::new(service.clone())));
            }
            Some(before) if before.config != *service => {
                let old = virtual_service_message(&before.config);
                let changed = fields::difference(&old, &virtual_service_message(service));
                self.list(Action::Update, &service.name, changed);
                self.writes.push(Write::PutService(Box::new(service.clone())));
            }
            Some(_) => {}
        }
        let wanted: HashSet<_> = servers.iter().map(|(_, server)| &server.name).collect();
        for server in before.iter().flat_map(|before| before.real_servers()) {
            if !wanted.contains(&server.name) {
                self.list(Action::Delete, &server.name, Vec::new());
                self.writes.push(Write::DeleteServer(server.name.clone()));
            }
        }
        for (_, server) in servers {
            self.put_server(before, server);
        }
    }

    fn put_server(&mut self, service: Option<&StoredService>, server: &RealServer) {
        let before = service.and_then(|service| service.servers.get(&server.name.server));
        match before {
            None => self.list(Action::Create, &server.name, Vec::new()),
            Some(before) if before.config != *server => {
                let old = real_server_message(&before.config);
                let changed = fields::difference(&old, &real_server_message(server));
                self.list(Action::Update, &server.name, changed);
            }
            Some(_) => return,
        }
        self.writes.push(Write::PutServer(Box::new(server.clone())));
    }

    fn list(&mut self, action: Action, name: &impl ToString, fields: Vec<String>) {
        let name = name.to_string();
        self.listed.push(pb::Change { action: action.into(), name, fields, ..Default::default() });
    }
}
