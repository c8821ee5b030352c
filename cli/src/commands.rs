//! The commands: one file each, with its arguments, what it calls and what it prints.

mod apply;
mod approve;
mod arp_help;
mod authority;
mod completions;
mod context;
mod create;
mod delete;
mod describe;
mod diff;
mod events;
mod explain;
mod get;
mod history;
mod import;
mod join;
pub(crate) mod lists;
mod overview;
mod plan;
mod renew;
mod rollback;
mod serve;
mod set;
mod wait;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::failure::{Failure, explain};
use crate::session::{Global, Session, Target};

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  the controller refused, or with --wait an appliance
  2  wrong usage, or a document or settings file that cannot be right
  3  the controller cannot be reached, or does not answer

Start with:
  gantry context set lab --controller https://lb-controller:7443 --identity ~/gantry
  gantry overview";

/// Gantry, the load balancer for medical imaging and information systems
#[derive(Debug, Parser)]
#[command(name = "gantry", version, after_help = EXIT_CODES, disable_help_subcommand = true)]
#[command(max_term_width = 100, infer_subcommands = false, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show every virtual service, its real servers and what they are doing
    Overview(overview::Arguments),
    /// List resources
    Get(get::Arguments),
    /// Tell everything about one resource
    Describe(describe::Arguments),
    /// Create a virtual service, a real server or a cluster
    #[command(subcommand)]
    Create(create::Kind),
    /// Change fields of a resource
    Set(set::Arguments),
    /// Store a certificate and its key
    #[command(subcommand)]
    Import(import::Kind),
    /// Delete a resource
    Delete(delete::Arguments),
    /// Send a real server no new clients; let its connections end
    Drain(serve::Drain),
    /// Take a real server out at once; its connections are reset
    Halt(serve::Halt),
    /// Put a drained or halted real server back into service
    Online(serve::Online),
    /// Show what happened and who did it
    Events(events::Arguments),
    /// Show what a document would change, and which open connections that would cut
    Plan(plan::Arguments),
    /// Make a cluster's configuration equal to a document
    Apply(apply::Apply),
    /// Write a cluster's configuration as a document
    Export(apply::Export),
    /// List revisions: who changed the configuration, when and why; or show one whole
    History(history::Arguments),
    /// Show what differs between two revisions
    Diff(diff::Arguments),
    /// Make a cluster's configuration what it was at a revision
    Rollback(rollback::Arguments),
    /// Print what the real servers of a service need so that traffic for its address reaches them
    ArpHelp(arp_help::Arguments),
    /// Let an appliance take a configuration that removes most of its virtual services
    Approve(approve::Arguments),
    /// Issue a token with which an appliance can join a cluster
    Invite(join::Invite),
    /// Buy this appliance's certificate with a token
    Join(join::Join),
    /// Renew the certificate that this command calls with
    Renew(renew::Renew),
    /// Show the certificate authority, or replace it
    Authority(authority::Arguments),
    /// Keep the addresses of controllers and whom to call them as
    #[command(subcommand)]
    Context(context::Action),
    /// Explain a resource or a field: what it is for, and what it may be
    Explain(explain::Arguments),
    /// Write what a shell needs to complete commands and flags
    Completions(completions::Arguments),
    /// Print the version of this command
    Version,
}

/// Runs the command that was typed.
pub(crate) async fn run(cli: Cli) -> Result<(), Failure> {
    let done = match cli.command {
        Command::Version => version(),
        Command::Explain(arguments) => explain::run(&arguments),
        Command::Completions(arguments) => completions::run(&arguments),
        Command::Join(join) => join::join(join, &cli.global).await,
        Command::Context(action) => context::run(action, &cli.global),
        command => return call(command, &cli.global).await,
    };
    match done {
        Err(error) => outcome(error, None).await,
        Ok(()) => Ok(()),
    }
}

/// Runs a command that calls the controller.
async fn call(command: Command, global: &Global) -> Result<(), Failure> {
    let session = match Target::choose(global).and_then(Session::open) {
        Ok(session) => session,
        Err(error) => return Err(explain(error, None).await),
    };
    let session = match command {
        Command::Renew(_) => session,
        _ => renew::when_due(session).await,
    };
    let done = match command {
        Command::Overview(arguments) => overview::run(arguments, &session).await,
        Command::Get(arguments) => get::run(arguments, &session).await,
        Command::Describe(arguments) => describe::run(arguments, &session).await,
        Command::Create(kind) => create::run(kind, &session).await,
        Command::Set(arguments) => set::run(arguments, &session).await,
        Command::Import(kind) => import::run(kind, &session).await,
        Command::Delete(arguments) => delete::run(arguments, &session).await,
        Command::Drain(drain) => serve::drain(drain, &session).await,
        Command::Halt(halt) => serve::halt(halt, &session).await,
        Command::Online(online) => serve::online(online, &session).await,
        Command::Events(arguments) => events::run(arguments, &session).await,
        Command::Plan(arguments) => plan::run(arguments, &session).await,
        Command::Apply(apply) => apply::apply(apply, &session).await,
        Command::Export(export) => apply::export(export, &session).await,
        Command::History(arguments) => history::run(arguments, &session).await,
        Command::Diff(arguments) => diff::run(arguments, &session).await,
        Command::Rollback(arguments) => rollback::run(arguments, &session).await,
        Command::ArpHelp(arguments) => arp_help::run(arguments, &session).await,
        Command::Approve(arguments) => approve::run(arguments, &session).await,
        Command::Invite(invite) => join::invite(invite, &session).await,
        Command::Renew(renew) => renew::renew(renew, &session).await,
        Command::Authority(arguments) => authority::run(arguments, &session).await,
        Command::Join(_)
        | Command::Context(_)
        | Command::Explain(_)
        | Command::Completions(_)
        | Command::Version => Ok(()),
    };
    match done {
        Err(error) => outcome(error, Some(&session)).await,
        Ok(()) => Ok(()),
    }
}

async fn outcome(error: anyhow::Error, session: Option<&Session>) -> Result<(), Failure> {
    if crate::failure::is_broken_pipe(&error) {
        return Ok(());
    }
    Err(explain(error, session).await)
}

fn version() -> Result<()> {
    Ok(crate::output::line(concat!("gantry ", env!("CARGO_PKG_VERSION")))?)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_arguments_do_not_contradict_each_other() {
        super::Cli::command().debug_assert();
    }
}
