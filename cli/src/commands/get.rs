//! `gantry get`: lists, as tables or as the API's own messages.

mod now;

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};
use comfy_table::Cell;
use gantry_proto::v1;
use gantry_runtime::clock;

use super::lists;
use crate::document::Documented;
use crate::look;
use crate::names::{self, Name, Reference};
use crate::output::{self, Format};
use crate::session::{self, Session};

#[derive(Args, Debug)]
#[command(after_long_help = "\
Examples:
  gantry get vs                       every virtual service
  gantry get rs dicom                 the real servers of one
  gantry get rs dicom/pacs-1 -o yaml  one real server, whole
  gantry get appliances -o name
  gantry get vs --filter \"status.state != UP AND listener.address = 10.12.1.100\"
  gantry get rs --filter \"display_name : pacs\"
  gantry get persistence dicom --client 10.12.2.7
  gantry get connections dicom -o json

A filter is FIELD OPERATOR VALUE, several joined by AND; the operators are = != : < > <= >=, and :
means contains. A wrong field is answered with those there are.")]
pub(crate) struct Arguments {
    /// What to list
    #[arg(value_enum, hide_possible_values = false)]
    kind: Kind,
    /// Only these. For rs, SERVICE/SERVER, or SERVICE for all of its real servers; for persistence
    /// and connections, the SERVICE
    names: Vec<String>,
    /// Only those that match, of a whole list
    #[arg(
        short = 'l',
        long,
        default_value_t,
        hide_default_value = true,
        value_name = "CONDITIONS"
    )]
    filter: String,
    /// Only this client's, of persistence and connections
    #[arg(long, value_name = "ADDRESS")]
    client: Option<String>,
    /// How to show it
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// Virtual services (vs, services)
    #[value(aliases = ["vs", "service", "services", "virtual-service", "virtualservices"])]
    VirtualServices,
    /// Real servers (rs, servers)
    #[value(aliases = ["rs", "server", "servers", "real-server", "realservers"])]
    RealServers,
    /// Clusters
    #[value(alias = "cluster")]
    Clusters,
    /// Appliances and their agents
    #[value(alias = "appliance")]
    Appliances,
    /// TLS certificates and who uses them
    #[value(aliases = ["certificate", "certs", "cert"])]
    Certificates,
    /// Clients of a virtual service that are remembered, as the agents know it now
    Persistence,
    /// Connections of a layer 4 virtual service, as the kernel has them now
    #[value(aliases = ["connection", "conn"])]
    Connections,
}

pub(crate) async fn run(arguments: Arguments, session: &Session) -> Result<()> {
    let shown = Shown { format: arguments.output, single: arguments.names.len() == 1 };
    let wanted = Wanted { names: &arguments.names, filter: &arguments.filter };
    let now = matches!(arguments.kind, Kind::Persistence | Kind::Connections);
    if arguments.client.is_some() && !now {
        bail!("--client is for persistence and connections");
    }
    match arguments.kind {
        Kind::Persistence | Kind::Connections => now::run(arguments, session).await,
        Kind::VirtualServices => shown.print(&services(wanted, session).await?, service_table),
        Kind::RealServers => {
            let (servers, single) = servers(wanted, session).await?;
            Shown { single, ..shown }.print(&servers, server_table)
        }
        Kind::Clusters => shown.print(&clusters(wanted, session).await?, cluster_table),
        Kind::Appliances => shown.print(&appliances(wanted, session).await?, appliance_table),
        Kind::Certificates => shown.print(&certificates(wanted, session).await?, certificate_table),
    }
}

/// Which resources: those named, or those of the list that match.
#[derive(Clone, Copy)]
struct Wanted<'a> {
    names: &'a [String],
    filter: &'a str,
}

impl<'a> Wanted<'a> {
    /// The names to get one by one.
    fn names(self) -> Result<&'a [String]> {
        if !self.filter.is_empty() {
            bail!("--filter is for whole lists: give names or a filter, not both");
        }
        Ok(self.names)
    }
}

/// How the answer is shown.
struct Shown {
    format: Format,
    /// One was asked for by name.
    single: bool,
}

trait Resource: Documented {
    const PLURAL: &'static str;
    fn resource_name(&self) -> &str;
}

macro_rules! resources {
    ($($message:ty = $plural:literal),*) => {$(
        impl Resource for $message {
            const PLURAL: &'static str = $plural;
            fn resource_name(&self) -> &str {
                &self.name
            }
        }
    )*};
}
resources!(
    v1::VirtualService = "virtual services",
    v1::RealServer = "real servers",
    v1::Cluster = "clusters",
    v1::Appliance = "appliances",
    v1::Certificate = "certificates"
);

impl Shown {
    fn print<T: Resource>(&self, found: &[T], table: fn(&[T]) -> String) -> Result<()> {
        match self.format {
            Format::Table if found.is_empty() => {
                output::remark(format_args!("no {}", T::PLURAL))?;
            }
            Format::Table => output::line(table(found))?,
            Format::Name => {
                for one in found {
                    output::line(one.resource_name())?;
                }
            }
            Format::Json | Format::Yaml => output::documents(found, self.single, self.format)?,
        }
        Ok(())
    }
}

async fn services(wanted: Wanted<'_>, session: &Session) -> Result<Vec<v1::VirtualService>> {
    if wanted.names.is_empty() {
        return Ok(lists::services(session, session.parent(), wanted.filter).await?);
    }
    let names = wanted.names()?;
    let mut found = Vec::with_capacity(names.len());
    for name in names {
        found.push(service(name, session).await?);
    }
    Ok(found)
}

async fn service(name: &str, session: &Session) -> Result<v1::VirtualService> {
    let Name::Service(service) = session.resolve(name.parse()?).await? else {
        bail!("{name:?} is not the name of a virtual service");
    };
    let request = v1::GetVirtualServiceRequest { name: service.to_string() };
    Ok(session.balancer().get_virtual_service(request).await?.into_inner())
}

/// The real servers named, and whether that was just one by its own name.
async fn servers(wanted: Wanted<'_>, session: &Session) -> Result<(Vec<v1::RealServer>, bool)> {
    if wanted.names.is_empty() {
        let cluster = session.target.cluster.as_ref().map_or("-", |name| name.cluster.as_str());
        let parent = format!("clusters/{cluster}/virtualServices/-");
        return Ok((lists::servers(session, parent, wanted.filter).await?, false));
    }
    let mut found = Vec::new();
    let mut whole_services = false;
    for name in wanted.names {
        match session.resolve(name.parse()?).await? {
            Name::Service(service) => {
                whole_services = true;
                found.extend(lists::servers(session, service.to_string(), wanted.filter).await?);
            }
            Name::Server(server) => {
                wanted.names()?;
                let request = v1::GetRealServerRequest { name: server.to_string() };
                found.push(session.balancer().get_real_server(request).await?.into_inner());
            }
            _ => bail!("{name:?} is not the name of a real server: use SERVICE/SERVER"),
        }
    }
    Ok((found, wanted.names.len() == 1 && !whole_services))
}

async fn clusters(wanted: Wanted<'_>, session: &Session) -> Result<Vec<v1::Cluster>> {
    if wanted.names.is_empty() {
        return Ok(lists::clusters(session, wanted.filter).await?);
    }
    let names = wanted.names()?;
    let mut found = Vec::with_capacity(names.len());
    for name in names {
        let name = session::cluster_name(name)?.to_string();
        let request = v1::GetClusterRequest { name };
        found.push(session.fleet().get_cluster(request).await?.into_inner());
    }
    Ok(found)
}

async fn appliances(wanted: Wanted<'_>, session: &Session) -> Result<Vec<v1::Appliance>> {
    if wanted.names.is_empty() {
        return Ok(lists::appliances(session, session.parent(), wanted.filter).await?);
    }
    let names = wanted.names()?;
    let mut found = Vec::with_capacity(names.len());
    for name in names {
        let reference =
            if name.contains('/') { name.parse()? } else { Reference::Appliance(name.parse()?) };
        let name = session.resolve(reference).await?.to_string();
        let request = v1::GetApplianceRequest { name };
        found.push(session.fleet().get_appliance(request).await?.into_inner());
    }
    Ok(found)
}

async fn certificates(wanted: Wanted<'_>, session: &Session) -> Result<Vec<v1::Certificate>> {
    if wanted.names.is_empty() {
        return Ok(lists::certificates(session, wanted.filter).await?);
    }
    let names = wanted.names()?;
    let mut found = Vec::with_capacity(names.len());
    for name in names {
        let name = names::certificate(name)?.to_string();
        let request = v1::GetCertificateRequest { name };
        found.push(session.certificates().get_certificate(request).await?.into_inner());
    }
    Ok(found)
}

/// Whether rows must say which cluster they are in.
fn many_clusters<'a>(mut names: impl Iterator<Item = &'a str>) -> bool {
    let first = names.next().map(names::cluster_of);
    names.any(|name| Some(names::cluster_of(name)) != first)
}

fn shown_name(name: &str, many: bool) -> Cell {
    Cell::new(if many { name.to_owned() } else { names::short(name) })
}

fn service_table(services: &[v1::VirtualService]) -> String {
    let many = many_clusters(services.iter().map(|service| service.name.as_str()));
    let row = |service: &v1::VirtualService| {
        let status = service.status.clone().unwrap_or_default();
        vec![
            shown_name(&service.name, many),
            Cell::new(look::listens_on(service)),
            Cell::new(look::path(service)),
            look::service_state(service).cell(),
            Cell::new(look::servers(service)),
            Cell::new(status.active_connections),
        ]
    };
    let header = ["VIRTUAL SERVICE", "LISTENS ON", "PATH", "STATE", "SERVERS", "CONN"];
    output::table(&header, &[5], services.iter().map(row).collect())
}

fn server_table(servers: &[v1::RealServer]) -> String {
    let now = clock::wall().as_second();
    let many = many_clusters(servers.iter().map(|server| server.name.as_str()));
    let row = |server: &v1::RealServer| {
        let status = server.status.clone().unwrap_or_default();
        vec![
            shown_name(&server.name, many),
            Cell::new(look::endpoint(server.endpoint.as_ref())),
            Cell::new(look::weight(server)),
            look::server_state(server).cell(),
            Cell::new(look::since(status.since.as_ref(), now).unwrap_or_default()),
            Cell::new(status.active_connections),
            Cell::new(status.last_check),
        ]
    };
    let header = ["REAL SERVER", "ADDRESS", "WEIGHT", "STATE", "SINCE", "CONN", "LAST CHECK"];
    output::table(&header, &[2, 4, 5], servers.iter().map(row).collect())
}

fn cluster_table(clusters: &[v1::Cluster]) -> String {
    let row = |cluster: &v1::Cluster| {
        vec![
            Cell::new(names::last(&cluster.name)),
            Cell::new(&cluster.display_name),
            Cell::new(look::time(cluster.create_time.as_ref())),
        ]
    };
    output::table(&["CLUSTER", "LABEL", "CREATED"], &[], clusters.iter().map(row).collect())
}

fn appliance_table(appliances: &[v1::Appliance]) -> String {
    let now = clock::wall().as_second();
    let row = |appliance: &v1::Appliance| {
        let words = crate::overview::agents(appliance, now);
        let agents: Vec<String> = words.into_iter().map(|word| word.text).collect();
        vec![
            Cell::new(names::last(&appliance.name)),
            Cell::new(names::cluster_of(&appliance.name)),
            Cell::new(agents.join(", ")),
            Cell::new(
                look::since(appliance.last_seen_time.as_ref(), now).unwrap_or("-".to_owned()),
            ),
        ]
    };
    let header = ["APPLIANCE", "CLUSTER", "AGENTS", "LAST WORD"];
    output::table(&header, &[3], appliances.iter().map(row).collect())
}

fn certificate_table(certificates: &[v1::Certificate]) -> String {
    let row = |certificate: &v1::Certificate| {
        let users: Vec<_> = certificate.used_by.iter().map(|name| names::short(name)).collect();
        vec![
            Cell::new(names::last(&certificate.name)),
            Cell::new(&certificate.subject),
            Cell::new(look::time(certificate.expire_time.as_ref())),
            Cell::new(if users.is_empty() { "-".to_owned() } else { users.join(", ") }),
        ]
    };
    let header = ["CERTIFICATE", "SUBJECT", "EXPIRES", "USED BY"];
    output::table(&header, &[], certificates.iter().map(row).collect())
}
