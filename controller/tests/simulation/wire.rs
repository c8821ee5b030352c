//! gRPC over simulated connections, and a world that stands still while a disk works.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::{Stream, stream};
use gantry_controller::api::{Caller, Connection};
use gantry_runtime::rpc;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tonic::body::Body;
use tonic::transport::server::Connected;
use tonic::transport::{Channel, Endpoint};
use tower::Service;
use turmoil::net::{TcpListener, TcpStream};

use crate::shared::{CONTROLLER, Shared, caller};

const PORT: u16 = 7443;

/// A channel to the controller, as patient as the real one.
pub(crate) fn channel() -> Channel {
    let connector = tower::service_fn(|_: http::Uri| async {
        TcpStream::connect((CONTROLLER, PORT)).await.map(TokioIo::new)
    });
    rpc::patient(Endpoint::from_static("http://controller:7443"))
        .connect_with_connector_lazy(connector)
}

/// The controller's connections, each with who is at its other end.
pub(crate) async fn incoming() -> io::Result<impl Stream<Item = io::Result<Wire>>> {
    let listener = TcpListener::bind(("0.0.0.0", PORT)).await?;
    Ok(stream::unfold(listener, |listener| async {
        let accepted = listener.accept().await.map(|(stream, peer)| {
            let host = turmoil::reverse_lookup(peer.ip()).unwrap_or_default();
            Wire { stream, caller: caller(&host) }
        });
        Some((accepted, listener))
    }))
}

pub(crate) struct Wire {
    stream: TcpStream,
    caller: Caller,
}

impl Connected for Wire {
    type ConnectInfo = Connection;

    fn connect_info(&self) -> Connection {
        Connection { caller: self.caller.clone(), shown: None }
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Wire {
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

/// Awaits work that other threads do, and that takes no simulated time: tokio's paused clock does not
/// move while a blocking task runs.
pub(crate) async fn still<T>(work: impl Future<Output = T>) -> T {
    let (over, wait) = std::sync::mpsc::channel::<()>();
    let clock_holder = tokio::task::spawn_blocking(move || wait.recv().is_ok());
    let value = work.await;
    drop(over);
    let _always_ends = clock_holder.await;
    value
}

/// Answers operators' calls in no simulated time, and counts the agents' streams.
#[derive(Clone)]
pub(crate) struct Still<S> {
    pub(crate) inner: S,
    pub(crate) shared: Arc<Shared>,
}

type Answer<E> = Pin<Box<dyn Future<Output = Result<http::Response<Body>, E>> + Send>>;

impl<S> Service<http::Request<Body>> for Still<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error: Send, Future: Send>
        + Clone
        + Send
        + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Answer<S::Error>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Answer<S::Error> {
        let path = request.uri().path().to_owned();
        let connection = request.extensions().get::<Connection>();
        if path.ends_with("/WatchConfig")
            && let Some(Caller::Appliance { peer, .. }) = connection.map(|known| &known.caller)
        {
            *self.shared.watch_calls.lock().entry(peer.clone()).or_default() += 1;
        }
        let spare = self.inner.clone();
        let mut ready = std::mem::replace(&mut self.inner, spare);
        if path.starts_with("/gantry.agent.v1.AgentService/") {
            return Box::pin(ready.call(request));
        }
        Box::pin(async move {
            let (head, body) = request.into_parts();
            // All of it must have come before time may stop.
            let whole = body.collect().await.map(|body| body.to_bytes());
            let body = Body::new(Full::<Bytes>::new(whole.unwrap_or_default()));
            still(ready.call(http::Request::from_parts(head, body))).await
        })
    }
}
