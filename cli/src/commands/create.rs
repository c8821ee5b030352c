//! `gantry create`: from flags for the common case, from a document for all the rest.

mod flags;

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use clap::{Args, Subcommand};
use gantry_model::name::{Id, ServerName, ServiceName};
use gantry_proto::v1;

use crate::document::{Documented, Node};
use crate::names::{self, Name, Reference};
use crate::output;
use crate::session::Session;
pub(crate) use flags::{ServerFlags, ServiceFlags};

#[derive(Debug, Subcommand)]
pub(crate) enum Kind {
    /// Create a virtual service, with its real servers if you like
    #[command(name = "vs", visible_alias = "virtual-service", alias = "service")]
    Service(Box<Service>),
    /// Add a real server to a virtual service
    #[command(name = "rs", visible_alias = "real-server", alias = "server")]
    Server(Server),
    /// Create an empty cluster
    Cluster(Cluster),
}

#[derive(Args, Debug)]
#[command(override_usage = "gantry create vs ID --address ADDRESS --port PORT... \
    (--layer4 METHOD | --layer7) [OPTIONS]\n       gantry create vs [ID] -f FILE")]
#[command(after_long_help = "\
Examples:
  gantry create vs dicom --address 10.12.1.100 --port 104 --port 11112 --layer4 dr \\
      --persistence 1h --check dicom-echo:PACS \\
      --server pacs-1=10.12.1.110 --server pacs-2=10.12.1.111,weight=50
  gantry create vs hl7 --address 10.12.1.120 --port 2575 --layer7 --persistence 1h \\
      --server hl7-1=10.12.1.130:2575 --server hl7-2=10.12.1.131:2575
  gantry create vs -f viewer.yaml

The document is a virtualService with its realServers, as gantry export writes them, or just a
virtual service, as gantry get vs NAME -o yaml does.")]
pub(crate) struct Service {
    /// Its name: lower case, digits and dashes. May come from the document
    #[arg(value_name = "ID", required_unless_present = "file")]
    id: Option<Reference>,
    #[command(flatten)]
    flags: ServiceFlags,
    /// Read it from a YAML or JSON document; - is standard input
    #[arg(short, long, value_name = "FILE", conflicts_with_all = ["address", "path"])]
    file: Option<PathBuf>,
    /// Why, for the audit log
    #[arg(short = 'm', long, value_name = "WHY")]
    comment: Option<String>,
    /// Let the controller check everything and change nothing
    #[arg(long)]
    dry_run: bool,
}

#[derive(Args, Debug)]
#[command(after_long_help = "\
Examples:
  gantry create rs dicom/pacs-3 --address 10.12.1.112 --port 11112
  gantry create rs dicom/pacs-3 -f pacs-3.yaml")]
pub(crate) struct Server {
    /// The virtual service, and the name of the new real server
    #[arg(value_name = "SERVICE/ID")]
    name: Reference,
    #[command(flatten)]
    flags: ServerFlags,
    /// Read it from a YAML or JSON document; - is standard input
    #[arg(short, long, value_name = "FILE", conflicts_with = "address")]
    file: Option<PathBuf>,
    /// Why, for the audit log
    #[arg(short = 'm', long, value_name = "WHY")]
    comment: Option<String>,
    /// Let the controller check everything and change nothing
    #[arg(long)]
    dry_run: bool,
}

#[derive(Args, Debug)]
#[command(
    after_long_help = "Example:\n  gantry create cluster main --label \"Radiology, main site\""
)]
pub(crate) struct Cluster {
    /// Its name: lower case, digits and dashes
    id: Id,
    /// A label for people
    #[arg(long)]
    label: Option<String>,
    /// Why, for the audit log
    #[arg(short = 'm', long, value_name = "WHY")]
    comment: Option<String>,
    /// Let the controller check everything and change nothing
    #[arg(long)]
    dry_run: bool,
}

pub(crate) async fn run(kind: Kind, session: &Session) -> Result<()> {
    match kind {
        Kind::Service(service) => create_service(*service, session).await,
        Kind::Server(server) => create_server(server, session).await,
        Kind::Cluster(cluster) => create_cluster(cluster, session).await,
    }
}

async fn create_service(arguments: Service, session: &Session) -> Result<()> {
    let described = match &arguments.file {
        Some(file) => service_document(&read_node(file)?).with_context(|| wrong(file))?,
        None => arguments.flags.into_service()?,
    };
    let service = described.virtual_service.unwrap_or_default();
    let name = match arguments.id {
        Some(reference) => service_name(session.resolve(reference).await?)?,
        None => named_in_document(&service.name, session).await?,
    };
    let request = v1::CreateVirtualServiceRequest {
        parent: name.cluster().to_string(),
        virtual_service_id: name.service.to_string(),
        virtual_service: Some(v1::VirtualService { name: String::new(), ..service }),
        real_servers: described.real_servers,
        validate_only: arguments.dry_run,
        request_id: uuid::Uuid::new_v4().to_string(),
        comment: arguments.comment.unwrap_or_default(),
    };
    let servers = request.real_servers.len();
    let created = session.balancer().create_virtual_service(request).await?.into_inner();
    let with = match servers {
        0 => String::new(),
        1 => " with 1 real server".to_owned(),
        many => format!(" with {many} real servers"),
    };
    said(arguments.dry_run, &format!("{}{with}", created_name(&created.name, &name.to_string())))
}

async fn create_server(arguments: Server, session: &Session) -> Result<()> {
    let Name::Server(name) = session.resolve(arguments.name).await? else {
        bail!("a real server is created as SERVICE/ID");
    };
    let server = match &arguments.file {
        Some(file) => {
            let node = read_node(file)?;
            v1::RealServer::from_node(&node)
                .map_err(anyhow::Error::from)
                .with_context(|| wrong(file))?
        }
        None => arguments.flags.into_server()?,
    };
    let ServerName { service, server: id } = &name;
    let request = v1::CreateRealServerRequest {
        parent: service.to_string(),
        real_server_id: id.to_string(),
        real_server: Some(v1::RealServer { name: String::new(), ..server }),
        validate_only: arguments.dry_run,
        request_id: uuid::Uuid::new_v4().to_string(),
        comment: arguments.comment.unwrap_or_default(),
    };
    let created = session.balancer().create_real_server(request).await?.into_inner();
    said(arguments.dry_run, created_name(&created.name, &name.to_string()))
}

async fn create_cluster(arguments: Cluster, session: &Session) -> Result<()> {
    let display_name = arguments.label.unwrap_or_default();
    let request = v1::CreateClusterRequest {
        cluster_id: arguments.id.to_string(),
        cluster: Some(v1::Cluster { display_name, ..Default::default() }),
        validate_only: arguments.dry_run,
        comment: arguments.comment.unwrap_or_default(),
        ..Default::default()
    };
    let created = session.fleet().create_cluster(request).await?.into_inner();
    said(arguments.dry_run, &created.name)
}

fn said(dry_run: bool, what: &str) -> Result<()> {
    let verb = if dry_run { "would create" } else { "created" };
    Ok(output::line(format_args!("{verb} {what}"))?)
}

/// The name in the answer; a dry run may leave it out.
fn created_name<'a>(answered: &'a str, asked: &'a str) -> &'a str {
    if answered.is_empty() { asked } else { answered }
}

/// A service with its servers, or a service alone.
fn service_document(node: &Node) -> Result<v1::config::Service> {
    if node.has_key(&["virtualService", "virtual_service"]) {
        return Ok(v1::config::Service::from_node(node)?);
    }
    let virtual_service = Some(v1::VirtualService::from_node(node)?);
    Ok(v1::config::Service { virtual_service, real_servers: Vec::new() })
}

async fn named_in_document(name: &str, session: &Session) -> Result<ServiceName> {
    if name.is_empty() {
        bail!("the document has no name for the virtual service: add name, or give ID");
    }
    service_name(session.resolve(name.parse()?).await?)
}

fn service_name(name: Name) -> Result<ServiceName> {
    match name {
        Name::Service(name) => Ok(name),
        other => {
            bail!("{:?} is not the name of a virtual service", names::short(&other.to_string()))
        }
    }
}

/// Reads a document from a file, or from standard input if it is `-`.
pub(crate) fn read_node(file: &std::path::Path) -> Result<Node> {
    let text = if file.as_os_str() == "-" {
        std::io::read_to_string(std::io::stdin()).context("reading standard input")?
    } else {
        std::fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?
    };
    Node::parse(&text).map_err(anyhow::Error::from).with_context(|| wrong(file))
}

/// What stands before the problems of a document.
pub(crate) fn wrong(file: &std::path::Path) -> String {
    match file.display().to_string().as_str() {
        "-" => "the document cannot be right:\n".to_owned(),
        name => format!("{name} cannot be right:\n"),
    }
}
