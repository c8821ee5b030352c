//! Builds, runs, tests and checks the workspace.

mod sample;

use clap::Parser;

#[derive(Debug, Parser)]
enum Xtask {
    /// Runs a small real server, or makes images to send to one.
    #[command(subcommand)]
    Sample(sample::Sample),
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    match Xtask::parse() {
        Xtask::Sample(sample) => sample.run().await,
    }
}
