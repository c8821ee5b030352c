//! Answers of the proxy itself: what happened, without telling strangers how it looks inside.

use gantry_model::http::Maintenance;
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue, LOCATION};
use hyper::{Response, StatusCode};

use super::body::Answer;

const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");
pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Why the proxy answers itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    /// The request cannot be understood.
    Malformed,
    /// A method that a proxy in front of servers does not carry.
    Method,
    /// No real server is in service.
    Nobody,
    /// Its time in line is over.
    QueueTimeout,
    /// The real server did not answer as HTTP has it, or broke off.
    BadAnswer,
    /// The real server did not answer in time.
    Timeout,
    /// The client stopped in the middle of its request.
    ClientSilent,
}

impl Reason {
    fn status(self) -> StatusCode {
        match self {
            Self::Malformed => StatusCode::BAD_REQUEST,
            Self::Method => StatusCode::NOT_IMPLEMENTED,
            Self::Nobody | Self::QueueTimeout => StatusCode::SERVICE_UNAVAILABLE,
            Self::BadAnswer => StatusCode::BAD_GATEWAY,
            Self::Timeout => StatusCode::GATEWAY_TIMEOUT,
            Self::ClientSilent => StatusCode::REQUEST_TIMEOUT,
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::Malformed => "The request could not be understood.",
            Self::Method => "This method is not carried here.",
            Self::Nobody => "No server is available for this request. Please try again shortly.",
            Self::QueueTimeout => "All servers are busy. Please try again shortly.",
            Self::BadAnswer => "The server did not give a usable answer.",
            Self::Timeout => "The server did not answer in time.",
            Self::ClientSilent => "The request was not complete in time.",
        }
    }

    /// For the log.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "the request was malformed",
            Self::Method => "the method is not carried",
            Self::Nobody => "no real server took it",
            Self::QueueTimeout => "its time in the queue was over",
            Self::BadAnswer => "the real server gave no usable answer",
            Self::Timeout => "the real server was silent for too long",
            Self::ClientSilent => "the client was silent for too long",
        }
    }
}

/// A page that says what happened, and by which number an administrator finds it in the log.
pub(super) fn of(reason: Reason, id: &HeaderValue) -> Response<Answer> {
    let (status, words) = (reason.status(), reason.words());
    let title = status.canonical_reason().unwrap_or_default();
    let code = status.as_u16();
    let shown = id.to_str().unwrap_or_default();
    let page = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>{code} {title}</title>\
         <style>body{{font:16px/1.5 system-ui,sans-serif;max-width:36em;margin:15vh auto;padding:0 1em;\
         color:#222}}small{{color:#666}}</style></head>\n<body><h1>{title}</h1>\n<p>{words}</p>\n\
         <p><small>{code} &middot; request {shown}</small></p></body></html>\n"
    );
    own(status, HTML, Bytes::from(page), id)
}

/// The page that an operator has written for when nobody serves.
pub(super) fn maintenance(page: &Maintenance, id: &HeaderValue) -> Response<Answer> {
    let status = StatusCode::from_u16(page.status).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
    let content_type = HeaderValue::from_str(&page.content_type).unwrap_or(HTML);
    own(status, content_type, Bytes::from(page.body.clone()), id)
}

/// To the same place by HTTPS.
pub(super) fn redirect(host: &str, path: &str, id: &HeaderValue) -> Option<Response<Answer>> {
    let location = HeaderValue::from_str(&format!("https://{host}{path}")).ok()?;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    let mut answer = own(StatusCode::PERMANENT_REDIRECT, plain, Bytes::new(), id);
    answer.headers_mut().insert(LOCATION, location);
    Some(answer)
}

fn own(
    status: StatusCode,
    content_type: HeaderValue,
    body: Bytes,
    id: &HeaderValue,
) -> Response<Answer> {
    let mut answer = Response::new(Answer::own(body));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, content_type);
    headers.insert(REQUEST_ID, id.clone());
    answer
}
