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

use super::edit::{self, Asked, Draft, Named, Resource};
use super::error::{ApiError, sound};
use super::filter::{self, Filter};
use super::page::Page;
use super::resources::{appliance, cluster, cluster_of, parent_of};
use super::{Calls, Control, approval, caller};
use crate::state::{Cluster, State};
use crate::status::Facts;
use crate::store::{Invitation, NewEvent, Write};

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
        Ok(Response::new(edit::get::<Cluster>(&self.control, &request.into_inner().name)?))
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
        let request = request.into_inner();
        let asked = Asked::new(actor, &request.comment)?.only_validate(request.validate_only);
        let (given, mask) = (request.cluster, request.update_mask);
        Ok(Response::new(edit::update::<Cluster>(&self.control, asked, given, mask).await?))
    }

    async fn delete_cluster(
        &self,
        request: Request<pb::DeleteClusterRequest>,
    ) -> Result<Response<()>, Status> {
        let actor = caller::of(&request).actor();
        let request = request.into_inner();
        let asked = Asked::new(actor, &request.comment)?;
        edit::delete::<Cluster>(&self.control, asked, &request.name, &request.etag).await?;
        Ok(Response::new(()))
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
        let request = request.into_inner();
        let asked = Asked::new(actor, &request.comment)?;
        Ok(Response::new(delete_appliance(&self.control, asked, request.name).await?))
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
    let given = request.cluster.clone().unwrap_or_default();
    let id: Id = request.cluster_id.parse().map_err(|error| {
        let rest = label(&given).err();
        ApiError::name("cluster_id", &error).and(rest)
    })?;
    let name = ClusterName { cluster: id };
    let asked = Asked::new(actor, &request.comment)?.only_validate(request.validate_only).once(
        &request.request_id,
        &name,
        &request,
    )?;
    let draft = |_: &State, name: &ClusterName| {
        let config = (name.clone(), label(&given)?);
        Ok(Draft { config, with: Vec::new(), message: "created".to_owned() })
    };
    edit::create::<Cluster>(control, asked, name, draft).await
}

impl Named for Cluster {
    type Name = ClusterName;
    const KIND: &'static str = "cluster";

    fn find<'a>(state: &'a State, name: &ClusterName) -> Option<&'a Self> {
        state.cluster(name).map(AsRef::as_ref)
    }
}

impl Resource for Cluster {
    /// Its name and its label.
    type Config = (ClusterName, String);
    type Message = pb::Cluster;

    const FIELD: &'static str = "cluster";
    const EVENTS: [&'static str; 3] = ["CLUSTER_CREATED", "CLUSTER_UPDATED", "CLUSTER_DELETED"];

    fn name(&self) -> &ClusterName {
        &self.name
    }

    fn number(&self) -> u64 {
        self.number
    }

    fn message(&self) -> pb::Cluster {
        Self::message_of(&(self.name.clone(), self.label.clone()))
    }

    fn message_of((name, label): &(ClusterName, String)) -> pb::Cluster {
        pb::Cluster { name: name.to_string(), display_name: label.clone(), ..Default::default() }
    }

    fn shown(&self, _: Facts<'_>) -> pb::Cluster {
        cluster(self)
    }

    fn name_and_etag(message: &pb::Cluster) -> (&str, &str) {
        (&message.name, &message.etag)
    }

    fn read(
        _: &State,
        current: &Self,
        message: &pb::Cluster,
    ) -> Result<(ClusterName, String), ApiError> {
        Ok((current.name.clone(), label(message)?))
    }

    fn put((name, label): (ClusterName, String)) -> Write {
        Write::PutCluster { name, label }
    }

    fn deletion(state: &State, current: &Self) -> Result<(Write, String), ApiError> {
        let name = &current.name;
        let (services, appliances) =
            (state.services_of(name).count(), state.appliances_of(name).count());
        if services + appliances > 0 {
            let message = format!(
                "{name} has {services} virtual services and {appliances} appliances: delete them \
                 first"
            );
            let subject = name.to_string();
            return Err(ApiError::Precondition { reason: "NOT_EMPTY", subject, message });
        }
        Ok((Write::DeleteCluster(name.clone()), "deleted".to_owned()))
    }
}

fn label(given: &pb::Cluster) -> Result<String, ApiError> {
    let mut violations = Violations::new();
    let label = violations
        .within(Cluster::FIELD, |violations| wire::label(violations, &given.display_name));
    sound(violations, Some(label))
}

async fn invite(
    control: &Control,
    actor: String,
    request: pb::InviteApplianceRequest,
) -> Result<pb::InviteApplianceResponse, ApiError> {
    let asked = Asked::new(actor, &request.comment)?;
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
    let invitation = Invitation { appliance, secret_hash, expire_time };
    control.store.invite(&invitation, asked.by(), event).await?;
    let fingerprint = control.authority.fingerprint();
    Ok(pb::InviteApplianceResponse {
        token: format!("{}.{fingerprint}.{secret}", join::TOKEN_PREFIX),
        expire_time: Some(timestamp_message(expire_time)),
    })
}

async fn delete_appliance(control: &Control, asked: Asked, name: String) -> Result<(), ApiError> {
    let parsed = parse_appliance(&name)?;
    let event =
        NewEvent::info("APPLIANCE_REMOVED", &parsed, "removed: its certificate is worth nothing");
    if !control.store.remove_appliance(&parsed, asked.by(), event).await? {
        return Err(ApiError::NotFound { kind: "appliance", name });
    }
    control.observed.forget(&parsed);
    control.approvals.forget(&parsed);
    Ok(())
}

fn parse_appliance(name: &str) -> Result<ApplianceName, ApiError> {
    name.parse().map_err(|error| ApiError::name("name", &error))
}
