//! `gantry apply` and `gantry export`: a cluster's configuration as one document, both ways.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::{Args, ValueEnum};
use gantry_proto::v1;
use gantry_proto::v1::change::Action;

use super::create::{read_node, wrong};
use crate::document::{self, Documented};
use crate::look::{Tone, Word};
use crate::names;
use crate::output;
use crate::session::{self, Session};

#[derive(Args, Debug)]
#[command(after_long_help = "\
What is in the cluster and not in the document is deleted. Everything is one transaction.

Examples:
  gantry apply -f site.yaml --dry-run
  gantry apply -f site.yaml -m \"new viewer\"
  gantry apply -f site.yaml --base 118         only if nobody changed it since
  gantry export main | gantry apply -f - --cluster standby-site")]
pub(crate) struct Apply {
    /// YAML or JSON document; - is standard input
    #[arg(short, long, value_name = "FILE")]
    file: PathBuf,
    /// Refuse if the configuration is no longer the one with this etag
    #[arg(long, value_name = "ETAG")]
    base: Option<String>,
    /// Why, for the audit log
    #[arg(short = 'm', long, value_name = "WHY")]
    comment: Option<String>,
    /// Show what would change, and change nothing
    #[arg(long)]
    dry_run: bool,
}

#[derive(Args, Debug)]
#[command(after_long_help = "\
Examples:
  gantry export > site.yaml
  gantry export main -o json")]
pub(crate) struct Export {
    /// The cluster, when there are several
    cluster: Option<String>,
    /// How to write it
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum Format {
    #[default]
    Yaml,
    Json,
}

pub(crate) async fn apply(arguments: Apply, session: &Session) -> Result<()> {
    let node = read_node(&arguments.file)?;
    let mut config = v1::Config::from_node(&node)
        .map_err(anyhow::Error::from)
        .with_context(|| wrong(&arguments.file))?;
    config.name = match &session.target.cluster_flag {
        Some(cluster) => cluster.to_string(),
        None if config.name.is_empty() => session.cluster().await?.to_string(),
        None => session::cluster_name(&config.name)?.to_string(),
    };
    config.etag.clear();
    let request = v1::ApplyConfigRequest {
        config: Some(config),
        base_etag: arguments.base.unwrap_or_default(),
        comment: arguments.comment.unwrap_or_default(),
        validate_only: arguments.dry_run,
    };
    let answer = session.config().apply_config(request).await?.into_inner();
    Ok(output::line(changes(&answer, arguments.dry_run))?)
}

/// A line for each change, and one that counts them.
fn changes(answer: &v1::ApplyConfigResponse, dry_run: bool) -> String {
    if answer.changes.is_empty() {
        return "nothing to change".to_owned();
    }
    let mut lines: Vec<String> = answer.changes.iter().map(change).collect();
    let count = |action| answer.changes.iter().filter(|change| change.action() == action).count();
    let verb = if dry_run { "would be " } else { "" };
    let etag = match answer.etag.as_str() {
        "" => String::new(),
        etag => format!(" (etag {etag})"),
    };
    lines.push(format!(
        "{} {verb}created, {} {verb}changed, {} {verb}deleted{etag}",
        count(Action::Create),
        count(Action::Update),
        count(Action::Delete),
    ));
    lines.join("\n")
}

fn change(change: &v1::Change) -> String {
    let sign = match change.action() {
        Action::Create => Word::new("+", Tone::Good),
        Action::Update => Word::new("~", Tone::Warning),
        Action::Delete => Word::new("-", Tone::Bad),
        Action::Unspecified => Word::new("?", Tone::Quiet),
    };
    let fields = match change.fields.as_slice() {
        [] => String::new(),
        fields => format!(": {}", fields.join(", ")),
    };
    format!("{sign} {}{fields}", names::short(&change.name))
}

pub(crate) async fn export(arguments: Export, session: &Session) -> Result<()> {
    let name = match &arguments.cluster {
        Some(cluster) => session::cluster_name(cluster)?,
        None => session.cluster().await?,
    };
    let request = v1::ExportConfigRequest { name: name.to_string(), ..Default::default() };
    let config = session.config().export_config(request).await?.into_inner();
    let etag = config.etag.clone();
    let config = portable(config).to_dynamic();
    match arguments.output {
        Format::Json => output::line(document::to_json(&config))?,
        Format::Yaml => {
            output::line(format_args!(
                "# {name}, etag {etag}: gantry apply -f FILE --base {etag}"
            ))?;
            output::raw(document::to_yaml(&config))?;
        }
    }
    Ok(())
}

/// With short names and nothing that only the controller can say, so that it fits any cluster.
fn portable(config: v1::Config) -> v1::Config {
    let services = config.services.into_iter().map(|service| v1::config::Service {
        virtual_service: service.virtual_service.map(|service| v1::VirtualService {
            name: names::last(&service.name).to_owned(),
            uid: String::new(),
            status: None,
            etag: String::new(),
            create_time: None,
            update_time: None,
            ..service
        }),
        real_servers: service.real_servers.into_iter().map(portable_server).collect(),
    });
    v1::Config { name: config.name, services: services.collect(), etag: String::new() }
}

fn portable_server(server: v1::RealServer) -> v1::RealServer {
    v1::RealServer {
        name: names::last(&server.name).to_owned(),
        status: None,
        etag: String::new(),
        ..server
    }
}

#[cfg(test)]
mod tests;
