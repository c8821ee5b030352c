//! `gantry set`: changes exactly the fields that are named, and no others.

use anyhow::{Context as _, Result, bail};
use clap::Args;
use gantry_proto::v1;
use prost_types::FieldMask;

use crate::document::{Documented, Node, at_path};
use crate::names::{Name, Reference};
use crate::output;
use crate::session::Session;

#[derive(Args, Debug)]
#[command(after_long_help = "\
Fields are named as in the API and in documents; nothing after the = clears one.

Examples:
  gantry set dicom/pacs-1 weight=50
  gantry set hl7 layer7.connectTimeout=4s healthCheck.interval=2s
  gantry set dicom listener.ports=104,11112
  gantry set dicom persistence=              no persistence any more
  gantry set dicom 'fallback={address: 10.12.1.9, port: 104}'
  gantry set clusters/main displayName='Radiology, main site'
  gantry set persistence dicom/pacs-2 10.12.2.7    this client belongs to PACS 2 from now on")]
#[command(override_usage = "gantry set NAME FIELD=VALUE... [OPTIONS]\n       \
    gantry set persistence SERVICE/SERVER CLIENT [OPTIONS]")]
pub(crate) struct Arguments {
    /// SERVICE, SERVICE/SERVER, clusters/CLUSTER or any whole name; or persistence, a SERVICE/SERVER and a
    /// CLIENT whose next connections are to go there
    name: Reference,
    /// What to change, and to what
    #[arg(required = true, value_name = "FIELD=VALUE")]
    assignments: Vec<String>,
    /// Why, for the audit log
    #[arg(short = 'm', long, value_name = "WHY")]
    comment: Option<String>,
    /// Let the controller check everything and change nothing
    #[arg(long)]
    dry_run: bool,
}

pub(crate) async fn run(arguments: Arguments, session: &Session) -> Result<()> {
    let comment = arguments.comment.clone().unwrap_or_default();
    if let (Reference::Service(word), [server, client]) =
        (&arguments.name, &arguments.assignments[..])
        && word.as_str() == "persistence"
        && !server.contains('=')
    {
        return assign(server, client, comment, session).await;
    }
    let name = session.resolve(arguments.name).await?;
    let assignments = &arguments.assignments;
    let validate_only = arguments.dry_run;
    let mask = match &name {
        Name::Service(_) => {
            let (mut service, mask) = assigned::<v1::VirtualService>(assignments)?;
            service.name = name.to_string();
            let (virtual_service, update_mask) = (Some(service), Some(mask.clone()));
            let request = v1::UpdateVirtualServiceRequest {
                virtual_service,
                update_mask,
                validate_only,
                comment,
            };
            session.balancer().update_virtual_service(request).await?;
            mask
        }
        Name::Server(_) => {
            let (mut server, mask) = assigned::<v1::RealServer>(assignments)?;
            server.name = name.to_string();
            let (real_server, update_mask) = (Some(server), Some(mask.clone()));
            let request =
                v1::UpdateRealServerRequest { real_server, update_mask, validate_only, comment };
            session.balancer().update_real_server(request).await?;
            mask
        }
        Name::Cluster(_) => {
            let (mut cluster, mask) = assigned::<v1::Cluster>(assignments)?;
            cluster.name = name.to_string();
            let (cluster, update_mask) = (Some(cluster), Some(mask.clone()));
            let request = v1::UpdateClusterRequest { cluster, update_mask, validate_only, comment };
            session.fleet().update_cluster(request).await?;
            mask
        }
        Name::Certificate(_) => {
            bail!("a certificate has nothing to set: import the new one under the same name")
        }
        Name::Appliance(_) => {
            bail!("an appliance has nothing to set: invite it again, or delete it")
        }
    };
    let verb = if arguments.dry_run { "would change" } else { "changed" };
    Ok(output::line(format_args!("{verb} {} of {name}", mask.paths.join(", ")))?)
}

/// Lets the next connections of a client go to one real server.
async fn assign(server: &str, client: &str, comment: String, session: &Session) -> Result<()> {
    let Name::Server(server) = session.resolve(server.parse()?).await? else {
        bail!("{server} is not a real server: give SERVICE/SERVER");
    };
    let (real_server, client) = (server.to_string(), client.to_owned());
    let request = v1::SetPersistenceEntryRequest { real_server, client: client.clone(), comment };
    session.balancer().set_persistence_entry(request).await?;
    Ok(output::line(format_args!("{client} belongs to {server} from its next connection on"))?)
}

/// A message with only the assigned fields in it, and which those are.
fn assigned<T: Documented>(assignments: &[String]) -> Result<(T, FieldMask)> {
    let mut message = T::default().to_dynamic();
    let mut paths = Vec::with_capacity(assignments.len());
    for assignment in assignments {
        let (path, value) = assignment
            .split_once('=')
            .with_context(|| format!("{assignment:?} is no assignment: use FIELD=VALUE"))?;
        let node = (!value.is_empty()).then(|| node(value)).transpose()?;
        let mask = at_path(&mut message, path, node.as_ref())?;
        if paths.contains(&mask) {
            bail!("{path} is assigned twice");
        }
        paths.push(mask);
    }
    Ok((T::from_dynamic(&message), FieldMask { paths }))
}

/// `{…}` and `[…]` are documents, all else is text that the field makes sense of.
fn node(value: &str) -> Result<Node> {
    if value.starts_with(['{', '[']) { Ok(Node::flow(value)?) } else { Ok(Node::text(value)) }
}

#[cfg(test)]
mod tests;
