//! The only place that makes a `tonic::Status`.
//!
//! Every error has a message that is useful alone, an `ErrorInfo` for programs, and the details of
//! its kind. The first field violation stands in the message, because many clients print details
//! as base64.

use std::collections::HashMap;

use gantry_model::name::NameError;
use gantry_model::violation::{Violation, Violations};
use gantry_runtime::rpc;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};
use tracing::error;

use crate::authority::AuthorityError;
use crate::store::{ChangeError, StoreError, Trouble};

const DOMAIN: &str = "gantry";

/// An answer's status travels in HTTP headers, of which clients take 16 KiB and grow them by a third
/// for base64 or to three times for other letters than English ones.
const DETAILS_ROOM: usize = 5000;
const LONGEST_TEXT: usize = 800;

/// Why a call was not carried out.
#[derive(Debug)]
pub(super) enum ApiError {
    /// Fields of the request are wrong: all of them.
    Invalid(Vec<Violation>),
    NotFound {
        kind: &'static str,
        name: String,
    },
    AlreadyExists {
        kind: &'static str,
        name: String,
    },
    /// The etag given is not the current one.
    Stale {
        name: String,
        given: String,
        current: String,
    },
    /// The state of things forbids it, not the request.
    Precondition {
        reason: &'static str,
        subject: String,
        message: String,
    },
    /// Nobody is there who could do it, or who would know.
    Unavailable {
        reason: &'static str,
        message: String,
    },
    /// Somebody who would know did not answer in time.
    Late {
        message: String,
    },
    Unauthenticated,
    Denied {
        why: String,
    },
    Store(StoreError),
    /// The authority's files or keys failed.
    Authority(AuthorityError),
}

impl ApiError {
    /// One field that is wrong.
    pub(super) fn field(field: &str, reason: &'static str, message: impl Into<String>) -> Self {
        let field = field.to_owned();
        Self::Invalid(vec![Violation { field, reason, message: message.into() }])
    }

    /// This error and, where both are about fields, the violations of another.
    pub(super) fn and(self, other: Option<Self>) -> Self {
        match (self, other) {
            (Self::Invalid(mut violations), Some(Self::Invalid(more))) => {
                violations.extend(more);
                Self::Invalid(violations)
            }
            (error, _) => error,
        }
    }

    pub(super) fn name(field: &str, error: &NameError) -> Self {
        Self::field(field, "INVALID_NAME", error.to_string())
    }
}

/// Gives the value if nothing was found wrong.
pub(super) fn sound<T>(violations: Violations, value: Option<T>) -> Result<T, ApiError> {
    violations.finish(value).map_err(ApiError::Invalid)
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<ChangeError<ApiError>> for ApiError {
    fn from(error: ChangeError<ApiError>) -> Self {
        match error {
            ChangeError::Decided(error) => error,
            ChangeError::Store(error) => Self::Store(error),
        }
    }
}

impl From<ApiError> for Status {
    fn from(error: ApiError) -> Self {
        match error {
            ApiError::Invalid(violations) => invalid(&violations),
            ApiError::NotFound { kind, name } => {
                let message = format!("there is no {kind} {name}");
                let mut details = info("NOT_FOUND", &[("name", &name)]);
                details.set_resource_info(kind, name, "", message.clone());
                Self::with_error_details(Code::NotFound, message, details)
            }
            ApiError::AlreadyExists { kind, name } => {
                let message = format!("the {kind} {name} exists already");
                let mut details = info("ALREADY_EXISTS", &[("name", &name)]);
                details.set_resource_info(kind, name, "", message.clone());
                Self::with_error_details(Code::AlreadyExists, message, details)
            }
            ApiError::Stale { name, given, current } => {
                let given: String = given.chars().take(40).collect();
                let message = format!(
                    "{name} has changed: its etag is {current:?}, not {given:?}; read it again and \
                     repeat the change"
                );
                let details = info("STALE_ETAG", &[("name", &name), ("etag", &current)]);
                Self::with_error_details(Code::Aborted, message, details)
            }
            ApiError::Precondition { reason, subject, message } => {
                let mut details = info(reason, &[("subject", &subject)]);
                details.add_precondition_failure_violation(reason, subject, message.clone());
                Self::with_error_details(Code::FailedPrecondition, message, details)
            }
            ApiError::Unavailable { reason, message } => {
                Self::with_error_details(Code::Unavailable, message, info(reason, &[]))
            }
            ApiError::Late { message } => {
                Self::with_error_details(Code::DeadlineExceeded, message, info("NO_ANSWER", &[]))
            }
            ApiError::Unauthenticated => {
                let message = "a client certificate is needed: appliances get one with `gantry \
                               join`, operators from whoever runs the controller";
                let details = info("NO_CERTIFICATE", &[]);
                Self::with_error_details(Code::Unauthenticated, message, details)
            }
            ApiError::Denied { why } => {
                let details = info("DENIED", &[]);
                Self::with_error_details(Code::PermissionDenied, why, details)
            }
            ApiError::Store(failure) => store(&failure),
            ApiError::Authority(failure) => {
                let why = rpc::causes(&failure);
                error!(why, "the certificate authority failed");
                let message = format!("nothing was changed: {why}");
                Self::with_error_details(Code::Unavailable, message, info("AUTHORITY", &[]))
            }
        }
    }
}

fn invalid(violations: &[Violation]) -> Status {
    let first = violations.first().map(|first| cut(&first.to_string())).unwrap_or_default();
    let message = match violations.len() {
        0 | 1 => first,
        2 => format!("{first} (and 1 more violation)"),
        count => format!("{first} (and {} more violations)", count - 1),
    };
    let mut details = info("INVALID", &[]);
    let mut room = DETAILS_ROOM;
    for (at, violation) in violations.iter().enumerate() {
        let description = format!("{} ({})", cut(&violation.message), violation.reason);
        let size = violation.field.len() + description.len();
        if at > 0 && size > room {
            let rest = format!("{} more violations are not listed", violations.len() - at);
            details.add_bad_request_violation(cut(&violation.field), rest);
            break;
        }
        room = room.saturating_sub(size);
        details.add_bad_request_violation(cut(&violation.field), description);
    }
    Status::with_error_details(Code::InvalidArgument, message, details)
}

/// Text that may hold a client's own words, short enough for an answer.
fn cut(text: &str) -> String {
    if text.len() <= LONGEST_TEXT {
        return text.to_owned();
    }
    let end = (0..=LONGEST_TEXT).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    format!("{}…", &text[..end])
}

/// What the disk refuses today it may take tomorrow; the rest is a defect.
fn store(failure: &StoreError) -> Status {
    let why = rpc::causes(failure);
    error!(why, "the store failed");
    let outcome = match failure {
        StoreError::Read { .. } | StoreError::Row { .. } => "it cannot be read",
        _ => "nothing was changed",
    };
    let Some(trouble) = failure.trouble() else {
        let message = format!("{outcome}: {why}");
        return Status::with_error_details(Code::Unavailable, message, info("STORE", &[]));
    };
    let code = match trouble {
        Trouble::DiskFull => Code::ResourceExhausted,
        Trouble::ReadOnly => Code::FailedPrecondition,
        Trouble::Damaged => Code::DataLoss,
        Trouble::Disk | Trouble::Held => Code::Unavailable,
    };
    let message = format!("{outcome}: {trouble}");
    Status::with_error_details(code, message, info(trouble.reason(), &[]))
}

fn info(reason: &str, metadata: &[(&str, &String)]) -> ErrorDetails {
    let metadata: HashMap<String, String> =
        metadata.iter().map(|(key, value)| ((*key).to_owned(), (*value).clone())).collect();
    ErrorDetails::with_error_info(reason, DOMAIN, metadata)
}
