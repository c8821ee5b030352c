//! Errors as sentences that say what to do, and the exit codes.
//!
//! Whatever a command ends with passes here: what the controller refused, that it cannot be
//! reached, or that what was typed or read cannot be right.

use std::fmt::Write;
use std::io;

use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::session::{Session, Target};
use crate::suggest;

/// How a command that failed ends the process. Wrong usage is 2, as with clap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    Refused = 1,
    Usage = 2,
    Unreachable = 3,
}

/// A sentence with its exit code, where the kind of failure is known already.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    pub(crate) text: String,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(&self.text)
    }
}

impl std::error::Error for Failure {}

/// Whether the reader of our output went away, which is its right.
pub(crate) fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let broken = |error: &io::Error| error.kind() == io::ErrorKind::BrokenPipe;
    error.downcast_ref::<io::Error>().is_some_and(broken)
}

/// What to tell about `error`.
pub(crate) async fn explain(error: anyhow::Error, session: Option<&Session>) -> Failure {
    let error = match error.downcast::<Failure>() {
        Ok(failure) => return failure,
        Err(error) => error,
    };
    let (Some(status), Some(session)) = (error.downcast_ref::<Status>(), session) else {
        return Failure { exit: Exit::Usage, text: format!("{error:#}") };
    };
    let mut failure = of_status(status, &session.target, &session.caller);
    if status.code() == Code::NotFound
        && let Some(near) = near_names(session, status).await
    {
        let _ = write!(failure.text, "\n  {near}");
    }
    failure
}

/// Whether the connection failed. What a controller says has no cause on this side.
pub(crate) fn is_unreachable(status: &Status) -> bool {
    std::error::Error::source(status).is_some()
        || matches!(status.code(), Code::Unavailable | Code::DeadlineExceeded)
}

/// Whether it is an agent that does not answer the controller, which is there.
fn is_of_an_agent(status: &Status) -> bool {
    let info = status.get_details_error_info();
    info.is_some_and(|info| matches!(info.reason.as_str(), "NO_AGENT" | "NO_ANSWER"))
}

fn of_status(status: &Status, target: &Target, caller: &str) -> Failure {
    if is_of_an_agent(status) {
        return Failure { exit: Exit::Refused, text: status.message().to_owned() };
    }
    if status.code() == Code::DeadlineExceeded {
        return Failure { exit: Exit::Unreachable, text: overdue(target) };
    }
    if is_unreachable(status) {
        return Failure { exit: Exit::Unreachable, text: unreachable(status, target) };
    }
    let message = status.message();
    let text = match status.code() {
        Code::InvalidArgument => violations(status),
        Code::FailedPrecondition => preconditions(status),
        Code::Unauthenticated | Code::PermissionDenied => format!(
            "{message}\n  called as {caller}, with the identity in {}",
            target.identity.display()
        ),
        Code::AlreadyExists => format!("{message}\n  change it with gantry set NAME field=value"),
        Code::Unimplemented => {
            format!("the controller at {} does not know this call: {message}", target.controller)
        }
        Code::Internal | Code::Unknown | Code::DataLoss => {
            format!("the controller failed: {message}\n  its log says more")
        }
        _ => message.to_owned(),
    };
    Failure { exit: Exit::Refused, text }
}

fn unreachable(status: &Status, target: &Target) -> String {
    let cause = std::error::Error::source(status)
        .map_or_else(|| status.message().to_owned(), gantry_runtime::rpc::causes);
    if let Some(refusal) = gantry_runtime::rpc::tls_refusal(status) {
        let (controller, dir) = (&target.controller, target.identity.display());
        return format!(
            "cannot reach the controller at {controller}: {cause}\n  {refusal}\n  the identity is in \
             {dir}"
        );
    }
    let advice = if cause.contains("peer certificate") {
        format!("what answers there has no certificate of the CA in {}", target.identity.display())
    } else {
        "is gantry-controller running there?".to_owned()
    };
    format!("cannot reach the controller at {}: {cause}\n  {advice}", target.controller)
}

fn overdue(target: &Target) -> String {
    let Target { controller, timeout, .. } = target;
    format!(
        "the controller at {controller} has not answered for {timeout:?}\n  it is there, but stuck or \
         busy: whether it did what was asked is not known\n  wait longer with --timeout 5m, and see \
         with gantry events what was done"
    )
}

/// Every field at fault on a line of its own.
fn violations(status: &Status) -> String {
    let found = status.get_details_bad_request().map(|details| details.field_violations);
    match found {
        Some(found) if !found.is_empty() => {
            let lines = found.iter().map(|it| format!("  {}: {}", it.field, it.description));
            format!("refused, nothing was changed:\n{}", lines.collect::<Vec<_>>().join("\n"))
        }
        _ => status.message().to_owned(),
    }
}

fn preconditions(status: &Status) -> String {
    let mut text = status.message().to_owned();
    let found = status.get_details_precondition_failure().map(|details| details.violations);
    for violation in found.unwrap_or_default() {
        if !text.contains(&violation.description) {
            let _ = write!(text, "\n  {}", violation.description);
        }
    }
    text
}

/// What there is instead of what was not found.
async fn near_names(session: &Session, status: &Status) -> Option<String> {
    let missing = status.get_details_resource_info()?.resource_name;
    let parts: Vec<&str> = missing.split('/').collect();
    let (kind, parent) = match parts.as_slice() {
        ["clusters", _] => ("cluster", String::new()),
        ["certificates", _] => ("certificate", String::new()),
        ["clusters", cluster, "appliances", _] => ("appliance", format!("clusters/{cluster}")),
        ["clusters", cluster, "virtualServices", _] => {
            ("virtual service", format!("clusters/{cluster}"))
        }
        ["clusters", cluster, "virtualServices", service, "realServers", _] => {
            ("real server", format!("clusters/{cluster}/virtualServices/{service}"))
        }
        _ => return None,
    };
    let names = sibling_names(session, kind, parent).await.ok()?;
    let ids: Vec<&str> = names.iter().map(|name| crate::names::last(name)).collect();
    let shown = ids.get(..ids.len().min(20)).unwrap_or_default();
    match suggest::nearest(parts.last()?, &ids) {
        Some(near) => Some(format!("did you mean {near}?")),
        None if ids.is_empty() => Some(format!("there is no {kind} there yet")),
        None => Some(format!("there are {}", shown.join(", "))),
    }
}

async fn sibling_names(
    session: &Session,
    kind: &str,
    parent: String,
) -> Result<Vec<String>, Status> {
    use crate::commands::lists;
    let names = match kind {
        "certificate" => {
            lists::certificates(session, "").await?.into_iter().map(|it| it.name).collect()
        }
        "cluster" => lists::clusters(session, "").await?.into_iter().map(|it| it.name).collect(),
        "appliance" => {
            lists::appliances(session, parent, "").await?.into_iter().map(|it| it.name).collect()
        }
        "virtual service" => {
            lists::services(session, parent, "").await?.into_iter().map(|it| it.name).collect()
        }
        _ => lists::servers(session, parent, "").await?.into_iter().map(|it| it.name).collect(),
    };
    Ok(names)
}

#[cfg(test)]
mod tests;
