//! `gantry delete`: asks on a terminal, because there is no way back.

use std::io::{IsTerminal, Write};

use anyhow::{Result, bail};
use clap::Args;
use gantry_proto::v1;

use super::lists;
use crate::look;
use crate::names::{self, Name, Reference};
use crate::output;
use crate::session::Session;

#[derive(Args, Debug)]
#[command(after_long_help = "\
Examples:
  gantry delete dicom/pacs-2 -m \"PACS 2 is gone for good\"
  gantry delete dicom --yes
  gantry delete appliances/lb2
  gantry delete certificates/pacs
  gantry delete persistence dicom 10.12.2.7 -m \"to the new archive\"")]
#[command(override_usage = "gantry delete NAME [OPTIONS]\n       \
    gantry delete persistence SERVICE CLIENT [OPTIONS]")]
pub(crate) struct Arguments {
    /// SERVICE, SERVICE/SERVER, appliances/APPLIANCE, certificates/CERTIFICATE, clusters/CLUSTER or
    /// any whole name; or persistence, a SERVICE and the address of a CLIENT that it is to forget
    #[arg(value_name = "NAME", required = true, num_args = 1..=3)]
    what: Vec<String>,
    /// Why, for the audit log
    #[arg(short = 'm', long, value_name = "WHY")]
    comment: Option<String>,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

pub(crate) async fn run(arguments: Arguments, session: &Session) -> Result<()> {
    let name: Reference = match arguments.what.as_slice() {
        [name] => name.parse()?,
        [word, service, client] if word == "persistence" => {
            let comment = arguments.comment.unwrap_or_default();
            return forget(service, client, comment, session).await;
        }
        _ => bail!("give one name, or persistence, a service and a client's address"),
    };
    let name = session.resolve(name).await?;
    if asks(arguments.yes) && !confirmed(&question(&name, session).await?)? {
        bail!("nothing was deleted");
    }
    delete(&name, arguments.comment.unwrap_or_default(), session).await?;
    Ok(output::line(format_args!("deleted {name}"))?)
}

/// Nothing is lost by it, so nobody is asked: the client's next connection may go elsewhere.
async fn forget(service: &str, client: &str, comment: String, session: &Session) -> Result<()> {
    let Name::Service(service) = session.resolve(service.parse()?).await? else {
        bail!("{service} is not a virtual service");
    };
    let request = v1::DeletePersistenceEntryRequest {
        parent: service.to_string(),
        client: client.to_owned(),
        comment,
    };
    session.balancer().delete_persistence_entry(request).await?;
    Ok(output::line(format_args!("{service} has forgotten {client}"))?)
}

async fn delete(name: &Name, comment: String, session: &Session) -> Result<()> {
    match name {
        Name::Service(_) => {
            let request = v1::DeleteVirtualServiceRequest {
                name: name.to_string(),
                comment,
                ..Default::default()
            };
            session.balancer().delete_virtual_service(request).await?;
        }
        Name::Server(_) => {
            let request = v1::DeleteRealServerRequest {
                name: name.to_string(),
                comment,
                ..Default::default()
            };
            session.balancer().delete_real_server(request).await?;
        }
        Name::Cluster(_) => {
            let request =
                v1::DeleteClusterRequest { name: name.to_string(), comment, ..Default::default() };
            session.fleet().delete_cluster(request).await?;
        }
        Name::Appliance(_) => {
            let request = v1::DeleteApplianceRequest { name: name.to_string(), comment };
            session.fleet().delete_appliance(request).await?;
        }
        Name::Certificate(_) => {
            let request = v1::DeleteCertificateRequest {
                name: name.to_string(),
                comment,
                ..Default::default()
            };
            session.certificates().delete_certificate(request).await?;
        }
    }
    Ok(())
}

/// What would be lost.
async fn question(name: &Name, session: &Session) -> Result<String> {
    let short = names::short(&name.to_string());
    Ok(match name {
        Name::Service(_) => {
            let servers = lists::servers(session, name.to_string(), "").await?.len();
            format!("Delete {short} and its {servers} real servers? Open connections are reset.")
        }
        Name::Server(_) => {
            let request = v1::GetRealServerRequest { name: name.to_string() };
            let server = session.balancer().get_real_server(request).await?.into_inner();
            let open = server.status.map_or(0, |status| status.active_connections);
            format!("Delete {short}? {} open on it, to be reset.", look::connections(open))
        }
        Name::Cluster(_) => format!("Delete {short}?"),
        Name::Certificate(_) => format!("Delete {short} and its key? There is no other copy here."),
        Name::Appliance(_) => format!("Delete {short}? Its certificate is worth nothing then."),
    })
}

/// Whether there is somebody to ask.
pub(super) fn asks(yes: bool) -> bool {
    !yes && std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
}

pub(super) fn confirmed(question: &str) -> Result<bool> {
    let mut out = anstream::stderr();
    write!(out, "{question} [y/N] ")?;
    out.flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
