//! A process that a service manager may end, and its child that carries the traffic and lives on for some
//! seconds.
//!
//! `systemctl restart` ends a service before it starts it again, and knows one process of it: the keeper,
//! which does nothing but to wait. The child learns of its death by a signal, and has then time to hand
//! over to the successor that is about to be started.

use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitCode};

use rustix::process::{Signal, getpid, getppid, set_parent_process_death_signal};

/// The child finds in it who its keeper is.
const KEEPER: &str = "GANTRY_KEEPER";

/// Runs this program once more, with the same arguments, as a child, to its end.
pub fn keep() -> std::io::Result<ExitCode> {
    let mut arguments = std::env::args_os();
    let mut command = Command::new("/proc/self/exe");
    if let Some(name) = arguments.next() {
        command.arg0(name);
    }
    command.args(arguments).env(KEEPER, getpid().to_string());
    let status = command.spawn().and_then(|mut child: Child| child.wait())?;
    let code = status.code().or(status.signal().map(|signal| 128 + signal));
    Ok(code.and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from))
}

/// Whether this process is the child of a keeper. If it is, it gets a SIGTERM when the keeper ends;
/// called from the main thread, with that signal provided for.
pub fn has_one() -> std::io::Result<bool> {
    let Ok(keeper) = std::env::var(KEEPER) else { return Ok(false) };
    set_parent_process_death_signal(Some(Signal::TERM))?;
    if getppid().is_none_or(|parent| parent.to_string() != keeper) {
        // It has gone already.
        rustix::process::kill_process(getpid(), Signal::TERM)?;
    }
    Ok(true)
}

/// Whether this process is to be the keeper of another.
pub fn is_to_be_one() -> bool {
    std::env::var_os(KEEPER).is_none()
}
