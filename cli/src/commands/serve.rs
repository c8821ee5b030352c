//! `gantry drain`, `halt` and `online`: whether a real server serves, as an operator wants it.

use std::time::Duration;

use anyhow::{Result, bail};
use clap::Args;
use gantry_proto::v1;
use gantry_proto::v1::real_server::AdminState;
use gantry_proto::v1::real_server_status::State;

use crate::document::human_duration;
use crate::look;
use crate::names::{self, Name, Reference};
use crate::output;
use crate::session::Session;

/// Between two looks at a draining server.
const LOOK: Duration = Duration::from_millis(500);

#[derive(Args, Debug)]
#[command(after_long_help = "\
Examples:
  gantry drain dicom/pacs-1 -m \"PACS 1 is patched tonight\"
  gantry drain dicom/pacs-1 --halt-after 10m --wait && ssh pacs-1 reboot")]
pub(crate) struct Drain {
    /// The real server
    #[arg(value_name = "SERVICE/SERVER")]
    name: Reference,
    /// Halt what is left after this long; without it, never
    #[arg(long, value_name = "DURATION", value_parser = human_duration)]
    halt_after: Option<prost_types::Duration>,
    /// Why, for the audit log
    #[arg(short = 'm', long, value_name = "WHY")]
    comment: Option<String>,
    /// Wait until no connection is left
    #[arg(long)]
    wait: bool,
}

#[derive(Args, Debug)]
#[command(after_long_help = "Example:\n  gantry halt dicom/pacs-1 -m \"disk failed\"")]
pub(crate) struct Halt {
    /// The real server
    #[arg(value_name = "SERVICE/SERVER")]
    name: Reference,
    /// Why, for the audit log
    #[arg(short = 'm', long, value_name = "WHY")]
    comment: Option<String>,
}

#[derive(Args, Debug)]
#[command(after_long_help = "Example:\n  gantry online dicom/pacs-1 -m \"patched\"")]
pub(crate) struct Online {
    /// The real server
    #[arg(value_name = "SERVICE/SERVER")]
    name: Reference,
    /// Why, for the audit log
    #[arg(short = 'm', long, value_name = "WHY")]
    comment: Option<String>,
}

pub(crate) async fn drain(arguments: Drain, session: &Session) -> Result<()> {
    let name = server_name(arguments.name, session).await?;
    let request = v1::DrainRealServerRequest {
        name: name.clone(),
        halt_after: arguments.halt_after,
        comment: arguments.comment.unwrap_or_default(),
    };
    let server = session.balancer().drain_real_server(request).await?.into_inner();
    let open = server.status.as_ref().map_or(0, |status| status.active_connections);
    let open = look::connections(open);
    output::line(format_args!("draining {}, {open} open", names::short(&name)))?;
    if arguments.wait { until_empty(&name, session).await } else { Ok(()) }
}

pub(crate) async fn halt(arguments: Halt, session: &Session) -> Result<()> {
    let name = server_name(arguments.name, session).await?;
    let comment = arguments.comment.unwrap_or_default();
    let request = v1::HaltRealServerRequest { name: name.clone(), comment };
    session.balancer().halt_real_server(request).await?;
    Ok(output::line(format_args!("halted {}", names::short(&name)))?)
}

pub(crate) async fn online(arguments: Online, session: &Session) -> Result<()> {
    let name = server_name(arguments.name, session).await?;
    let comment = arguments.comment.unwrap_or_default();
    let request = v1::OnlineRealServerRequest { name: name.clone(), comment };
    session.balancer().online_real_server(request).await?;
    Ok(output::line(format_args!("{} is online: in service while healthy", names::short(&name)))?)
}

async fn server_name(reference: Reference, session: &Session) -> Result<String> {
    match session.resolve(reference).await? {
        Name::Server(name) => Ok(name.to_string()),
        other => {
            bail!("{:?} is not a real server: use SERVICE/SERVER", names::short(&other.to_string()))
        }
    }
}

/// Where a drain is.
#[derive(Debug, PartialEq, Eq)]
enum Progress {
    Empty,
    /// Somebody put it back into service.
    Undone,
    /// What to say.
    Going(String),
}

/// Shows the count of open connections until none is left.
async fn until_empty(name: &str, session: &Session) -> Result<()> {
    let mut said = String::new();
    loop {
        let request = v1::GetRealServerRequest { name: name.to_owned() };
        let server = session.balancer().get_real_server(request).await?.into_inner();
        match progress(&server) {
            Progress::Empty => return Ok(output::line("no connection is left")?),
            Progress::Undone => bail!("{} was put online meanwhile", names::short(name)),
            Progress::Going(text) if text != said => {
                output::line(&text)?;
                said = text;
            }
            Progress::Going(_) => {}
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn progress(server: &v1::RealServer) -> Progress {
    if !matches!(server.admin_state(), AdminState::Drain | AdminState::Halt) {
        return Progress::Undone;
    }
    let status = server.status.clone().unwrap_or_default();
    let open = look::connections(status.active_connections);
    match status.state() {
        _ if status.stale => {
            Progress::Going(format!("{open} when last heard of; an agent is silent"))
        }
        State::Unspecified => Progress::Going("no agent has said how many are open".to_owned()),
        State::Serving => Progress::Going(format!("{open}, not draining yet")),
        _ if status.active_connections == 0 => Progress::Empty,
        _ => Progress::Going(open),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(admin: AdminState, state: State, open: i64, stale: bool) -> v1::RealServer {
        let status = v1::RealServerStatus {
            state: state.into(),
            active_connections: open,
            stale,
            ..Default::default()
        };
        let admin_state = admin.into();
        v1::RealServer { admin_state, status: Some(status), ..Default::default() }
    }

    #[test]
    fn a_drain_ends_when_nothing_is_open_for_sure() {
        use AdminState::{Drain, Halt, Online};
        use State::{Draining, Failed, Halted, Serving};
        assert_eq!(progress(&server(Drain, Draining, 0, false)), Progress::Empty);
        assert_eq!(progress(&server(Halt, Halted, 0, false)), Progress::Empty);
        assert_eq!(progress(&server(Drain, Failed, 0, false)), Progress::Empty);
        assert_eq!(progress(&server(Online, Serving, 0, false)), Progress::Undone);
        for (state, open, stale) in [
            (Draining, 1, false),
            (Draining, 0, true),
            (Serving, 0, false),
            (State::Unspecified, 0, false),
        ] {
            let server = server(Drain, state, open, stale);
            assert!(matches!(progress(&server), Progress::Going(_)), "{state:?} {open} {stale}");
        }
    }
}
