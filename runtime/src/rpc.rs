//! Connections to the controller, and to neighbours on this machine.

mod tls;

use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use tonic::transport::{Channel, Endpoint, Uri};

pub use self::tls::TlsError;
use crate::identity::Identity;

/// An address that cannot be called.
#[derive(Debug, thiserror::Error)]
pub enum RpcError {
    #[error("{address:?} is not the address of a controller: use https://host:port")]
    Address { address: String },
    #[error("the identity of {name} cannot be used")]
    Identity {
        name: String,
        #[source]
        source: TlsError,
    },
}

/// A channel to the controller at `address`, which connects when it is first used and again after
/// each loss. The controller must show a certificate of the identity's CA.
pub fn connect(address: &str, identity: &Identity) -> Result<Channel, RpcError> {
    let name = identity.name().to_owned();
    let config = tls::config(&identity.ca, Some(identity));
    let config = config.map_err(|source| RpcError::Identity { name, source })?;
    Ok(channel(&endpoint(address)?, config))
}

/// The same for who has no identity yet and knows only the CA.
pub(crate) fn connect_nameless(address: &str, ca: &str) -> Result<Channel, RpcError> {
    let config = tls::config(ca, None);
    let config =
        config.map_err(|source| RpcError::Identity { name: "the CA".to_owned(), source })?;
    Ok(channel(&endpoint(address)?, config))
}

fn channel(endpoint: &Endpoint, config: Arc<ClientConfig>) -> Channel {
    let connect = move |to: Uri| tls::connect(to, Arc::clone(&config));
    endpoint.connect_with_connector_lazy(tower::service_fn(connect))
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
    let refusal = tls_refusal(status);
    while let Some(source) = cause.source() {
        cause = source;
    }
    match refusal {
        Some(refusal) => format!("{cause}: {refusal}"),
        None => cause.to_string(),
    }
}

/// Why TLS let no connection come about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TlsRefusal {
    #[error(
        "the controller does not trust the CA of this certificate, since it is another's or was \
         replaced: an appliance has to join again (gantry invite, gantry join), an operator needs \
         a new identity from whoever runs the controller"
    )]
    OurCa,
    #[error(
        "this certificate has expired, or the clocks differ: an appliance has to join again \
         (gantry invite, gantry join), an operator needs a new identity from whoever runs the \
         controller"
    )]
    OurTime,
    #[error(
        "what answers has no certificate of a CA in ca.pem: it is another controller, or its CA was \
         replaced while this one was away, and then an appliance has to join again (gantry invite, \
         gantry join), an operator needs a new identity from whoever runs the controller"
    )]
    TheirCa,
    #[error("the controller's certificate is not good now: compare the clocks")]
    TheirTime,
}

/// Why TLS let no connection come about, if that is why a call failed.
pub fn tls_refusal(status: &tonic::Status) -> Option<TlsRefusal> {
    use rustls::{AlertDescription as Alert, CertificateError as Bad, Error as Tls};
    match tls_error(status)? {
        // A CA of the same name with another key makes a wrong signature.
        Tls::AlertReceived(Alert::UnknownCA | Alert::DecryptError | Alert::BadCertificate) => {
            Some(TlsRefusal::OurCa)
        }
        Tls::AlertReceived(Alert::CertificateExpired) => Some(TlsRefusal::OurTime),
        Tls::InvalidCertificate(Bad::UnknownIssuer | Bad::BadSignature) => {
            Some(TlsRefusal::TheirCa)
        }
        Tls::InvalidCertificate(
            Bad::Expired
            | Bad::ExpiredContext { .. }
            | Bad::NotValidYet
            | Bad::NotValidYetContext { .. },
        ) => Some(TlsRefusal::TheirTime),
        _ => None,
    }
}

/// An error of TLS somewhere among the causes. Errors of sockets hide theirs.
fn tls_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        cause = match inner {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
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
    let uri: Uri = address.parse().map_err(|_| bad())?;
    let authority = uri.authority().filter(|authority| authority.port().is_some());
    let (Some("https"), Some(authority)) = (uri.scheme_str(), authority) else {
        return Err(bad());
    };
    // TLS is made by the connector here, so what is above must not make it once more.
    let plain = Endpoint::from_shared(format!("http://{authority}")).map_err(|_| bad())?;
    Ok(patient(plain.origin(uri)))
}

#[cfg(test)]
mod tests {
    use rustls::{AlertDescription as Alert, CertificateError as Bad, Error as Tls};

    use super::*;

    #[test]
    fn a_refusal_of_tls_says_what_to_do() {
        let alert = |alert| Tls::AlertReceived(alert);
        for (tls, expected) in [
            (alert(Alert::UnknownCA), Some(TlsRefusal::OurCa)),
            (alert(Alert::DecryptError), Some(TlsRefusal::OurCa)),
            (alert(Alert::CertificateExpired), Some(TlsRefusal::OurTime)),
            (alert(Alert::CloseNotify), None),
            (Tls::InvalidCertificate(Bad::UnknownIssuer), Some(TlsRefusal::TheirCa)),
            (Tls::InvalidCertificate(Bad::Expired), Some(TlsRefusal::TheirTime)),
            (Tls::InvalidCertificate(Bad::NotValidForName), None),
        ] {
            let words = tls.to_string();
            // As tonic hands them on: wrapped in errors of the socket.
            let inner = std::io::Error::other(tls);
            let outer = std::io::Error::other(inner);
            let status = tonic::Status::from_error(Box::new(outer));
            assert_eq!(tls_refusal(&status), expected, "{words}");
            let why = why(&status);
            assert!(why.contains(&words), "{why}");
            assert_eq!(
                why.contains("gantry join"),
                matches!(expected, Some(it) if it != TlsRefusal::TheirTime)
            );
        }
    }
}
