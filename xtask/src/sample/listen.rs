//! The accept loop that all sample servers have.
//!
//! One task a connection; what goes wrong on one is printed and ends that one.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::say;

/// Opens the listener of the server `name`.
pub(super) async fn bind(name: &str, listen: SocketAddr) -> anyhow::Result<TcpListener> {
    let listener = TcpListener::bind(listen).await;
    let listener = listener.with_context(|| format!("{name} cannot listen on {listen}"))?;
    say(format_args!("{name} listens on {}", listener.local_addr()?));
    Ok(listener)
}

/// Gives each connection to `handle`; for ever.
pub(super) async fn serve<H, Handled>(name: &str, listener: TcpListener, handle: H) -> !
where
    H: Fn(TcpStream) -> Handled,
    Handled: Future<Output = anyhow::Result<()>> + Send + 'static,
{
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            // Both may be dropped: neither loses a connection or a result.
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    let _ = stream.set_nodelay(true);
                    connections.spawn(handle(stream));
                }
                Err(error) => {
                    say(format_args!("{name} cannot accept: {error}"));
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            },
            Some(ended) = connections.join_next() => match ended {
                Ok(Ok(())) => {}
                Ok(Err(error)) => say(format_args!("{name}: {error:#}")),
                Err(error) => say(format_args!("{name}: {error}")),
            },
        }
    }
}
