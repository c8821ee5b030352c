//! Connections to real servers: made, kept for the next request, and let go.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, TcpStream as StdStream};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gantry_model::name::ServiceName;
use gantry_model::service::Tcp;
use gantry_runtime::clock;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustix::io::Errno;
use rustls::ClientConfig;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tracing::debug;

use crate::server::Server;
use crate::socket::{self, Source};
use crate::tls::WithServers;

use super::body::Upload;
use super::desk::Desk;

pub(super) type Sender = http1::SendRequest<Upload>;

/// How long a connection is kept without a request.
const KEPT: Duration = Duration::from_secs(30);
/// How often it is looked for those that were kept long enough.
const SWEEP: Duration = Duration::from_secs(5);
/// Connections to one server that a thread keeps.
const MOST_KEPT: usize = 256;

/// Connections without a request, by their server.
#[derive(Debug, Default)]
pub(super) struct Idle(RefCell<HashMap<*const Server, Lot>>);

#[derive(Debug)]
struct Lot {
    /// While it is here, no other has its address in memory.
    server: Arc<Server>,
    /// Those that were used last at the end.
    kept: Vec<Kept>,
}

#[derive(Debug)]
struct Kept {
    sender: Sender,
    kind: Kind,
    since: Instant,
}

/// What makes one connection as good as another.
#[derive(Clone, Debug)]
pub(super) struct Kind {
    pub(super) at: SocketAddr,
    pub(super) source: Source,
    pub(super) tls: Option<Arc<ClientConfig>>,
}

/// A connection that a request has.
#[derive(Debug)]
pub(super) struct Lent {
    pub(super) sender: Sender,
    /// It has had others before.
    pub(super) is_used: bool,
    /// Where it goes afterwards; absent: nowhere.
    home: Option<(Rc<Desk>, Arc<Server>, Kind)>,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum DialError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("no TLS: {0}")]
    Tls(io::Error),
    #[error("it did not take the connection in time")]
    Timeout,
    #[error(transparent)]
    Http(#[from] hyper::Error),
}

impl Kind {
    fn fits(&self, other: &Self) -> bool {
        let same_tls = match (&self.tls, &other.tls) {
            (Some(a), Some(b)) => Arc::ptr_eq(a, b),
            (None, None) => true,
            _ => false,
        };
        self.at == other.at && self.source == other.source && same_tls
    }
}

impl Lent {
    pub(super) fn new(sender: Sender, home: Option<(Rc<Desk>, Arc<Server>, Kind)>) -> Self {
        Self { sender, is_used: false, home }
    }

    /// It is good for another request.
    pub(super) fn give_back(self) {
        if let Some((desk, server, kind)) = self.home
            && self.sender.is_ready()
        {
            desk.idle.keep(server, self.sender, kind);
        }
    }
}

impl Idle {
    /// A connection of this kind to `server`, if one is kept.
    pub(super) fn take(desk: &Rc<Desk>, server: &Arc<Server>, kind: &Kind) -> Option<Lent> {
        let mut lots = desk.idle.0.borrow_mut();
        let kept = &mut lots.get_mut(&Arc::as_ptr(server))?.kept;
        while let Some(candidate) = kept.pop() {
            if candidate.sender.is_ready() && candidate.kind.fits(kind) {
                let home = Some((Rc::clone(desk), Arc::clone(server), kind.clone()));
                return Some(Lent { sender: candidate.sender, is_used: true, home });
            }
        }
        None
    }

    fn keep(&self, server: Arc<Server>, sender: Sender, kind: Kind) {
        let mut lots = self.0.borrow_mut();
        let lot =
            lots.entry(Arc::as_ptr(&server)).or_insert_with(|| Lot { server, kept: Vec::new() });
        if lot.kept.len() < MOST_KEPT {
            lot.kept.push(Kept { sender, kind, since: clock::monotonic() });
        }
    }

    /// Lets those of a service go.
    pub(super) fn forget(&self, service: &ServiceName) {
        self.0.borrow_mut().retain(|_, lot| lot.server.name.service != *service);
    }

    /// Lets those go that were kept long enough, for ever.
    pub(super) async fn sweep(&self) {
        loop {
            tokio::time::sleep(SWEEP).await;
            let oldest = clock::monotonic().checked_sub(KEPT);
            let is_good = |kept: &Kept| {
                !kept.sender.is_closed() && oldest.is_none_or(|oldest| kept.since > oldest)
            };
            self.0.borrow_mut().retain(|_, lot| {
                lot.kept.retain(is_good);
                !lot.kept.is_empty()
            });
        }
    }
}

/// Connects to a real server, within `patience`; `header` is what it is told first.
pub(super) async fn dial(
    (at, source): (SocketAddr, Source),
    tcp: &Tcp,
    header: &[u8],
    tls: Option<&WithServers>,
    patience: Duration,
) -> Result<Sender, DialError> {
    let dial = async {
        let mut stream = connect(at, source, tcp).await?;
        stream.write_all(header).await?;
        match tls {
            None => speak(stream).await,
            Some(tls) => {
                let connector = TlsConnector::from(Arc::clone(&tls.config));
                let secured = connector.connect(tls.name(at.ip()), stream).await;
                speak(secured.map_err(DialError::Tls)?).await
            }
        }
    };
    tokio::time::timeout(patience, dial).await.unwrap_or(Err(DialError::Timeout))
}

async fn connect(at: SocketAddr, source: Source, tcp: &Tcp) -> io::Result<TcpStream> {
    let stream = TcpStream::from_std(StdStream::from(socket::connect(at, source, tcp)?))?;
    stream.writable().await?;
    match stream.take_error()? {
        Some(error) => Err(error),
        None => Ok(stream),
    }
}

async fn speak<S>(stream: S) -> Result<Sender, DialError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::task::spawn_local(async move {
        // Whose request it was has been told.
        if let Err(error) = connection.with_upgrades().await {
            debug!(%error, "a connection to a real server ended");
        }
    });
    Ok(sender)
}

impl DialError {
    pub(super) fn errno(&self) -> Option<Errno> {
        let Self::Io(error) = self else { return None };
        Errno::from_io_error(error)
    }
}
