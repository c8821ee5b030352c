//! Drain, halt, online: the question before, and the deed. What is done is the API's own call.

use std::sync::Arc;

use axum::extract::{Form, Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Redirect, Response};
use gantry_proto::v1 as pb;
use maud::html;
use pb::real_server_status::State as ServerState;
use tonic::{Code, Status};

use super::guard::{PART, Visitor};
use super::login::{Fields, refuse_stranger};
use super::view::{self, Question};
use super::{Page, words};

/// The times after which a drain may become a halt.
const HALT_AFTER: [(&str, i64); 4] = [("10m", 600), ("30m", 1800), ("1h", 3600), ("8h", 28_800)];

type Named = Path<(String, String, String, String)>;

pub(super) async fn ask(
    State(page): State<Arc<Page>>,
    visitor: Visitor,
    Path(path): Named,
    headers: HeaderMap,
) -> Response {
    let asked = Asked::find(&page, &visitor, &path).await;
    let part = headers.contains_key(PART);
    match asked {
        Ok(asked) => asked.question(&visitor, part, None, ""),
        Err(status) => refuse(&status, part),
    }
}

pub(super) async fn act(
    State(page): State<Arc<Page>>,
    visitor: Visitor,
    Path(path): Named,
    headers: HeaderMap,
    Form(fields): Form<Fields>,
) -> Response {
    let part = headers.contains_key(PART);
    if let Some(refused) = refuse_stranger(&visitor, &fields) {
        return refused;
    }
    let asked = match Asked::find(&page, &visitor, &path).await {
        Ok(asked) => asked,
        Err(status) => return refuse(&status, part),
    };
    let comment = fields.get("comment").map(|comment| comment.trim()).unwrap_or_default();
    if let Err(status) = asked.carry_out(&page, &visitor, &fields, comment).await {
        let mut answer = asked.question(&visitor, part, Some(status.message()), comment);
        *answer.status_mut() = http_status(&status);
        return answer;
    }
    let done = asked.done();
    if part {
        return html! { p { (done) } }.into_response();
    }
    page.sessions.leave_notice(&visitor.key, done);
    Redirect::to("/").into_response()
}

/// Something to be done to a server that there is.
struct Asked {
    verb: &'static str,
    server: pb::RealServer,
    service: pb::VirtualService,
    last: bool,
    whole_name: bool,
}

impl Asked {
    /// Looks the server up in what the overview says.
    async fn find(
        page: &Page,
        visitor: &Visitor,
        (cluster, service, server, verb): &(String, String, String, String),
    ) -> Result<Self, Status> {
        let name = format!("clusters/{cluster}/virtualServices/{service}/realServers/{server}");
        let overview = visitor.operator(page).overview().await?;
        let whole_name = overview.clusters.len() > 1;
        let mut rows = overview.rows.into_iter();
        let row = rows.find(|row| row.real_servers.iter().any(|server| server.name == name));
        let verb = ["drain", "halt", "online"].into_iter().find(|known| known == verb);
        let (Some(row), Some(verb)) = (row, verb) else { return Err(missing(&name)) };
        let serves = |server: &pb::RealServer| {
            server.status.as_ref().is_some_and(|status| status.state() == ServerState::Serving)
        };
        let (own, others): (Vec<_>, Vec<_>) =
            row.real_servers.into_iter().partition(|server| server.name == name);
        let server = own.into_iter().next().unwrap_or_default();
        let last = serves(&server) && !others.iter().any(serves);
        Ok(Self { verb, server, service: row.service.unwrap_or_default(), last, whole_name })
    }

    fn question(
        &self,
        visitor: &Visitor,
        part: bool,
        why: Option<&str>,
        comment: &str,
    ) -> Response {
        let question = Question {
            verb: self.verb,
            server: &self.server,
            service: &self.service,
            last: self.last,
            whole_name: self.whole_name,
            why,
            comment,
        };
        if part {
            view::question(&question, &visitor.session).into_response()
        } else {
            view::question_page(&question, &visitor.session).into_response()
        }
    }

    async fn carry_out(
        &self,
        page: &Page,
        visitor: &Visitor,
        fields: &Fields,
        comment: &str,
    ) -> Result<pb::RealServer, Status> {
        let (name, comment) = (self.server.name.clone(), comment.to_owned());
        let operator = visitor.operator(page);
        match self.verb {
            "drain" => {
                let halt_after = halt_after(fields);
                operator.drain(pb::DrainRealServerRequest { name, halt_after, comment }).await
            }
            "halt" => operator.halt(pb::HaltRealServerRequest { name, comment }).await,
            _ => operator.online(pb::OnlineRealServerRequest { name, comment }).await,
        }
    }

    fn done(&self) -> String {
        let name = words::label(&self.server.name, &self.server.display_name);
        match self.verb {
            "drain" => format!("{name} gets no new connections."),
            "halt" => format!("{name} is taken out."),
            _ => format!("{name} is put back into service."),
        }
    }
}

fn halt_after(fields: &Fields) -> Option<prost_types::Duration> {
    let given = fields.get("halt_after")?;
    let (_, seconds) = HALT_AFTER.iter().find(|(word, _)| word == given)?;
    Some(prost_types::Duration { seconds: *seconds, nanos: 0 })
}

fn missing(name: &str) -> Status {
    crate::api::no_such_server(name)
}

fn refuse(status: &Status, part: bool) -> Response {
    let body = if part {
        html! { p.complaint role="alert" { (status.message()) } }
    } else {
        view::refusal("Not done", status.message())
    };
    (http_status(status), body).into_response()
}

fn http_status(status: &Status) -> StatusCode {
    match status.code() {
        Code::InvalidArgument => StatusCode::BAD_REQUEST,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::PermissionDenied | Code::Unauthenticated => StatusCode::FORBIDDEN,
        Code::Aborted | Code::FailedPrecondition | Code::AlreadyExists => StatusCode::CONFLICT,
        Code::Unavailable | Code::ResourceExhausted => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}
