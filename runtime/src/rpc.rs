//! Connections to the controller, and to neighbours on this machine.

use std::error::Error;
use std::path::PathBuf;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};

use crate::identity::{CONTROLLER, Identity};

/// An address that cannot be called.
#[derive(Debug, thiserror::Error)]
pub enum RpcError {
    #[error("{address:?} is not the address of a controller: use https://host:port")]
    Address { address: String },
    #[error("the identity of {name} cannot be used")]
    Identity {
        name: String,
        #[source]
        source: tonic::transport::Error,
    },
}

/// A channel to the controller at `address`, which connects when it is first used and again after
/// each loss. The controller must show a certificate of the identity's CA.
pub fn connect(address: &str, identity: &Identity) -> Result<Channel, RpcError> {
    let tls = ClientTlsConfig::new()
        .domain_name(CONTROLLER)
        .ca_certificate(Certificate::from_pem(&identity.ca))
        .identity(tonic::transport::Identity::from_pem(&identity.certificate, &identity.key));
    let endpoint = endpoint(address)?
        .tls_config(tls)
        .map_err(|source| RpcError::Identity { name: identity.name().to_owned(), source })?;
    Ok(endpoint.connect_lazy())
}

/// The same for who has no identity yet and knows only the CA.
pub(crate) fn connect_nameless(address: &str, ca: &str) -> Result<Channel, RpcError> {
    let tls =
        ClientTlsConfig::new().domain_name(CONTROLLER).ca_certificate(Certificate::from_pem(ca));
    let endpoint = endpoint(address)?.tls_config(tls);
    let endpoint =
        endpoint.map_err(|source| RpcError::Identity { name: "the CA".to_owned(), source })?;
    Ok(endpoint.connect_lazy())
}

/// A channel to a Unix socket on this machine.
pub fn connect_socket(path: PathBuf) -> Channel {
    let connector = tower::service_fn(move |_: tonic::transport::Uri| {
        let path = path.clone();
        async move { tokio::net::UnixStream::connect(path).await.map(TokioIo::new) }
    });
    Endpoint::from_static("http://localhost").connect_with_connector_lazy(connector)
}

/// How long anything may take at a controller: who does not answer within seconds is away.
pub fn patient(endpoint: Endpoint) -> Endpoint {
    endpoint
        .connect_timeout(Duration::from_secs(5))
        .tcp_nodelay(true)
        .http2_keep_alive_interval(Duration::from_secs(5))
        .keep_alive_timeout(Duration::from_secs(5))
        .keep_alive_while_idle(true)
}

/// Why a call failed: the controller's own words, or what the transport met first.
pub fn why(status: &tonic::Status) -> String {
    let mut cause: &(dyn Error + 'static) = match status.source() {
        Some(source) => source,
        None => return status.message().to_owned(),
    };
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

/// An error with all its causes, on one line: what failed, then why.
pub fn causes(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

fn endpoint(address: &str) -> Result<Endpoint, RpcError> {
    let bad = || RpcError::Address { address: address.to_owned() };
    let endpoint = Endpoint::from_shared(address.to_owned()).map_err(|_| bad())?;
    let uri = endpoint.uri();
    if uri.scheme_str() != Some("https") || uri.port().is_none() {
        return Err(bad());
    }
    Ok(patient(endpoint))
}
