//! Logs: lines on standard error, for people or as JSON.

use std::io::IsTerminal;

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::writer::BoxMakeWriter;

/// How a process logs; part of every binary's command line.
#[derive(Clone, Debug, clap::Args)]
pub struct LogOptions {
    /// What to log: a level, or levels by module, such as "info" or "gantry_agent_l7=debug,info".
    #[arg(long, env = "GANTRY_LOG", default_value = "info", value_name = "FILTER")]
    pub log: String,
    /// The form of a log line.
    #[arg(long, env = "GANTRY_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// The filter cannot be understood.
#[derive(Debug, thiserror::Error)]
#[error("--log {filter:?} is not a filter: use a level such as \"info\", or \"module=level,…\"")]
pub struct LogError {
    filter: String,
    #[source]
    source: tracing_subscriber::filter::ParseError,
}

/// Starts logging for this process.
pub fn start(options: &LogOptions) -> Result<(), LogError> {
    let filter = EnvFilter::try_new(&options.log)
        .map_err(|source| LogError { filter: options.log.clone(), source })?;
    let writer = BoxMakeWriter::new(std::io::stderr);
    let colours = std::io::stderr().is_terminal();
    let lines =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer).with_ansi(colours);
    match options.log_format {
        LogFormat::Text => lines.with_target(false).init(),
        LogFormat::Json => lines.json().flatten_event(true).init(),
    }
    Ok(())
}
