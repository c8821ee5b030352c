//! The port: TLS with client certificates, then gRPC.
//!
//! The accept loop is our own because tonic's can neither tell who was refused and why, nor bound
//! how long a silent client may take to shake hands. A client without a certificate gets in, since
//! joining needs none; what it may call is decided per service. Who is trusted changes while it
//! runs; a connection lasts no longer than its certificate would be let in anew ([`connection`]).

mod connection;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use gantry_runtime::rpc;
use rustls::ServerConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::transport::Server;
use tracing::{debug, warn};

use self::connection::Peer;
use crate::api::{Caller, Connection};
use crate::authority::Trust;

/// How long a client may take to shake hands.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Handshakes under way at a time; more wait in the kernel's backlog.
const HANDSHAKES: usize = 512;

/// How long a client that was refused may take to hear of it.
const FAREWELL: Duration = Duration::from_secs(1);

/// Who is trusted, as it changes.
pub(crate) type Trusted = watch::Receiver<Arc<Trust>>;

/// What a port does with those who come.
pub(crate) trait Door: Clone + Send + Sync + 'static {
    /// Somebody who was let in.
    type Peer: Send;

    /// TLS as it is spoken here now.
    fn tls(&self) -> Arc<ServerConfig>;

    /// Lets a client in that has shaken hands, or not.
    fn admit(&self, stream: TlsStream<TcpStream>, from: SocketAddr) -> Option<Self::Peer>;
}

/// Serves `routes` until stopped; open streams end then.
pub async fn serve(
    listener: TcpListener,
    trust: Trusted,
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
        () = accept(listener, Grpc(trust), accepted) => Ok(()),
        () = stop.cancelled() => Ok(()),
    }
}

/// Accepts for ever. A connection that cannot be shaken hands with costs nobody else anything.
pub(crate) async fn accept<D: Door>(
    listener: TcpListener,
    door: D,
    accepted: mpsc::Sender<io::Result<D::Peer>>,
) {
    let mut handshakes = JoinSet::new();
    loop {
        while handshakes.try_join_next().is_some() {}
        if handshakes.len() >= HANDSHAKES {
            handshakes.join_next().await;
        }
        match listener.accept().await {
            Ok((stream, address)) => {
                handshakes.spawn(shake_hands(stream, address, door.clone(), accepted.clone()));
            }
            Err(error) => {
                warn!(%error, "accepting a connection");
                // Out of descriptors, most likely: let some close.
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn shake_hands<D: Door>(
    stream: TcpStream,
    address: SocketAddr,
    door: D,
    accepted: mpsc::Sender<io::Result<D::Peer>>,
) {
    if let Err(error) = stream.set_nodelay(true) {
        debug!(peer = %address, %error, "connection lost at once");
        return;
    }
    let tls = TlsAcceptor::from(door.tls());
    match tokio::time::timeout(HANDSHAKE, tls.accept(stream).into_fallible()).await {
        Ok(Ok(stream)) => {
            let Some(peer) = door.admit(stream, address) else { return };
            // The receiver is gone only when the process stops.
            let _stopping = accepted.send(Ok(peer)).await;
        }
        Ok(Err((error, stream))) => {
            warn!(peer = %address, why = rpc::causes(&error), "TLS handshake refused");
            let _silent = tokio::time::timeout(FAREWELL, say_farewell(stream)).await;
        }
        Err(_) => warn!(peer = %address, "TLS handshake given up: the client was silent"),
    }
}

/// Lets a client that was refused hear why. Its first request is under way already, and closing
/// before it has come would reset the connection, and with it the alert that says why.
async fn say_farewell(mut stream: TcpStream) {
    let mut rest = [0; 4096];
    if stream.shutdown().await.is_ok() {
        while let Ok(1..) = stream.read(&mut rest).await {}
    }
}

/// The door of the gRPC port: clients are known by their certificates.
#[derive(Clone, Debug)]
struct Grpc(Trusted);

impl Door for Grpc {
    type Peer = Peer;

    fn tls(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.0.borrow().tls)
    }

    fn admit(&self, stream: TlsStream<TcpStream>, from: SocketAddr) -> Option<Peer> {
        let newest = Arc::clone(&self.0.borrow());
        let Some(connection) = identify(&stream, from, &newest) else {
            warn!(peer = %from, "connection refused: its CA was retired meanwhile");
            return None;
        };
        Some(Peer::new(stream, connection, self.0.clone()))
    }
}

/// Who is at the other end; nobody whose certificate is not good by what holds now.
fn identify(stream: &TlsStream<TcpStream>, at: SocketAddr, trust: &Trust) -> Option<Connection> {
    let certificates = stream.get_ref().1.peer_certificates().unwrap_or_default();
    let leaf = certificates.first().map(AsRef::as_ref);
    let shown = trust.read(certificates);
    if leaf.is_some() && shown.is_none() {
        return None;
    }
    let caller = Caller::from_certificate(leaf, at.to_string());
    Some(Connection { caller, shown: shown.map(Arc::new) })
}
