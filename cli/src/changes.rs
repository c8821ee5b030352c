//! Changes of the configuration as people read them: what is done to what, field by field with the
//! values before and after, and the open connections that it cuts.

use std::fmt::Write;

use gantry_proto::v1;
use gantry_proto::v1::change::Action;
use serde_json::Value;

use crate::look::{self, Tone, Word};
use crate::names;
use crate::overview::wrapped;

/// Below a change.
const INDENT: &str = "    ";

/// Every change with its fields and cuts, in lines of at most `width` where that is possible.
pub(crate) fn listed(changes: &[v1::Change], width: Option<usize>) -> String {
    let mut clusters: Vec<_> = changes.iter().map(|it| names::cluster_of(&it.name)).collect();
    clusters.dedup();
    let mut text = String::new();
    for change in changes {
        let name =
            if clusters.len() > 1 { change.name.clone() } else { names::short(&change.name) };
        one(&mut text, change, &name, width);
    }
    text
}

/// "1 created, 2 changed, 0 deleted"; the verb says whether that has happened.
pub(crate) fn counted(changes: &[v1::Change], verb: &str) -> String {
    let count = |action| changes.iter().filter(|change| change.action() == action).count();
    format!(
        "{} {verb}created, {} {verb}changed, {} {verb}deleted",
        count(Action::Create),
        count(Action::Update),
        count(Action::Delete),
    )
}

/// "12 open connections end", with a word of caution where the number is uncertain.
pub(crate) fn cut(connections: i64, stale: bool) -> Word {
    let text = match connections {
        0 => "no open connection ends".to_owned(),
        1 => "1 open connection ends".to_owned(),
        many => format!("{many} open connections end"),
    };
    let tone = if connections > 0 { Tone::Bad } else { Tone::Plain };
    match stale {
        false => Word::new(text, tone),
        true if connections == 0 => {
            Word::new("open connections may end: nobody reports how many there are", Tone::Warning)
        }
        true => Word::new(format!("{text} at least, by old reports"), tone),
    }
}

fn one(text: &mut String, change: &v1::Change, name: &str, width: Option<usize>) {
    let sign = match change.action() {
        Action::Create => Word::new("+", Tone::Good),
        Action::Update => Word::new("~", Tone::Warning),
        Action::Delete => Word::new("-", Tone::Bad),
        Action::Unspecified => Word::new("?", Tone::Quiet),
    };
    let lines = match change.action() {
        Action::Create | Action::Delete => Vec::new(),
        _ => moves(change),
    };
    match (lines.as_slice(), whereabouts(change)) {
        ([], Some(place)) => {
            let _ = writeln!(text, "{sign} {name}  {}", Word::new(place, Tone::Quiet));
        }
        ([alone], _) if fits(2 + name.chars().count() + 2 + alone.len(), width) => {
            let _ = writeln!(text, "{sign} {name}  {}", alone.on_one_line());
        }
        _ => {
            let _ = writeln!(text, "{sign} {name}");
            lines.iter().for_each(|line| line.write(text, width));
        }
    }
    for cut in &change.cuts {
        let line = cut_line(cut, &change.name);
        for part in wrapped(&line.text, width.map(|width| width.saturating_sub(INDENT.len()))) {
            let _ = writeln!(text, "{INDENT}{}", Word::new(part, line.tone));
        }
    }
}

/// One field and what becomes of it.
struct Move {
    field: String,
    before: String,
    after: String,
}

fn moves(change: &v1::Change) -> Vec<Move> {
    if change.field_changes.is_empty() {
        // A controller of an older version names fields only.
        let named = |field: &String| Move {
            field: camel(field),
            before: String::new(),
            after: String::new(),
        };
        return change.fields.iter().map(named).collect();
    }
    let valued = |it: &v1::FieldChange| Move {
        field: camel(&it.path),
        before: value(&it.before, &it.after),
        after: value(&it.after, &it.before),
    };
    change.field_changes.iter().map(valued).collect()
}

impl Move {
    fn len(&self) -> usize {
        [&self.field, &self.before, &self.after].iter().map(|it| it.chars().count()).sum::<usize>()
            + 6
    }

    fn on_one_line(&self) -> String {
        let Self { field, before, after } = self;
        if before.is_empty() && after.is_empty() {
            return field.clone();
        }
        let (before, after) = (Word::new(before, Tone::Quiet), Word::new(after, Tone::Plain));
        format!("{field}: {before} -> {after}")
    }

    /// Where both values do not fit on one line, each has its own.
    fn write(&self, text: &mut String, width: Option<usize>) {
        let _ = if fits(INDENT.len() + self.len(), width) {
            writeln!(text, "{INDENT}{}", self.on_one_line())
        } else {
            let before = Word::new(&self.before, Tone::Quiet);
            let after = &self.after;
            writeln!(text, "{INDENT}{}:\n{INDENT}   {before}\n{INDENT}-> {after}", self.field)
        };
    }
}

fn fits(length: usize, width: Option<usize>) -> bool {
    width.is_none_or(|width| length <= width)
}

/// A value for people: text without quotes, lists separated by commas, the rest as it is.
fn value(json: &str, other: &str) -> String {
    match serde_json::from_str::<Value>(json) {
        // A truth that is not set is not true.
        Err(_) if json.is_empty() && other == "true" => "false".to_owned(),
        Err(_) if json.is_empty() => "(not set)".to_owned(),
        Err(_) => json.to_owned(),
        Ok(Value::Array(items)) => items.iter().map(plain).collect::<Vec<_>>().join(", "),
        Ok(value) => plain(&value),
    }
}

/// As a document may have it: `{key: SOURCE_IP, timeout: 3600s}`.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) if !text.is_empty() && !text.contains(['"', ',']) => text.clone(),
        Value::Array(items) => {
            format!("[{}]", items.iter().map(plain).collect::<Vec<_>>().join(", "))
        }
        Value::Object(fields) => {
            let fields = fields.iter().map(|(name, value)| format!("{name}: {}", plain(value)));
            format!("{{{}}}", fields.collect::<Vec<_>>().join(", "))
        }
        other => other.to_string(),
    }
}

/// Where what is created or deleted listens: what people know it by.
fn whereabouts(change: &v1::Change) -> Option<String> {
    let field = |path: &str| {
        let found = change.field_changes.iter().find(|it| it.path == path)?;
        let json = if found.after.is_empty() { &found.before } else { &found.after };
        serde_json::from_str::<Value>(json).ok()
    };
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    if let Some(listener) = field("listener") {
        let ports = listener["ports"].as_array().map(|all| all.iter().map(text).collect());
        let listener = v1::Listener {
            address: text(&listener["address"]),
            ports: ports.unwrap_or_default(),
            ..Default::default()
        };
        let service = v1::VirtualService { listener: Some(listener), ..Default::default() };
        return Some(look::listens_on(&service));
    }
    let endpoint = field("endpoint")?;
    let port = endpoint["port"].as_i64().and_then(|port| i32::try_from(port).ok());
    let endpoint =
        v1::Endpoint { address: text(&endpoint["address"]), port: port.unwrap_or_default() };
    Some(look::endpoint(Some(&endpoint)))
}

fn cut_line(cut: &v1::Cut, of: &str) -> Word {
    let whose = if cut.name == of { String::new() } else { format!(" of {}", cut.name) };
    let (what, tone) = match (cut.connections, cut.stale) {
        (0, false) => ("cuts nothing now".to_owned(), Tone::Quiet),
        (0, true) => ("cuts its connections, nobody reports how many".to_owned(), Tone::Warning),
        (count, false) => (format!("cuts {}", look::connections(count)), Tone::Bad),
        (count, true) => (format!("cuts {} by old reports", look::connections(count)), Tone::Bad),
    };
    Word::new(format!("{what}{whose}: {}", cut.reason), tone)
}

/// A path as documents have it: `healthCheck.dicomEcho`.
fn camel(path: &str) -> String {
    let mut up = false;
    let mut text = String::with_capacity(path.len());
    for letter in path.chars() {
        match letter {
            '_' => up = true,
            letter if std::mem::take(&mut up) => text.extend(letter.to_uppercase()),
            letter => text.push(letter),
        }
    }
    text
}

#[cfg(test)]
mod tests;
