//! `gantry import`: certificates with their keys, which nobody gets to see again.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};
use gantry_proto::v1;

use crate::look;
use crate::names;
use crate::output;
use crate::session::Session;

#[derive(Debug, Subcommand)]
pub(crate) enum Kind {
    /// Store a chain and its key under a name, or replace what is there
    #[command(visible_alias = "cert")]
    Certificate(Certificate),
}

#[derive(Args, Debug)]
#[command(after_long_help = "\
The chain is PEM, the server's own certificate first; the key is PEM without a passphrase. Services
that use a certificate go on with the new one when it is imported under the same name.

Examples:
  gantry import certificate pacs --chain pacs-chain.pem --key pacs-key.pem
  gantry import certificate pacs --chain new.pem --key new-key.pem -m \"yearly renewal\"")]
pub(crate) struct Certificate {
    /// CERTIFICATE, or certificates/CERTIFICATE
    name: String,
    /// The certificate and those above it
    #[arg(long, value_name = "FILE")]
    chain: PathBuf,
    /// Its private key
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// Why, for the audit log
    #[arg(short = 'm', long, default_value_t, hide_default_value = true, value_name = "WHY")]
    comment: String,
    /// Check everything, change nothing
    #[arg(long)]
    dry_run: bool,
}

pub(crate) async fn run(kind: Kind, session: &Session) -> Result<()> {
    let Kind::Certificate(arguments) = kind;
    let name = names::certificate(&arguments.name)?.to_string();
    let read = |path: &PathBuf| {
        let failed = || format!("{} cannot be read as PEM", path.display());
        std::fs::read_to_string(path).with_context(failed)
    };
    let request = v1::ImportCertificateRequest {
        name,
        chain_pem: read(&arguments.chain)?,
        private_key_pem: read(&arguments.key)?,
        validate_only: arguments.dry_run,
        comment: arguments.comment,
        ..Default::default()
    };
    let stored = session.certificates().import_certificate(request).await?.into_inner();
    let done = if arguments.dry_run { "could import" } else { "imported" };
    let expires = look::time(stored.expire_time.as_ref());
    Ok(output::line(format_args!(
        "{done} {}: {}, valid until {expires}",
        stored.name, stored.subject
    ))?)
}
