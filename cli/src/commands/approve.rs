//! `gantry approve`: lets agents take a configuration that would take most services from them.

use std::collections::BTreeSet;

use anyhow::{Result, bail};
use clap::Args;
use gantry_proto::v1;

use super::delete::{asks, confirmed};
use crate::names::{Name, Reference};
use crate::output;
use crate::session::Session;

#[derive(Args, Debug)]
#[command(after_long_help = "\
An agent holds a configuration back when it would remove more than 10 virtual services and more than
a fifth of those it carries: it may come from an old backup or from the wrong database. What it
carries goes on meanwhile. Look at `gantry get vs` and `gantry events` first.

Examples:
  gantry approve lb1
  gantry approve lb1 --yes -m \"the old site is closed\"")]
pub(crate) struct Arguments {
    /// The appliance whose agents hold a configuration back
    appliance: String,
    /// Why, for the audit log
    #[arg(short = 'm', long, value_name = "WHY")]
    comment: Option<String>,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

pub(crate) async fn run(arguments: Arguments, session: &Session) -> Result<()> {
    let name = appliance(&arguments.appliance, session).await?;
    let request = v1::GetApplianceRequest { name: name.clone() };
    let found = session.fleet().get_appliance(request).await?.into_inner();
    let held: Vec<&v1::AgentStatus> =
        found.agents.iter().filter(|agent| agent.held_removal_count > 0).collect();
    for agent in &held {
        output::remark(hold(agent))?;
    }
    if !held.is_empty() && asks(arguments.yes) && !confirmed("Let them go?")? {
        bail!("nothing was approved");
    }
    // Without any, the controller says why there is nothing to approve.
    let mut revisions: BTreeSet<String> =
        held.iter().map(|agent| agent.held_revision.clone()).collect();
    if revisions.is_empty() {
        revisions.insert(String::new());
    }
    for revision in revisions {
        let comment = arguments.comment.clone().unwrap_or_default();
        let request = v1::ApproveRemovalsRequest { name: name.clone(), revision, comment };
        session.fleet().approve_removals(request).await?;
    }
    Ok(output::line(format_args!("approved for {name}"))?)
}

/// An appliance is named as it is shown: by its id.
async fn appliance(given: &str, session: &Session) -> Result<String> {
    let reference =
        if given.contains('/') { given.parse()? } else { Reference::Appliance(given.parse()?) };
    match session.resolve(reference).await? {
        Name::Appliance(name) => Ok(name.to_string()),
        other => bail!("{other} is not an appliance"),
    }
}

fn hold(agent: &v1::AgentStatus) -> String {
    let v1::AgentStatus { agent, held_revision, held_removal_count, .. } = agent;
    format!(
        "{agent} holds back revision {held_revision}, which takes {held_removal_count} virtual \
         services from it"
    )
}
