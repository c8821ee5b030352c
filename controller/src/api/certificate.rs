//! CertificateService: chains and keys go in, and no key comes out.

use std::collections::{BTreeMap, BTreeSet};

use gantry_model::name::{CertificateName, Id};
use gantry_model::service::{Forwarding, VirtualService};
use gantry_model::violation::Violations;
use gantry_model::wire::timestamp_message;
use gantry_proto::v1 as pb;
use gantry_runtime::clock;
use pb::certificate_service_server::CertificateService;
use tonic::{Request, Response, Status};

use super::edit::{self, Asked, Named};
use super::error::{ApiError, sound};
use super::filter::{self, Filter};
use super::page::Page;
use super::resources::{check_etag, etag};
use super::{Calls, Control, caller};
use crate::certificate::{Facts, Material, check_authorities};
use crate::state::{Certificate, State};
use crate::store::{Change, NewEvent, Write};

/// How many users of a certificate a refusal names.
const MOST_NAMED: usize = 10;

#[tonic::async_trait]
impl CertificateService for Calls {
    async fn list_certificates(
        &self,
        request: Request<pb::ListCertificatesRequest>,
    ) -> Result<Response<pb::ListCertificatesResponse>, Status> {
        Ok(Response::new(list(&self.control, &request.into_inner())?))
    }

    async fn get_certificate(
        &self,
        request: Request<pb::GetCertificateRequest>,
    ) -> Result<Response<pb::Certificate>, Status> {
        let state = self.control.state();
        let found = edit::find::<Certificate>(&state, "name", &request.into_inner().name)?;
        Ok(Response::new(shown(found, users(&state, &found.name))))
    }

    async fn import_certificate(
        &self,
        request: Request<pb::ImportCertificateRequest>,
    ) -> Result<Response<pb::Certificate>, Status> {
        let actor = caller::of(&request).actor();
        Ok(Response::new(import(&self.control, actor, &request.into_inner()).await?))
    }

    async fn delete_certificate(
        &self,
        request: Request<pb::DeleteCertificateRequest>,
    ) -> Result<Response<()>, Status> {
        let actor = caller::of(&request).actor();
        Ok(Response::new(delete(&self.control, actor, &request.into_inner()).await?))
    }
}

impl Named for Certificate {
    type Name = CertificateName;
    const KIND: &'static str = "certificate";

    fn find<'a>(state: &'a State, name: &CertificateName) -> Option<&'a Self> {
        state.certificate(name).map(AsRef::as_ref)
    }
}

/// Records that `service`, in the field where the walk is, uses a certificate that is not there, or
/// authorities that are none.
pub(super) fn check_used(violations: &mut Violations, state: &State, service: &VirtualService) {
    let Forwarding::Layer7(layer7) = &service.forwarding else { return };
    violations.within("layer7", |violations| {
        if let Some(clients) = layer7.tls.as_ref().and_then(|tls| tls.clients.as_ref()) {
            check_authorities(violations, "tls.client_authorities", &clients.authorities);
        }
        if let Some(tls) = layer7.server_tls.as_ref().filter(|tls| !tls.authorities.is_empty()) {
            check_authorities(violations, "server_tls.authorities", &tls.authorities);
        }
        if let Some(tls) = &layer7.tls {
            check_known(violations, state, "certificate", &tls.certificate);
            for (at, id) in tls.more_certificates.iter().enumerate() {
                let field = format!("tls.more_certificates[{at}]");
                check_known(violations, state, &field, id);
            }
        }
        if let Some(id) = layer7.server_tls.as_ref().and_then(|tls| tls.certificate.as_ref()) {
            check_known(violations, state, "server_tls.certificate", id);
        }
    });
}

fn check_known(violations: &mut Violations, state: &State, field: &str, id: &Id) {
    let name = CertificateName { certificate: id.clone() };
    if state.certificate(&name).is_none() {
        let what = format!(
            "there is no {name}: import it first, with ImportCertificate or `gantry import \
             certificate {id}`"
        );
        violations.add(field, "UNKNOWN_CERTIFICATE", what);
    }
}

fn list(
    control: &Control,
    request: &pb::ListCertificatesRequest,
) -> Result<pb::ListCertificatesResponse, ApiError> {
    let filter = Filter::parse(&request.filter, filter::CERTIFICATES)?;
    let asked = ["certificates", &request.filter];
    let page = Page::parse(request.page_size, &request.page_token, &asked)?;
    let state = control.state();
    let all = state.certificates().map(|one| (one.name.clone(), shown(one, Vec::new())));
    let (page, next_page_token) =
        page.cut(all, |(name, _)| name.clone(), |(_, certificate)| filter.matches(certificate))?;
    let mut users = all_users(&state);
    let certificates = page.into_iter().map(|(name, certificate)| pb::Certificate {
        used_by: users.remove(&name.certificate).unwrap_or_default(),
        ..certificate
    });
    Ok(pb::ListCertificatesResponse { certificates: certificates.collect(), next_page_token })
}

async fn import(
    control: &Control,
    actor: String,
    request: &pb::ImportCertificateRequest,
) -> Result<pb::Certificate, ApiError> {
    let mut violations = Violations::new();
    let name = violations.check("name", "INVALID_NAME", request.name.parse::<CertificateName>());
    let (chain, key) = (&request.chain_pem, &request.private_key_pem);
    let material = Material::read(&mut violations, chain, key, clock::wall());
    let (name, material) = sound(violations, name.zip(material))?;
    let asked = Asked::new(actor, &request.comment)?;
    let dry = Certificate {
        name: name.clone(),
        facts: material.facts.clone(),
        digest: material.digest(),
        key_pair: material.key_pair(&name),
        create_time: clock::wall(),
        update_time: clock::wall(),
    };
    let decide = |state: &State| {
        let before = state.certificate(&name);
        check_etag_of(&request.name, &request.etag, before.map(AsRef::as_ref))?;
        if before.is_some_and(|before| before.digest == dry.digest) {
            return Ok((Change::default(), ()));
        }
        let event = import_event(&name, before.map(|before| &before.facts), &material.facts);
        let writes = vec![Write::PutCertificate(name.clone(), Box::new(material))];
        Ok((Change { writes, events: vec![event], ..asked.change() }, ()))
    };
    if request.validate_only {
        let state = control.state();
        decide(&state)?;
        let users = users(&state, &dry.name);
        return Ok(pb::Certificate { etag: String::new(), ..shown(&dry, users) });
    }
    let ((), state) = control.change(decide).await?;
    let found = edit::find::<Certificate>(&state, "name", &request.name)?;
    Ok(shown(found, users(&state, &found.name)))
}

async fn delete(
    control: &Control,
    actor: String,
    request: &pb::DeleteCertificateRequest,
) -> Result<(), ApiError> {
    let asked = Asked::new(actor, &request.comment)?;
    let decide = |state: &State| {
        let found = edit::find::<Certificate>(state, "name", &request.name)?;
        check_etag_of(&request.name, &request.etag, Some(found))?;
        let users = users(state, &found.name);
        if !users.is_empty() {
            return Err(in_use(&found.name, &users));
        }
        let event = NewEvent::info("CERTIFICATE_DELETED", &found.name, "deleted with its key");
        let writes = vec![Write::DeleteCertificate(found.name.clone())];
        Ok((Change { writes, events: vec![event], ..asked.change() }, ()))
    };
    control.change(decide).await?;
    Ok(())
}

fn import_event(name: &CertificateName, before: Option<&Facts>, now: &Facts) -> NewEvent {
    let Facts { subject, expire_time, .. } = now;
    let (kind, was) = match before {
        None => ("CERTIFICATE_IMPORTED", String::new()),
        Some(before) => ("CERTIFICATE_REPLACED", format!("; before until {}", before.expire_time)),
    };
    NewEvent::info(kind, name, format!("{subject}, valid until {expire_time}{was}"))
}

fn in_use(name: &CertificateName, users: &[String]) -> ApiError {
    let more = match users.len().saturating_sub(MOST_NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let first = users[..users.len().min(MOST_NAMED)].join(", ");
    let message = format!(
        "{name} is used by {first}{more}: give them another one, or import the new one under the \
         same name"
    );
    ApiError::Precondition { reason: "IN_USE", subject: name.to_string(), message }
}

fn shown(certificate: &Certificate, used_by: Vec<String>) -> pb::Certificate {
    let Certificate { name, facts, create_time, update_time, .. } = certificate;
    pb::Certificate {
        name: name.to_string(),
        subject: facts.subject.clone(),
        subject_alternative_names: facts.names.clone(),
        expire_time: Some(timestamp_message(facts.expire_time)),
        fingerprint: facts.fingerprint.clone(),
        used_by,
        etag: etag(generation(certificate)),
        create_time: Some(timestamp_message(*create_time)),
        update_time: Some(timestamp_message(*update_time)),
    }
}

/// What the etag counts: no two replacements are of the same microsecond.
fn generation(certificate: &Certificate) -> u64 {
    u64::try_from(certificate.update_time.as_microsecond()).unwrap_or(0)
}

fn check_etag_of(name: &str, given: &str, current: Option<&Certificate>) -> Result<(), ApiError> {
    match current {
        Some(current) => check_etag(name, given, generation(current)),
        None if given.is_empty() => Ok(()),
        None => Err(ApiError::NotFound { kind: Certificate::KIND, name: name.to_owned() }),
    }
}

fn users(state: &State, name: &CertificateName) -> Vec<String> {
    state.users(name).map(ToString::to_string).collect()
}

fn all_users(state: &State) -> BTreeMap<Id, Vec<String>> {
    let mut users: BTreeMap<Id, Vec<String>> = BTreeMap::new();
    for service in state.services().map(|service| &service.config) {
        let named: BTreeSet<&Id> = service.certificates().collect();
        for id in named {
            users.entry(id.clone()).or_default().push(service.name.to_string());
        }
    }
    users
}

#[cfg(test)]
mod tests;
