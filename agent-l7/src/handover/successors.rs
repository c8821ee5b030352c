//! Where a process waits for its successor.

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use tokio::net::UnixListener;
use tokio::task::JoinHandle;
use tracing::warn;

use super::{ChannelError, Successor, socket};

#[derive(Debug)]
pub struct Successors {
    listener: Option<UnixListener>,
    /// One that is introducing itself.
    meeting: Option<JoinHandle<Result<Successor, ChannelError>>>,
}

impl Successors {
    /// Takes the place of the process before, if there was one. Without that traffic is carried as well.
    pub fn await_in(state: &Path) -> Self {
        let listener = listen(state);
        if let Err(error) = &listener {
            warn!(%error, "no successor will be able to take over");
        }
        Self { listener: listener.ok(), meeting: None }
    }

    /// The next that comes. Cancel safe: one that is just introducing itself is not lost.
    pub async fn next(&mut self) -> Successor {
        loop {
            match self.meet().await {
                Ok(successor) => return successor,
                Err(error) => {
                    warn!(%error, "somebody else than a successor has come");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    /// The next that comes in so much time.
    pub async fn within(&mut self, time: Duration) -> Option<Successor> {
        tokio::time::timeout(time, self.next()).await.ok()
    }

    async fn meet(&mut self) -> Result<Successor, ChannelError> {
        let Some(listener) = &self.listener else { return std::future::pending().await };
        let meeting = match &mut self.meeting {
            Some(meeting) => meeting,
            None => {
                let stream = listener.accept().await?.0.into_std()?;
                self.meeting.insert(tokio::task::spawn_blocking(|| Successor::meet(stream)))
            }
        };
        let met = meeting.await;
        self.meeting = None;
        met.unwrap_or(Err(ChannelError::OutOfOrder))
    }
}

/// Only this user may connect.
fn listen(state: &Path) -> io::Result<UnixListener> {
    std::fs::create_dir_all(state)?;
    let (place, fresh) = (socket(state), state.join("hand-over.new"));
    let _ = std::fs::remove_file(&fresh);
    let listener = UnixListener::bind(&fresh)?;
    std::fs::set_permissions(&fresh, Permissions::from_mode(0o600))?;
    std::fs::rename(&fresh, &place)?;
    Ok(listener)
}
