//! The verdicts over a restart: without them a server known to be dead would be tried again until
//! its first check has failed.
//!
//! A plain file that is replaced as a whole after each change of conclusion. It is not synced: what
//! a power cut takes, the first checks give back.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use gantry_model::name::ServerName;
use gantry_model::plan::ServicePlan;
use gantry_model::verdict::Verdict;
use gantry_model::wire;
use gantry_proto::agent::v1::WatchVerdictsResponse;
use prost::Message;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::board::Board;
use crate::words::messages;

/// Many changes at once are written once.
const GATHER: Duration = Duration::from_millis(200);

fn file(state: &Path) -> PathBuf {
    state.join("verdicts")
}

/// What was concluded before a restart; nothing, if that cannot be read.
pub fn recall(state: &Path) -> Vec<Verdict> {
    let Ok(content) = std::fs::read(file(state)) else { return Vec::new() };
    match WatchVerdictsResponse::decode(content.as_slice()) {
        Ok(message) => message
            .verdicts
            .iter()
            .filter_map(|verdict| wire::verdict(verdict).ok()?.ok())
            .collect(),
        Err(error) => {
            warn!(%error, "the verdicts from before cannot be read; checking anew");
            Vec::new()
        }
    }
}

/// Takes off the board who is not in `plans` any more.
pub fn forget_others(board: &Board, plans: impl Iterator<Item = ServicePlan>) {
    let known: HashSet<ServerName> =
        plans.flat_map(|plan| plan.servers).map(|server| server.name).collect();
    for verdict in board.changes_since(0).verdicts {
        if !known.contains(&verdict.server) {
            board.forget(&verdict.server);
        }
    }
}

/// Writes the verdicts down after each change, until stopped.
pub async fn keep(board: Arc<Board>, state: PathBuf, stop: CancellationToken) {
    let mut changes = board.subscribe();
    let forever = async {
        while changes.changed().await.is_ok() {
            tokio::time::sleep(GATHER).await;
            changes.mark_unchanged();
            write_or_warn(&board, &state);
        }
    };
    // Cancel safe: what is half written stands beside the file, not in its place.
    let _stopped = stop.run_until_cancelled(forever).await;
    // The last changes may have been gathering still.
    write_or_warn(&board, &state);
}

fn write_or_warn(board: &Board, state: &Path) {
    if let Err(error) = write(board, state) {
        warn!(%error, "the verdicts cannot be written down");
    }
}

fn write(board: &Board, state: &Path) -> std::io::Result<()> {
    let verdicts = messages(board.changes_since(0));
    let content = WatchVerdictsResponse { verdicts, full: true }.encode_to_vec();
    let fresh = state.join("verdicts.new");
    std::fs::write(&fresh, content)?;
    std::fs::rename(&fresh, file(state))
}
