//! A connection, with who is at its other end, for as long as that one is trusted.
//!
//! TLS checks a certificate once, and streams last for months. So the connection itself ends when the
//! certificate that it began with expires, or when its CA is retired, whatever goes on on it.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use gantry_runtime::clock;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;
use tracing::info;

use super::Trusted;
use crate::api::Connection;
use crate::authority::Shown;

/// A certificate is good to the end of the second that it names.
const LAST_SECOND: Duration = Duration::from_secs(1);
/// How often the time of day is looked at, which may be set anew.
const LOOK: Duration = Duration::from_secs(60);
/// So that whoever retires the CA of its own certificate hears that it is done.
const FAREWELL: Duration = Duration::from_millis(500);

pub(super) struct Peer {
    stream: TlsStream<TcpStream>,
    connection: Connection,
    /// Comes to an end, with the reason, when the connection must.
    end: Pin<Box<dyn Future<Output = &'static str> + Send>>,
    ended: Option<&'static str>,
}

impl Peer {
    pub(super) fn new(
        stream: TlsStream<TcpStream>,
        connection: Connection,
        trust: Trusted,
    ) -> Self {
        let end = Box::pin(lapse(connection.shown.clone(), trust));
        Self { stream, connection, end, ended: None }
    }

    /// An error once the connection must end. Asked in every direction, since who does not read what
    /// it is sent keeps the others from being asked.
    fn check(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        let why = match self.ended {
            Some(why) => why,
            None => {
                let Poll::Ready(why) = self.end.as_mut().poll(context) else { return Ok(()) };
                info!(caller = %self.connection.caller, why, "connection ended");
                self.ended = Some(why);
                why
            }
        };
        Err(io::Error::new(io::ErrorKind::ConnectionAborted, why))
    }
}

/// Comes to an end when the certificate is not good any more.
async fn lapse(shown: Option<Arc<Shown>>, mut trust: Trusted) -> &'static str {
    let Some(shown) = shown else { return std::future::pending().await };
    loop {
        if !trust.borrow_and_update().trusts(&shown.ca) {
            tokio::time::sleep(FAREWELL).await;
            return "the CA of its certificate was retired";
        }
        let left = (shown.expire_time + LAST_SECOND).duration_since(clock::wall());
        let Some(left) = Duration::try_from(left).ok().filter(|left| !left.is_zero()) else {
            return "its certificate has expired";
        };
        // Both arms are cancel safe: `changed` by tokio's documentation, the other sleeps.
        tokio::select! {
            changed = trust.changed() => if changed.is_err() {
                return "the controller stops";
            },
            () = tokio::time::sleep(left.min(LOOK)) => {}
        }
    }
}

impl fmt::Debug for Peer {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Peer").field("connection", &self.connection).finish_non_exhaustive()
    }
}

impl Connected for Peer {
    type ConnectInfo = Connection;

    fn connect_info(&self) -> Connection {
        self.connection.clone()
    }
}

impl AsyncRead for Peer {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check(context)?;
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Peer {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check(context)?;
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check(context)?;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
