//! FleetService: clusters, appliances and invitations.

use std::time::Duration;

use gantry_model::name::{ApplianceName, ClusterName, Id};
use gantry_model::violation::Violations;
use gantry_model::wire::{self, timestamp_message};
use gantry_proto::v1 as pb;
use gantry_runtime::{clock, join};
use pb::fleet_service_server::FleetService;
use sha2::{Digest, Sha256};
use tonic::{Request, Response, Status};

use super::error::{ApiError, sound};
use super::filter::{self, Filter};
use super::page::Page;
use super::resources::{appliance, check_etag, cluster, cluster_of, parent_of};
use super::{Calls, Control, approval, caller, fields};
use crate::state::State;
use crate::store::{Change, Invitation, NewEvent, Write};

const DEFAULT_TTL: Duration = Duration::from_secs(3600);
const LONGEST_TTL: Duration = Duration::from_secs(7 * 24 * 3600);

#[tonic::async_trait]
impl FleetService for Calls {
    async fn approve_removals(
        &self,
        request: Request<pb::ApproveRemovalsRequest>,
    ) -> Result<Response<pb::Appliance>, Status> {
        let actor = caller::of(&request).actor();
        Ok(Response::new(approval::approve(&self.control, actor, request.into_inner()).await?))
    }

    async fn list_clusters(
        &self,
        request: Request<pb::ListClustersRequest>,
    ) -> Result<Response<pb::ListClustersResponse>, Status> {
        let request = request.into_inner();
        Ok(Response::new(list_clusters(&self.control, &request)?))
    }

    async fn get_cluster(
        &self,
        request: Request<pb::GetClusterRequest>,
    ) -> Result<Response<pb::Cluster>, Status> {
        let state = self.control.state();
        let name = named_cluster(&state, "name", &request.into_inner().name)?;
        Ok(Response::new(stored_cluster(&state, &name)?))
    }

    async fn create_cluster(
        &self,
        request: Request<pb::CreateClusterRequest>,
    ) -> Result<Response<pb::Cluster>, Status> {
        let actor = caller::of(&request).actor();
        Ok(Response::new(create_cluster(&self.control, actor, request.into_inner()).await?))
    }

    async fn update_cluster(
        &self,
        request: Request<pb::UpdateClusterRequest>,
    ) -> Result<Response<pb::Cluster>, Status> {
        let actor = caller::of(&request).actor();
        Ok(Response::new(update_cluster(&self.control, actor, request.into_inner()).await?))
    }

    async fn delete_cluster(
        &self,
        request: Request<pb::DeleteClusterRequest>,
    ) -> Result<Response<()>, Status> {
        let actor = caller::of(&request).actor();
        Ok(Response::new(delete_cluster(&self.control, actor, &request.into_inner().name).await?))
    }

    async fn list_appliances(
        &self,
        request: Request<pb::ListAppliancesRequest>,
    ) -> Result<Response<pb::ListAppliancesResponse>, Status> {
        let request = request.into_inner();
        Ok(Response::new(list_appliances(&self.control, &request)?))
    }

    async fn get_appliance(
        &self,
        request: Request<pb::GetApplianceRequest>,
    ) -> Result<Response<pb::Appliance>, Status> {
        let name = request.into_inner().name;
        let parsed = parse_appliance(&name)?;
        let state = self.control.state();
        let entry =
            state.appliance(&parsed).ok_or(ApiError::NotFound { kind: "appliance", name })?;
        Ok(Response::new(self.control.with_facts(|facts| appliance(entry, facts))))
    }

    async fn invite_appliance(
        &self,
        request: Request<pb::InviteApplianceRequest>,
    ) -> Result<Response<pb::InviteApplianceResponse>, Status> {
        let actor = caller::of(&request).actor();
        Ok(Response::new(invite(&self.control, actor, request.into_inner()).await?))
    }

    async fn delete_appliance(
        &self,
        request: Request<pb::DeleteApplianceRequest>,
    ) -> Result<Response<()>, Status> {
        let actor = caller::of(&request).actor();
        let name = request.into_inner().name;
        Ok(Response::new(delete_appliance(&self.control, actor, name).await?))
    }
}

fn list_clusters(
    control: &Control,
    request: &pb::ListClustersRequest,
) -> Result<pb::ListClustersResponse, ApiError> {
    let filter = Filter::parse(&request.filter, filter::CLUSTERS)?;
    let page = Page::parse(request.page_size, &request.page_token, &["clusters", &request.filter])?;
    let state = control.state();
    let all = state.clusters().map(|entry| (entry.name.clone(), cluster(entry)));
    let (page, next_page_token) =
        page.cut(all, |(name, _)| name.clone(), |(_, cluster)| filter.matches(cluster))?;
    let clusters = page.into_iter().map(|(_, cluster)| cluster).collect();
    Ok(pb::ListClustersResponse { clusters, next_page_token })
}

fn list_appliances(
    control: &Control,
    request: &pb::ListAppliancesRequest,
) -> Result<pb::ListAppliancesResponse, ApiError> {
    let filter = Filter::parse(&request.filter, filter::APPLIANCES)?;
    let asked = ["appliances", &request.parent, &request.filter];
    let page = Page::parse(request.page_size, &request.page_token, &asked)?;
    let state = control.state();
    let parent = parent_of(&state, &request.parent)?;
    let all = state
        .appliances()
        .filter(|a| parent.as_ref().is_none_or(|parent| parent.cluster == a.name.cluster));
    control.with_facts(|facts| {
        let all = all.map(|entry| (entry.name.clone(), appliance(entry, facts)));
        let (page, next_page_token) =
            page.cut(all, |(name, _)| name.clone(), |(_, appliance)| filter.matches(appliance))?;
        let appliances = page.into_iter().map(|(_, appliance)| appliance).collect();
        Ok(pb::ListAppliancesResponse { appliances, next_page_token })
    })
}

async fn create_cluster(
    control: &Control,
    actor: String,
    request: pb::CreateClusterRequest,
) -> Result<pb::Cluster, ApiError> {
    let id = request.cluster_id.parse();
    let id: Id = id.map_err(|error| ApiError::name("cluster_id", &error))?;
    let name = ClusterName { cluster: id };
    let label = request.cluster.unwrap_or_default().display_name;
    check_label(&label)?;
    let decide = |state: &State| {
        if state.cluster(&name).is_some() {
            return Err(ApiError::AlreadyExists { kind: "cluster", name: name.to_string() });
        }
        Ok((put_cluster(actor, &name, label, "CLUSTER_CREATED", "created"), ()))
    };
    let ((), state) = control.change(decide).await?;
    stored_cluster(&state, &name)
}

async fn update_cluster(
    control: &Control,
    actor: String,
    request: pb::UpdateClusterRequest,
) -> Result<pb::Cluster, ApiError> {
    let given = request.cluster.unwrap_or_default();
    let name = named_cluster(&control.state(), "cluster.name", &given.name)?;
    let decide = |state: &State| {
        let current = stored_cluster(state, &name)?;
        let number = state.cluster(&name).map_or(0, |cluster| cluster.number);
        check_etag(&given.name, &given.etag, number)?;
        let merged = fields::merge(&current, &given, request.update_mask.as_ref())?;
        check_label(&merged.display_name)?;
        if merged.display_name == current.display_name {
            return Ok((Change::default(), ()));
        }
        let label = merged.display_name;
        Ok((put_cluster(actor, &name, label, "CLUSTER_UPDATED", "changed display_name"), ()))
    };
    let ((), state) = control.change(decide).await?;
    stored_cluster(&state, &name)
}

async fn delete_cluster(control: &Control, actor: String, name: &str) -> Result<(), ApiError> {
    let name = named_cluster(&control.state(), "name", name)?;
    let decide = |state: &State| {
        let (services, appliances) =
            (state.services_of(&name).count(), state.appliances_of(&name).count());
        if services + appliances > 0 {
            let message = format!(
                "{name} has {services} virtual services and {appliances} appliances: delete them \
                 first"
            );
            let subject = name.to_string();
            return Err(ApiError::Precondition { reason: "NOT_EMPTY", subject, message });
        }
        let events = vec![NewEvent::info("CLUSTER_DELETED", &name, "deleted")];
        let writes = vec![Write::DeleteCluster(name.clone())];
        Ok((Change { actor, writes, events, ..Change::default() }, ()))
    };
    control.change(decide).await?;
    Ok(())
}

async fn invite(
    control: &Control,
    actor: String,
    request: pb::InviteApplianceRequest,
) -> Result<pb::InviteApplianceResponse, ApiError> {
    let cluster = cluster_of(&control.state(), "parent", &request.parent)?;
    let id = request.appliance_id.parse();
    let id: Id = id.map_err(|error| ApiError::name("appliance_id", &error))?;
    let mut violations = Violations::new();
    let ttl = wire::duration(&mut violations, "ttl", request.ttl, Duration::from_secs(1));
    let ttl = ttl.unwrap_or(DEFAULT_TTL);
    if ttl > LONGEST_TTL {
        violations.add("ttl", "OUT_OF_RANGE", "is longer than the 7 days a token may be good");
    }
    sound(violations, Some(()))?;
    let appliance = cluster.appliance(id);
    let secret = uuid::Uuid::new_v4().simple().to_string();
    let expire_time = clock::wall() + ttl;
    let event = NewEvent::info("APPLIANCE_INVITED", &appliance, "a token to join was given out");
    let secret_hash = Sha256::digest(&secret).to_vec();
    control.store.invite(&Invitation { appliance, secret_hash, expire_time }, actor, event).await?;
    let fingerprint = control.authority.fingerprint();
    Ok(pb::InviteApplianceResponse {
        token: format!("{}.{fingerprint}.{secret}", join::TOKEN_PREFIX),
        expire_time: Some(timestamp_message(expire_time)),
    })
}

async fn delete_appliance(control: &Control, actor: String, name: String) -> Result<(), ApiError> {
    let parsed = parse_appliance(&name)?;
    let event =
        NewEvent::info("APPLIANCE_REMOVED", &parsed, "removed: its certificate is worth nothing");
    if !control.store.remove_appliance(&parsed, actor, event).await? {
        return Err(ApiError::NotFound { kind: "appliance", name });
    }
    control.observed.forget(&parsed);
    control.approvals.forget(&parsed);
    Ok(())
}

fn put_cluster(
    actor: String,
    name: &ClusterName,
    label: String,
    kind: &'static str,
    message: &str,
) -> Change {
    let writes = vec![Write::PutCluster { name: name.clone(), label }];
    Change { actor, writes, events: vec![NewEvent::info(kind, name, message)], ..Change::default() }
}

fn check_label(label: &str) -> Result<(), ApiError> {
    if label.chars().count() > 63 || label.chars().any(char::is_control) {
        let what = "must be at most 63 characters, without control characters";
        return Err(ApiError::field("cluster.display_name", "INVALID_LABEL", what));
    }
    Ok(())
}

fn named_cluster(state: &State, field: &str, name: &str) -> Result<ClusterName, ApiError> {
    if name.is_empty() {
        let what = "is required: give clusters/{cluster}";
        return Err(ApiError::field(field, "REQUIRED", what));
    }
    cluster_of(state, field, name)
}

fn stored_cluster(state: &State, name: &ClusterName) -> Result<pb::Cluster, ApiError> {
    let not_found = || ApiError::NotFound { kind: "cluster", name: name.to_string() };
    state.cluster(name).map(|entry| cluster(entry)).ok_or_else(not_found)
}

fn parse_appliance(name: &str) -> Result<ApplianceName, ApiError> {
    name.parse().map_err(|error| ApiError::name("name", &error))
}
