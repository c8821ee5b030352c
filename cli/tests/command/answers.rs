//! What the stand-in answers, service by service.

use std::pin::Pin;

use gantry_proto::v1;
use gantry_proto::v1::balancer_service_server::BalancerService;
use gantry_proto::v1::config_service_server::ConfigService;
use gantry_proto::v1::fleet_service_server::FleetService;
use gantry_proto::v1::observe_service_server::ObserveService;
use gantry_proto::v1::real_server::AdminState;
use gantry_proto::v1::real_server_status::State as ServerState;
use tokio_stream::{Stream, StreamExt};
use tonic::{Code, Request, Response, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::stand::State;

type Answer<T> = Result<Response<T>, Status>;
type Streamed<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Two of `all` from where `token` says, and the token of the next page.
fn page<T>(all: Vec<T>, token: &str) -> (Vec<T>, String) {
    let start: usize = token.parse().unwrap_or(0);
    let end = start + 2;
    let next = if end < all.len() { end.to_string() } else { String::new() };
    (all.into_iter().skip(start).take(2).collect(), next)
}

fn missing(kind: &str, name: &str) -> Status {
    let mut details = ErrorDetails::new();
    details.set_resource_info(kind, name, "", "");
    Status::with_error_details(Code::NotFound, format!("there is no {kind} {name}"), details)
}

fn not_here<T>() -> Answer<T> {
    Err(Status::unimplemented("the stand-in does not do this"))
}

impl State {
    fn server(&self, name: &str) -> Result<v1::RealServer, Status> {
        let found = self.servers().into_iter().find(|server| server.name == name);
        found.ok_or_else(|| missing("real server", name))
    }
}

#[tonic::async_trait]
impl BalancerService for State {
    async fn list_virtual_services(
        &self,
        request: Request<v1::ListVirtualServicesRequest>,
    ) -> Answer<v1::ListVirtualServicesResponse> {
        let request = request.into_inner();
        let mut all = self.services();
        all.retain(|service| service.name.starts_with(&request.parent));
        let (virtual_services, next_page_token) = page(all, &request.page_token);
        Ok(Response::new(v1::ListVirtualServicesResponse { virtual_services, next_page_token }))
    }

    async fn get_virtual_service(
        &self,
        request: Request<v1::GetVirtualServiceRequest>,
    ) -> Answer<v1::VirtualService> {
        let name = request.into_inner().name;
        let found = self.services().into_iter().find(|service| service.name == name);
        found.map(Response::new).ok_or_else(|| missing("virtual service", &name))
    }

    async fn create_virtual_service(
        &self,
        request: Request<v1::CreateVirtualServiceRequest>,
    ) -> Answer<v1::VirtualService> {
        let request = request.into_inner();
        self.note("CreateVirtualService", &request);
        if request.virtual_service_id == "wrong" {
            let mut details = ErrorDetails::new();
            details.add_bad_request_violation("virtual_service.listener.ports[0]", "no port");
            details.add_bad_request_violation("real_servers[0].weight", "too much");
            return Err(Status::with_error_details(Code::InvalidArgument, "no port", details));
        }
        let name = format!("{}/virtualServices/{}", request.parent, request.virtual_service_id);
        Ok(Response::new(v1::VirtualService { name, ..Default::default() }))
    }

    async fn update_virtual_service(
        &self,
        request: Request<v1::UpdateVirtualServiceRequest>,
    ) -> Answer<v1::VirtualService> {
        self.note("UpdateVirtualService", request.get_ref());
        Ok(Response::new(request.into_inner().virtual_service.unwrap_or_default()))
    }

    async fn delete_virtual_service(
        &self,
        request: Request<v1::DeleteVirtualServiceRequest>,
    ) -> Answer<()> {
        self.note("DeleteVirtualService", request.get_ref());
        Ok(Response::new(()))
    }

    async fn list_real_servers(
        &self,
        request: Request<v1::ListRealServersRequest>,
    ) -> Answer<v1::ListRealServersResponse> {
        let request = request.into_inner();
        let mut all = self.servers();
        all.retain(|server| request.parent.contains('-') || server.name.contains(&request.parent));
        let (real_servers, next_page_token) = page(all, &request.page_token);
        Ok(Response::new(v1::ListRealServersResponse { real_servers, next_page_token }))
    }

    async fn get_real_server(
        &self,
        request: Request<v1::GetRealServerRequest>,
    ) -> Answer<v1::RealServer> {
        let mut server = self.server(&request.into_inner().name)?;
        if server.admin_state() == AdminState::Drain {
            let mut open = self.open.lock();
            *open -= 1;
            let status = server.status.get_or_insert_default();
            status.active_connections = *open;
            status.set_state(ServerState::Draining);
        }
        Ok(Response::new(server))
    }

    async fn create_real_server(
        &self,
        request: Request<v1::CreateRealServerRequest>,
    ) -> Answer<v1::RealServer> {
        self.note("CreateRealServer", request.get_ref());
        Ok(Response::new(v1::RealServer::default()))
    }

    async fn update_real_server(
        &self,
        request: Request<v1::UpdateRealServerRequest>,
    ) -> Answer<v1::RealServer> {
        self.note("UpdateRealServer", request.get_ref());
        Ok(Response::new(request.into_inner().real_server.unwrap_or_default()))
    }

    async fn delete_real_server(
        &self,
        request: Request<v1::DeleteRealServerRequest>,
    ) -> Answer<()> {
        self.note("DeleteRealServer", request.get_ref());
        Err(Status::permission_denied("viewers change nothing"))
    }

    async fn drain_real_server(
        &self,
        request: Request<v1::DrainRealServerRequest>,
    ) -> Answer<v1::RealServer> {
        self.note("DrainRealServer", request.get_ref());
        let mut server = self.server(&request.into_inner().name)?;
        server.status.get_or_insert_default().active_connections = *self.open.lock();
        Ok(Response::new(server))
    }

    async fn halt_real_server(
        &self,
        request: Request<v1::HaltRealServerRequest>,
    ) -> Answer<v1::RealServer> {
        self.note("HaltRealServer", request.get_ref());
        self.server(&request.into_inner().name).map(Response::new)
    }

    async fn online_real_server(
        &self,
        request: Request<v1::OnlineRealServerRequest>,
    ) -> Answer<v1::RealServer> {
        self.note("OnlineRealServer", request.get_ref());
        self.server(&request.into_inner().name).map(Response::new)
    }

    async fn list_persistence_entries(
        &self,
        request: Request<v1::ListPersistenceEntriesRequest>,
    ) -> Answer<v1::ListPersistenceEntriesResponse> {
        self.note("ListPersistenceEntries", request.get_ref());
        let parent = &request.get_ref().parent;
        let entry = |client: &str, server: &str, seconds| v1::PersistenceEntry {
            client: client.into(),
            real_server: if server.is_empty() {
                String::new()
            } else {
                format!("{parent}/realServers/{server}")
            },
            endpoint: "10.12.1.110:104".into(),
            expires_in: Some(prost_types::Duration { seconds, nanos: 0 }),
            appliance: "clusters/main/appliances/lb1".into(),
        };
        let entries = vec![entry("10.12.2.7", "pacs-1", 3540), entry("10.12.3.0/24", "", 12)];
        Ok(Response::new(v1::ListPersistenceEntriesResponse { entries, total_size: 7 }))
    }

    async fn delete_persistence_entry(
        &self,
        request: Request<v1::DeletePersistenceEntryRequest>,
    ) -> Answer<()> {
        self.note("DeletePersistenceEntry", request.get_ref());
        if request.get_ref().client == "10.12.2.9" {
            let details = ErrorDetails::with_error_info("NO_ANSWER", "gantry", []);
            let words = "agent-l4 of lb2 did not answer within 5 s";
            return Err(Status::with_error_details(Code::DeadlineExceeded, words, details));
        }
        Ok(Response::new(()))
    }

    async fn set_persistence_entry(
        &self,
        request: Request<v1::SetPersistenceEntryRequest>,
    ) -> Answer<()> {
        self.note("SetPersistenceEntry", request.get_ref());
        Ok(Response::new(()))
    }

    async fn list_connections(
        &self,
        request: Request<v1::ListConnectionsRequest>,
    ) -> Answer<v1::ListConnectionsResponse> {
        self.note("ListConnections", request.get_ref());
        if request.get_ref().client == "10.12.2.9" {
            return Ok(Response::new(v1::ListConnectionsResponse::default()));
        }
        let connection = v1::Connection {
            client: "10.12.2.7:40112".into(),
            listener: "10.12.1.100:104".into(),
            real_server: format!("{}/realServers/pacs-1", request.get_ref().parent),
            endpoint: "10.12.1.110:104".into(),
            state: "ESTABLISHED".into(),
            expires_in: Some(prost_types::Duration { seconds: 3599, nanos: 0 }),
            appliance: "clusters/main/appliances/lb1".into(),
        };
        let connections = vec![connection];
        Ok(Response::new(v1::ListConnectionsResponse { connections, total_size: 1 }))
    }
}

#[tonic::async_trait]
impl FleetService for State {
    async fn approve_removals(
        &self,
        _: Request<v1::ApproveRemovalsRequest>,
    ) -> Answer<v1::Appliance> {
        Err(tonic::Status::failed_precondition("nothing is held back"))
    }

    async fn list_clusters(
        &self,
        _: Request<v1::ListClustersRequest>,
    ) -> Answer<v1::ListClustersResponse> {
        let clusters = self.hospital.clusters.clone();
        Ok(Response::new(v1::ListClustersResponse { clusters, ..Default::default() }))
    }

    async fn get_cluster(&self, request: Request<v1::GetClusterRequest>) -> Answer<v1::Cluster> {
        let name = request.into_inner().name;
        let found = self.hospital.clusters.iter().find(|cluster| cluster.name == name);
        found.cloned().map(Response::new).ok_or_else(|| missing("cluster", &name))
    }

    async fn create_cluster(
        &self,
        request: Request<v1::CreateClusterRequest>,
    ) -> Answer<v1::Cluster> {
        self.note("CreateCluster", request.get_ref());
        let name = format!("clusters/{}", request.into_inner().cluster_id);
        Ok(Response::new(v1::Cluster { name, ..Default::default() }))
    }

    async fn update_cluster(
        &self,
        request: Request<v1::UpdateClusterRequest>,
    ) -> Answer<v1::Cluster> {
        self.note("UpdateCluster", request.get_ref());
        Ok(Response::new(v1::Cluster::default()))
    }

    async fn delete_cluster(&self, _: Request<v1::DeleteClusterRequest>) -> Answer<()> {
        not_here()
    }

    async fn list_appliances(
        &self,
        request: Request<v1::ListAppliancesRequest>,
    ) -> Answer<v1::ListAppliancesResponse> {
        let all = self.hospital.appliances.clone();
        let (appliances, next_page_token) = page(all, &request.into_inner().page_token);
        Ok(Response::new(v1::ListAppliancesResponse { appliances, next_page_token }))
    }

    async fn get_appliance(
        &self,
        request: Request<v1::GetApplianceRequest>,
    ) -> Answer<v1::Appliance> {
        let name = request.into_inner().name;
        let found = self.hospital.appliances.iter().find(|appliance| appliance.name == name);
        found.cloned().map(Response::new).ok_or_else(|| missing("appliance", &name))
    }

    async fn invite_appliance(
        &self,
        request: Request<v1::InviteApplianceRequest>,
    ) -> Answer<v1::InviteApplianceResponse> {
        self.note("InviteAppliance", request.get_ref());
        let token = "gantry1.abc.def".to_owned();
        Ok(Response::new(v1::InviteApplianceResponse { token, expire_time: None }))
    }

    async fn delete_appliance(&self, _: Request<v1::DeleteApplianceRequest>) -> Answer<()> {
        not_here()
    }
}

const HL7: &str = "clusters/main/virtualServices/hl7";

fn half_the_weight() -> v1::Change {
    v1::Change {
        action: v1::change::Action::Update.into(),
        name: format!("{HL7}/realServers/hl7-1"),
        fields: vec!["weight".into()],
        field_changes: vec![v1::FieldChange {
            path: "weight".into(),
            before: "100".into(),
            after: "50".into(),
        }],
        cuts: Vec::new(),
    }
}

fn revision(number: i32) -> v1::Revision {
    let seconds = 1_790_000_000 + i64::from(number);
    v1::Revision {
        name: format!("revisions/1.{number}"),
        time: Some(prost_types::Timestamp { seconds, nanos: 0 }),
        actor: "users/anna".into(),
        comment: format!("why {number}"),
        change_count: number,
        changes: Vec::new(),
    }
}

fn event(number: i64) -> v1::Event {
    let seconds = 1_790_000_000 + number;
    v1::Event {
        name: format!("events/{number}"),
        time: Some(prost_types::Timestamp { seconds, nanos: 0 }),
        subject: "clusters/main/virtualServices/hl7".into(),
        actor: "users/anna".into(),
        message: format!("event {number}"),
        ..Default::default()
    }
}

#[tonic::async_trait]
impl ObserveService for State {
    async fn get_event(&self, request: Request<v1::GetEventRequest>) -> Answer<v1::Event> {
        Err(missing("event", &request.into_inner().name))
    }

    async fn get_overview(&self, _: Request<v1::GetOverviewRequest>) -> Answer<v1::Overview> {
        Ok(Response::new(self.hospital.clone()))
    }

    type WatchOverviewStream = Streamed<v1::Overview>;

    async fn watch_overview(
        &self,
        _: Request<v1::WatchOverviewRequest>,
    ) -> Answer<Self::WatchOverviewStream> {
        let now = tokio_stream::once(Ok(self.hospital.clone()));
        Ok(Response::new(Box::pin(now.chain(tokio_stream::pending()))))
    }

    async fn list_events(
        &self,
        request: Request<v1::ListEventsRequest>,
    ) -> Answer<v1::ListEventsResponse> {
        let newest_first = (1..=5).rev().map(event).collect();
        let (events, next_page_token) = page(newest_first, &request.into_inner().page_token);
        Ok(Response::new(v1::ListEventsResponse { events, next_page_token }))
    }

    type WatchEventsStream = Streamed<v1::Event>;

    async fn watch_events(
        &self,
        request: Request<v1::WatchEventsRequest>,
    ) -> Answer<Self::WatchEventsStream> {
        let after = request.into_inner().after;
        let number: i64 = after.trim_start_matches("events/").parse().unwrap_or(0);
        let next = tokio_stream::once(Ok(event(number + 1)));
        Ok(Response::new(Box::pin(next.chain(tokio_stream::pending()))))
    }
}

#[tonic::async_trait]
impl ConfigService for State {
    async fn plan_config(
        &self,
        request: Request<v1::PlanConfigRequest>,
    ) -> Answer<v1::PlanConfigResponse> {
        self.note("PlanConfig", request.get_ref());
        let mut changes = vec![half_the_weight(), v1::Change::default()];
        changes[1].set_action(v1::change::Action::Delete);
        changes[1].name = format!("{HL7}/realServers/hl7-2");
        changes[1].cuts = vec![v1::Cut {
            name: changes[1].name.clone(),
            connections: 3,
            reason: "the real server is removed".into(),
            stale: false,
        }];
        Ok(Response::new(v1::PlanConfigResponse {
            changes,
            base_etag: "7".into(),
            cut_connections: 3,
            stale: false,
        }))
    }

    async fn rollback_config(
        &self,
        request: Request<v1::RollbackConfigRequest>,
    ) -> Answer<v1::RollbackConfigResponse> {
        self.note("RollbackConfig", request.get_ref());
        Ok(Response::new(v1::RollbackConfigResponse {
            changes: vec![half_the_weight()],
            etag: "9".into(),
            revision: "1.9".into(),
            cut_connections: 0,
        }))
    }

    async fn list_revisions(
        &self,
        request: Request<v1::ListRevisionsRequest>,
    ) -> Answer<v1::ListRevisionsResponse> {
        self.note("ListRevisions", request.get_ref());
        let newest_first = (1..=5).rev().map(revision).collect();
        let (revisions, next_page_token) = page(newest_first, &request.into_inner().page_token);
        Ok(Response::new(v1::ListRevisionsResponse { revisions, next_page_token }))
    }

    async fn get_revision(&self, request: Request<v1::GetRevisionRequest>) -> Answer<v1::Revision> {
        self.note("GetRevision", request.get_ref());
        Ok(Response::new(v1::Revision { changes: vec![half_the_weight()], ..revision(4) }))
    }

    async fn diff_revisions(
        &self,
        request: Request<v1::DiffRevisionsRequest>,
    ) -> Answer<v1::DiffRevisionsResponse> {
        self.note("DiffRevisions", request.get_ref());
        let changes = vec![half_the_weight()];
        let (from, to) = ("1.3".into(), "1.5".into());
        Ok(Response::new(v1::DiffRevisionsResponse { changes, from, to }))
    }

    async fn export_config(&self, request: Request<v1::ExportConfigRequest>) -> Answer<v1::Config> {
        let v1::ExportConfigRequest { name, revision } = request.into_inner();
        if revision == "404" {
            return Err(missing("revision", "revisions/1.404"));
        }
        let services = self
            .hospital
            .rows
            .iter()
            .filter(|row| row.service.as_ref().is_some_and(|it| it.name.starts_with(&name)))
            .map(|row| v1::config::Service {
                virtual_service: row.service.clone(),
                real_servers: row.real_servers.clone(),
            })
            .collect();
        Ok(Response::new(v1::Config { name, services, etag: "7".into() }))
    }

    async fn apply_config(
        &self,
        request: Request<v1::ApplyConfigRequest>,
    ) -> Answer<v1::ApplyConfigResponse> {
        self.note("ApplyConfig", request.get_ref());
        let name = "clusters/main/virtualServices/hl7".into();
        let action = v1::change::Action::Update.into();
        let changes = vec![v1::Change {
            action,
            name,
            fields: vec!["listener".into()],
            ..Default::default()
        }];
        Ok(Response::new(v1::ApplyConfigResponse {
            changes,
            etag: "8".into(),
            ..Default::default()
        }))
    }
}
