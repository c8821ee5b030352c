//! The page's port: TLS without client certificates, HTTP/1.1 and HTTP/2, each with its limits.
//!
//! Connections are accepted and shaken hands with as on the gRPC port. An address has few
//! connections at a time, so that one that hoards them takes none from the others.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use gantry_runtime::rpc;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use parking_lot::Mutex;
use rustls::ServerConfig;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;
use tracing::{debug, warn};

use super::PageError;
use super::guard::Source;
use crate::serve::{Door, Trusted, accept};

/// Connections in all, and from one address.
const CONNECTIONS: usize = 1024;
const FROM_ONE: usize = 64;
/// How long a request's head may take, or a connection be silent between two.
const HEAD: Duration = Duration::from_secs(30);
const HEADERS: usize = 64;
const HEADER_BYTES: u32 = 32 * 1024;
const STREAMS: u32 = 32;
/// After which an HTTP/2 connection is asked for a sign of life, and how long it may take.
const KEEPALIVE: Duration = Duration::from_secs(20);

/// What a certificate is asked for each time somebody connects: it may be another one later.
pub(super) type Certificates = Arc<dyn ResolvesServerCert>;

/// The controller's own certificate, as it is renewed.
pub(super) fn own(trust: Trusted) -> Certificates {
    Arc::new(Own(trust))
}

#[derive(Debug)]
struct Own(Trusted);

impl ResolvesServerCert for Own {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.borrow().server))
    }
}

/// A certificate from elsewhere: PEM files.
pub(super) fn given(certificate: &Path, key: &Path) -> Result<Certificates, PageError> {
    let unreadable = |path: &Path| {
        let path = path.to_owned();
        move |source| PageError::File { path, source }
    };
    let chain = CertificateDer::pem_file_iter(certificate).map_err(unreadable(certificate))?;
    let chain: Vec<_> = chain.collect::<Result<_, _>>().map_err(unreadable(certificate))?;
    let key = PrivateKeyDer::from_pem_file(key).map_err(unreadable(key))?;
    single(chain, key)
}

fn single(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<Certificates, PageError> {
    let provider = rustls::crypto::ring::default_provider();
    let key = CertifiedKey::from_der(chain, key, &provider).map_err(PageError::Tls)?;
    Ok(Arc::new(SingleCertAndKey::from(key)))
}

/// A browser's connection.
#[derive(Debug)]
struct Peer {
    stream: TlsStream<TcpStream>,
    from: SocketAddr,
}

/// Lets everybody in: who it is, is asked on the page.
#[derive(Clone, Debug)]
struct Open(Arc<ServerConfig>);

impl Door for Open {
    type Peer = Peer;

    fn tls(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.0)
    }

    fn admit(&self, stream: TlsStream<TcpStream>, from: SocketAddr) -> Option<Peer> {
        Some(Peer { stream, from })
    }
}

/// TLS as browsers speak it.
pub(super) fn tls(certificates: Certificates) -> Result<Arc<ServerConfig>, PageError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(PageError::Tls)?
        .with_no_client_auth()
        .with_cert_resolver(certificates);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Serves `routes` until stopped; open connections end then.
pub(super) async fn serve(
    listener: TcpListener,
    tls: Arc<ServerConfig>,
    routes: Router,
    stop: CancellationToken,
) {
    let (accepted, connections) = mpsc::channel(CONNECTIONS);
    // All are cancel safe in the only sense that matters here: stopping cuts every connection, and
    // a page comes back by itself.
    tokio::select! {
        () = accept(listener, Open(tls), accepted) => {}
        () = attend(connections, routes) => {}
        () = stop.cancelled() => {}
    }
}

async fn attend(mut connections: mpsc::Receiver<std::io::Result<Peer>>, routes: Router) {
    let mut open = JoinSet::new();
    let places = Places::default();
    while let Some(peer) = connections.recv().await {
        while open.try_join_next().is_some() {}
        let Ok(peer) = peer else { continue };
        let Some(place) = places.take(peer.from.ip()) else { continue };
        open.spawn(converse(peer.stream, place, routes.clone()));
    }
}

async fn converse(stream: TlsStream<TcpStream>, place: Place, routes: Router) {
    let source = Source(place.address);
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(source);
        let routes = routes.clone();
        async move { routes.oneshot(request.map(axum::body::Body::new)).await }
    });
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD).max_headers(HEADERS);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE)
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(HEADER_BYTES);
    if let Err(error) = builder.serve_connection(TokioIo::new(stream), service).await {
        debug!(peer = %place.address, why = rpc::causes(error.as_ref()), "connection ended");
    }
}

/// Who has how many connections.
#[derive(Clone, Debug, Default)]
struct Places {
    taken: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

/// The right to one connection, given back when dropped.
#[derive(Debug)]
struct Place {
    address: IpAddr,
    places: Places,
}

impl Places {
    fn take(&self, address: IpAddr) -> Option<Place> {
        let mut taken = self.taken.lock();
        let all: usize = taken.values().sum();
        let own = taken.entry(address).or_default();
        if *own >= FROM_ONE || all >= CONNECTIONS {
            warn!(%address, own = *own, all, "connection to the page refused: too many are open");
            return None;
        }
        *own += 1;
        Some(Place { address, places: self.clone() })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock();
        if let Some(own) = taken.get_mut(&self.address) {
            *own -= 1;
            if *own == 0 {
                taken.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_cannot_take_all_connections() {
        let places = Places::default();
        let (one, other): (IpAddr, IpAddr) = ([10, 0, 0, 1].into(), [10, 0, 0, 2].into());
        let held: Vec<_> = (0..FROM_ONE).map(|_| places.take(one).unwrap()).collect();
        assert!(places.take(one).is_none());
        assert!(places.take(other).is_some());
        drop(held);
        assert!(places.take(one).is_some());
        assert!(places.taken.lock().is_empty(), "what is given back is forgotten");
    }

    #[test]
    fn connections_are_bounded_in_all() {
        let places = Places::default();
        let take = |number: usize| {
            let last = u8::try_from(number / FROM_ONE).unwrap();
            places.take([10, 0, 0, last].into())
        };
        let held: Vec<_> = (0..CONNECTIONS + 10).filter_map(take).collect();
        assert_eq!(held.len(), CONNECTIONS);
    }
}
