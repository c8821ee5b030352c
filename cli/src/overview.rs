//! The overview as text: one section a cluster, one line a virtual service, one a real server.
//!
//! A pure function of the message, so what is shown at any moment can be kept as a golden file.
//! Times are counted from the overview's own time. In a narrow terminal the rates are left out and
//! long notes go to a line of their own; without a terminal nothing is left out.

mod head;

pub(crate) use head::agents;

use std::fmt::Write;

use gantry_proto::v1;
use gantry_proto::v1::overview::Row;

use crate::look::{self, Tone, Word};
use crate::names;

/// Below this many columns the rates in bits are left out.
const ROOM_FOR_RATES: usize = 110;

/// Which columns there are.
struct Layout {
    titles: &'static [&'static str],
    /// From this column on there are numbers, aligned right.
    numbers: usize,
    /// Real servers have cells up to here; then comes what their last check said.
    note: usize,
    /// Columns of the terminal, if there is one.
    width: Option<usize>,
}

const WIDE: &[&str] =
    &["VIRTUAL SERVICE", "LISTENS ON", "PATH", "STATE", "SERVERS", "CONN", "CPS", "IN", "OUT"];
const NARROW: &[&str] = &["VIRTUAL SERVICE", "LISTENS ON", "PATH", "STATE", "CONN", "CPS"];

impl Layout {
    fn for_width(width: Option<usize>) -> Self {
        match width {
            Some(columns) if columns < ROOM_FOR_RATES => {
                Self { titles: NARROW, numbers: 4, note: 5, width }
            }
            _ => Self { titles: WIDE, numbers: 5, note: 6, width },
        }
    }

    /// Without room, the count of servers stands behind the state and the rates are left out.
    fn fit(&self, line: &mut Line) {
        if self.titles.len() == NARROW.len() && line.cells.len() > 4 {
            let servers = line.cells.remove(4);
            let state = &mut line.cells[3].text;
            *state = format!("{state} {}", servers.text).trim_end().to_owned();
        }
        line.cells.truncate(self.titles.len());
    }
}

/// The overview as lines, coloured. `width` is that of the terminal, if there is one.
pub(crate) fn render(overview: &v1::Overview, width: Option<usize>) -> String {
    let mut text = String::new();
    for cluster in &overview.clusters {
        if !text.is_empty() {
            text.push('\n');
        }
        text.push_str(&head::render(overview, cluster, width));
        let id = names::last(&cluster.name);
        let of_cluster = |row: &&Row| {
            row.service.as_ref().is_some_and(|service| names::cluster_of(&service.name) == id)
        };
        let rows: Vec<&Row> = overview.rows.iter().filter(of_cluster).collect();
        text.push_str(&section(&rows, overview, width));
    }
    if overview.clusters.is_empty() {
        text.push_str("no clusters yet: make one with gantry create cluster ID\n");
    }
    text
}

/// One line of the table, before it is known how wide its columns are.
struct Line {
    cells: Vec<Word>,
    /// After the cells, from the rates on.
    note: Option<Word>,
    /// Below, indented.
    remarks: Vec<Word>,
}

fn section(rows: &[&Row], overview: &v1::Overview, width: Option<usize>) -> String {
    if rows.is_empty() {
        return "  no virtual services yet: gantry create vs --help\n".to_owned();
    }
    let now = overview.time.as_ref().map_or(0, |time| time.seconds);
    let layout = Layout::for_width(width);
    let header = layout.titles.iter().map(|title| Word::new(*title, Tone::Quiet)).collect();
    let mut lines = Vec::new();
    for row in rows {
        lines.push(service_line(row));
        lines.extend(row.real_servers.iter().map(|server| server_line(server, now)));
    }
    lines.iter_mut().for_each(|line| layout.fit(line));
    lines.insert(0, Line { cells: header, note: None, remarks: Vec::new() });
    layout.lay_out(&lines)
}

fn service_line(row: &Row) -> Line {
    let service = row.service.clone().unwrap_or_default();
    let rates = row.rates.unwrap_or_default();
    let plain = |text: String| Word::new(text, Tone::Plain);
    let cells = vec![
        plain(names::labelled(&service.name, &service.display_name)),
        plain(look::listens_on(&service)),
        plain(look::path(&service).to_owned()),
        look::service_state(&service),
        plain(look::servers(&service)),
        plain(rates.active_connections.to_string()),
        plain(look::few_digits(rates.connections_per_second)),
        plain(look::bits(rates.received_bits_per_second)),
        plain(look::bits(rates.sent_bits_per_second)),
    ];
    Line { cells, note: None, remarks: service_remarks(&service) }
}

/// What is to be known beyond the state: the controller's words, and what is not in force and why.
fn service_remarks(service: &v1::VirtualService) -> Vec<Word> {
    let Some(status) = &service.status else { return Vec::new() };
    let mut remarks = Vec::new();
    if !status.message.is_empty() {
        remarks.push(Word::new(status.message.clone(), look::service_state(service).tone));
    }
    if status.stale {
        let text = "this rests on old reports: an agent has not been heard from";
        remarks.push(Word::new(text, Tone::Warning));
    }
    for one in &status.rejections {
        remarks.push(Word::new(rejection(one), Tone::Bad));
    }
    // The controller's words may be those of the first.
    if status.findings.iter().any(|one| one.message == status.message) {
        remarks.retain(|remark| remark.text != status.message);
    }
    remarks.extend(status.findings.iter().map(|one| Word::new(finding(one), Tone::Warning)));
    if status.reconciling && status.rejections.is_empty() {
        remarks.push(Word::new("the last change is not in force everywhere yet", Tone::Warning));
    }
    remarks
}

/// `lb1 agent-l7: ADDRESS_IN_USE at listener.ports: another process listens there`
pub(crate) fn rejection(of: &v1::Rejection) -> String {
    let place = match of.field.as_str() {
        "" => String::new(),
        field => format!(" at {field}"),
    };
    let appliance = names::last(&of.appliance);
    let v1::Rejection { agent, reason, message, .. } = of;
    format!("{appliance} {agent}: {reason}{place}: {message}")
}

/// `lb1 agent-l4: ADDRESS_CONFLICT: another machine answers for 10.12.1.100`
pub(crate) fn finding(of: &v1::Finding) -> String {
    let v1::Finding { agent, reason, message, .. } = of;
    format!("{} {agent}: {reason}: {message}", names::last(&of.appliance))
}

fn server_line(server: &v1::RealServer, now: i64) -> Line {
    let status = server.status.clone().unwrap_or_default();
    let plain = |text: String| Word::new(text, Tone::Plain);
    let mut state = look::server_state(server);
    if let Some(since) = look::since(status.since.as_ref(), now) {
        state.text = format!("{} {since}", state.text);
    }
    let cells = vec![
        plain(format!("  {}", names::labelled(&server.name, &server.display_name))),
        plain(look::endpoint(server.endpoint.as_ref())),
        plain(format!("w{}", look::weight(server))),
        state,
        plain(String::new()),
        plain(status.active_connections.to_string()),
    ];
    let mut note = status.last_check;
    if let Some(halt) = &server.halt_time {
        let left = look::span(halt.seconds.saturating_sub(now).max(0));
        let separator = if note.is_empty() { "" } else { "; " };
        let _ = write!(note, "{separator}halts in {left}");
    }
    let note = (!note.is_empty()).then(|| Word::new(note, Tone::Quiet));
    Line { cells, note, remarks: Vec::new() }
}

impl Layout {
    fn lay_out(&self, lines: &[Line]) -> String {
        let length = |cell: &Word| cell.text.chars().count();
        let widths: Vec<usize> = (0..self.titles.len())
            .map(|column| {
                let cells = lines.iter().filter_map(|line| line.cells.get(column));
                cells.map(length).max().unwrap_or(0)
            })
            .collect();
        let before_note: usize = widths.iter().take(self.note).map(|width| width + 2).sum();
        let mut text = String::new();
        for line in lines {
            let mut out = self.cells(line, &widths);
            let mut below: Vec<&Word> = line.remarks.iter().collect();
            match &line.note {
                Some(note) if self.width.is_none_or(|w| before_note + length(note) <= w) => {
                    let _ = write!(out, "{note}");
                }
                Some(note) => below.insert(0, note),
                None => {}
            }
            text.push_str(out.trim_end());
            text.push('\n');
            for remark in below {
                let room = self.width.map(|width| width.saturating_sub(4));
                for part in wrapped(&remark.text, room) {
                    let _ = writeln!(text, "    {}", Word::new(part, remark.tone));
                }
            }
        }
        text
    }

    fn cells(&self, line: &Line, widths: &[usize]) -> String {
        let mut out = String::new();
        for (column, (cell, &width)) in line.cells.iter().zip(widths).enumerate() {
            if column >= self.numbers {
                let padding = width.saturating_sub(cell.text.chars().count());
                let _ = write!(out, "{:padding$}{cell}  ", "");
            } else {
                let _ = write!(out, "{cell:width$}  ");
            }
        }
        out
    }
}

/// Breaks `text` at spaces into lines of at most `width` characters; longer words stay whole.
pub(crate) fn wrapped(text: &str, width: Option<usize>) -> Vec<String> {
    let width = width.unwrap_or(usize::MAX);
    let mut lines: Vec<String> = vec![String::new()];
    for word in text.split_whitespace() {
        let line = lines.last_mut().expect("there is always a line");
        if line.is_empty() {
            line.push_str(word);
        } else if line.chars().count() + 1 + word.chars().count() <= width {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}

#[cfg(test)]
mod tests;
