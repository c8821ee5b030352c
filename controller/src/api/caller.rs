//! Who calls, and who may call what.
//!
//! A caller is known by its client certificate, once a connection. Operators call the operators'
//! services, appliances the agents' service; only joining needs no certificate.

use std::fmt;
use std::sync::Arc;

use gantry_model::name::ApplianceName;
use gantry_runtime::identity;
use tonic::service::interceptor::InterceptedService;
use tonic::{Request, Status};
use tracing::warn;

use super::error::ApiError;
use crate::authority::{self, Shown};
use crate::state::State;

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

/// A connection, as it is known to every request on it.
#[derive(Clone, Debug)]
pub struct Connection {
    pub caller: Caller,
    /// The certificate that it began with; a caller without one is [`Caller::Nobody`].
    pub shown: Option<Arc<Shown>>,
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
    let connection = request.extensions().get::<Connection>();
    connection.map(|connection| connection.caller.clone()).unwrap_or_else(unknown)
}

/// The certificate that the caller of a request shows.
pub(super) fn shown<T>(request: &Request<T>) -> Option<Arc<Shown>> {
    request.extensions().get::<Connection>()?.shown.clone()
}

/// Whether an appliance is still known by the key that it shows; else, why not.
pub(super) fn known(state: &State, name: &ApplianceName, key_hash: &[u8]) -> Result<(), String> {
    match state.appliance(name) {
        None => Err(format!("{name} has been removed")),
        Some(known) if known.key_hash.as_deref() != Some(key_hash) => {
            Err(format!("{name} has joined again since, with another key"))
        }
        Some(_) => Ok(()),
    }
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
