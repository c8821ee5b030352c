//! BalancerService: virtual services and real servers.

mod servers;
mod services;

use gantry_proto::v1 as pb;
use pb::balancer_service_server::BalancerService;
use sha2::{Digest, Sha256};
use tonic::{Request, Response, Status};

use super::error::ApiError;
use super::{Calls, Control, caller};
use crate::store;

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
        answer(services::get(&self.control, &request.into_inner().name))
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
        answer(services::update(&self.control, actor, request).await)
    }

    async fn delete_virtual_service(
        &self,
        request: Request<pb::DeleteVirtualServiceRequest>,
    ) -> Result<Response<()>, Status> {
        let (actor, request) = parts(request);
        answer(services::delete(&self.control, actor, request).await)
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
        answer(servers::get(&self.control, &request.into_inner().name))
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
        answer(servers::update(&self.control, actor, request).await)
    }

    async fn delete_real_server(
        &self,
        request: Request<pb::DeleteRealServerRequest>,
    ) -> Result<Response<()>, Status> {
        let (actor, request) = parts(request);
        answer(servers::delete(&self.control, actor, request).await)
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
}

/// A creation that was asked for before under the same request id.
enum Repeat {
    /// It was not; this is what to remember when it is done.
    No(Option<store::Request>),
    /// It was, and this was created.
    Yes(String),
}

/// Looks a request id up (AIP-155). `message` is the whole request: a repeat must be the same.
async fn repeated(
    control: &Control,
    id: &str,
    name: &str,
    message: &impl prost::Message,
) -> Result<Repeat, ApiError> {
    if id.is_empty() {
        return Ok(Repeat::No(None));
    }
    if uuid::Uuid::parse_str(id).is_err() {
        return Err(ApiError::field("request_id", "INVALID_UUID", "is not a UUID"));
    }
    let fingerprint = Sha256::digest(message.encode_to_vec()).to_vec();
    match control.store.request(id).await? {
        None => {
            let (id, name) = (id.to_owned(), name.to_owned());
            Ok(Repeat::No(Some(store::Request { id, fingerprint, name })))
        }
        Some(known) if known.fingerprint == fingerprint => Ok(Repeat::Yes(known.name)),
        Some(known) => {
            let what = format!("was used before, for {}: use a fresh UUID", known.name);
            Err(ApiError::field("request_id", "REUSED", what))
        }
    }
}
