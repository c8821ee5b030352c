//! Two small web servers: a viewer over HTTPS that says who answered, and an XDS registry over HTTP
//! in which every query finds nothing.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context;
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::CONTENT_TYPE;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::listen;

/// What a page is: its status, its type and its text.
type Page = (StatusCode, &'static str, String);

/// The viewer `name`: `/` says so, `/healthz` is well.
pub(super) async fn run_viewer(listen: SocketAddr, name: String) -> anyhow::Result<()> {
    let listener = listen::bind(&name, listen).await?;
    serve_viewer(listener, name).await
}

/// The registry `name`: a description at `?wsdl`, and an answer to every POST.
pub(super) async fn run_registry(listen: SocketAddr, name: String) -> anyhow::Result<()> {
    let listener = listen::bind(&name, listen).await?;
    serve_registry(listener, name).await
}

async fn serve_viewer(listener: TcpListener, name: String) -> anyhow::Result<()> {
    let acceptor = TlsAcceptor::from(Arc::new(self_signed(&name)?));
    let handle = |stream| {
        let (acceptor, name) = (acceptor.clone(), name.clone());
        async move {
            // A client that gives up, as on a certificate it does not trust, is no news.
            let Ok(stream) = acceptor.accept(stream).await else { return Ok(()) };
            serve(stream, |request| viewer_page(&name, request.uri().path())).await
        }
    };
    listen::serve(&name, listener, handle).await
}

async fn serve_registry(listener: TcpListener, name: String) -> anyhow::Result<()> {
    listen::serve(&name, listener, |stream| serve(stream, registry_page)).await
}

/// Answers the requests of one connection. Bodies are not looked at; hyper drops them.
async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    page: impl Fn(&Request<Incoming>) -> Page,
) -> anyhow::Result<()> {
    let respond = service_fn(async |request: Request<Incoming>| {
        let (status, kind, text) = page(&request);
        let mut response = Response::new(Full::new(Bytes::from(text)));
        *response.status_mut() = status;
        let kind = kind.parse().expect("a content type of this file");
        response.headers_mut().insert(CONTENT_TYPE, kind);
        Ok::<_, Infallible>(response)
    });
    // Clients close as they like: a broken connection is no news either.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), respond).await;
    Ok(())
}

fn viewer_page(name: &str, path: &str) -> Page {
    match path {
        "/" => (StatusCode::OK, "text/html", format!("<!doctype html><h1>{name} answered</h1>\n")),
        "/healthz" => (StatusCode::OK, "text/plain", "ok\n".to_owned()),
        _ => (StatusCode::NOT_FOUND, "text/plain", "not found\n".to_owned()),
    }
}

fn registry_page(request: &Request<Incoming>) -> Page {
    let wants_description =
        request.uri().query().is_some_and(|query| query.eq_ignore_ascii_case("wsdl"));
    match *request.method() {
        Method::POST => (StatusCode::OK, "application/soap+xml", NOTHING_FOUND.to_owned()),
        Method::GET if wants_description => (StatusCode::OK, "text/xml", DESCRIPTION.to_owned()),
        _ => (StatusCode::NOT_FOUND, "text/plain", "ask for ?wsdl\n".to_owned()),
    }
}

/// A certificate for `name`, made now and gone with the process.
fn self_signed(name: &str) -> anyhow::Result<ServerConfig> {
    let names = [name.to_ascii_lowercase(), "localhost".to_owned()];
    let made = rcgen::generate_simple_self_signed(names).context("cannot make a certificate")?;
    let key =
        PrivateKeyDer::try_from(made.signing_key.serialize_der()).map_err(anyhow::Error::msg)?;
    let ring = Arc::new(rustls::crypto::ring::default_provider());
    Ok(ServerConfig::builder_with_provider(ring)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)?)
}

const DESCRIPTION: &str = r#"<?xml version="1.0"?>
<definitions xmlns="http://schemas.xmlsoap.org/wsdl/" name="DocumentRegistry"
    targetNamespace="urn:ihe:iti:xds-b:2007"/>
"#;

const NOTHING_FOUND: &str = r#"<?xml version="1.0"?>
<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope"><s:Body>
<q:AdhocQueryResponse xmlns:q="urn:oasis:names:tc:ebxml-regrep:xsd:query:3.0"
    status="urn:oasis:names:tc:ebxml-regrep:ResponseStatusType:Success">
<r:RegistryObjectList xmlns:r="urn:oasis:names:tc:ebxml-regrep:xsd:rim:3.0"/>
</q:AdhocQueryResponse></s:Body></s:Envelope>
"#;

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;
    use tokio::task::JoinSet;

    /// Asks with curl, as an administrator would: the body and the status.
    async fn curl(options: &str, url: String) -> String {
        let mut command = Command::new("curl");
        command.args(["-sk", "-w", " %{http_code}"]).args(options.split_whitespace()).arg(url);
        let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    async fn bind() -> (TcpListener, SocketAddr) {
        let listener = listen::bind("WEB", "127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    }

    #[tokio::test]
    async fn the_viewer_says_who_answered() {
        let ((listener, address), mut server) = (bind().await, JoinSet::new());
        server.spawn(serve_viewer(listener, "VIEWER1".into()));
        let page = curl("", format!("https://{address}/")).await;
        assert!(page.contains("VIEWER1 answered") && page.ends_with(" 200"), "{page}");
        assert_eq!(curl("", format!("https://{address}/healthz")).await, "ok\n 200");
        assert!(curl("", format!("https://{address}/other")).await.ends_with(" 404"));
    }

    #[tokio::test]
    async fn the_registry_describes_itself_and_finds_nothing() {
        let ((listener, address), mut server) = (bind().await, JoinSet::new());
        server.spawn(serve_registry(listener, "XDS".into()));
        let page = curl("", format!("http://{address}/registry?wsdl")).await;
        assert!(page.contains("<definitions") && page.ends_with(" 200"), "{page}");
        let found = curl("-d <Envelope/>", format!("http://{address}/registry")).await;
        assert!(found.contains("ResponseStatusType:Success") && found.ends_with(" 200"), "{found}");
        assert!(curl("", format!("http://{address}/")).await.ends_with(" 404"));
    }
}
