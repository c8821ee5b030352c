//! `gantry overview`: once, or kept up to date from the controller's stream.
//!
//! On a terminal `--watch` redraws in place and leaves no trace; in a pipe it prints each overview.
//! When the controller goes away the last overview stays, under a line that says how old it is.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use gantry_proto::v1;
use gantry_runtime::clock;
use tonic::Status;

use crate::failure::is_unreachable;
use crate::look::{self, Tone, Word};
use crate::output;
use crate::overview::render;
use crate::session::Session;

/// Between attempts to reach a controller that went away.
const RETRY: Duration = Duration::from_secs(1);

/// Without news, times since something grow all the same.
const REDRAW: Duration = Duration::from_secs(5);

#[derive(Args, Debug)]
#[command(after_long_help = "\
Examples:
  gantry overview
  gantry overview --watch       until Ctrl-C
  gantry overview -o json       everything, for programs")]
pub(crate) struct Arguments {
    /// Go on showing it as it changes
    #[arg(short, long)]
    watch: bool,
    /// How to show it
    #[arg(short, long, value_enum, default_value_t, conflicts_with = "watch")]
    output: Format,
}

#[derive(Clone, Copy, Debug, Default, clap::ValueEnum)]
enum Format {
    /// Columns for people
    #[default]
    Table,
    /// The API's message as JSON
    Json,
    /// The API's message as YAML
    Yaml,
}

pub(crate) async fn run(arguments: Arguments, session: &Session) -> Result<()> {
    let parent = session.parent();
    if arguments.watch {
        return watch(parent, session).await;
    }
    let request = v1::GetOverviewRequest { parent };
    let overview = session.observe().get_overview(request).await?.into_inner();
    match arguments.output {
        Format::Table => output::raw(render(&overview, output::width()))?,
        Format::Json => output::documents(&[overview], true, output::Format::Json)?,
        Format::Yaml => output::documents(&[overview], true, output::Format::Yaml)?,
    }
    Ok(())
}

async fn watch(parent: String, session: &Session) -> Result<()> {
    let mut screen = Screen::open()?;
    let follow = follow(parent, session, &mut screen);
    let result = tokio::select! {
        // Cancel safe: whoever types Ctrl-C wants nothing more of the stream.
        ended = follow => ended,
        pressed = tokio::signal::ctrl_c() => pressed.map_err(Into::into),
    };
    screen.close()?;
    result
}

async fn follow(parent: String, session: &Session, screen: &mut Screen) -> Result<()> {
    let mut last: Option<v1::Overview> = None;
    let mut complaint = String::new();
    loop {
        let request = v1::WatchOverviewRequest { parent: parent.clone(), min_interval: None };
        let ended = match session.observe().watch_overview(request).await {
            Ok(answer) => {
                complaint.clear();
                shown(answer.into_inner(), &mut last, screen).await?
            }
            Err(status) => status,
        };
        // Who was never there is reported as any other call is; who was comes back.
        if last.is_none() || !is_unreachable(&ended) {
            return Err(ended.into());
        }
        screen.complain(last.as_ref(), &session.target.controller, &mut complaint)?;
        tokio::time::sleep(RETRY).await;
    }
}

/// Shows overviews until the stream breaks; answers with why it did.
async fn shown(
    mut stream: tonic::Streaming<v1::Overview>,
    last: &mut Option<v1::Overview>,
    screen: &mut Screen,
) -> Result<Status> {
    loop {
        // Cancel safe: a message that is not whole yet stays in the stream.
        match tokio::time::timeout(REDRAW, stream.message()).await {
            Ok(Ok(Some(overview))) => {
                screen.show(&overview)?;
                *last = Some(overview);
            }
            Ok(Ok(None)) => return Ok(Status::unavailable("the stream ended")),
            Ok(Err(status)) => return Ok(status),
            Err(_) => screen.grow_older(last.as_mut())?,
        }
    }
}

/// Where overviews are drawn.
struct Screen {
    terminal: bool,
    drawn: bool,
}

impl Screen {
    /// On a terminal, the alternate screen without cursor and without wrapping.
    fn open() -> Result<Self> {
        let screen = Self { terminal: std::io::stdout().is_terminal(), drawn: false };
        screen.control("\x1b[?1049h\x1b[?25l\x1b[?7l")?;
        Ok(screen)
    }

    fn close(&self) -> Result<()> {
        self.control("\x1b[?7h\x1b[?25h\x1b[?1049l")
    }

    fn control(&self, codes: &str) -> Result<()> {
        if self.terminal {
            let mut out = std::io::stdout();
            out.write_all(codes.as_bytes())?;
            out.flush()?;
        }
        Ok(())
    }

    fn show(&mut self, overview: &v1::Overview) -> Result<()> {
        let text = render(overview, output::width());
        self.draw(&text, None)
    }

    /// Draws what is unchanged with the time gone on.
    fn grow_older(&mut self, last: Option<&mut v1::Overview>) -> Result<()> {
        let Some(last) = last.filter(|_| self.terminal) else { return Ok(()) };
        if let Some(time) = &mut last.time {
            time.seconds += i64::try_from(REDRAW.as_secs())?;
        }
        self.show(last)
    }

    /// Says that the controller is away: over the last overview, or once in a pipe.
    fn complain(
        &mut self,
        last: Option<&v1::Overview>,
        controller: &str,
        said: &mut String,
    ) -> Result<()> {
        let age = last.and_then(|last| look::since(last.time.as_ref(), clock::wall().as_second()));
        let text = format!("{controller} does not answer, trying again");
        if !self.terminal {
            if *said != text {
                output::remark(&text)?;
            }
            *said = text;
            return Ok(());
        }
        let banner = format!("THIS IS {} OLD: {text}", age.unwrap_or_default());
        let overview = last.map(|last| render(last, output::width())).unwrap_or_default();
        self.draw(&overview, Some(&Word::new(banner, Tone::Bad)))
    }

    fn draw(&mut self, text: &str, banner: Option<&Word>) -> Result<()> {
        if !self.terminal {
            let separator = if std::mem::replace(&mut self.drawn, true) { "\n" } else { "" };
            return Ok(output::raw(format_args!("{separator}{text}"))?);
        }
        let height = terminal_size::terminal_size().map_or(24, |(_, height)| usize::from(height.0));
        let banner = banner.map(ToString::to_string);
        let lines: Vec<&str> = banner.iter().map(String::as_str).chain(text.lines()).collect();
        let mut frame = String::from("\x1b[H");
        for line in fitting(&lines, height) {
            frame.push_str(&line);
            frame.push_str("\x1b[K\r\n");
        }
        frame.push_str("\x1b[J");
        Ok(output::frame(&frame)?)
    }
}

/// The lines that fit above the last one of the screen, which says what does not.
fn fitting(lines: &[&str], height: usize) -> Vec<String> {
    let room = height.saturating_sub(1);
    if lines.len() <= room {
        return lines.iter().map(|line| (*line).to_owned()).collect();
    }
    let kept = room.saturating_sub(1);
    let hidden = lines.len() - kept;
    let shown = lines.iter().take(kept).map(|line| (*line).to_owned());
    shown
        .chain([format!("… {hidden} more lines: enlarge the window, or choose --cluster")])
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_counted() {
        assert_eq!(fitting(&["a", "b"], 3), ["a", "b"]);
        let cut = fitting(&["a", "b", "c", "d"], 4);
        assert_eq!(cut.len(), 3);
        assert!(cut[2].starts_with("… 2 more lines"), "{cut:?}");
    }
}
