//! `gantry plan`: what a document would change, field by field, and which open connections each
//! change would cut.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;
use gantry_proto::v1;

use super::apply::read_config;
use crate::changes;
use crate::look::{Tone, Word};
use crate::output::{self, Shape};
use crate::session::Session;

#[derive(Args, Debug)]
#[command(after_long_help = "\
Nothing is changed. The last line is the command that applies just this, and refuses if the
configuration has changed meanwhile.

Examples:
  gantry plan -f site.yaml
  gantry plan -f site.yaml -o json | jq .cutConnections")]
pub(crate) struct Arguments {
    /// YAML or JSON document; - is standard input
    #[arg(short, long, value_name = "FILE")]
    file: PathBuf,
    /// How to show it
    #[arg(short, long, value_enum, default_value_t)]
    output: Shape,
}

pub(crate) async fn run(arguments: Arguments, session: &Session) -> Result<()> {
    let config = Some(read_config(&arguments.file, session).await?);
    let request = v1::PlanConfigRequest { config };
    let plan = session.config().plan_config(request).await?.into_inner();
    match arguments.output.format() {
        Some(format) => output::documents(&[plan], true, format)?,
        None => {
            output::raw(told(&plan, output::width()))?;
            if !plan.changes.is_empty() {
                output::line(next(&arguments.file, &plan, session))?;
            }
        }
    }
    Ok(())
}

fn told(plan: &v1::PlanConfigResponse, width: Option<usize>) -> String {
    if plan.changes.is_empty() {
        return "nothing to change\n".to_owned();
    }
    let listed = changes::listed(&plan.changes, width);
    let counted = changes::counted(&plan.changes, "would be ");
    let cut = changes::cut(plan.cut_connections, plan.stale);
    format!("{listed}\n{counted}\n{cut}\n")
}

/// What to type to have just this.
fn next(file: &Path, plan: &v1::PlanConfigResponse, session: &Session) -> String {
    let cluster = session.target.cluster_flag.as_ref();
    let cluster = cluster.map(|name| format!(" --cluster {}", name.cluster)).unwrap_or_default();
    let file = quoted(&file.display().to_string());
    let words = format!("gantry apply -f {file}{cluster} --base {}", plan.base_etag);
    format!("apply it with:  {}", Word::new(words, Tone::Strong))
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "-_./+:@%~".contains(letter);
    if word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_name_can_be_pasted() {
        assert_eq!(quoted("site.yaml"), "site.yaml");
        assert_eq!(quoted("my site's.yaml"), r"'my site'\''s.yaml'");
    }

    #[test]
    fn a_plan_that_changes_nothing_says_so() {
        assert_eq!(told(&v1::PlanConfigResponse::default(), None), "nothing to change\n");
    }
}
