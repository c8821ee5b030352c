//! `gantry events`: what happened and who did it, the newest last, as in a log.

use std::time::Duration;

use anyhow::Result;
use clap::{Args, ValueEnum};
use gantry_proto::v1;
use gantry_proto::v1::event::Severity;
use tonic::Status;

use crate::document::Documented;
use crate::failure::is_unreachable;
use crate::look::{self, Tone, Word};
use crate::names::{self, Reference};
use crate::output;
use crate::session::Session;

/// Between attempts to reach a controller that went away.
const RETRY: Duration = Duration::from_secs(1);

#[derive(Args, Debug)]
#[command(after_long_help = "\
Examples:
  gantry events                 the last 20
  gantry events -n 0 -f dicom   what happens to one service from now on
  gantry events -f -o json      one JSON object a line, for programs
  gantry events --filter \"severity >= WARNING AND time > 2026-01-31T08:00:00Z\"")]
pub(crate) struct Arguments {
    /// Only events about this and what is below it: SERVICE, SERVICE/SERVER or a whole name
    subject: Option<Reference>,
    /// Only those that match: FIELD OPERATOR VALUE, several joined by AND
    #[arg(
        short = 'l',
        long,
        default_value_t,
        hide_default_value = true,
        value_name = "CONDITIONS"
    )]
    filter: String,
    /// Go on with events as they happen
    #[arg(short, long)]
    follow: bool,
    /// How many of the past to show
    #[arg(short = 'n', long, default_value_t = 20, value_name = "COUNT")]
    last: usize,
    /// How to show them
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum Format {
    /// A line for people
    #[default]
    Table,
    /// A line of JSON
    Json,
}

pub(crate) async fn run(arguments: Arguments, session: &Session) -> Result<()> {
    let subject = match arguments.subject {
        Some(reference) => session.resolve(reference).await?.to_string(),
        None => session.target.cluster_flag.as_ref().map(ToString::to_string).unwrap_or_default(),
    };
    let wanted = Wanted { subject: &subject, filter: &arguments.filter };
    let past = recent(wanted, arguments.last.max(1), session).await?;
    let mut after = past.last().map(|event| event.name.clone()).unwrap_or_default();
    for event in past.iter().skip(past.len().saturating_sub(arguments.last)) {
        print(event, arguments.output)?;
    }
    if !arguments.follow {
        return Ok(());
    }
    let mut told = false;
    loop {
        let ended = follow(wanted, &mut after, arguments.output, &mut told, session).await;
        let status = ended.downcast::<Status>()?;
        if !is_unreachable(&status) {
            return Err(status.into());
        }
        if !std::mem::replace(&mut told, true) {
            output::remark("the controller went away; events go on when it is back")?;
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// Which events are asked for.
#[derive(Clone, Copy)]
pub(crate) struct Wanted<'a> {
    /// This and what is below it; empty: all.
    pub(crate) subject: &'a str,
    pub(crate) filter: &'a str,
}

/// The newest events wanted, at most `count`, in order of time.
pub(crate) async fn recent(
    wanted: Wanted<'_>,
    count: usize,
    session: &Session,
) -> Result<Vec<v1::Event>, Status> {
    let mut events = Vec::new();
    let mut page_token = String::new();
    loop {
        let left = count.saturating_sub(events.len());
        let page_size = i32::try_from(left).unwrap_or(i32::MAX);
        let request = v1::ListEventsRequest {
            subject: wanted.subject.to_owned(),
            page_size,
            page_token,
            filter: wanted.filter.to_owned(),
        };
        let page = session.observe().list_events(request).await?.into_inner();
        events.extend(page.events.into_iter().take(left));
        page_token = page.next_page_token;
        if page_token.is_empty() || events.len() >= count {
            events.reverse();
            return Ok(events);
        }
    }
}

/// Prints events after `after` until the stream breaks; answers with why it did. Once there is a
/// stream, nothing has been `told` of its loss yet.
async fn follow(
    wanted: Wanted<'_>,
    after: &mut String,
    format: Format,
    told: &mut bool,
    session: &Session,
) -> anyhow::Error {
    let request = v1::WatchEventsRequest {
        subject: wanted.subject.to_owned(),
        after: after.clone(),
        filter: wanted.filter.to_owned(),
    };
    let mut stream = match session.observe().watch_events(request).await {
        Ok(answer) => answer.into_inner(),
        Err(status) => return status.into(),
    };
    *told = false;
    loop {
        match stream.message().await {
            Ok(Some(event)) => {
                if let Err(error) = print(&event, format) {
                    return error;
                }
                *after = event.name;
            }
            Ok(None) => return Status::unavailable("the stream ended").into(),
            Err(status) => return status.into(),
        }
    }
}

fn print(event: &v1::Event, format: Format) -> Result<()> {
    match format {
        Format::Table => output::line(line(event))?,
        Format::Json => output::line(serde_json::to_string(&event.to_dynamic())?)?,
    }
    Ok(())
}

/// One event for people: when, how loud, about what, what happened, who did it and why.
pub(crate) fn line(event: &v1::Event) -> String {
    let severity = match event.severity() {
        Severity::Unspecified | Severity::Info => Word::new("info", Tone::Quiet),
        Severity::Warning => Word::new("WARNING", Tone::Warning),
        Severity::Critical => Word::new("CRITICAL", Tone::Bad),
    };
    let subject = names::short(&event.subject);
    let time = look::time(event.time.as_ref());
    let why = match event.comment.as_str() {
        "" => String::new(),
        comment => format!(": {comment:?}"),
    };
    let by = Word::new(format!("({}{why})", names::short(&event.actor)), Tone::Quiet);
    format!("{time}  {severity:8}  {subject}  {}  {by}", event.message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_line() {
        let event = v1::Event {
            time: Some(prost_types::Timestamp { seconds: 1_790_000_000, nanos: 0 }),
            severity: Severity::Warning.into(),
            subject: "clusters/main/virtualServices/dicom/realServers/pacs-2".into(),
            actor: "users/anna".into(),
            message: "drained".into(),
            comment: "disk".into(),
            ..Default::default()
        };
        assert_eq!(
            anstream::adapter::strip_str(&line(&event)).to_string(),
            "2026-09-21 14:13:20Z  WARNING   dicom/pacs-2  drained  (users/anna: \"disk\")"
        );
    }
}
