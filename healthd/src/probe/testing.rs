//! Servers that misbehave as told, and real ones that are killed with the test.

use std::future::Future;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use gantry_model::check::Probe;
use gantry_model::verdict::{CheckResult, Layer};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{ConfigBuilder, RootCertStore, ServerConfig, WantsVerifier};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

/// Longer than anything here takes.
pub(super) const LONG: Duration = Duration::from_secs(60);
/// For checks that must run out of time, after steps that take a moment on a busy machine.
pub(super) const SHORT: Duration = Duration::from_secs(1);

/// A server in this process; it ends with the test.
pub(super) struct Server {
    pub(super) address: SocketAddr,
    _task: JoinSet<()>,
}

/// Gives each connection to `script`, one after the other.
pub(super) async fn serve<F, Served>(script: F) -> Server
where
    F: Fn(TcpStream) -> Served + Send + 'static,
    Served: Future<Output = ()> + Send,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut task = JoinSet::new();
    task.spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            script(stream).await;
        }
    });
    Server { address, _task: task }
}

/// An address where nobody listens; the servers in this process are at 127.0.0.1.
pub(super) async fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.2:0").await.unwrap().local_addr().unwrap()
}

/// TLS with a certificate that nobody vouches for.
pub(super) fn acceptor() -> TlsAcceptor {
    let (certificate, key) = self_signed();
    let config = server_config().with_no_client_auth();
    TlsAcceptor::from(Arc::new(config.with_single_cert(vec![certificate], key).unwrap()))
}

/// TLS for clients with a certificate of their own, as between IHE secure nodes.
pub(super) fn mutual_acceptor() -> TlsAcceptor {
    let (certificate, key) = self_signed();
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone()).unwrap();
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), ring());
    let config = server_config().with_client_cert_verifier(verifier.build().unwrap());
    TlsAcceptor::from(Arc::new(config.with_single_cert(vec![certificate], key).unwrap()))
}

fn self_signed() -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
    let made = rcgen::generate_simple_self_signed(["pacs.example".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    (made.cert.der().clone(), key)
}

fn ring() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn server_config() -> ConfigBuilder<ServerConfig, WantsVerifier> {
    ServerConfig::builder_with_provider(ring()).with_safe_default_protocol_versions().unwrap()
}

pub(super) async fn check(probe: &Probe, target: SocketAddr, timeout: Duration) -> CheckResult {
    super::run(probe, target, timeout).await.unwrap()
}

#[track_caller]
pub(super) fn assert_healthy(result: &CheckResult, layer: Layer, cause: &str) {
    assert_eq!((result.healthy, result.layer, result.cause.as_str()), (true, layer, cause));
}

#[track_caller]
pub(super) fn assert_failed(result: &CheckResult, layer: Layer, cause: &str) {
    assert_eq!((result.healthy, result.layer, result.cause.as_str()), (false, layer, cause));
}

/// A real server in its own process.
pub(super) struct Process(Child);

impl Process {
    pub(super) fn start(command: &mut Command) -> Self {
        let quiet = command.stdout(Stdio::null()).stderr(Stdio::null());
        Self(quiet.spawn().unwrap_or_else(|error| panic!("{quiet:?} must be installed: {error}")))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Checks until the server is up; gives the first result with an answer.
pub(super) async fn check_when_up(probe: &Probe, target: SocketAddr) -> CheckResult {
    let up = async {
        loop {
            let result = check(probe, target, LONG).await;
            if result.layer == Layer::Application {
                return result;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(LONG, up).await.expect("the server comes up")
}
