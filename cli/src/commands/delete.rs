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
  gantry delete appliances/lb2")]
pub(crate) struct Arguments {
    /// SERVICE, SERVICE/SERVER, appliances/APPLIANCE, clusters/CLUSTER or any whole name
    name: Reference,
    /// Why, for the audit log
    #[arg(short = 'm', long, value_name = "WHY")]
    comment: Option<String>,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

pub(crate) async fn run(arguments: Arguments, session: &Session) -> Result<()> {
    let name = session.resolve(arguments.name).await?;
    let recorded = matches!(name, Name::Service(_) | Name::Server(_));
    if arguments.comment.is_some() && !recorded {
        bail!("a comment is kept for virtual services and real servers only: leave out -m");
    }
    if asks(arguments.yes) && !confirmed(&question(&name, session).await?)? {
        bail!("nothing was deleted");
    }
    delete(&name, arguments.comment.unwrap_or_default(), session).await?;
    Ok(output::line(format_args!("deleted {name}"))?)
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
            let request = v1::DeleteClusterRequest { name: name.to_string(), ..Default::default() };
            session.fleet().delete_cluster(request).await?;
        }
        Name::Appliance(_) => {
            let request =
                v1::DeleteApplianceRequest { name: name.to_string(), ..Default::default() };
            session.fleet().delete_appliance(request).await?;
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
