//! `gantry explain`: what resources and their fields are for, in the words of the API's own comments.
//!
//! It needs no controller: the descriptors are in the binary.

use std::fmt::Write;

use anyhow::{Result, bail};
use clap::Args;
use prost_reflect::{
    Cardinality, EnumDescriptor, FieldDescriptor, FileDescriptor, Kind, MessageDescriptor,
};

use crate::document::POOL;
use crate::look::{Tone, Word};
use crate::output;
use crate::overview::wrapped;
use crate::suggest;

#[derive(Args, Debug)]
#[command(after_long_help = "\
Examples:
  gantry explain                                what there is
  gantry explain virtualService                 the fields of a resource
  gantry explain virtualService.listener.ports  one field
  gantry explain config                         documents, as plan and apply take them")]
pub(crate) struct Arguments {
    /// A resource, or a field in it: virtualService.listener.ports
    #[arg(value_name = "RESOURCE[.FIELD...]")]
    path: Option<String>,
}

/// Where nothing says how wide.
const WIDTH: usize = 80;
const WIDEST: usize = 100;
const PACKAGE: &str = "gantry.v1";

/// Short names, as `gantry get` has them.
const ALIASES: &[(&str, &str)] = &[
    ("vs", "VirtualService"),
    ("service", "VirtualService"),
    ("rs", "RealServer"),
    ("server", "RealServer"),
    ("document", "Config"),
];

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let width = output::width().unwrap_or(WIDTH).min(WIDEST);
    let text = match arguments.path.as_deref() {
        None => contents(width),
        Some(path) => Subject::find(path)?.told(path, width),
    };
    Ok(output::raw(text)?)
}

/// What is explained.
enum Subject {
    Resource(MessageDescriptor),
    Field(FieldDescriptor),
}

impl Subject {
    fn find(path: &str) -> Result<Self> {
        let mut parts = path.split('.');
        let first = parts.next().unwrap_or_default();
        let mut subject = Self::Resource(resource(first)?);
        let mut walked = first.to_owned();
        for part in parts {
            let Some(message) = subject.message() else {
                bail!("{walked} has no fields: look at gantry explain {walked}");
            };
            let field = field(&message, part).map_err(|unknown| {
                anyhow::anyhow!("{unknown}\n  look at gantry explain {walked}")
            })?;
            let _ = write!(walked, ".{}", field.json_name());
            subject = Self::Field(field);
        }
        Ok(subject)
    }

    /// What has the fields.
    fn message(&self) -> Option<MessageDescriptor> {
        match self {
            Self::Resource(message) => Some(message.clone()),
            Self::Field(field) => match field.kind() {
                Kind::Message(message) if !is_well_known(&message) => Some(message),
                _ => None,
            },
        }
    }

    fn told(&self, path: &str, width: usize) -> String {
        let mut text = String::new();
        match self {
            Self::Resource(message) => {
                let _ = writeln!(text, "{}\n", Word::new(path, Tone::Strong));
                paragraphs(&mut text, &comment(&message.parent_file(), message.path()), "", width);
                fields(&mut text, path, message, width);
            }
            Self::Field(field) => {
                let kind = kind(field);
                let _ = writeln!(text, "{}  {}\n", Word::new(path, Tone::Strong), quiet(&kind));
                paragraphs(&mut text, &comment_of(field), "", width);
                alternatives(&mut text, field, width);
                match field.kind() {
                    Kind::Enum(choice) => values(&mut text, &choice, width),
                    Kind::Message(message) if !is_well_known(&message) => {
                        let own = comment(&message.parent_file(), message.path());
                        if own != comment_of(field) {
                            text.push('\n');
                            paragraphs(&mut text, &own, "", width);
                        }
                        fields(&mut text, path, &message, width);
                    }
                    _ => {}
                }
            }
        }
        text
    }
}

/// Every resource, with the first sentence about it.
fn contents(width: usize) -> String {
    let resources = resources();
    let widest = resources.iter().map(|it| it.name().len()).max().unwrap_or(0);
    let mut text = String::new();
    for message in &resources {
        let about = comment(&message.parent_file(), message.path());
        let about = first_sentence(&about);
        let lines = wrapped(&about, Some(width.saturating_sub(widest + 2)));
        for (at, line) in lines.iter().enumerate() {
            let name = if at == 0 { lower(message.name()) } else { String::new() };
            let _ = writeln!(text, "{name:widest$}  {}", quiet(line));
        }
    }
    text.push_str("\nMore about one: gantry explain virtualService\n");
    text
}

/// What calls answer with, when it is not just the envelope of an answer.
fn resources() -> Vec<MessageDescriptor> {
    let own = POOL.services().filter(|service| service.package_name() == PACKAGE);
    let answers = own.flat_map(|service| service.methods().collect::<Vec<_>>());
    let answers = answers.map(|method| method.output());
    let mut all: Vec<_> = answers
        .filter(|message| message.package_name() == PACKAGE)
        .filter(|message| !message.name().ends_with("Response"))
        .collect();
    all.sort_by(|one, other| one.name().cmp(other.name()));
    all.dedup_by(|one, other| one.name() == other.name());
    all
}

fn resource(word: &str) -> Result<MessageDescriptor> {
    let plain = |text: &str| text.to_ascii_lowercase().replace(['-', '_'], "");
    let given = plain(word);
    let alias = ALIASES.iter().find(|(short, _)| *short == given).map(|(_, name)| plain(name));
    let wanted = alias.unwrap_or(given);
    let singular = wanted.strip_suffix('s').unwrap_or(&wanted).to_owned();
    let mut all = POOL
        .all_messages()
        .filter(|message| message.package_name() == PACKAGE && message.parent_message().is_none());
    let found = all.find(|message| [&wanted, &singular].contains(&&plain(message.name())));
    found.ok_or_else(|| {
        let names: Vec<_> = resources().iter().map(|it| lower(it.name())).collect();
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        anyhow::anyhow!(suggest::unknown("resource", word, &names))
    })
}

fn field(message: &MessageDescriptor, name: &str) -> Result<FieldDescriptor, String> {
    let by_name = message.get_field_by_json_name(name);
    by_name.or_else(|| message.get_field_by_name(name)).ok_or_else(|| {
        let known: Vec<_> = message.fields().map(|field| field.json_name().to_owned()).collect();
        let known: Vec<_> = known.iter().map(String::as_str).collect();
        suggest::unknown("field", name, &known)
    })
}

fn fields(text: &mut String, path: &str, message: &MessageDescriptor, width: usize) {
    text.push_str("\nFields:\n");
    for field in message.fields() {
        let kind = kind(&field);
        let _ =
            writeln!(text, "  {}  {}", Word::new(field.json_name(), Tone::Strong), quiet(&kind));
        paragraphs(text, &comment_of(&field), "      ", width);
    }
    let nested = message.fields().find(|field| match field.kind() {
        Kind::Message(message) => !is_well_known(&message),
        _ => false,
    });
    if let Some(field) = nested {
        let _ = writeln!(text, "\nMore about one: gantry explain {path}.{}", field.json_name());
    }
}

fn values(text: &mut String, choice: &EnumDescriptor, width: usize) {
    text.push_str("\nValues:\n");
    for value in choice.values() {
        let _ = writeln!(text, "  {}", Word::new(value.name(), Tone::Strong));
        let about = comment(&choice.parent_file(), value.path());
        paragraphs(text, &about, "      ", width);
    }
}

/// The fields of which only one may be set.
fn alternatives(text: &mut String, field: &FieldDescriptor, width: usize) {
    let Some(group) = field.containing_oneof().filter(|group| !is_synthetic(group)) else { return };
    let names: Vec<_> = group.fields().map(|field| field.json_name().to_owned()).collect();
    text.push('\n');
    paragraphs(text, &format!("One of {}: not more than one is set.", names.join(", ")), "", width);
}

/// An optional field is a oneof of its own, which nobody wrote.
fn is_synthetic(group: &prost_reflect::OneofDescriptor) -> bool {
    group.name().starts_with('_')
}

/// A field's type in words.
fn kind(field: &FieldDescriptor) -> String {
    let one = match field.kind() {
        Kind::Bool => "true or false".to_owned(),
        Kind::String => "text".to_owned(),
        Kind::Bytes => "bytes, base64".to_owned(),
        Kind::Float | Kind::Double => "number".to_owned(),
        Kind::Enum(choice) => {
            let values = choice.values().filter(|value| value.number() != 0);
            let names: Vec<_> = values.map(|value| value.name().to_owned()).collect();
            names.join(" | ")
        }
        Kind::Message(message) => match message.full_name() {
            "google.protobuf.Duration" => "duration: 90s, 1h30m".to_owned(),
            "google.protobuf.Timestamp" => "time: 2026-01-31T08:00:00Z".to_owned(),
            _ => lower(message.name()),
        },
        _ => "whole number".to_owned(),
    };
    match field.cardinality() {
        Cardinality::Repeated => format!("list of {one}"),
        _ => one,
    }
}

fn is_well_known(message: &MessageDescriptor) -> bool {
    message.package_name() == "google.protobuf"
}

fn comment_of(field: &FieldDescriptor) -> String {
    comment(&field.parent_message().parent_file(), field.path())
}

/// What the API's authors wrote above something.
fn comment(file: &FileDescriptor, path: &[i32]) -> String {
    let file = file.file_descriptor_proto();
    let places = file.source_code_info.iter().flat_map(|info| &info.location);
    let mut written = places.filter(|place| place.path == path);
    let text = written.next().map(|place| place.leading_comments().to_owned()).unwrap_or_default();
    text.lines().map(str::trim).collect::<Vec<_>>().join("\n").trim().to_owned()
}

fn first_sentence(text: &str) -> String {
    let flowing = text.split_whitespace().collect::<Vec<_>>().join(" ");
    flowing.split_once(". ").map_or(flowing.clone(), |(first, _)| format!("{first}."))
}

/// Text in lines that fit, each behind `indent`; an empty line ends a paragraph.
fn paragraphs(text: &mut String, about: &str, indent: &str, width: usize) {
    for paragraph in about.split("\n\n").filter(|paragraph| !paragraph.trim().is_empty()) {
        for line in wrapped(paragraph, Some(width.saturating_sub(indent.len()))) {
            let _ = writeln!(text, "{indent}{line}");
        }
    }
}

fn lower(name: &str) -> String {
    let mut letters = name.chars();
    letters.next().map(|first| first.to_lowercase().chain(letters).collect()).unwrap_or_default()
}

fn quiet(text: &str) -> Word {
    Word::new(text, Tone::Quiet)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(path: &str) -> String {
        let text = Subject::find(path).unwrap().told(path, 80);
        anstream::adapter::strip_str(&text).to_string()
    }

    fn refused(path: &str) -> String {
        Subject::find(path).err().expect("this is not to be found").to_string()
    }

    #[test]
    fn a_field_is_told_with_its_type_and_its_comment() {
        let expected = "virtualService.listener.ports  list of text\n\n\
                        Required. One or more ports or ranges: \"104\", \"11112\", \"8000-8010\".\n";
        assert_eq!(told("virtualService.listener.ports"), expected);
        assert_eq!(told("vs.listener.ports").lines().nth(2), expected.lines().nth(2));
        assert!(told("realServer.haltTime").starts_with("realServer.haltTime  time: "));
    }

    #[test]
    fn values_of_an_enum_and_arms_of_a_oneof_are_told() {
        let method = told("virtualService.layer4.method");
        assert!(method.contains("  DR\n      Direct routing: replies bypass"), "{method}");
        let layer4 = told("virtualService.layer4");
        assert!(layer4.contains("One of layer4, layer7: not more than one is set."), "{layer4}");
        assert!(!told("realServer.weight").contains("One of"));
    }

    #[test]
    fn every_resource_and_every_field_of_it_has_a_comment() {
        let names: Vec<_> = resources().iter().map(|it| it.name().to_owned()).collect();
        for name in ["Cluster", "Config", "Event", "RealServer", "Revision", "VirtualService"] {
            assert!(names.iter().any(|it| it == name), "{names:?}");
        }
        assert!(!names.iter().any(|it| it == "Cut" || it.ends_with("Response")), "{names:?}");
        for message in resources() {
            assert!(!comment(&message.parent_file(), message.path()).is_empty(), "{message:?}");
            for field in message.fields() {
                assert!(!comment_of(&field).is_empty(), "{field:?}");
            }
            told(&lower(message.name()));
        }
    }

    #[test]
    fn what_there_is_not_is_answered_with_what_there_is() {
        assert!(refused("virtualservise").contains("did you mean virtualService?"));
        let field = refused("virtualService.lisener");
        assert!(field.contains("did you mean listener?"), "{field}");
        assert!(field.contains("gantry explain virtualService"), "{field}");
        assert!(refused("vs.disabled.x").contains("vs.disabled has no fields"));
    }
}
