//! Fills messages from document trees, field by field, and collects what is wrong on the way.

use prost_reflect::{
    Cardinality, DynamicMessage, EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor,
    ReflectMessage, Value as Field,
};

use super::node::{Node, Value};
use super::{Problem, Problems};
use crate::suggest;

/// The message that `node` describes, or everything that is wrong with it.
pub(super) fn message(
    descriptor: MessageDescriptor,
    node: &Node,
) -> Result<DynamicMessage, Problems> {
    let mut filler = Filler { path: Vec::new(), problems: Vec::new() };
    let message = filler.message(&descriptor, node);
    match message {
        Some(message) if filler.problems.is_empty() => Ok(message),
        _ => Err(Problems(filler.problems)),
    }
}

/// Sets the field at `path` (`layer7.connectTimeout`) of `message` to `node`, or only finds it if
/// there is none. Answers the path as a field mask has it: `layer7.connect_timeout`.
pub(crate) fn at_path(
    message: &mut DynamicMessage,
    path: &str,
    node: Option<&Node>,
) -> Result<String, Problems> {
    let (first, rest) = path.split_once('.').map_or((path, None), |(a, b)| (a, Some(b)));
    let field = find(&message.descriptor(), first).map_err(|message| Problem {
        line: 0,
        path: path.to_owned(),
        message,
    })?;
    let mask = field.name().to_owned();
    match (rest, field.kind()) {
        (None, _) => {
            if let Some(node) = node {
                let value = assigned(&field, path, node)?;
                message.set_field(&field, value);
            }
            Ok(mask)
        }
        (Some(rest), Kind::Message(_)) if !field.is_list() => {
            let inner = message.get_field_mut(&field);
            let inner = inner.as_message_mut().expect("the field is a message");
            Ok(format!("{mask}.{}", at_path(inner, rest, node)?))
        }
        (Some(rest), _) => {
            let message = format!("{first} has no fields, so there is no {rest} in it");
            Err(Problem { line: 0, path: path.to_owned(), message }.into())
        }
    }
}

/// The value of `field` that `node` describes; text for a list is its items, separated by commas.
fn assigned(field: &FieldDescriptor, path: &str, node: &Node) -> Result<Field, Problems> {
    let mut filler = Filler { path: vec![path.to_owned()], problems: Vec::new() };
    let listed = match &node.value {
        Value::Text(text) if field.is_list() => Some(Node::list(text)),
        _ => None,
    };
    let value = filler.field(field, listed.as_ref().unwrap_or(node));
    value.filter(|_| filler.problems.is_empty()).ok_or(Problems(filler.problems))
}

/// A duration as people write one: `300s`, `1h30m`, `500ms`, `7d`.
pub(crate) fn human_duration(text: &str) -> Result<prost_types::Duration, String> {
    let wrong = || format!("{text:?} is not a duration: write 90s, 500ms, 30m, 1h or 7d");
    let mut nanos: i128 = 0;
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
        let (number, tail) = rest.split_at(digits);
        let unit_end = tail.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_end);
        nanos += scaled(number, nanos_in(unit).ok_or_else(wrong)?).ok_or_else(wrong)?;
        rest = tail;
    }
    let seconds = i64::try_from(nanos / 1_000_000_000).map_err(|_| wrong())?;
    let nanos = i32::try_from(nanos % 1_000_000_000).map_err(|_| wrong())?;
    Ok(prost_types::Duration { seconds, nanos })
}

fn nanos_in(unit: &str) -> Option<i128> {
    Some(match unit {
        "ns" => 1,
        "us" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        "d" => 86_400_000_000_000,
        _ => return None,
    })
}

/// `number`, decimal with a fraction perhaps, times `unit`.
fn scaled(number: &str, unit: i128) -> Option<i128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() || whole.len() > 15 || fraction.len() > 9 {
        return None;
    }
    let whole: i128 = whole.parse().ok()?;
    let scale = 10_i128.pow(u32::try_from(fraction.len()).ok()?);
    let part: i128 = if fraction.is_empty() { 0 } else { fraction.parse().ok()? };
    Some(whole * unit + part * unit / scale)
}

/// The field called `name`, in either spelling.
fn find(descriptor: &MessageDescriptor, name: &str) -> Result<FieldDescriptor, String> {
    let by_name = descriptor.get_field_by_json_name(name);
    if let Some(field) = by_name.or_else(|| descriptor.get_field_by_name(name)) {
        return Ok(field);
    }
    let known: Vec<String> =
        descriptor.fields().map(|field| field.json_name().to_owned()).collect();
    let known: Vec<&str> = known.iter().map(String::as_str).collect();
    Err(suggest::unknown("field", name, &known))
}

/// Walks message and document together; knows where it is.
struct Filler {
    path: Vec<String>,
    problems: Vec<Problem>,
}

impl Filler {
    fn wrong<T>(&mut self, node: &Node, message: impl Into<String>) -> Option<T> {
        let path = self.path.join(".").replace(".[", "[");
        self.problems.push(Problem { line: node.line, path, message: message.into() });
        None
    }

    fn message(&mut self, descriptor: &MessageDescriptor, node: &Node) -> Option<DynamicMessage> {
        let Value::Map(entries) = &node.value else {
            return self.wrong(node, format!("fields are expected, not {}", kind_of(node)));
        };
        let mut message = DynamicMessage::new(descriptor.clone());
        let mut seen: Vec<FieldDescriptor> = Vec::new();
        for (key, value) in entries {
            self.path.push(key.clone());
            match find(descriptor, key) {
                Err(unknown) => {
                    self.path.pop();
                    let _: Option<()> = self.wrong(value, unknown);
                    continue;
                }
                Ok(field) => {
                    if let Some(clash) = clash(&seen, &field) {
                        let _: Option<()> = self.wrong(value, clash);
                    } else if let Some(filled) = self.field(&field, value) {
                        message.set_field(&field, filled);
                        seen.push(field);
                    }
                }
            }
            self.path.pop();
        }
        Some(message)
    }

    fn field(&mut self, field: &FieldDescriptor, node: &Node) -> Option<Field> {
        if matches!(node.value, Value::Null) {
            return match field.kind() {
                Kind::Message(inner) if inner.fields().len() == 0 => {
                    self.wrong(node, "say {} to choose it, or leave it out")
                }
                _ => None,
            };
        }
        if field.cardinality() != Cardinality::Repeated {
            return self.single(&field.kind(), node);
        }
        let Value::List(items) = &node.value else {
            return self.wrong(node, format!("a list is expected, not {}", kind_of(node)));
        };
        let mut values = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            self.path.push(format!("[{index}]"));
            values.extend(self.single(&field.kind(), item));
            self.path.pop();
        }
        Some(Field::List(values))
    }

    fn single(&mut self, kind: &Kind, node: &Node) -> Option<Field> {
        match kind {
            Kind::Message(inner) => self.any_message(inner, node).map(Field::Message),
            Kind::Enum(names) => match enum_value(names, node) {
                Ok(number) => Some(Field::EnumNumber(number)),
                Err(message) => self.wrong(node, message),
            },
            _ => match scalar(kind, node) {
                Some(value) => Some(value),
                None => {
                    let expected = expectation(kind);
                    self.wrong(node, format!("{expected} is expected, not {}", kind_of(node)))
                }
            },
        }
    }

    /// Durations and times are written as text.
    fn any_message(&mut self, inner: &MessageDescriptor, node: &Node) -> Option<DynamicMessage> {
        let parsed = match inner.full_name() {
            "google.protobuf.Duration" => {
                human_duration(text_of(node).unwrap_or_default()).map(|value| encode(&value))
            }
            "google.protobuf.Timestamp" => {
                time(text_of(node).unwrap_or_default()).map(|value| encode(&value))
            }
            _ => return self.message(inner, node),
        };
        match parsed {
            Ok(bytes) => DynamicMessage::decode(inner.clone(), bytes.as_slice()).ok(),
            Err(message) => self.wrong(node, message),
        }
    }
}

fn encode(message: &impl prost::Message) -> Vec<u8> {
    message.encode_to_vec()
}

/// Why `field` cannot stand beside those that were seen.
fn clash(seen: &[FieldDescriptor], field: &FieldDescriptor) -> Option<String> {
    if seen.contains(field) {
        return Some("given twice".to_owned());
    }
    let oneof = field.containing_oneof().filter(|oneof| !oneof.is_synthetic())?;
    let other = seen.iter().find(|other| other.containing_oneof().as_ref() == Some(&oneof))?;
    Some(format!("{} and {} exclude each other", other.json_name(), field.json_name()))
}

fn scalar(kind: &Kind, node: &Node) -> Option<Field> {
    let text = text_of(node);
    match kind {
        Kind::String => text.map(|text| Field::String(text.to_owned())),
        Kind::Bool => match (&node.value, text) {
            (Value::Bool(value), _) => Some(Field::Bool(*value)),
            (_, Some("true")) => Some(Field::Bool(true)),
            (_, Some("false")) => Some(Field::Bool(false)),
            _ => None,
        },
        Kind::Int32 => text?.parse().ok().map(Field::I32),
        Kind::Int64 => text?.parse().ok().map(Field::I64),
        Kind::Double => text?.parse().ok().map(Field::F64),
        Kind::Bytes => base64(text?).map(|bytes| Field::Bytes(bytes.into())),
        _ => None,
    }
}

fn expectation(kind: &Kind) -> &'static str {
    match kind {
        Kind::String => "text",
        Kind::Bool => "true or false",
        Kind::Int32 | Kind::Int64 => "a whole number",
        Kind::Double => "a number",
        Kind::Bytes => "base64",
        _ => "another value",
    }
}

/// The value's number: by name in any case, or by number.
fn enum_value(names: &EnumDescriptor, node: &Node) -> Result<i32, String> {
    let text = text_of(node).unwrap_or_default();
    let found = names.values().find(|value| {
        value.name().eq_ignore_ascii_case(text) || value.number().to_string() == text
    });
    let known: Vec<String> = names
        .values()
        .filter(|value| value.number() != 0)
        .map(|value| value.name().to_owned())
        .collect();
    let known: Vec<&str> = known.iter().map(String::as_str).collect();
    found.map(|value| value.number()).ok_or_else(|| suggest::unknown("value", text, &known))
}

fn text_of(node: &Node) -> Option<&str> {
    match &node.value {
        Value::Text(text) | Value::Number(text) => Some(text),
        Value::Bool(true) => Some("true"),
        Value::Bool(false) => Some("false"),
        _ => None,
    }
}

fn kind_of(node: &Node) -> String {
    match &node.value {
        Value::Null => "nothing".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Number(text) => text.clone(),
        Value::Text(text) => format!("{:?}", text.chars().take(60).collect::<String>()),
        Value::List(_) => "a list".to_owned(),
        Value::Map(_) => "fields".to_owned(),
    }
}

fn time(text: &str) -> Result<prost_types::Timestamp, String> {
    let time: jiff::Timestamp = text
        .parse()
        .map_err(|_| format!("{text:?} is not a time: write it like 2026-01-31T08:00:00Z"))?;
    Ok(prost_types::Timestamp { seconds: time.as_second(), nanos: time.subsec_nanosecond() })
}

/// Base64, standard or URL alphabet, padded or not.
fn base64(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() * 3 / 4);
    let (mut buffer, mut bits) = (0_u32, 0);
    for symbol in text.trim_end_matches('=').bytes() {
        let value = match symbol {
            b'A'..=b'Z' => symbol - b'A',
            b'a'..=b'z' => symbol - b'a' + 26,
            b'0'..=b'9' => symbol - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            _ => return None,
        };
        buffer = (buffer << 6 | u32::from(value)) & 0xFFFF;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.extend((buffer >> bits).to_le_bytes().first());
        }
    }
    Some(bytes)
}
