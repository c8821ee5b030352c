//! Builds, runs, tests and checks the workspace: `cargo xtask`.

mod bench;
mod ci;
mod needs;
mod sample;
mod test;
mod tidy;
mod up;
mod workspace;

use std::fmt::Display;
use std::io::Write;
use std::process::ExitCode;

use clap::Parser;

/// Builds, runs, tests and checks Gantry
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", max_term_width = 100)]
enum Xtask {
    /// Build everything and run it here: a controller, an appliance and sample servers
    Up(up::Up),
    /// Measure what SPECIFICATION.md promises
    #[command(subcommand)]
    Bench(bench::Bench),
    /// Install what the tests need, and run them
    Test(test::Test),
    /// Check what the compiler cannot: layers, budgets, words
    Tidy(tidy::Tidy),
    /// What must hold before a change lands: format, tidy, lints, API lints, tests
    Ci(ci::Ci),
    /// Run one sample server, or make something to send to one
    #[command(subcommand)]
    Sample(sample::Sample),
    /// Run a program that ends when the caller does
    #[command(hide = true)]
    Tied(up::Tied),
}

#[tokio::main]
async fn main() -> ExitCode {
    let done = match Xtask::parse() {
        Xtask::Up(up) => up.run().await,
        Xtask::Bench(bench) => bench.run().await,
        Xtask::Test(test) => test.run(),
        Xtask::Tidy(tidy) => tidy.run(),
        Xtask::Ci(ci) => ci.run(),
        Xtask::Sample(sample) => sample.run().await,
        Xtask::Tied(tied) => tied.run(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let red = anstyle::AnsiColor::Red.on_default().bold();
            let _ = writeln!(anstream::stderr(), "{red}error:{red:#} {failure:#}");
            ExitCode::FAILURE
        }
    }
}

/// Prints a line. A reader that went away is no reason to stop.
fn say(line: impl Display) {
    let _ = writeln!(anstream::stdout(), "{line}");
}
