//! Logging in and out, and changing one's password. Each is an event.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::{Form, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use gantry_runtime::{clock, rpc};
use tracing::{error, warn};

use super::guard::{self, LOGIN, SESSION, Source, Visitor, cookie, set_cookie};
use super::session::{is_same, random};
use super::{Page, password, view};
use crate::store::{NewEvent, Severity, User};

/// The fields of a form.
pub(super) type Fields = HashMap<String, String>;

/// Why a password was not accepted, for whoever typed it.
struct Refused {
    status: StatusCode,
    why: String,
}

pub(super) async fn form(
    State(page): State<Arc<Page>>,
    headers: HeaderMap,
    Query(query): Query<Fields>,
) -> Response {
    if guard::find(&headers, &page).await.is_some() {
        return Redirect::to("/").into_response();
    }
    let said = match query.get("said").map(String::as_str) {
        Some("changed") => Some("The password is changed. Log in with the new one."),
        Some("ended") => Some("Your session has ended. Log in to go on."),
        _ => None,
    };
    answer(StatusCode::OK, said)
}

pub(super) async fn log_in(
    State(page): State<Arc<Page>>,
    Extension(Source(from)): Extension<Source>,
    headers: HeaderMap,
    Form(mut fields): Form<Fields>,
) -> Response {
    let mut field = |name| fields.remove(name).unwrap_or_default();
    let (user, given, token) = (field("user"), field("password"), field("form_token"));
    if !cookie(&headers, LOGIN).is_some_and(|cookie| is_same(&cookie, &token)) {
        return answer(StatusCode::FORBIDDEN, Some("This form was old. Log in with this one."));
    }
    match page.verify(user.trim(), given, from).await {
        Ok(user) => page.welcome(&user, from).await,
        Err(refused) => answer(refused.status, Some(&refused.why)),
    }
}

/// The login form, with a token of its own.
fn answer(status: StatusCode, why: Option<&str>) -> Response {
    let token = random();
    (status, [set_cookie(LOGIN, &token)], view::login(&token, why)).into_response()
}

pub(super) async fn log_out(
    State(page): State<Arc<Page>>,
    visitor: Visitor,
    Form(fields): Form<Fields>,
) -> Response {
    if let Some(refused) = refuse_stranger(&visitor, &fields) {
        return refused;
    }
    page.sessions.close(&visitor.key);
    page.record(&visitor.name(), NewEvent::info("LOGOUT", &visitor.name(), "logged out")).await;
    ([set_cookie(SESSION, "")], Redirect::to("/login")).into_response()
}

pub(super) async fn password_form(visitor: Visitor) -> Response {
    view::password(&visitor.session, None).into_response()
}

pub(super) async fn change_password(
    State(page): State<Arc<Page>>,
    visitor: Visitor,
    Form(mut fields): Form<Fields>,
) -> Response {
    if let Some(refused) = refuse_stranger(&visitor, &fields) {
        return refused;
    }
    let mut field = |name| fields.remove(name).unwrap_or_default();
    let (old, new, again) = (field("old"), field("new"), field("again"));
    let refuse =
        |status, why: &str| (status, view::password(&visitor.session, Some(why))).into_response();
    if let Some(why) = password::objection(&new, &again, &old) {
        return refuse(StatusCode::BAD_REQUEST, &why);
    }
    if let Err(refused) = page.verify(&visitor.session.user, old, visitor.source).await {
        return refuse(refused.status, &refused.why);
    }
    if let Err(refused) = page.set_password(&visitor, new).await {
        return refuse(refused.status, &refused.why);
    }
    page.sessions.close_all(&visitor.session.user);
    ([set_cookie(SESSION, "")], Redirect::to("/login?said=changed")).into_response()
}

/// Refuses a form without the session's own token.
pub(super) fn refuse_stranger(visitor: &Visitor, fields: &Fields) -> Option<Response> {
    let given = fields.get("form_token").map(String::as_str).unwrap_or_default();
    if is_same(given, &visitor.session.form_token) {
        return None;
    }
    warn!(user = visitor.session.user, "form without its token refused");
    let why = "This form is not of your session. Load the page again.";
    Some((StatusCode::FORBIDDEN, view::refusal("Refused", why)).into_response())
}

impl Page {
    /// The user whose password this is. Each attempt counts.
    async fn verify(&self, id: &str, given: String, from: IpAddr) -> Result<User, Refused> {
        let attempt = self.throttle.lock().attempt(from, clock::monotonic());
        attempt.map_err(|wait| too_often(wait, from))?;
        let user = self.store.user(id).await.map_err(|failure| unavailable(&failure))?;
        let hash = user.as_ref().map(|user| user.password_hash.as_str());
        let right = self.passwords.is_right(given, hash).await;
        match user.filter(|_| matches!(right, Ok(true))) {
            Some(user) => {
                self.throttle.lock().succeeded(from, clock::monotonic());
                Ok(user)
            }
            None => {
                right.map_err(|failure| unavailable(&failure))?;
                self.record_failure(from).await;
                let why = "User or password is wrong.".to_owned();
                Err(Refused { status: StatusCode::FORBIDDEN, why })
            }
        }
    }

    async fn welcome(&self, user: &User, from: IpAddr) -> Response {
        let name = format!("users/{}", user.id);
        self.record(&name, NewEvent::info("LOGIN", &name, format!("logged in from {from}"))).await;
        let token = self.sessions.open(&user.id, user.password_time, clock::monotonic());
        let cookies =
            axum::response::AppendHeaders([set_cookie(SESSION, &token), set_cookie(LOGIN, "")]);
        (cookies, Redirect::to("/")).into_response()
    }

    async fn set_password(&self, visitor: &Visitor, new: String) -> Result<(), Refused> {
        let hash = self.passwords.hash(new).await.map_err(|failure| unavailable(&failure))?;
        let message = format!("changed the password from {}; every session ends", visitor.source);
        let event = NewEvent::info("PASSWORD_CHANGED", &visitor.name(), message);
        let set = self.store.set_password(&visitor.session.user, &hash, visitor.name(), event);
        set.await.map_err(|failure| unavailable(&failure))
    }

    /// What was typed as user is not recorded: it may be a password.
    async fn record_failure(&self, from: IpAddr) {
        let Some(unsaid) = self.throttle.lock().failed(clock::monotonic()) else { return };
        let more = match unsaid {
            0 => String::new(),
            count => format!(", and {count} others that were not recorded one by one"),
        };
        let event = NewEvent {
            severity: Severity::Warning,
            ..NewEvent::info("LOGIN_FAILED", &"users", format!("a failed login from {from}{more}"))
        };
        self.record("nobody", event).await;
    }

    /// Puts on record what is done already: a full disk must not keep an administrator out.
    async fn record(&self, actor: &str, event: NewEvent) {
        let (kind, message) = (event.kind.clone(), event.message.clone());
        if let Err(failure) = self.store.record(actor.to_owned(), vec![event]).await {
            error!(actor, %kind, message, why = rpc::causes(&failure), "an event was not recorded");
        }
    }
}

fn too_often(wait: Duration, from: IpAddr) -> Refused {
    warn!(%from, "too many attempts to log in");
    let why = format!("Too many attempts. Try again in {} seconds.", wait.as_secs() + 1);
    Refused { status: StatusCode::TOO_MANY_REQUESTS, why }
}

fn unavailable(failure: &(dyn std::error::Error + 'static)) -> Refused {
    let why = rpc::causes(failure);
    error!(why, "a password was not checked");
    Refused { status: StatusCode::SERVICE_UNAVAILABLE, why: format!("Not possible now: {why}") }
}

/// Tells the script whether the session is alive.
pub(super) async fn session(_visitor: Visitor) -> Response {
    (StatusCode::NO_CONTENT, [(header::CACHE_CONTROL, "no-store")]).into_response()
}
