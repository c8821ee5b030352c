//! `gantry arp-help`: what to configure on the real servers of a service. Changes nothing.

use anyhow::{Result, bail};
use clap::Args;
use gantry_proto::v1;

use super::lists;
use crate::arp::{System, advice};
use crate::names::{Name, Reference};
use crate::output;
use crate::session::Session;

#[derive(Args, Debug)]
#[command(after_long_help = "\
With direct routing (DR) and tunnels, real servers take packets for the service's address, and must
not answer when the network asks who has it. What that takes differs by system and is printed here,
filled in for the service: at once, for ever, and how to see that it works. It is only text.

Examples:
  gantry arp-help dicom-store
  gantry arp-help dicom-store --os windows")]
pub(crate) struct Arguments {
    /// The virtual service
    #[arg(value_name = "SERVICE")]
    name: Reference,
    /// What the real servers run; without it, Linux
    #[arg(long = "os", value_enum, value_name = "SYSTEM")]
    system: Option<System>,
}

pub(crate) async fn run(arguments: Arguments, session: &Session) -> Result<()> {
    let name = match session.resolve(arguments.name).await? {
        Name::Service(name) => name.to_string(),
        other => bail!("{other} is not a virtual service"),
    };
    let request = v1::GetVirtualServiceRequest { name: name.clone() };
    let service = session.balancer().get_virtual_service(request).await?.into_inner();
    let servers = lists::servers(session, name, "").await?;
    Ok(output::raw(advice(&service, &servers, arguments.system)?)?)
}
