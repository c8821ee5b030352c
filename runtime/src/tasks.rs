//! Tasks that belong to somebody: they are told to stop, and waited for.
//!
//! A control task that panics ends the process. Better to be restarted by the service manager
//! than to go on with half of one's mind; traffic does not depend on control tasks.

use std::future::Future;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

/// The tasks of one process.
#[derive(Debug, Default)]
pub struct Tasks {
    set: JoinSet<()>,
    names: Vec<(tokio::task::Id, &'static str)>,
    stop: CancellationToken,
}

/// Why [`Tasks::run_until_stopped`] came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Somebody asked for it.
    Stopped,
    /// A task panicked or ended without being asked.
    TaskFailed(&'static str),
}

impl Tasks {
    pub fn new() -> Self {
        Self::default()
    }

    /// Cancelled when the process is to stop.
    pub fn stop(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Starts a task that runs until [`Self::stop`] is cancelled.
    pub fn start(&mut self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let handle = self.set.spawn(task);
        self.names.push((handle.id(), name));
    }

    /// Runs until SIGINT, SIGTERM or the end of a task; then stops all, waiting for `grace`.
    pub async fn run_until_stopped(mut self, grace: Duration) -> std::io::Result<Ended> {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        // Every arm is cancel safe: signals are level-triggered by tokio, `join_next_with_id` and
        // `cancelled` by documentation.
        let ended = tokio::select! {
            _ = interrupt.recv() => Ended::Stopped,
            _ = terminate.recv() => Ended::Stopped,
            () = self.stop.cancelled() => Ended::Stopped,
            Some(result) = self.set.join_next_with_id() => {
                let id = match &result { Ok((id, ())) => *id, Err(error) => error.id() };
                let name = self.names.iter().find(|(known, _)| *known == id).map_or("?", |(_, n)| n);
                match result {
                    Ok(_) => error!(task = name, "task ended by itself"),
                    Err(error) => error!(task = name, %error, "task failed"),
                }
                Ended::TaskFailed(name)
            }
        };
        info!("stopping");
        self.stop.cancel();
        let all = async { while self.set.join_next().await.is_some() {} };
        if tokio::time::timeout(grace, all).await.is_err() {
            info!("some tasks did not stop in time");
        }
        Ok(ended)
    }
}
