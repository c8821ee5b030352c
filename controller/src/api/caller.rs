//! Who calls, and who may call what.
//!
//! A caller is known by its client certificate, once a connection. Operators call the operators'
//! services, appliances the agents' service; only joining needs no certificate.

use std::fmt;

use gantry_model::name::ApplianceName;
use gantry_runtime::identity;
use tonic::service::interceptor::InterceptedService;
use tonic::{Request, Status};
use tracing::warn;

use super::error::ApiError;
use crate::authority;

/// Who is at the other end of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Caller {
    /// Has no certificate.
    Nobody {
        peer: String,
    },
    /// `users/{user}`
    Operator {
        name: String,
        peer: String,
    },
    Appliance {
        name: ApplianceName,
        key_hash: Vec<u8>,
        peer: String,
    },
    /// Has a certificate that names nothing known.
    Stranger {
        name: String,
        peer: String,
    },
}

impl Caller {
    /// Reads the certificate that TLS has verified already.
    pub fn from_certificate(certificate: Option<&[u8]>, peer: String) -> Self {
        let Some(certificate) = certificate else { return Self::Nobody { peer } };
        let name = identity::name_in_der(certificate).unwrap_or_default();
        if name.strip_prefix("users/").is_some_and(|user| !user.is_empty()) {
            return Self::Operator { name, peer };
        }
        match (name.parse(), authority::key_hash(certificate)) {
            (Ok(name), Some(key_hash)) => Self::Appliance { name, key_hash, peer },
            _ => Self::Stranger { name, peer },
        }
    }

    /// Who it is, as events say it.
    pub(crate) fn actor(&self) -> String {
        match self {
            Self::Nobody { .. } => "nobody".to_owned(),
            Self::Operator { name, .. } | Self::Stranger { name, .. } => name.clone(),
            Self::Appliance { name, .. } => name.to_string(),
        }
    }
}

impl Caller {
    /// The address at the other end.
    pub(crate) fn peer(&self) -> &str {
        match self {
            Self::Nobody { peer }
            | Self::Operator { peer, .. }
            | Self::Stranger { peer, .. }
            | Self::Appliance { peer, .. } => peer,
        }
    }
}

impl fmt::Display for Caller {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nobody { peer } => write!(out, "{peer} without a certificate"),
            Self::Operator { name, peer } | Self::Stranger { name, peer } => {
                write!(out, "{name} at {peer}")
            }
            Self::Appliance { name, peer, .. } => write!(out, "{name} at {peer}"),
        }
    }
}

/// The caller of a request.
pub(super) fn of<T>(request: &Request<T>) -> Caller {
    let unknown = || Caller::Nobody { peer: "an unknown peer".to_owned() };
    request.extensions().get().cloned().unwrap_or_else(unknown)
}

type Guard = fn(Request<()>) -> Result<Request<()>, Status>;

/// Lets only operators call a service.
pub(super) fn operators_only<S>(service: S) -> InterceptedService<S, Guard> {
    let guard: Guard = |request| match of(&request) {
        Caller::Operator { .. } => Ok(request),
        other => Err(refuse(&other, "operators")),
    };
    InterceptedService::new(service, guard)
}

/// Lets anyone with a certificate call a service.
pub(super) fn known_only<S>(service: S) -> InterceptedService<S, Guard> {
    let guard: Guard = |request| match of(&request) {
        Caller::Operator { .. } | Caller::Appliance { .. } => Ok(request),
        other => Err(refuse(&other, "operators and appliances")),
    };
    InterceptedService::new(service, guard)
}

fn refuse(caller: &Caller, who: &'static str) -> Status {
    warn!(%caller, needed = who, "call refused");
    match caller {
        Caller::Nobody { .. } => ApiError::Unauthenticated.into(),
        other => {
            ApiError::Denied { why: format!("this is for {who}, not for {}", other.actor()) }.into()
        }
    }
}
