//! An HTTP/1.1 request, plain or over TLS: the status, and if asked for, something in the body.
//! SOAP services such as XDS are asked the same way.
//!
//! Follows no redirect and keeps no cookie: what the server itself answers is what counts.

use std::error::Error;
use std::io;
use std::pin::pin;

use bytes::Bytes;
use gantry_model::check::{Http, Pattern};
use http::header;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::time::timeout;

use super::Unsupported;
use super::failure::{Failure, Outcome};
use super::link::Link;
use super::reply::Reply;

/// The longest head of a response.
const HEAD_LIMIT: usize = 64 * 1024;
/// How much of a body is searched.
const BODY_LIMIT: usize = 1024 * 1024;

const CUT_SHORT: &str = "connection closed before the end of the HTTP response";

pub(super) fn supported(ask: &Http) -> Result<(), Unsupported> {
    request(ask, "localhost").map(drop).map_err(|error| Unsupported::Request(error.to_string()))
}

pub(super) async fn ask(ask: &Http, link: &mut Link) -> Outcome {
    let address = link.target().to_string();
    let request = request(ask, &address).map_err(|error| Failure::Own(error.to_string()))?;
    if ask.tls {
        link.connect_tls(server_name(ask, link)).await?;
    } else {
        link.connect().await?;
    }
    link.begin("waiting for the HTTP response");
    let io = TokioIo::new(link.stream());
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(HEAD_LIMIT)
        .handshake(io)
        .await
        .map_err(|error| failure(&error))?;
    let mut connection = pin!(connection);
    let mut exchange = pin!(async {
        let response = sender.send_request(request).await.map_err(|error| failure(&error))?;
        judge(ask, response).await
    });
    tokio::select! {
        // Biased: an answer that came together with the end of the connection is an answer.
        biased;
        outcome = &mut exchange => outcome,
        // Neither is polled again once it has ended; what the connection still held is read after.
        _ = &mut connection => exchange.await,
    }
}

fn request(ask: &Http, address: &str) -> Result<Request<Full<Bytes>>, http::Error> {
    let host = if ask.host.is_empty() { address } else { &ask.host };
    let mut request = Request::builder()
        .method(ask.method.as_str())
        .uri(ask.path.as_str())
        .header(header::HOST, host)
        .header(header::USER_AGENT, concat!("gantry-healthd/", env!("CARGO_PKG_VERSION")))
        .header(header::ACCEPT, "*/*")
        .header(header::CONNECTION, "close");
    if !ask.content_type.is_empty() {
        request = request.header(header::CONTENT_TYPE, ask.content_type.as_str());
    }
    request.body(Full::from(ask.body.clone()))
}

/// What to call the server in the TLS handshake: the Host without its port, else the address.
fn server_name(ask: &Http, link: &Link) -> ServerName<'static> {
    let host = match ask.host.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => &ask.host,
    };
    ServerName::try_from(host.trim_matches(['[', ']']).to_owned())
        .unwrap_or_else(|_| ServerName::from(link.target().ip()))
}

async fn judge(ask: &Http, response: Response<Incoming>) -> Outcome {
    let status = response.status();
    if !accepted(ask, status) {
        return Err(format!("HTTP {}", status.as_u16()).into());
    }
    let Some(pattern) = &ask.expect_body else {
        return Ok(format!("HTTP {}", status.as_u16()));
    };
    if search(pattern, response.into_body()).await? {
        return Ok(format!("HTTP {} with the expected content", status.as_u16()));
    }
    Err(format!("HTTP {} without the expected content", status.as_u16()).into())
}

fn accepted(ask: &Http, status: StatusCode) -> bool {
    let status = status.as_u16();
    match ask.expect_statuses.as_slice() {
        [] => (200..400).contains(&status),
        statuses => statuses.contains(&status),
    }
}

/// Reads the body only as far as the pattern needs.
async fn search(pattern: &Pattern, mut body: Incoming) -> Result<bool, Failure> {
    let mut reply = Reply::new(pattern, BODY_LIMIT);
    while !reply.is_full() {
        // A frame that is dropped here has not been taken.
        let frame = match timeout(reply.patience(), body.frame()).await {
            Ok(Some(frame)) => frame.map_err(|error| failure(&error))?,
            Ok(None) => return Ok(reply.search()),
            Err(_) if reply.search() => return Ok(true),
            Err(_) => continue,
        };
        if frame.data_ref().is_some_and(|data| reply.add(data)) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn failure(error: &hyper::Error) -> Failure {
    if error.is_parse_too_large() {
        return "the head of the HTTP response is too long".into();
    }
    if error.is_parse() {
        return "the answer is not HTTP/1".into();
    }
    if error.is_incomplete_message() || error.is_canceled() || error.is_closed() {
        return CUT_SHORT.into();
    }
    match error.source().and_then(|source| source.downcast_ref::<io::Error>()) {
        Some(error) if error.kind() == io::ErrorKind::UnexpectedEof => CUT_SHORT.into(),
        Some(error) => Failure::talking(error),
        None => format!("HTTP: {error}").into(),
    }
}

#[cfg(test)]
mod tests;
