//! A channel on which every call has a deadline.
//!
//! It covers connecting, too: a controller that is alive and stuck takes a connection and then says
//! nothing. A stream has its deadline for the first word; what follows may take for ever.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response};
use tonic::Status;
use tonic::body::Body;
use tonic::transport::Channel;
use tower::Service;

#[derive(Clone, Debug)]
pub(crate) struct Timed {
    channel: Channel,
    patience: Duration,
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

impl Timed {
    pub(crate) fn new(channel: Channel, patience: Duration) -> Self {
        Self { channel, patience }
    }

    /// For a call that is bounded by who makes it.
    pub(crate) fn plain(&self) -> Channel {
        self.channel.clone()
    }
}

impl Service<Request<Body>> for Timed {
    type Response = Response<Body>;
    type Error = Failure;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Failure>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        self.channel.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let (answer, patience) = (self.channel.call(request), self.patience);
        Box::pin(async move {
            match tokio::time::timeout(patience, answer).await {
                Ok(answer) => answer.map_err(Into::into),
                Err(_) => Err(Status::deadline_exceeded("no answer in time").into()),
            }
        })
    }
}
