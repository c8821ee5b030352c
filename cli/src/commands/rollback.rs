//! `gantry rollback`: makes a cluster's configuration what it was at a revision.

use anyhow::Result;
use clap::Args;
use gantry_proto::v1;

use super::wait::{self, Wait};
use crate::changes;
use crate::output;
use crate::session::Session;

#[derive(Args, Debug)]
#[command(after_long_help = "\
It is one transaction and a new revision, which can be rolled back in turn. Real servers serve, are
drained or are halted as they are now, whatever they were then: gantry online and its like change
that. One that is gone comes back as it was when it went.

Examples:
  gantry rollback 118 --dry-run                what it would change and cut
  gantry rollback 118 -m \"the new viewer fails\" --wait
  gantry export --revision 118                 all of what it was then, as a document")]
pub(crate) struct Arguments {
    /// The revision to go back to: NUMBER, or EPOCH.NUMBER
    revision: String,
    /// Refuse if the configuration is no longer the one with this etag
    #[arg(long, value_name = "ETAG")]
    base: Option<String>,
    /// Why, for the audit log
    #[arg(short = 'm', long, value_name = "WHY")]
    comment: Option<String>,
    /// Show what would change and which open connections that would cut, and change nothing
    #[arg(long, conflicts_with = "wait")]
    dry_run: bool,
    #[command(flatten)]
    wait: Wait,
}

pub(crate) async fn run(arguments: Arguments, session: &Session) -> Result<()> {
    let cluster = session.cluster().await?.to_string();
    let request = v1::RollbackConfigRequest {
        name: cluster.clone(),
        revision: arguments.revision,
        base_etag: arguments.base.unwrap_or_default(),
        comment: arguments.comment.unwrap_or_default(),
        validate_only: arguments.dry_run,
    };
    let answer = session.config().rollback_config(request).await?.into_inner();
    output::raw(told(&answer, arguments.dry_run))?;
    match arguments.wait.patience() {
        Some(patience) => wait::until_in_force(&cluster, patience, session).await,
        None => Ok(()),
    }
}

fn told(answer: &v1::RollbackConfigResponse, dry_run: bool) -> String {
    let v1::RollbackConfigResponse { changes, etag, revision, cut_connections } = answer;
    if changes.is_empty() {
        return "nothing to change: it is as it was then\n".to_owned();
    }
    let listed = changes::listed(changes, output::width());
    if !dry_run {
        let counted = changes::counted(changes, "");
        return format!("{listed}{counted} (revision {revision}, etag {etag})\n");
    }
    let stale = changes.iter().flat_map(|change| &change.cuts).any(|cut| cut.stale);
    let cut = changes::cut(*cut_connections, stale);
    format!("{listed}\n{}\n{cut}\n", changes::counted(changes, "would be "))
}
