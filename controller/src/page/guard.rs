//! What holds for every request: where it may come from, how long it may take, what a browser may
//! do with the answer, and whose session it is in.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Redirect, Response};
use gantry_runtime::{clock, rpc};
use tracing::{error, warn};

use super::session::{self, Key, Session};
use super::{Page, view};
use crate::api::Operator;

/// Holds the token of a session. Only this very host sees it, only over TLS, and no script.
pub(super) const SESSION: &str = "__Host-gantry";
/// Holds what the login form must hold, too: nobody else can make a browser log in.
pub(super) const LOGIN: &str = "__Host-gantry-login";
/// Sent by the script, which wants a part and not a page.
pub(super) const PART: &str = "x-gantry-part";
/// How long an answer may take to begin, the request's body included.
const PATIENCE: Duration = Duration::from_secs(15);

/// The page loads nothing from elsewhere, runs nothing that is not its own file, and is in no
/// frame of anybody's.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
                      connect-src 'self'; form-action 'self'; base-uri 'none'; \
                      frame-ancestors 'none'";
const HEADERS: [(&str, &str); 7] = [
    ("content-security-policy", POLICY),
    ("x-frame-options", "DENY"),
    ("x-content-type-options", "nosniff"),
    // Not "no-referrer": forms would come without an origin.
    ("referrer-policy", "same-origin"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    ("permissions-policy", "camera=(), geolocation=(), microphone=()"),
];

/// The address at the other end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Source(pub(super) IpAddr);

/// Somebody who is logged in.
#[derive(Debug)]
pub(super) struct Visitor {
    pub(super) key: Key,
    pub(super) session: Session,
    pub(super) source: IpAddr,
}

impl Visitor {
    /// Makes calls in the visitor's name.
    pub(super) fn operator(&self, page: &Page) -> Operator {
        Operator::new(&page.control, self.name(), self.source.to_string())
    }

    /// `users/{user}`
    pub(super) fn name(&self) -> String {
        format!("users/{}", self.session.user)
    }
}

impl FromRequestParts<Arc<Page>> for Visitor {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, page: &Arc<Page>) -> Result<Self, Response> {
        let found = find(&parts.headers, page).await;
        let Some((key, session)) = found else { return Err(not_logged_in(parts)) };
        // The stream and the question whether the session is alive are the script's, not a person's.
        if parts.uri.path() != "/stream" && parts.uri.path() != "/session"
            || parts.method == Method::POST
        {
            page.sessions.touch(&key, clock::monotonic());
        }
        Ok(Self { key, session, source: source(parts) })
    }
}

/// The session of a request's cookie, if it is alive and its password is still the user's.
pub(super) async fn find(headers: &HeaderMap, page: &Page) -> Option<(Key, Session)> {
    let key = session::key(&cookie(headers, SESSION)?);
    let session = page.sessions.find(&key, clock::monotonic())?;
    is_current(page, &key, &session).await.then_some((key, session))
}

/// Whether the session's password is still the user's; another process may have reset it.
pub(super) async fn is_current(page: &Page, key: &Key, session: &Session) -> bool {
    match page.store.user(&session.user).await {
        Ok(Some(user)) if user.password_time == session.password_time => true,
        Ok(_) => {
            page.sessions.close(key);
            false
        }
        Err(failure) => {
            error!(why = rpc::causes(&failure), "looking up a user");
            false
        }
    }
}

fn not_logged_in(parts: &Parts) -> Response {
    if parts.headers.contains_key(PART) || ["/stream", "/session"].contains(&parts.uri.path()) {
        return (StatusCode::UNAUTHORIZED, "You are logged out.").into_response();
    }
    Redirect::to("/login").into_response()
}

fn source(parts: &Parts) -> IpAddr {
    let unknown = IpAddr::from([0, 0, 0, 0]);
    parts.extensions.get::<Source>().map_or(unknown, |source| source.0)
}

/// The value of a cookie, if it can be one of ours.
pub(super) fn cookie(headers: &HeaderMap, name: &str) -> Option<String> {
    let all = headers.get_all(header::COOKIE).into_iter().filter_map(|one| one.to_str().ok());
    let mut pairs =
        all.flat_map(|one| one.split(';')).filter_map(|pair| pair.trim().split_once('='));
    let (_, value) = pairs.find(|(key, _)| *key == name)?;
    let sound = value.len() == 64 && value.bytes().all(|byte| byte.is_ascii_hexdigit());
    sound.then(|| value.to_owned())
}

/// Sets a cookie, or takes it away when `value` is empty.
pub(super) fn set_cookie(name: &str, value: &str) -> (HeaderName, HeaderValue) {
    let age = if value.is_empty() { "; Max-Age=0" } else { "" };
    let text = format!("{name}={value}; Path=/; Secure; HttpOnly; SameSite=Strict{age}");
    let value = HeaderValue::from_str(&text).expect("cookies are made of printable characters");
    (header::SET_COOKIE, value)
}

/// Around every request.
pub(super) async fn around(
    State(page): State<Arc<Page>>,
    request: Request,
    next: Next,
) -> Response {
    let is_read = request.method() == Method::GET || request.method() == Method::HEAD;
    let mut answer = if is_read || is_own(request.headers(), request.uri()) {
        match tokio::time::timeout(PATIENCE, next.run(request)).await {
            Ok(answer) => answer,
            Err(_) => StatusCode::REQUEST_TIMEOUT.into_response(),
        }
    } else {
        warn!(origin = ?request.headers().get(header::ORIGIN), "form of another site refused");
        let why = "This form was not sent by this page.";
        (StatusCode::FORBIDDEN, view::refusal("Refused", why)).into_response()
    };
    let headers = answer.headers_mut();
    for (name, value) in HEADERS {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    if page.is_trusted {
        // Not with a certificate of the own authority: a browser could no longer be told to go on.
        let month = HeaderValue::from_static("max-age=2592000");
        headers.insert(header::STRICT_TRANSPORT_SECURITY, month);
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    answer
}

/// Whether a form was sent by one of these pages. Old browsers send no `Sec-Fetch-Site`; who sends
/// neither is no browser, and is known by the token in the form alone.
fn is_own(headers: &HeaderMap, uri: &Uri) -> bool {
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    if text("sec-fetch-site").is_some_and(|site| !["same-origin", "none"].contains(&site)) {
        return false;
    }
    let host = uri.authority().map(|authority| authority.as_str()).or_else(|| text("host"));
    text("origin").is_none_or(|origin| {
        origin.strip_prefix("https://").is_some_and(|origin| Some(origin) == host)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pair =
            |&(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value));
        pairs.iter().map(pair).collect()
    }

    #[test]
    fn forms_of_other_sites_are_refused() {
        let here = ("host", "lb.example:7444");
        let table = [
            (vec![here], true),
            (vec![here, ("origin", "https://lb.example:7444")], true),
            (
                vec![
                    here,
                    ("origin", "https://lb.example:7444"),
                    ("sec-fetch-site", "same-origin"),
                ],
                true,
            ),
            (vec![here, ("sec-fetch-site", "none")], true),
            (vec![here, ("origin", "https://lb.example")], false),
            (vec![here, ("origin", "http://lb.example:7444")], false),
            (vec![here, ("origin", "https://evil.example")], false),
            (vec![here, ("origin", "null")], false),
            (vec![here, ("sec-fetch-site", "same-site")], false),
            (vec![here, ("sec-fetch-site", "cross-site")], false),
            (
                vec![here, ("origin", "https://lb.example:7444"), ("sec-fetch-site", "cross-site")],
                false,
            ),
            (vec![("origin", "https://lb.example:7444")], false),
        ];
        for (given, expected) in table {
            assert_eq!(
                is_own(&headers(&given), &Uri::from_static("/logout")),
                expected,
                "{given:?}"
            );
        }
        // HTTP/2 names the host in the address.
        let origin = headers(&[("origin", "https://lb.example:7444")]);
        let to = Uri::from_static("https://lb.example:7444/logout");
        assert!(is_own(&origin, &to));
        assert!(!is_own(&origin, &Uri::from_static("https://other.example/logout")));
    }

    #[test]
    fn cookies_are_found_and_others_are_not_taken_for_them() {
        const TOKEN: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
        let text = format!("a=b; __Host-gantry-login=x; __Host-gantry={TOKEN}");
        let mut headers = HeaderMap::new();
        headers.append("cookie", HeaderValue::from_static("c=d"));
        headers.append("cookie", text.parse().unwrap());
        assert_eq!(cookie(&headers, SESSION).as_deref(), Some(TOKEN));
        assert_eq!(cookie(&headers, LOGIN), None, "its value is none of ours");
        let (_, set) = set_cookie(SESSION, TOKEN);
        let set = set.to_str().unwrap();
        for word in ["Path=/", "Secure", "HttpOnly", "SameSite=Strict"] {
            assert!(set.contains(word), "{set}");
        }
        assert!(set_cookie(SESSION, "").1.to_str().unwrap().contains("Max-Age=0"));
    }
}
