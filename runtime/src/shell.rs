//! What every binary's `main` does around its own work.

use std::process::ExitCode;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::{error, warn};

use crate::log::{self, LogOptions};
use crate::tasks::Ended;

/// `EX_USAGE` of sysexits.h: the command line is wrong.
const USAGE: u8 = 64;

/// Starts logging, does `work`, and turns its end into an exit code.
pub async fn run<E: std::fmt::Display>(
    options: &LogOptions,
    work: impl Future<Output = Result<Ended, E>>,
) -> ExitCode {
    if let Err(error) = log::start(options) {
        complain(&error);
        return ExitCode::from(USAGE);
    }
    match work.await {
        Ok(Ended::Stopped) => ExitCode::SUCCESS,
        Ok(Ended::TaskFailed(_)) => ExitCode::FAILURE,
        Err(failure) => {
            error!("{failure:#}");
            ExitCode::FAILURE
        }
    }
}

/// Allows this process as many open files as it may have.
pub fn raise_file_limit() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        warn!(%error, "the limit on open files stays as it is");
    }
}

#[expect(clippy::print_stderr, reason = "there is no log yet")]
fn complain(error: &dyn std::error::Error) {
    eprintln!("{error}");
}
