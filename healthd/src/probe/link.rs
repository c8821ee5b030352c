//! The connection of one check: opened with or without TLS, closed without a reset, and at all
//! times aware of how far the check got, so that a check that runs out of time can say where.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use gantry_model::name::ServerName as ServerId;
use gantry_model::service::ProxyVersion;
use gantry_model::verdict::Layer;
use gantry_runtime::passage;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpSocket, TcpStream};

use super::failure::Failure;
use super::tls;

/// What a server may still send while the connection closes.
const LAST_WORDS: u64 = 64 * 1024;

/// One check's connection, open or not.
pub(super) struct Link {
    target: SocketAddr,
    /// By way of which server, and who gives such ways.
    through: Option<(Arc<Path>, ServerId)>,
    layer: Layer,
    /// What the check is doing, as in "timed out ...".
    doing: &'static str,
    stream: Option<Box<dyn Stream>>,
    /// What the connection begins with.
    introduction: &'static [u8],
    goodbye: Goodbye,
}

/// What is sent before the connection is closed, and how many bytes of answer are waited for.
#[derive(Clone, Copy)]
pub(super) struct Goodbye {
    pub(super) words: &'static [u8],
    pub(super) answer: u64,
}

/// Plain TCP or TLS over it.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

impl Goodbye {
    pub(super) const NONE: Self = Self { words: &[], answer: 0 };
}

impl Link {
    pub(super) fn to(target: SocketAddr) -> Self {
        let (layer, doing) = (Layer::Connection, "connecting");
        let (stream, introduction, goodbye) = (None, &[][..], Goodbye::NONE);
        Self { target, through: None, layer, doing, stream, introduction, goodbye }
    }

    /// The same, that begins with a header of the PROXY protocol if asked for: it says that the
    /// connection is no client's.
    pub(super) fn introduced(self, version: Option<ProxyVersion>) -> Self {
        let introduction = match version {
            None => &[][..],
            Some(ProxyVersion::V1) => b"PROXY UNKNOWN\r\n",
            Some(ProxyVersion::V2) => b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0",
        };
        Self { introduction, ..self }
    }

    /// The same to a virtual address, by way of one real server.
    pub(super) fn through(target: SocketAddr, passage: Arc<Path>, server: ServerId) -> Self {
        let doing = "connecting to the virtual address through the server: does it accept traffic \
                     for that address?";
        Self { through: Some((passage, server)), doing, ..Self::to(target) }
    }

    pub(super) fn target(&self) -> SocketAddr {
        self.target
    }

    /// How far the check got.
    pub(super) fn layer(&self) -> Layer {
        self.layer
    }

    /// The failure of a check whose time ran out.
    pub(super) fn overdue(&self) -> Failure {
        Failure::Server(format!("timed out {}", self.doing))
    }

    /// Notes what the check does next on the application's layer.
    pub(super) fn begin(&mut self, doing: &'static str) {
        self.layer = Layer::Application;
        self.doing = doing;
    }

    /// From now on the connection is to be closed with this.
    pub(super) fn on_close(&mut self, goodbye: Goodbye) {
        self.goodbye = goodbye;
    }

    /// Connects over TCP.
    pub(super) async fn connect(&mut self) -> Result<(), Failure> {
        let stream = self.dial().await?;
        self.stream = Some(Box::new(stream));
        Ok(())
    }

    async fn dial(&mut self) -> Result<Prompt, Failure> {
        let connected = match &self.through {
            None => TcpStream::connect(self.target).await,
            Some((passage, server)) => {
                let socket = passage::ask(passage, server).await;
                let socket = socket.map_err(|error| Failure::Own(error.to_string()))?;
                TcpSocket::from_std_stream(socket.into()).connect(self.target).await
            }
        };
        let mut stream = prompt(connected)?;
        let introduced = stream.write_all(self.introduction).await;
        introduced.map_err(|error| Failure::talking(&error))?;
        Ok(stream)
    }

    /// Connects, and speaks TLS if `tls`. The server is known by its address.
    pub(super) async fn open(&mut self, tls: bool) -> Result<(), Failure> {
        if !tls {
            return self.connect().await;
        }
        self.connect_tls(ServerName::from(self.target.ip())).await
    }

    /// Connects and speaks TLS to a server known as `name`.
    pub(super) async fn connect_tls(&mut self, name: ServerName<'static>) -> Result<(), Failure> {
        let stream = self.dial().await?;
        self.layer = Layer::Tls;
        self.doing = "in the TLS handshake";
        let shaken = tls::connector().connect(name, stream).await;
        let stream = shaken.map_err(|error| Failure::shaking_hands(&error))?;
        self.stream = Some(Box::new(stream));
        Ok(())
    }

    /// The open connection.
    pub(super) fn stream(&mut self) -> &mut dyn Stream {
        self.stream.as_deref_mut().expect("a check talks only after it has connected")
    }

    /// Sends all of `bytes`.
    pub(super) async fn send(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let stream = self.stream();
        stream.write_all(bytes).await.map_err(|error| Failure::talking(&error))?;
        stream.flush().await.map_err(|error| Failure::talking(&error))
    }

    /// Waits until the server closes the connection. What it says meanwhile is of no interest, and of
    /// one that says much no more is heard, its close neither.
    pub(super) async fn closed(mut self) {
        let (stream, mut heard, mut scrap) = (self.stream(), 0, [0; 256]);
        while heard < LAST_WORDS {
            match stream.read(&mut scrap).await {
                Ok(0) | Err(_) => return,
                Ok(length) => heard += u64::try_from(length).unwrap_or(LAST_WORDS),
            }
        }
        std::future::pending().await
    }

    /// Says goodbye, then that no more is coming, and waits for the server to say the same: closing
    /// over unread bytes would send a reset, which servers write into their logs. Nothing that goes
    /// wrong here matters any more.
    pub(super) async fn close(&mut self) {
        let Some(stream) = self.stream.take() else { return };
        let _ = say_goodbye(stream, self.goodbye).await;
    }
}

fn prompt(connected: io::Result<TcpStream>) -> Result<Prompt, Failure> {
    let stream = connected.map_err(|error| Failure::connecting(&error))?;
    stream.set_nodelay(true).map_err(|error| Failure::connecting(&error))?;
    Ok(Prompt(stream))
}

async fn say_goodbye(mut stream: Box<dyn Stream>, goodbye: Goodbye) -> io::Result<()> {
    stream.write_all(goodbye.words).await?;
    stream.flush().await?;
    tokio::io::copy(&mut (&mut stream).take(goodbye.answer), &mut tokio::io::sink()).await?;
    stream.shutdown().await?;
    tokio::io::copy(&mut stream.take(LAST_WORDS), &mut tokio::io::sink()).await?;
    Ok(())
}

/// A connection that acknowledges at once. DICOM servers write answers in small pieces without
/// `TCP_NODELAY`; each would wait 40 ms for a delayed acknowledgement, and a check would measure
/// that instead of the server.
struct Prompt(TcpStream);

impl AsyncRead for Prompt {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = ready!(Pin::new(&mut self.0).poll_read(context, buffer));
        // The kernel forgets this after some reads, so it is asked for again after each one; a
        // kernel that refuses costs milliseconds, nothing more.
        let _ = self.0.set_quickack(true);
        Poll::Ready(read)
    }
}

impl AsyncWrite for Prompt {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}
