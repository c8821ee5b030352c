//! ConfigService: a cluster as one document, and its history.

mod document;
mod history;
mod listing;

use gantry_model::name::ClusterName;
use gantry_model::wire::{real_server_message, virtual_service_message};
use gantry_proto::v1 as pb;
use gantry_runtime::clock;
use pb::config_service_server::ConfigService;
use tonic::{Request, Response, Status};

use self::document::Document;
use super::edit::Asked;
use super::error::ApiError;
use super::resources::{cluster_of, etag};
use super::{Calls, Control, caller};
use crate::state::State;
use crate::store::{Change, NewEvent};

#[tonic::async_trait]
impl ConfigService for Calls {
    async fn export_config(
        &self,
        request: Request<pb::ExportConfigRequest>,
    ) -> Result<Response<pb::Config>, Status> {
        let request = request.into_inner();
        Ok(Response::new(match request.revision.as_str() {
            "" => export(&self.control.state(), &request.name)?,
            revision => history::export_at(&self.control, &request.name, revision).await?,
        }))
    }

    async fn plan_config(
        &self,
        request: Request<pb::PlanConfigRequest>,
    ) -> Result<Response<pb::PlanConfigResponse>, Status> {
        Ok(Response::new(plan(&self.control, request.into_inner())?))
    }

    async fn apply_config(
        &self,
        request: Request<pb::ApplyConfigRequest>,
    ) -> Result<Response<pb::ApplyConfigResponse>, Status> {
        let actor = caller::of(&request).actor();
        Ok(Response::new(apply(&self.control, actor, &request.into_inner()).await?))
    }

    async fn rollback_config(
        &self,
        request: Request<pb::RollbackConfigRequest>,
    ) -> Result<Response<pb::RollbackConfigResponse>, Status> {
        let actor = caller::of(&request).actor();
        let request = request.into_inner();
        Ok(Response::new(history::rollback(&self.control, actor, &request).await?))
    }

    async fn list_revisions(
        &self,
        request: Request<pb::ListRevisionsRequest>,
    ) -> Result<Response<pb::ListRevisionsResponse>, Status> {
        Ok(Response::new(history::list(&self.control, request.into_inner()).await?))
    }

    async fn get_revision(
        &self,
        request: Request<pb::GetRevisionRequest>,
    ) -> Result<Response<pb::Revision>, Status> {
        Ok(Response::new(history::get(&self.control, &request.into_inner().name).await?))
    }

    async fn diff_revisions(
        &self,
        request: Request<pb::DiffRevisionsRequest>,
    ) -> Result<Response<pb::DiffRevisionsResponse>, Status> {
        Ok(Response::new(history::diff(&self.control, &request.into_inner()).await?))
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

fn plan(
    control: &Control,
    request: pb::PlanConfigRequest,
) -> Result<pb::PlanConfigResponse, ApiError> {
    let config = request.config.unwrap_or_default();
    let state = control.state();
    let cluster = cluster_of(&state, "config.name", &config.name)?;
    let document = Document::parse(&cluster, &config)?;
    document.check_certificates(&state)?;
    let mut changes = listing::in_full(&document.plan(&state, &cluster).differences);
    let effects = document.effects(&state, &cluster, clock::wall());
    control.with_facts(|facts| listing::note_cuts(&mut changes, effects, facts));
    let (cut_connections, stale) = listing::total(&changes);
    let base_etag = config_etag(&state, &cluster);
    Ok(pb::PlanConfigResponse { changes, base_etag, cut_connections, stale })
}

async fn apply(
    control: &Control,
    actor: String,
    request: &pb::ApplyConfigRequest,
) -> Result<pb::ApplyConfigResponse, ApiError> {
    let config = request.config.clone().unwrap_or_default();
    let cluster = cluster_of(&control.state(), "config.name", &config.name)?;
    let document = Document::parse(&cluster, &config)?;
    let asked = Asked::new(actor, &request.comment)?;
    let decide = |state: &State| {
        check_base(state, &cluster, &request.base_etag)?;
        document.check_certificates(state)?;
        let plan = document.plan(state, &cluster);
        let told = format!("applied a document: {}", listing::counted(&plan.differences));
        let event = NewEvent::info("CONFIG_APPLIED", &cluster, told);
        let events = if plan.differences.is_empty() { Vec::new() } else { vec![event] };
        let change = Change { writes: plan.writes, events, ..asked.change() };
        Ok((change, plan.differences))
    };
    let (differences, state) = if request.validate_only {
        let state = control.state();
        (decide(&state)?.1, state)
    } else {
        control.change(decide).await?
    };
    Ok(pb::ApplyConfigResponse {
        changes: listing::in_brief(&differences),
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
