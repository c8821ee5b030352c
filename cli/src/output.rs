//! What goes to standard output: text, tables and documents.
//!
//! Text is written with colours and stripped of them where nobody can see them: in a pipe, or with
//! `NO_COLOR`. A reader that has seen enough (`| head`) is no failure.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};

use clap::ValueEnum;
use comfy_table::{Cell, CellAlignment, ContentArrangement, Table, presets};
use prost_reflect::DynamicMessage;

use crate::document::{self, Documented};

/// How answers are shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Columns for people
    #[default]
    Table,
    /// The API's messages as JSON
    Json,
    /// The API's messages as YAML
    Yaml,
    /// Resource names, one a line
    Name,
}

/// How an answer is shown that has no names to list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Shape {
    /// Lines for people
    #[default]
    Text,
    /// The API's message as JSON
    Json,
    /// The API's message as YAML
    Yaml,
}

impl Shape {
    /// The form of a document, if it is not for people.
    pub(crate) fn format(self) -> Option<Format> {
        match self {
            Self::Text => None,
            Self::Json => Some(Format::Json),
            Self::Yaml => Some(Format::Yaml),
        }
    }
}

/// Writes one line, or several.
pub(crate) fn line(text: impl Display) -> io::Result<()> {
    writeln!(anstream::stdout(), "{text}")
}

/// Writes text that ends its lines itself.
pub(crate) fn raw(text: impl Display) -> io::Result<()> {
    let mut out = anstream::stdout();
    write!(out, "{text}")?;
    out.flush()
}

/// Writes a frame for a terminal, whose movements survive where colours do not.
pub(crate) fn frame(text: &str) -> io::Result<()> {
    let colours = anstream::AutoStream::choice(&io::stdout()) != anstream::ColorChoice::Never;
    let mut out = io::stdout().lock();
    if colours {
        out.write_all(text.as_bytes())?;
    } else {
        out.write_all(without_colours(text).as_bytes())?;
    }
    out.flush()
}

/// Drops the sequences that set colours and keeps those that move the cursor.
fn without_colours(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find("\x1b[") {
        let (before, sequence) = rest.split_at(start);
        kept.push_str(before);
        let end =
            sequence.find(|c: char| c.is_ascii_alphabetic()).map_or(sequence.len(), |end| end + 1);
        let (sequence, after) = sequence.split_at(end);
        if !sequence.ends_with('m') {
            kept.push_str(sequence);
        }
        rest = after;
    }
    kept.push_str(rest);
    kept
}

/// Says something beside the answer: what is going on, or what to do next.
pub(crate) fn remark(text: impl Display) -> io::Result<()> {
    writeln!(anstream::stderr(), "{text}")
}

/// Columns of the terminal, or none when there is no terminal and nothing is to be cut.
pub(crate) fn width() -> Option<usize> {
    if !io::stdout().is_terminal() {
        return None;
    }
    terminal_size::terminal_size().map(|(width, _)| usize::from(width.0))
}

/// Writes messages as documents: one as itself, several as a list.
pub(crate) fn documents<T: Documented>(
    messages: &[T],
    single: bool,
    format: Format,
) -> io::Result<()> {
    let messages: Vec<DynamicMessage> = messages.iter().map(T::to_dynamic).collect();
    match (format, messages.as_slice()) {
        (Format::Yaml, [message]) if single => raw(document::to_yaml(message)),
        (Format::Yaml, messages) => raw(document::to_yaml(&messages)),
        (_, [message]) if single => line(document::to_json(message)),
        (_, messages) => line(document::to_json(&messages)),
    }
}

/// A table without frames. Numbers are aligned by giving their columns to `right`.
pub(crate) fn table(header: &[&str], right: &[usize], rows: Vec<Vec<Cell>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).enforce_styling();
    match width() {
        Some(width) => table
            .set_content_arrangement(ContentArrangement::Dynamic)
            .set_width(u16::try_from(width).unwrap_or(u16::MAX)),
        None => table.set_content_arrangement(ContentArrangement::Disabled),
    };
    table.set_header(header.iter().map(Cell::new).collect::<Vec<_>>());
    for row in rows {
        table.add_row(row);
    }
    for (index, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, 2));
        if right.contains(&index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.trim_fmt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_go_and_movements_stay() {
        assert_eq!(without_colours("\x1b[Ha\x1b[31mb\x1b[0m\x1b[K"), "\x1b[Hab\x1b[K");
    }
}
