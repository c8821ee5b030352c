//! EnrollmentService: a one-time token buys an appliance its certificate, and the certificate the
//! next one.

use gantry_model::name::ApplianceName;
use gantry_proto::agent::v1 as pb;
use gantry_runtime::join::TOKEN_PREFIX;
use pb::enrollment_service_server::EnrollmentService;
use sha2::{Digest, Sha256};
use tonic::{Request, Response, Status};
use tracing::{info, warn};

use super::error::ApiError;
use super::{Caller, Calls, Control, caller};
use crate::authority::{Shown, requested_key_hash};
use crate::store::{Joined, NewEvent};

#[tonic::async_trait]
impl EnrollmentService for Calls {
    async fn renew(
        &self,
        request: Request<pb::RenewRequest>,
    ) -> Result<Response<pb::RenewResponse>, Status> {
        let (caller, shown) = (caller::of(&request), caller::shown(&request));
        let shown = shown.ok_or(ApiError::Unauthenticated)?;
        let answer = renew(&self.control, &caller, &shown, &request.into_inner()).await;
        Ok(Response::new(answer?))
    }

    async fn join(
        &self,
        request: Request<pb::JoinRequest>,
    ) -> Result<Response<pb::JoinResponse>, Status> {
        let caller = caller::of(&request);
        let answer = join(&self.control, caller.peer(), &request.into_inner()).await;
        Ok(Response::new(answer?))
    }
}

async fn join(
    control: &Control,
    peer: &str,
    request: &pb::JoinRequest,
) -> Result<pb::JoinResponse, ApiError> {
    let secret = match request.token.split('.').collect::<Vec<_>>()[..] {
        [TOKEN_PREFIX, _fingerprint, secret] => secret,
        _ => return Err(ApiError::field("token", "INVALID_TOKEN", "is not a join token")),
    };
    // Signing comes before spending: a request that cannot be signed leaves the token good. The
    // name is filled in once the token has told it, so here the key is only looked at.
    let probe = control.authority.sign("users/nobody", &request.certificate_request);
    let key_hash = probe.map_err(|error| bad_request(&error))?.key_hash;
    let event = |name: &ApplianceName| {
        NewEvent::info("APPLIANCE_JOINED", name, format!("joined from {peer}"))
    };
    let secret_hash = Sha256::digest(secret);
    let joined = control.store.join(&secret_hash, &key_hash, event).await?;
    let refused = |why: String| {
        warn!(peer, why, "join refused");
        ApiError::Denied { why }
    };
    let appliance = match joined {
        Joined::Yes(appliance) => appliance,
        Joined::Unknown => {
            return Err(refused("this token is not known: ask for a new one".to_owned()));
        }
        Joined::Expired(name, time) => {
            return Err(refused(format!("the token for {name} expired at {time:.0}")));
        }
        Joined::Spent(name, time) => {
            return Err(refused(format!(
                "the token for {name} was spent at {time:.0}: each is good for one join"
            )));
        }
    };
    info!(%appliance, peer, "appliance joined");
    let name = appliance.to_string();
    let signed = control.authority.sign(&name, &request.certificate_request);
    Ok(pb::JoinResponse {
        appliance: name,
        certificate: signed.map_err(|error| bad_request(&error))?.pem,
        ca_certificates: control.authority.pem(),
    })
}

async fn renew(
    control: &Control,
    caller: &Caller,
    shown: &Shown,
    request: &pb::RenewRequest,
) -> Result<pb::RenewResponse, ApiError> {
    let refused = |why: String| {
        warn!(%caller, why, "renewal refused");
        ApiError::Denied { why }
    };
    let name = match caller {
        Caller::Operator { name, .. } => name.clone(),
        Caller::Appliance { name, .. } => {
            caller::known(&control.state(), name, &shown.key_hash).map_err(refused)?;
            name.to_string()
        }
        _ => return Err(refused(format!("{} is nobody's name", caller.actor()))),
    };
    let wanted = requested_key_hash(&request.certificate_request);
    if wanted.map_err(|error| bad_request(&error))? != shown.key_hash {
        let what = "is not over the key of the certificate shown: only that can be renewed";
        return Err(ApiError::field("certificate_request", "OTHER_KEY", what));
    }
    let signed = control.authority.sign(&name, &request.certificate_request);
    let signed = signed.map_err(ApiError::Authority)?;
    info!(%caller, until = %signed.expire_time, "certificate renewed");
    let message = format!("renewed, good until {:.0}", signed.expire_time);
    let event = NewEvent::info("CERTIFICATE_RENEWED", &name, message);
    control.store.record(name, vec![event]).await?;
    let ca_certificates = control.authority.pem();
    Ok(pb::RenewResponse { certificate: signed.pem, ca_certificates })
}

fn bad_request(error: &crate::authority::AuthorityError) -> ApiError {
    ApiError::field("certificate_request", "INVALID_REQUEST", error.to_string())
}
