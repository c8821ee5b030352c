//! Verdicts as messages.

use gantry_model::wire;
use gantry_proto::agent::v1 as pb;

use crate::board::Changes;

/// All that a reader has to learn.
pub(crate) fn messages(changes: Changes) -> Vec<pb::Verdict> {
    let gone = changes.gone.into_iter().map(|server| pb::Verdict {
        real_server: server.to_string(),
        gone: true,
        ..pb::Verdict::default()
    });
    changes.verdicts.iter().map(wire::verdict_message).chain(gone).collect()
}
