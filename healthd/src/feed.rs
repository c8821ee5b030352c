//! The local feed: tells the verdicts to whoever listens on this machine, all of them first, then
//! each change of conclusion.

use std::pin::Pin;
use std::sync::Arc;

use futures_util::{Stream, stream};
use gantry_proto::agent::v1 as pb;
use pb::health_feed_service_server::{HealthFeedService, HealthFeedServiceServer};
use tokio::net::UnixListener;
use tokio::sync::watch;
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};
use tracing::error;

use crate::board::Board;
use crate::words::messages;

/// Serves the feed until stopped.
pub async fn serve(listener: UnixListener, board: Arc<Board>, stop: CancellationToken) {
    let feed = HealthFeedServiceServer::new(Feed { board });
    let server = tonic::transport::Server::builder()
        .add_service(feed)
        .serve_with_incoming(UnixListenerStream::new(listener));
    // Cancel safe in the only sense that matters here: listeners come back to the next healthd.
    if let Some(Err(failure)) = stop.run_until_cancelled(server).await {
        error!(%failure, "the feed cannot be served");
    }
}

#[derive(Debug)]
struct Feed {
    board: Arc<Board>,
}

struct Listener {
    board: Arc<Board>,
    changes: watch::Receiver<u64>,
    version: u64,
    first: bool,
}

#[tonic::async_trait]
impl HealthFeedService for Feed {
    type WatchVerdictsStream =
        Pin<Box<dyn Stream<Item = Result<pb::WatchVerdictsResponse, Status>> + Send>>;

    async fn watch_verdicts(
        &self,
        _request: Request<pb::WatchVerdictsRequest>,
    ) -> Result<Response<Self::WatchVerdictsStream>, Status> {
        let (board, changes) = (Arc::clone(&self.board), self.board.subscribe());
        let listener = Listener { board, changes, version: 0, first: true };
        let stream = stream::unfold(listener, |mut listener| async {
            let message = listener.next().await?;
            Some((Ok(message), listener))
        });
        Ok(Response::new(Box::pin(stream)))
    }
}

impl Listener {
    async fn next(&mut self) -> Option<pb::WatchVerdictsResponse> {
        if !std::mem::take(&mut self.first) {
            self.changes.changed().await.ok()?;
        }
        self.changes.mark_unchanged();
        let changes = self.board.changes_since(self.version);
        self.version = changes.version;
        let full = changes.whole;
        Some(pb::WatchVerdictsResponse { verdicts: messages(changes), full })
    }
}
