//! `gantry apply` and `gantry export`: a cluster's configuration as one document, both ways.
//!
//! What is applied can be awaited: see [`super::wait`].

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::{Args, ValueEnum};
use gantry_proto::v1;

use super::create::{read_node, wrong};
use super::wait::{self, Wait};
use crate::changes;
use crate::document::{self, Documented};
use crate::names;
use crate::output;
use crate::session::{self, Session};

#[derive(Args, Debug)]
#[command(after_long_help = "\
What is in the cluster and not in the document is deleted. Everything is one transaction.

Examples:
  gantry apply -f site.yaml --dry-run
  gantry apply -f site.yaml -m \"new viewer\"
  gantry plan -f site.yaml                     what it would change and cut
  gantry apply -f site.yaml --base 118         only if nobody changed it since
  gantry apply -f site.yaml --wait             until every appliance runs it
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
    #[arg(long, conflicts_with = "wait")]
    dry_run: bool,
    #[command(flatten)]
    wait: Wait,
}

#[derive(Args, Debug)]
#[command(after_long_help = "\
Examples:
  gantry export > site.yaml
  gantry export --revision 118                 as it was then
  gantry export main -o json")]
pub(crate) struct Export {
    /// The cluster, when there are several
    cluster: Option<String>,
    /// As it was at this revision: NUMBER, or EPOCH.NUMBER
    #[arg(long, value_name = "REVISION")]
    revision: Option<String>,
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
    let config = read_config(&arguments.file, session).await?;
    let cluster = config.name.clone();
    let request = v1::ApplyConfigRequest {
        config: Some(config),
        base_etag: arguments.base.unwrap_or_default(),
        comment: arguments.comment.unwrap_or_default(),
        validate_only: arguments.dry_run,
    };
    let answer = session.config().apply_config(request).await?.into_inner();
    output::raw(told(&answer, arguments.dry_run))?;
    match arguments.wait.patience() {
        Some(patience) => wait::until_in_force(&cluster, patience, session).await,
        None => Ok(()),
    }
}

/// Reads a document, and for which cluster it is.
pub(super) async fn read_config(file: &Path, session: &Session) -> Result<v1::Config> {
    let node = read_node(file)?;
    let mut config =
        v1::Config::from_node(&node).map_err(anyhow::Error::from).with_context(|| wrong(file))?;
    config.name = match &session.target.cluster_flag {
        Some(cluster) => cluster.to_string(),
        None if config.name.is_empty() => session.cluster().await?.to_string(),
        None => session::cluster_name(&config.name)?.to_string(),
    };
    config.etag.clear();
    Ok(config)
}

/// Each change, and a line that counts them.
fn told(answer: &v1::ApplyConfigResponse, dry_run: bool) -> String {
    if answer.changes.is_empty() {
        return "nothing to change\n".to_owned();
    }
    let listed = changes::listed(&answer.changes, output::width());
    let verb = if dry_run { "would be " } else { "" };
    let mut now_at = Vec::new();
    if !answer.revision.is_empty() && !dry_run {
        now_at.push(format!("revision {}", answer.revision));
    }
    if !answer.etag.is_empty() {
        now_at.push(format!("etag {}", answer.etag));
    }
    let now_at =
        if now_at.is_empty() { String::new() } else { format!(" ({})", now_at.join(", ")) };
    format!("{listed}{}{now_at}\n", changes::counted(&answer.changes, verb))
}

pub(crate) async fn export(arguments: Export, session: &Session) -> Result<()> {
    let name = match &arguments.cluster {
        Some(cluster) => session::cluster_name(cluster)?,
        None => session.cluster().await?,
    };
    let revision = arguments.revision.unwrap_or_default();
    let request = v1::ExportConfigRequest { name: name.to_string(), revision: revision.clone() };
    let config = session.config().export_config(request).await?.into_inner();
    let etag = config.etag.clone();
    let config = portable(config).to_dynamic();
    match arguments.output {
        Format::Json => output::line(document::to_json(&config))?,
        Format::Yaml => {
            output::line(match revision.as_str() {
                "" => format!("# {name}, etag {etag}: gantry apply -f FILE --base {etag}"),
                revision => format!("# {name} as it was at revision {revision}"),
            })?;
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
