//! BalancerService: virtual services and real servers.

mod ask;
mod servers;
mod services;

use gantry_proto::v1 as pb;
use pb::balancer_service_server::BalancerService;
use tonic::{Request, Response, Status};

use super::edit::{self, Asked};
use super::error::ApiError;
use super::{Calls, caller};
use crate::state::{Server, Service};

pub(super) use self::services::{Placed, places, real_servers};

/// Who asks, and what.
fn parts<T>(request: Request<T>) -> (String, T) {
    (caller::of(&request).actor(), request.into_inner())
}

fn answer<T>(result: Result<T, ApiError>) -> Result<Response<T>, Status> {
    Ok(Response::new(result?))
}

#[tonic::async_trait]
impl BalancerService for Calls {
    async fn list_virtual_services(
        &self,
        request: Request<pb::ListVirtualServicesRequest>,
    ) -> Result<Response<pb::ListVirtualServicesResponse>, Status> {
        answer(services::list(&self.control, &request.into_inner()))
    }

    async fn get_virtual_service(
        &self,
        request: Request<pb::GetVirtualServiceRequest>,
    ) -> Result<Response<pb::VirtualService>, Status> {
        answer(edit::get::<Service>(&self.control, &request.into_inner().name))
    }

    async fn create_virtual_service(
        &self,
        request: Request<pb::CreateVirtualServiceRequest>,
    ) -> Result<Response<pb::VirtualService>, Status> {
        let (actor, request) = parts(request);
        answer(services::create(&self.control, actor, request).await)
    }

    async fn update_virtual_service(
        &self,
        request: Request<pb::UpdateVirtualServiceRequest>,
    ) -> Result<Response<pb::VirtualService>, Status> {
        let (actor, request) = parts(request);
        let asked = Asked::new(actor, &request.comment)?.only_validate(request.validate_only);
        let (given, mask) = (request.virtual_service, request.update_mask);
        answer(edit::update::<Service>(&self.control, asked, given, mask).await)
    }

    async fn delete_virtual_service(
        &self,
        request: Request<pb::DeleteVirtualServiceRequest>,
    ) -> Result<Response<()>, Status> {
        let (actor, request) = parts(request);
        let asked = Asked::new(actor, &request.comment)?;
        answer(edit::delete::<Service>(&self.control, asked, &request.name, &request.etag).await)
    }

    async fn list_real_servers(
        &self,
        request: Request<pb::ListRealServersRequest>,
    ) -> Result<Response<pb::ListRealServersResponse>, Status> {
        answer(servers::list(&self.control, &request.into_inner()))
    }

    async fn get_real_server(
        &self,
        request: Request<pb::GetRealServerRequest>,
    ) -> Result<Response<pb::RealServer>, Status> {
        answer(edit::get::<Server>(&self.control, &request.into_inner().name))
    }

    async fn create_real_server(
        &self,
        request: Request<pb::CreateRealServerRequest>,
    ) -> Result<Response<pb::RealServer>, Status> {
        let (actor, request) = parts(request);
        answer(servers::create(&self.control, actor, request).await)
    }

    async fn update_real_server(
        &self,
        request: Request<pb::UpdateRealServerRequest>,
    ) -> Result<Response<pb::RealServer>, Status> {
        let (actor, request) = parts(request);
        let asked = Asked::new(actor, &request.comment)?.only_validate(request.validate_only);
        let (given, mask) = (request.real_server, request.update_mask);
        answer(edit::update::<Server>(&self.control, asked, given, mask).await)
    }

    async fn delete_real_server(
        &self,
        request: Request<pb::DeleteRealServerRequest>,
    ) -> Result<Response<()>, Status> {
        let (actor, request) = parts(request);
        let asked = Asked::new(actor, &request.comment)?;
        answer(edit::delete::<Server>(&self.control, asked, &request.name, &request.etag).await)
    }

    async fn drain_real_server(
        &self,
        request: Request<pb::DrainRealServerRequest>,
    ) -> Result<Response<pb::RealServer>, Status> {
        let (actor, request) = parts(request);
        answer(servers::drain(&self.control, actor, request).await)
    }

    async fn halt_real_server(
        &self,
        request: Request<pb::HaltRealServerRequest>,
    ) -> Result<Response<pb::RealServer>, Status> {
        let (actor, request) = parts(request);
        answer(servers::halt(&self.control, actor, request).await)
    }

    async fn online_real_server(
        &self,
        request: Request<pb::OnlineRealServerRequest>,
    ) -> Result<Response<pb::RealServer>, Status> {
        let (actor, request) = parts(request);
        answer(servers::online(&self.control, actor, request).await)
    }

    async fn list_persistence_entries(
        &self,
        request: Request<pb::ListPersistenceEntriesRequest>,
    ) -> Result<Response<pb::ListPersistenceEntriesResponse>, Status> {
        answer(ask::persistence(&self.control, request.into_inner()).await)
    }

    async fn delete_persistence_entry(
        &self,
        request: Request<pb::DeletePersistenceEntryRequest>,
    ) -> Result<Response<()>, Status> {
        let (actor, request) = parts(request);
        answer(ask::forget(&self.control, actor, request).await)
    }

    async fn set_persistence_entry(
        &self,
        request: Request<pb::SetPersistenceEntryRequest>,
    ) -> Result<Response<()>, Status> {
        let (actor, request) = parts(request);
        answer(ask::assign(&self.control, actor, request).await)
    }

    async fn list_connections(
        &self,
        request: Request<pb::ListConnectionsRequest>,
    ) -> Result<Response<pb::ListConnectionsResponse>, Status> {
        answer(ask::connections(&self.control, request.into_inner()).await)
    }
}

#[cfg(test)]
mod tests;
