//! `gantry authority`: which CAs are trusted, and how one takes the place of another.

use anyhow::Result;
use clap::{Args, Subcommand};
use comfy_table::Cell;
use gantry_proto::v1;
use v1::ca_certificate::State;

use crate::look;
use crate::output::{self, Format};
use crate::session::Session;

#[derive(Args, Debug)]
#[command(
    args_conflicts_with_subcommands = true,
    after_long_help = "\
To replace the CA while everything goes on:
  gantry authority rotate -m \"its key was on a lost laptop\"
  gantry authority              until it waits for nobody
  gantry renew                  for each operator's identity
  gantry authority retire"
)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Option<Action>,
    /// How to show it
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Make a new CA, which signs from now on; the present one stays trusted beside it
    Rotate {
        /// Why, for the audit log
        #[arg(short = 'm', long, value_name = "WHY")]
        comment: Option<String>,
    },
    /// Trust only the new CA
    Retire {
        /// Go ahead although appliances, or this command, still show certificates of the old CA
        #[arg(long)]
        force: bool,
        /// Why, for the audit log
        #[arg(short = 'm', long, value_name = "WHY")]
        comment: Option<String>,
    },
}

pub(crate) async fn run(arguments: Arguments, session: &Session) -> Result<()> {
    let mut client = session.authority();
    let (done, answer) = match arguments.action {
        None => ("", client.get_authority(v1::GetAuthorityRequest {}).await?),
        Some(Action::Rotate { comment }) => {
            let comment = comment.unwrap_or_default();
            let request = v1::RotateAuthorityRequest { comment };
            ("a new CA signs from now on", client.rotate_authority(request).await?)
        }
        Some(Action::Retire { force, comment }) => {
            let comment = comment.unwrap_or_default();
            let request = v1::RetireAuthorityRequest { force, comment };
            ("the old CA is trusted no longer", client.retire_authority(request).await?)
        }
    };
    let authority = answer.into_inner();
    if !done.is_empty() {
        output::remark(done)?;
    }
    match arguments.output {
        Format::Table => show(&authority),
        Format::Name => names(&authority),
        format => Ok(output::documents(&[authority], true, format)?),
    }
}

fn names(authority: &v1::Authority) -> Result<()> {
    for certificate in &authority.certificates {
        output::line(&certificate.fingerprint)?;
    }
    Ok(())
}

fn show(authority: &v1::Authority) -> Result<()> {
    let row = |certificate: &v1::CaCertificate| {
        let state = match certificate.state() {
            State::Signing => "signing",
            State::Retiring => "retiring",
            State::Unspecified => "?",
        };
        let expires = look::time(certificate.expire_time.as_ref());
        [state, &certificate.subject, &expires, &certificate.fingerprint].map(Cell::new).to_vec()
    };
    let rows = authority.certificates.iter().map(row).collect();
    output::line(output::table(&["STATE", "SUBJECT", "EXPIRES", "FINGERPRINT"], &[], rows))?;
    for name in &authority.waiting_for {
        output::line(format_args!("waiting for {name}"))?;
    }
    if authority.certificates.len() > 1 && authority.waiting_for.is_empty() {
        output::line(
            "no appliance shows the old CA's certificates any more: gantry authority retire",
        )?;
    }
    Ok(())
}
