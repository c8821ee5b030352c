//! A stand-in for the controller: the API over mutual TLS on a real port, with canned answers.
//!
//! It answers from `tests/golden/hospital.yaml` in pages of two, writes down every change that is
//! asked for, and counts a draining server's connections down. It keeps nothing else.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use gantry_proto::v1;
use gantry_proto::v1::balancer_service_server::BalancerServiceServer;
use gantry_proto::v1::config_service_server::ConfigServiceServer;
use gantry_proto::v1::fleet_service_server::FleetServiceServer;
use gantry_proto::v1::observe_service_server::ObserveServiceServer;
use gantry_runtime::identity::{CONTROLLER, Identity, URI_SCHEME};
use parking_lot::Mutex;
use prost_reflect::{DescriptorPool, DynamicMessage};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::{Certificate, Server, ServerTlsConfig};

/// What the services share.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) hospital: v1::Overview,
    /// `Method {request}`, one for each change asked for.
    pub(crate) calls: Mutex<Vec<String>>,
    /// Connections open on a draining server; one fewer at each look.
    pub(crate) open: Mutex<i64>,
    pool: DescriptorPool,
}

pub(crate) struct Stand {
    pub(crate) state: Arc<State>,
    pub(crate) dir: TempDir,
    pub(crate) address: SocketAddr,
    tls: ServerTlsConfig,
    serving: Option<Serving>,
}

impl Stand {
    /// Serves on a free port.
    pub(crate) async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let tls = identities(&dir);
        let pool = DescriptorPool::decode(gantry_proto::DESCRIPTORS).unwrap();
        let hospital = read_hospital(&pool);
        let (calls, open) = (Mutex::default(), Mutex::new(3));
        let state = Arc::new(State { hospital, calls, open, pool });
        let listener = TcpListener::bind((own_address(), 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut stand = Self { state, dir, address, tls, serving: None };
        stand.serve(listener);
        stand
    }

    /// Ends every connection and serves no more.
    pub(crate) fn stop(&mut self) {
        drop(self.serving.take());
    }

    /// Serves again on the same port, as soon as it is free: a child that another test is about to
    /// start holds the old listener until it has become another program.
    pub(crate) async fn restart(&mut self) {
        let listener = loop {
            match TcpListener::bind(self.address).await {
                Ok(listener) => break listener,
                Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse),
            }
            tokio::task::yield_now().await;
        };
        self.serve(listener);
    }

    pub(crate) fn identity(&self) -> PathBuf {
        self.dir.path().join("identity")
    }

    pub(crate) fn calls(&self) -> Vec<String> {
        std::mem::take(&mut *self.state.calls.lock())
    }

    fn serve(&mut self, listener: TcpListener) {
        let state = &self.state;
        let router = Server::builder()
            .tls_config(self.tls.clone())
            .unwrap()
            .add_service(BalancerServiceServer::from_arc(Arc::clone(state)))
            .add_service(FleetServiceServer::from_arc(Arc::clone(state)))
            .add_service(ObserveServiceServer::from_arc(Arc::clone(state)))
            .add_service(ConfigServiceServer::from_arc(Arc::clone(state)));
        // Connections are tasks of their own in there, which only ending the whole runtime ends.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let listener = listener.into_std().unwrap();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let thread = std::thread::spawn(move || {
            runtime.block_on(async move {
                let listener = TcpListener::from_std(listener).unwrap();
                tokio::select! {
                    served = router.serve_with_incoming(TcpListenerStream::new(listener)) => {
                        served.unwrap();
                    }
                    _ = stopped => {}
                }
            });
            runtime.shutdown_background();
        });
        self.serving = Some(Serving { stop: Some(stop), thread: Some(thread) });
    }
}

/// The thread that serves; ends with this.
struct Serving {
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Drop for Serving {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl State {
    /// Writes down that `request` was made.
    pub(crate) fn note(&self, method: &str, request: &impl prost::Message) {
        let name = format!("gantry.v1.{method}Request");
        let mut message = DynamicMessage::new(self.pool.get_message_by_name(&name).unwrap());
        message.transcode_from(request).unwrap();
        message.clear_field_by_name("request_id");
        let json = serde_json::to_string(&message).unwrap();
        self.calls.lock().push(format!("{method} {json}"));
    }

    pub(crate) fn services(&self) -> Vec<v1::VirtualService> {
        self.hospital.rows.iter().filter_map(|row| row.service.clone()).collect()
    }

    pub(crate) fn servers(&self) -> Vec<v1::RealServer> {
        self.hospital.rows.iter().flat_map(|row| row.real_servers.clone()).collect()
    }
}

/// A loopback address of this stand's own, so that nobody takes its port while it is down.
fn own_address() -> Ipv4Addr {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    let [_, _, high, low] = std::process::id().to_be_bytes();
    Ipv4Addr::new(127, high.max(1), low, NEXT.fetch_add(1, Ordering::Relaxed))
}

fn read_hospital(pool: &DescriptorPool) -> v1::Overview {
    let text = include_str!("../golden/hospital.yaml");
    let descriptor = pool.get_message_by_name("gantry.v1.Overview").unwrap();
    let read = |deserializer: serde_saphyr::Deserializer<'_, '_>| {
        DynamicMessage::deserialize(descriptor, deserializer)
    };
    let message = serde_saphyr::with_deserializer_from_str(text, read).unwrap();
    message.transcode_to().unwrap()
}

/// The server's TLS, and an operator's identity that it accepts, in `dir`.
fn identities(dir: &TempDir) -> ServerTlsConfig {
    let ca_key = KeyPair::generate().unwrap();
    let mut ca = CertificateParams::default();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_pem = ca.self_signed(&ca_key).unwrap().pem();
    let issuer = Issuer::new(ca, ca_key);
    let signed = |name: SanType| {
        let key = KeyPair::generate().unwrap();
        let mut leaf = CertificateParams::default();
        leaf.subject_alt_names.push(name);
        let certificate = leaf.signed_by(&key, &issuer).unwrap().pem();
        (certificate, key.serialize_pem())
    };
    let uri = format!("{URI_SCHEME}users/anna");
    let (certificate, key) = signed(SanType::URI(uri.try_into().unwrap()));
    let path = dir.path().join("identity");
    Identity::save(&path, &ca_pem, &certificate, &key).unwrap();
    let (certificate, key) = signed(SanType::DnsName(CONTROLLER.try_into().unwrap()));
    ServerTlsConfig::new()
        .identity(tonic::transport::Identity::from_pem(certificate, key))
        .client_ca_root(Certificate::from_pem(ca_pem))
}
