//! AuthorityService: which CAs are trusted, and how one takes the place of another.

use std::collections::BTreeMap;

use gantry_model::agent::AgentName;
use gantry_model::name::ApplianceName;
use gantry_model::wire::timestamp_message;
use gantry_proto::v1 as pb;
use pb::authority_service_server::AuthorityService;
use pb::ca_certificate::State;
use tonic::{Request, Response, Status};
use tracing::info;

use super::error::ApiError;
use super::{Calls, Control, caller};
use crate::authority::{AuthorityError, Ca, Refusal, Shown, Trust};
use crate::observed::Agent;
use crate::store::{Change, NewEvent};

/// What events about the authority are about.
const SUBJECT: &str = "authority";

#[tonic::async_trait]
impl AuthorityService for Calls {
    async fn get_authority(
        &self,
        _request: Request<pb::GetAuthorityRequest>,
    ) -> Result<Response<pb::Authority>, Status> {
        Ok(Response::new(authority(&self.control, &self.control.authority.trust())))
    }

    async fn rotate_authority(
        &self,
        request: Request<pb::RotateAuthorityRequest>,
    ) -> Result<Response<pb::Authority>, Status> {
        let actor = caller::of(&request).actor();
        let answer = rotate(&self.control, actor, request.into_inner()).await;
        Ok(Response::new(answer?))
    }

    async fn retire_authority(
        &self,
        request: Request<pb::RetireAuthorityRequest>,
    ) -> Result<Response<pb::Authority>, Status> {
        let (actor, shown) = (caller::of(&request).actor(), caller::shown(&request));
        let answer = retire(&self.control, actor, shown.as_deref(), request.into_inner()).await;
        Ok(Response::new(answer?))
    }
}

async fn rotate(
    control: &Control,
    actor: String,
    request: pb::RotateAuthorityRequest,
) -> Result<pb::Authority, ApiError> {
    let trust = tokio::task::block_in_place(|| control.authority.rotate()).map_err(refused)?;
    let ca = trust.signing.fingerprint();
    info!(actor, ca, "another CA signs from now on");
    let message = format!("the CA {ca} signs from now on; the one before is still trusted");
    record(control, actor, request.comment, "AUTHORITY_ROTATED", message).await?;
    Ok(authority(control, &trust))
}

async fn retire(
    control: &Control,
    actor: String,
    shown: Option<&Shown>,
    request: pb::RetireAuthorityRequest,
) -> Result<pb::Authority, ApiError> {
    let trust = control.authority.trust();
    control.authority.may_retire(&trust).map_err(|why| refused(AuthorityError::Turn(why)))?;
    if !request.force {
        check_nobody_waits(&waiting(control, &trust))?;
        if shown.is_none_or(|shown| shown.ca != trust.signing.id()) {
            let message = "your own certificate is of the CA that would be retired: renew it first \
                           with `gantry renew`, or force it";
            return Err(precondition("CALLER_WAITS", message.to_owned()));
        }
    }
    let old = trust.showing.fingerprint();
    let trust = tokio::task::block_in_place(|| control.authority.retire()).map_err(refused)?;
    info!(actor, ca = old, "a CA is trusted no longer");
    let message = format!("the CA {old} is trusted no longer");
    record(control, actor, request.comment, "AUTHORITY_RETIRED", message).await?;
    Ok(authority(control, &trust))
}

async fn record(
    control: &Control,
    actor: String,
    comment: String,
    kind: &'static str,
    message: String,
) -> Result<(), ApiError> {
    let events = vec![NewEvent::info(kind, &SUBJECT, message)];
    let change = Change { actor, comment, events, ..Change::default() };
    control.change(|_| Ok((change, ()))).await.map(drop)
}

fn authority(control: &Control, trust: &Trust) -> pb::Authority {
    let state = |ca: &Ca| match ca.id() == trust.signing.id() {
        true => State::Signing,
        false => State::Retiring,
    };
    let certificate = |ca: &Ca| pb::CaCertificate {
        state: state(ca).into(),
        fingerprint: ca.fingerprint(),
        subject: ca.subject(),
        expire_time: Some(timestamp_message(ca.expire_time())),
        pem: ca.pem(),
    };
    pb::Authority {
        certificates: trust.trusted().map(|ca| certificate(ca)).collect(),
        waiting_for: waiting(control, trust).iter().map(ToString::to_string).collect(),
    }
}

/// The appliances that a replacement waits for.
fn waiting(control: &Control, trust: &Trust) -> Vec<ApplianceName> {
    if !trust.is_changing() {
        return Vec::new();
    }
    let state = control.state();
    let joined = state.appliances().filter(|appliance| appliance.join_time.is_some());
    let signing = trust.signing.id();
    control.observed.read(|agents| {
        let waits = |name: &&ApplianceName| !has_changed(name, agents, &signing);
        joined.map(|appliance| &appliance.name).filter(waits).cloned().collect()
    })
}

/// Whether an appliance shows certificates of this CA: an agent of it has, and none that is
/// connected shows another.
fn has_changed(
    appliance: &ApplianceName,
    agents: &BTreeMap<AgentName, Agent>,
    signing: &str,
) -> bool {
    let shows = |agent: &Agent| agent.shown.as_ref().is_some_and(|shown| shown.ca == signing);
    let own = || agents.iter().filter(|(name, _)| name.appliance == *appliance).map(|(_, it)| it);
    own().any(shows) && own().filter(|agent| agent.is_connected()).all(shows)
}

fn check_nobody_waits(waiting: &[ApplianceName]) -> Result<(), ApiError> {
    if waiting.is_empty() {
        return Ok(());
    }
    let names: Vec<_> = waiting.iter().take(20).map(ToString::to_string).collect();
    let more = match waiting.len() - names.len() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let message = format!(
        "{}{more} have not shown a certificate of the new CA yet: wait for them, or force it, and \
         they have to join again",
        names.join(", ")
    );
    Err(precondition("APPLIANCES_WAIT", message))
}

fn refused(error: AuthorityError) -> ApiError {
    let reason = match &error {
        AuthorityError::Turn(Refusal::UnderWay) => "REPLACEMENT_UNDER_WAY",
        AuthorityError::Turn(Refusal::NotUnderWay) => "NO_REPLACEMENT",
        AuthorityError::Turn(Refusal::Given | Refusal::RetiringGiven) => "CA_GIVEN",
        _ => return ApiError::Authority(error),
    };
    precondition(reason, error.to_string())
}

fn precondition(reason: &'static str, message: String) -> ApiError {
    ApiError::Precondition { reason, subject: SUBJECT.to_owned(), message }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use gantry_model::agent::AgentKind;
    use jiff::Timestamp;

    use super::*;
    use crate::observed::Observed;

    #[test]
    fn an_appliance_is_waited_for_until_all_it_shows_is_new() {
        let appliance: ApplianceName = "clusters/main/appliances/lb1".parse().unwrap();
        let other: ApplianceName = "clusters/main/appliances/lb2".parse().unwrap();
        let kinds = [AgentKind::L7, AgentKind::Health];
        // What each agent shows, and whether it is connected.
        for (agents, expected) in [
            (vec![], false),
            (vec![("old", true)], false),
            (vec![("new", true)], true),
            (vec![("new", false)], true),
            (vec![("old", false)], false),
            (vec![("new", true), ("old", true)], false),
            (vec![("new", true), ("old", false)], true),
            (vec![("new", false), ("old", true)], false),
            (vec![("", true), ("new", true)], false),
        ] {
            let observed = Observed::new();
            for (kind, (ca, connected)) in kinds.into_iter().zip(&agents) {
                let name = AgentName { appliance: appliance.clone(), kind };
                observed.connected(&name, 1, "1", Timestamp::UNIX_EPOCH);
                let (key_hash, expire_time) = (Vec::new(), Timestamp::UNIX_EPOCH);
                let shown = Shown { ca: (*ca).to_owned(), key_hash, expire_time };
                let shown = (!ca.is_empty()).then(|| Arc::new(shown));
                observed.update(&name, |agent| agent.shown = shown);
                if !connected {
                    observed.disconnected(&name, 1);
                }
            }
            let changed = observed.read(|agents| has_changed(&appliance, agents, "new"));
            assert_eq!(changed, expected, "{agents:?}");
            assert!(!observed.read(|agents| has_changed(&other, agents, "new")));
        }
    }
}
