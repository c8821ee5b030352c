//! `gantry`, the command line of the Gantry load balancer platform.
//!
//! It does what any client of the API can do and nothing else: whatever it shows came in an
//! answer, whatever it changes is one call. It keeps no state but the settings file.

mod arp;
mod changes;
mod commands;
mod document;
mod failure;
mod look;
mod names;
mod output;
mod overview;
mod session;
mod settings;
mod suggest;
mod timed;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let cli = commands::Cli::parse();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("an event loop can be made");
    match runtime.block_on(commands::run(cli)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let style = look::Tone::Bad.style();
            // Where even this cannot be written, the exit code says it.
            let _ = output::remark(format_args!("{style}error:{style:#} {failure}"));
            ExitCode::from(failure.exit as u8)
        }
    }
}
