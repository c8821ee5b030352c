//! One check of one real server: connect, ask, read the answer, say goodbye.
//!
//! In goes a [`Probe`] and an address; out comes a [`CheckResult`] with the layer that was reached
//! and the cause in an administrator's words. Whatever the server sends, a check takes bounded time
//! and memory. Nothing is judged here: one bad answer is one bad answer, and rise and fall are the
//! schedule's.

mod dicom;
mod exchange;
mod failure;
mod http;
mod link;
mod mllp;
mod reply;
mod tcp;
mod tls;

#[cfg(test)]
mod testing;

use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use gantry_medical::hl7::Malformed;
use gantry_model::check::Probe;
use gantry_model::name::ServerName;
use gantry_model::service::ProxyVersion;
use gantry_model::verdict::{CheckResult, Layer};
use gantry_runtime::clock;

use failure::{Failure, Outcome};
use link::Link;

/// How long a server may take to close its side after a check, within the check's own timeout.
const FAREWELL: Duration = Duration::from_millis(250);

/// Asks real servers; tests of the schedule put something else in its place.
pub trait Ask: Clone + Send + Sync + 'static {
    fn ask(
        &self,
        probe: &Probe,
        target: &Target,
        timeout: Duration,
    ) -> impl Future<Output = Result<CheckResult, OwnFault>> + Send;

    /// Opens a connection on which nothing is said, if that can be had in time.
    fn hold(&self, target: &Target, timeout: Duration)
    -> impl Future<Output = Option<Held>> + Send;
}

/// A connection that is held: ends when the server closes it, and is closed when it is dropped.
pub type Held = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What a check connects to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub address: SocketAddr,
    /// The address is a virtual one, and is reached by way of this server.
    pub through: Option<ServerName>,
    /// Begin with a PROXY protocol header that says: this is nobody's connection but ours.
    pub introduce: Option<ProxyVersion>,
}

/// Asks over the network, as [`run`] does.
#[derive(Clone, Debug)]
pub struct Network {
    /// The socket on which agent-l4 gives ways through real servers.
    pub passage: Arc<Path>,
}

/// Why a check could not be made. That is this appliance's own fault and says nothing about the
/// server, which must keep the state it is in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct OwnFault(String);

/// Why a probe cannot be run by this daemon.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unsupported {
    #[error("not a message that could be acknowledged: {0}")]
    Message(#[from] Malformed),
    #[error("not a request that can be sent: {0}")]
    Request(String),
}

impl OwnFault {
    pub fn new(cause: impl Into<String>) -> Self {
        Self(cause.into())
    }
}

impl Ask for Network {
    async fn ask(
        &self,
        probe: &Probe,
        target: &Target,
        timeout: Duration,
    ) -> Result<CheckResult, OwnFault> {
        // Boxed: a server that waits for its next check, as most do, takes no room for one.
        Box::pin(run_on(self.link(target), probe, timeout)).await
    }

    async fn hold(&self, target: &Target, timeout: Duration) -> Option<Held> {
        let mut link = self.link(target);
        let connected = Box::pin(tokio::time::timeout(timeout, link.connect())).await;
        connected.ok()?.ok()?;
        Some(Box::pin(link.closed()))
    }
}

impl Network {
    fn link(&self, target: &Target) -> Link {
        let link = match &target.through {
            None => Link::to(target.address),
            Some(server) => {
                Link::through(target.address, Arc::clone(&self.passage), server.clone())
            }
        };
        link.introduced(target.introduce)
    }
}

/// Whether [`run`] can make this check; an agent rejects a service whose check it cannot make.
pub fn supported(probe: &Probe) -> Result<(), Unsupported> {
    match probe {
        Probe::Mllp(message) => Ok(mllp::supported(message)?),
        Probe::Http(ask) => http::supported(ask),
        Probe::None | Probe::TcpConnect | Probe::Exchange(_) | Probe::DicomEcho(_) => Ok(()),
    }
}

/// Checks the server at `target` once, within `timeout`. Dropping the future ends the check.
pub async fn run(
    probe: &Probe,
    target: SocketAddr,
    timeout: Duration,
) -> Result<CheckResult, OwnFault> {
    run_on(Link::to(target), probe, timeout).await
}

async fn run_on(mut link: Link, probe: &Probe, timeout: Duration) -> Result<CheckResult, OwnFault> {
    if *probe == Probe::None {
        return Ok(not_checked());
    }
    let started = clock::monotonic();
    let outcome = match tokio::time::timeout(timeout, ask(probe, &mut link)).await {
        Ok(outcome) => outcome,
        Err(_) => Err(link.overdue()),
    };
    let (at, took) = (clock::wall(), started.elapsed());
    let patience = FAREWELL.min(timeout.saturating_sub(took));
    // Polled once even when no time is left, so that an A-ABORT goes out if the socket takes it. How
    // the goodbye goes changes no result.
    let _ = tokio::time::timeout(patience, link.close()).await;
    let (healthy, cause) = match outcome {
        Ok(cause) => (true, cause),
        Err(Failure::Server(cause)) => (false, cause),
        Err(Failure::Own(cause)) => return Err(OwnFault::new(cause)),
    };
    Ok(CheckResult { healthy, layer: link.layer(), cause, at, took })
}

/// The result for a server that nobody checks.
fn not_checked() -> CheckResult {
    CheckResult {
        healthy: true,
        layer: Layer::None,
        cause: "not checked".to_owned(),
        at: clock::wall(),
        took: Duration::ZERO,
    }
}

async fn ask(probe: &Probe, link: &mut Link) -> Outcome {
    match probe {
        Probe::TcpConnect => tcp::ask(link).await,
        Probe::Exchange(exchange) => exchange::ask(exchange, link).await,
        Probe::Http(request) => http::ask(request, link).await,
        Probe::DicomEcho(echo) => dicom::ask(echo, link).await,
        Probe::Mllp(message) => mllp::ask(message, link).await,
        Probe::None => Ok("not checked".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gantry_model::check::{Http, Mllp};
    use tokio::io::AsyncWriteExt;

    #[tokio::test]
    async fn no_check_is_healthy_at_once() {
        let nowhere = "192.0.2.1:1".parse().unwrap();
        let result = run(&Probe::None, nowhere, Duration::ZERO).await.unwrap();
        assert!(result.healthy);
        assert_eq!((result.layer, result.to_string().as_str()), (Layer::None, "not checked"));
    }

    #[tokio::test]
    async fn a_held_connection_ends_with_the_servers_process() {
        let network = Network { passage: Path::new("nowhere.sock").into() };
        let (close, closed) = tokio::sync::oneshot::channel::<()>();
        let closed = Arc::new(parking_lot::Mutex::new(Some(closed)));
        let server = testing::serve(move |mut stream| {
            let closed = closed.lock().take();
            async move {
                stream.write_all(b"220 welcome\r\n").await.unwrap();
                let _ = closed.unwrap().await;
            }
        })
        .await;
        let target = Target { address: server.address, through: None, introduce: None };
        let mut held = network.hold(&target, testing::LONG).await.unwrap();
        let early = tokio::time::timeout(Duration::from_millis(50), &mut held).await;
        assert!(early.is_err(), "a greeting is not an end");
        drop(close);
        tokio::time::timeout(testing::LONG, held).await.unwrap();
        let nobody = Target { address: testing::nobody().await, ..target };
        assert!(network.hold(&nobody, testing::LONG).await.is_none());
    }

    #[test]
    fn what_cannot_be_asked_is_refused_beforehand() {
        let mllp = Mllp { message: "MSH|^~\\&|A".into(), expect_codes: vec![], tls: false };
        let refused = supported(&Probe::Mllp(mllp)).unwrap_err().to_string();
        assert!(refused.starts_with("not a message that could be acknowledged"), "{refused}");
        let mut request = Http {
            method: "GET".into(),
            path: "/".into(),
            host: String::new(),
            body: String::new(),
            content_type: String::new(),
            expect_statuses: vec![],
            expect_body: None,
            tls: false,
        };
        assert_eq!(supported(&Probe::Http(request.clone())), Ok(()));
        request.host = "a\nb".into();
        let refused = supported(&Probe::Http(request)).unwrap_err().to_string();
        assert!(refused.starts_with("not a request that can be sent"), "{refused}");
    }
}
