//! TLS to a controller, which tells why it failed.
//!
//! By TLS 1.3 a client is done before the server has seen its certificate; a refusal comes as the
//! first thing that is read, when the first call is on its way already, and is lost in it. So a
//! connection counts only when the controller's first bytes are there: HTTP/2 has it speak at once.

use std::io;
use std::sync::Arc;

use hyper_util::rt::TokioIo;
use rustls::client::Resumption;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem};
use tokio::io::AsyncBufReadExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::Uri;

use crate::identity::{CONTROLLER, Identity};

/// The files of an identity make no TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("{0} cannot be read")]
    Pem(&'static str, #[source] pem::Error),
    #[error("there is no CA certificate")]
    NoCa,
    #[error("the key is not that of the certificate, or one of them is of no use")]
    Pair(#[source] rustls::Error),
    #[error("setting up TLS")]
    Setup(#[source] rustls::Error),
}

/// TLS with a controller that has a certificate of a CA in `ca`, as `identity` or as nobody.
pub(super) fn config(ca: &str, identity: Option<&Identity>) -> Result<Arc<ClientConfig>, TlsError> {
    let mut roots = RootCertStore::empty();
    for found in CertificateDer::pem_slice_iter(ca.as_bytes()) {
        let found = found.map_err(|source| TlsError::Pem("ca.pem", source))?;
        roots.add(found).map_err(TlsError::Setup)?;
    }
    if roots.is_empty() {
        return Err(TlsError::NoCa);
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Setup)?
        .with_root_certificates(roots);
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some(identity) => {
            let chain: Result<Vec<_>, _> =
                CertificateDer::pem_slice_iter(identity.certificate.as_bytes()).collect();
            let chain = chain.map_err(|source| TlsError::Pem("certificate.pem", source))?;
            let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes());
            let key = key.map_err(|source| TlsError::Pem("key.pem", source))?;
            builder.with_client_auth_cert(chain, key).map_err(TlsError::Pair)?
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

/// Connects, and waits for the controller's first bytes.
pub(super) async fn connect(
    to: Uri,
    config: Arc<ClientConfig>,
) -> io::Result<TokioIo<TlsStream<TcpStream>>> {
    let (Some(host), Some(port)) = (to.host(), to.port_u16()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let stream = TcpStream::connect((host.trim_matches(['[', ']']), port)).await?;
    stream.set_nodelay(true)?;
    let name = ServerName::try_from(CONTROLLER).expect("a constant DNS name");
    let mut stream = TlsConnector::from(config).connect(name, stream).await?;
    if stream.fill_buf().await?.is_empty() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(TokioIo::new(stream))
}
