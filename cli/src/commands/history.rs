//! `gantry history`: every change that there ever was; or one of them, whole.

use anyhow::Result;
use clap::Args;
use comfy_table::Cell;
use gantry_proto::v1;
use tonic::Status;

use crate::changes;
use crate::look;
use crate::names;
use crate::output::{self, Shape};
use crate::session::{self, Session};

#[derive(Args, Debug)]
#[command(after_long_help = "\
Examples:
  gantry history                  the last 20 changes, the newest first
  gantry history main -n 100      those of one cluster
  gantry history 118              what one of them changed
  gantry history --filter \"actor = users/anna AND time > 2026-01-31T08:00:00Z\"
  gantry diff 118                 what changed since
  gantry rollback 118 --dry-run   what going back would change")]
pub(crate) struct Arguments {
    /// A revision to show whole (118, or 1.118), or the cluster whose changes to list
    #[arg(value_name = "CLUSTER|REVISION")]
    which: Option<String>,
    /// How many to list
    #[arg(short = 'n', long, default_value_t = 20, value_name = "COUNT")]
    last: usize,
    /// Only those that match: FIELD OPERATOR VALUE, several joined by AND
    #[arg(short = 'l', long, default_value_t, hide_default_value = true)]
    #[arg(value_name = "CONDITIONS")]
    filter: String,
    /// How to show it
    #[arg(short, long, value_enum, default_value_t)]
    output: Shape,
}

pub(crate) async fn run(arguments: Arguments, session: &Session) -> Result<()> {
    let cluster = match arguments.which.as_deref() {
        Some(word) if is_revision(word) => return show(word, arguments.output, session).await,
        Some(word) => Some(session::cluster_name(word)?),
        None => session.target.cluster.clone(),
    };
    let parent = cluster.map(|cluster| cluster.to_string()).unwrap_or_default();
    let wanted =
        v1::ListRevisionsRequest { parent, filter: arguments.filter, ..Default::default() };
    let revisions = newest(wanted, arguments.last, session).await?;
    match arguments.output.format() {
        Some(format) => output::documents(&revisions, false, format)?,
        None if revisions.is_empty() => output::remark("no revisions")?,
        None => output::line(table(&revisions))?,
    }
    Ok(())
}

/// `118`, `1.118` or `revisions/1.118`: a cluster of such a name is asked for by its whole name.
fn is_revision(word: &str) -> bool {
    let bare = word.strip_prefix("revisions/");
    bare.is_some() || word.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')
}

async fn newest(
    wanted: v1::ListRevisionsRequest,
    count: usize,
    session: &Session,
) -> Result<Vec<v1::Revision>, Status> {
    let mut revisions: Vec<v1::Revision> = Vec::new();
    let mut page_token = String::new();
    while revisions.len() < count {
        let page_size = i32::try_from(count - revisions.len()).unwrap_or(i32::MAX);
        let request = v1::ListRevisionsRequest { page_size, page_token, ..wanted.clone() };
        let page = session.config().list_revisions(request).await?.into_inner();
        revisions.extend(page.revisions);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    revisions.truncate(count);
    Ok(revisions)
}

fn table(revisions: &[v1::Revision]) -> String {
    let row = |revision: &v1::Revision| {
        vec![
            Cell::new(names::last(&revision.name)),
            Cell::new(look::time(revision.time.as_ref())),
            Cell::new(names::last(&revision.actor)),
            Cell::new(revision.change_count),
            Cell::new(&revision.comment),
        ]
    };
    let header = ["REVISION", "WHEN", "WHO", "CHANGES", "WHY"];
    output::table(&header, &[3], revisions.iter().map(row).collect())
}

async fn show(word: &str, shape: Shape, session: &Session) -> Result<()> {
    let name = match word.strip_prefix("revisions/") {
        Some(_) => word.to_owned(),
        None => format!("revisions/{word}"),
    };
    let request = v1::GetRevisionRequest { name };
    let revision = session.config().get_revision(request).await?.into_inner();
    match shape.format() {
        Some(format) => output::documents(&[revision], true, format)?,
        None => output::raw(whole(&revision, output::width()))?,
    }
    Ok(())
}

fn whole(revision: &v1::Revision, width: Option<usize>) -> String {
    let why = match revision.comment.as_str() {
        "" => "(no comment)",
        comment => comment,
    };
    format!(
        "Revision  {}\nWhen      {}\nWho       {}\nWhy       {why}\n\n{}",
        names::last(&revision.name),
        look::time(revision.time.as_ref()),
        revision.actor,
        changes::listed(&revision.changes, width),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn revisions_are_told_from_clusters() {
        assert!(["118", "1.118", "revisions/1.118"].into_iter().all(is_revision));
        assert!(!["main", "clusters/118", "site-1"].into_iter().any(is_revision));
    }
}
