//! Gives healthd the sockets by which it reaches virtual addresses through real servers.

use std::time::Duration;

use gantry_runtime::passage;
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::door::Door;

/// How long a request may take to arrive.
const PATIENCE: Duration = Duration::from_secs(5);

/// Serves until stopped.
pub async fn serve(listener: UnixListener, door: Door, stop: CancellationToken) {
    let mut requests = JoinSet::new();
    let forever = async {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => drop(requests.spawn(answer(stream, door.clone()))),
                Err(error) => {
                    warn!(%error, "requests for ways cannot be taken");
                    tokio::time::sleep(PATIENCE).await;
                }
            }
            while requests.try_join_next().is_some() {}
        }
    };
    let _stopped = stop.run_until_cancelled(forever).await;
}

async fn answer(mut stream: UnixStream, door: Door) {
    let Ok(Ok(server)) = tokio::time::timeout(PATIENCE, passage::hear(&mut stream)).await else {
        return;
    };
    let socket = tokio::task::spawn_blocking(move || door.socket_to(server)).await;
    let socket = socket.unwrap_or_else(|error| Err(error.to_string()));
    if let Err(error) = passage::tell(&mut stream, socket).await {
        debug!(%error, "who asked for a way has gone");
    }
}
