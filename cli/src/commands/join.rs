//! `gantry invite` on the operator's side and `gantry join` on the appliance's: one token.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use gantry_model::name::ApplianceName;
use gantry_proto::v1;
use gantry_runtime::join::JoinError;

use crate::document::human_duration;
use crate::failure::{Exit, Failure};
use crate::look;
use crate::names::Name;
use crate::output;
use crate::session::{self, Global, Session, Target};

#[derive(Args, Debug)]
#[command(after_long_help = "\
The token works once. Who has it can join as this appliance: hand it over like a password.

Examples:
  gantry invite main/lb1
  gantry invite lb2 --ttl 24h")]
pub(crate) struct Invite {
    /// CLUSTER/APPLIANCE, or just APPLIANCE when there is one cluster
    #[arg(value_name = "[CLUSTER/]APPLIANCE")]
    name: String,
    /// How long the token is good, at most 7d
    #[arg(long, default_value = "1h", value_name = "DURATION", value_parser = human_duration)]
    ttl: prost_types::Duration,
    /// Why, for the audit log
    #[arg(short = 'm', long, default_value_t, hide_default_value = true, value_name = "WHY")]
    comment: String,
}

#[derive(Args, Debug)]
#[command(after_long_help = "\
Example:
  gantry join --controller https://lb-controller:7443 --token gantry1.… --dir /var/lib/gantry/identity")]
pub(crate) struct Join {
    /// What gantry invite printed
    #[arg(long, env = "GANTRY_TOKEN", hide_env_values = true)]
    token: String,
    /// Where to write ca.pem, certificate.pem and key.pem
    #[arg(long)]
    dir: PathBuf,
}

pub(crate) async fn invite(arguments: Invite, session: &Session) -> Result<()> {
    let name = appliance_name(&arguments.name, session).await?;
    let request = v1::InviteApplianceRequest {
        parent: name.cluster().to_string(),
        appliance_id: name.appliance.to_string(),
        ttl: Some(arguments.ttl),
        comment: arguments.comment,
    };
    let answer = session.fleet().invite_appliance(request).await?.into_inner();
    let expires = look::time(answer.expire_time.as_ref());
    let controller = &session.target.controller;
    Ok(output::line(format_args!(
        "token    {token}\nexpires  {expires}, or when it is used\n\nOn {appliance}, type:\n  gantry \
         join --controller {controller} --token {token} --dir /var/lib/gantry/identity",
        token = answer.token,
        appliance = name.appliance,
    ))?)
}

/// `lb1`, `main/lb1`, `appliances/lb1` or the whole name.
async fn appliance_name(text: &str, session: &Session) -> Result<ApplianceName> {
    match text.split('/').collect::<Vec<_>>().as_slice() {
        [appliance] => Ok(session.cluster().await?.appliance(appliance.parse()?)),
        ["appliances", _] | [_, _, _, ..] => match session.resolve(text.parse()?).await? {
            Name::Appliance(name) => Ok(name),
            other => bail!("{other} is not the name of an appliance"),
        },
        [cluster, appliance] => Ok(session::cluster_name(cluster)?.appliance(appliance.parse()?)),
        [] => bail!("an appliance has a name"),
    }
}

pub(crate) async fn join(arguments: Join, global: &Global) -> Result<()> {
    let controller = match &global.controller {
        Some(controller) => controller.clone(),
        None => Target::choose(global).map(|target| target.controller).context("joining")?,
    };
    let name = gantry_runtime::join::join(&controller, &arguments.token, &arguments.dir)
        .await
        .map_err(|error| failed(&error))?;
    Ok(output::line(format_args!(
        "joined as {name}; its identity is in {}",
        arguments.dir.display()
    ))?)
}

fn failed(error: &JoinError) -> Failure {
    let exit = match error {
        JoinError::Connect { .. } => Exit::Unreachable,
        JoinError::Refused(_) | JoinError::OtherCa { .. } => Exit::Refused,
        _ => Exit::Usage,
    };
    Failure { exit, text: gantry_runtime::rpc::causes(error) }
}
