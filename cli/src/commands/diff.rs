//! `gantry diff`: what differs between two revisions, whatever happened in between.

use anyhow::Result;
use clap::Args;
use gantry_proto::v1;

use crate::changes;
use crate::look::{Tone, Word};
use crate::output::{self, Shape};
use crate::session::Session;

#[derive(Args, Debug)]
#[command(after_long_help = "\
It is told from the older to the newer one, in whichever order they are given.

Examples:
  gantry diff 118                what changed since
  gantry diff 118 125            and from one to the other
  gantry diff 1.118 2.7          across controllers that took over")]
pub(crate) struct Arguments {
    /// The revision to begin with: NUMBER, or EPOCH.NUMBER
    from: String,
    /// The revision to end with; without it, the present one
    #[arg(default_value_t, hide_default_value = true)]
    to: String,
    /// How to show it
    #[arg(short, long, value_enum, default_value_t)]
    output: Shape,
}

pub(crate) async fn run(arguments: Arguments, session: &Session) -> Result<()> {
    let Arguments { from, to, output: shape } = arguments;
    let request = v1::DiffRevisionsRequest { parent: session.parent(), from, to };
    let diff = session.config().diff_revisions(request).await?.into_inner();
    match shape.format() {
        Some(format) => output::documents(&[diff], true, format)?,
        None => output::raw(told(&diff, output::width()))?,
    }
    Ok(())
}

fn told(diff: &v1::DiffRevisionsResponse, width: Option<usize>) -> String {
    let v1::DiffRevisionsResponse { changes, from, to } = diff;
    if changes.is_empty() {
        return format!("nothing differs from {from} to {to}\n");
    }
    let head = Word::new(format!("from {from} to {to}"), Tone::Quiet);
    format!("{head}\n{}{}\n", changes::listed(changes, width), changes::counted(changes, ""))
}
