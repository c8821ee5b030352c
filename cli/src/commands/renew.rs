//! `gantry renew`: a newer certificate for whoever calls, and the CA certificates trusted now.
//!
//! Every other command does the same quietly when less than a quarter of the certificate's life is
//! left, and goes on with the old one when that does not work.

use std::time::Duration;

use anyhow::Result;
use clap::Args;
use gantry_runtime::renewal::{self, RenewalError};
use gantry_runtime::{clock, identity, rpc};

use crate::failure::{Exit, Failure};
use crate::output;
use crate::session::Session;

/// How long a command may be kept waiting for what nobody asked for.
const PATIENCE: Duration = Duration::from_secs(2);

#[derive(Args, Debug)]
#[command(after_long_help = "\
Other commands renew it by themselves when less than a quarter of its life is left. Type this while
the certificate authority is being replaced, so that the old one can be retired.

Example:
  gantry renew")]
pub(crate) struct Renew {}

pub(crate) async fn renew(_arguments: Renew, session: &Session) -> Result<()> {
    let dir = &session.target.identity;
    let renewed = renewal::renew(session.channel(), dir, &session.identity).await;
    let renewed = match renewed {
        Ok(renewed) => renewed,
        Err(RenewalError::Call(status)) => return Err(status.into()),
        Err(error) => {
            return Err(Failure { exit: Exit::Usage, text: rpc::causes(&error) }.into());
        }
    };
    let until = renewed.validity().map_or("?".to_owned(), |it| format!("{:.0}", it.until));
    let (name, dir) = (renewed.name(), dir.display());
    Ok(output::line(format_args!("renewed {name} in {dir}; it is good until {until}"))?)
}

/// The session under a renewed certificate, if it was due and could be renewed.
pub(crate) async fn when_due(session: Session) -> Session {
    let due = |validity: identity::Validity| {
        let now = clock::wall();
        validity.renew_time(0.0) <= now && now < validity.until
    };
    if !session.identity.validity().is_some_and(due) {
        return session;
    }
    let renewing = renewal::renew(session.channel(), &session.target.identity, &session.identity);
    match tokio::time::timeout(PATIENCE, renewing).await {
        Ok(Ok(_)) => match Session::open(session.target.clone()) {
            Ok(renewed) => renewed,
            Err(_) => session,
        },
        _ => session,
    }
}
