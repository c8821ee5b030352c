//! The port: TLS with client certificates, then gRPC.
//!
//! The accept loop is our own because tonic's can neither tell who was refused and why, nor bound
//! how long a silent client may take to shake hands. A client without a certificate gets in, since
//! joining needs none; what it may call is decided per service.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use gantry_runtime::rpc;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::transport::Server;
use tonic::transport::server::Connected;
use tracing::{debug, warn};

use crate::api::Caller;
use crate::authority::{Authority, AuthorityError};

/// How long a client may take to shake hands.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Handshakes under way at a time; more wait in the kernel's backlog.
const HANDSHAKES: usize = 512;

/// The port cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    #[error("setting up TLS")]
    Tls(#[source] rustls::Error),
    #[error("setting up the check of client certificates")]
    Verifier(#[source] rustls::server::VerifierBuilderError),
}

/// TLS as the controller speaks it, reached under `names` too.
pub fn tls(authority: &Authority, names: &[String]) -> Result<TlsAcceptor, ServeError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(authority.der().clone()).map_err(ServeError::Tls)?;
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .allow_unauthenticated()
            .build()
            .map_err(ServeError::Verifier)?;
    let (certificate, key) = authority.issue_server(names)?;
    // The CA goes with the leaf, so that an appliance that only has a token finds it.
    let chain = vec![CertificateDer::from(certificate), authority.der().clone()];
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(ServeError::Tls)?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .map_err(ServeError::Tls)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Serves `routes` until stopped; open streams end then.
pub async fn serve(
    listener: TcpListener,
    tls: TlsAcceptor,
    routes: Routes,
    stop: CancellationToken,
) -> Result<(), tonic::transport::Error> {
    let (accepted, connections) = mpsc::channel(HANDSHAKES);
    let server = Server::builder()
        .http2_keepalive_interval(Some(Duration::from_secs(5)))
        .http2_keepalive_timeout(Some(Duration::from_secs(5)))
        .add_routes(routes)
        .serve_with_incoming(ReceiverStream::new(connections));
    // Both are cancel safe in the only sense that matters here: stopping cuts every connection,
    // and agents come back to the next controller.
    tokio::select! {
        result = server => result,
        () = accept(listener, tls, accepted) => Ok(()),
        () = stop.cancelled() => Ok(()),
    }
}

/// Accepts for ever. A connection that cannot be shaken hands with costs nobody else anything.
pub(crate) async fn accept(
    listener: TcpListener,
    tls: TlsAcceptor,
    accepted: mpsc::Sender<io::Result<Peer>>,
) {
    let mut handshakes = JoinSet::new();
    loop {
        while handshakes.try_join_next().is_some() {}
        if handshakes.len() >= HANDSHAKES {
            handshakes.join_next().await;
        }
        match listener.accept().await {
            Ok((stream, address)) => {
                handshakes.spawn(shake_hands(stream, address, tls.clone(), accepted.clone()));
            }
            Err(error) => {
                warn!(%error, "accepting a connection");
                // Out of descriptors, most likely: let some close.
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn shake_hands(
    stream: TcpStream,
    address: SocketAddr,
    tls: TlsAcceptor,
    accepted: mpsc::Sender<io::Result<Peer>>,
) {
    if let Err(error) = stream.set_nodelay(true) {
        debug!(peer = %address, %error, "connection lost at once");
        return;
    }
    match tokio::time::timeout(HANDSHAKE, tls.accept(stream)).await {
        Ok(Ok(stream)) => {
            let certificates = stream.get_ref().1.peer_certificates();
            let leaf = certificates.and_then(<[_]>::first).map(AsRef::as_ref);
            let caller = Caller::from_certificate(leaf, address.to_string());
            // The receiver is gone only when the process stops.
            let _stopping = accepted.send(Ok(Peer { stream, caller })).await;
        }
        Ok(Err(error)) => {
            warn!(peer = %address, why = rpc::causes(&error), "TLS handshake refused");
        }
        Err(_) => warn!(peer = %address, "TLS handshake given up: the client was silent"),
    }
}

/// A connection, with who is at its other end.
#[derive(Debug)]
pub(crate) struct Peer {
    stream: TlsStream<TcpStream>,
    pub(crate) caller: Caller,
}

impl Connected for Peer {
    type ConnectInfo = Caller;

    fn connect_info(&self) -> Caller {
        self.caller.clone()
    }
}

impl AsyncRead for Peer {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Peer {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
