//! What a message is made into: one field at a time, through every field it has.

use prost_reflect::prost::Message;
use prost_reflect::{
    DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, ReflectMessage, Value,
};

/// Stands in a string until it is encoded, and then becomes what UTF-8 never is.
const NOT_UTF8: &str = "NOT-UTF-8";

/// How deep fields are looked for.
const DEEPEST: usize = 6;

/// Every variant of `seed`, with what was done to it.
pub(super) fn all(seed: &DynamicMessage) -> Vec<(String, Vec<u8>)> {
    let mut found: Vec<_> = of_message(seed, 0)
        .into_iter()
        .map(|(what, message)| (what, without_utf8(message.encode_to_vec())))
        .collect();
    let bytes = seed.encode_to_vec();
    let with = |tail: &[u8]| [bytes.as_slice(), tail].concat();
    found.extend([
        ("nothing".to_owned(), Vec::new()),
        ("the seed as it is".to_owned(), bytes.clone()),
        ("garbage".to_owned(), (0..=255).rev().cycle().take(4096).collect()),
        ("the half of it".to_owned(), bytes[..bytes.len() / 2].to_vec()),
        ("an unknown field".to_owned(), with(&[0xfa, 0xff, 0x7f, 3, 1, 2, 3])),
        ("unknown groups without an end".to_owned(), with(&[0xf3, 0xff, 0x7f].repeat(2000))),
        ("a length beyond its end".to_owned(), with(&[0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f])),
        ("a number that does not end".to_owned(), with(&[0xff; 32])),
        ("nested unknown fields".to_owned(), with(&nested(3000))),
    ]);
    found
}

/// An unknown field within an unknown field, and so on.
fn nested(depth: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    for _ in 0..depth {
        let mut outer = vec![0xfa, 0xff, 0x7f];
        prost_reflect::prost::encoding::encode_varint(bytes.len() as u64, &mut outer);
        outer.append(&mut bytes);
        bytes = outer;
    }
    bytes
}

fn without_utf8(mut bytes: Vec<u8>) -> Vec<u8> {
    let width = NOT_UTF8.len();
    let at = bytes.windows(width).position(|window| window == NOT_UTF8.as_bytes());
    if let Some(at) = at {
        bytes[at..at + width].fill(0xff);
    }
    bytes
}

fn of_message(message: &DynamicMessage, depth: usize) -> Vec<(String, DynamicMessage)> {
    let fields = message.descriptor().fields().collect::<Vec<_>>();
    let mut found = Vec::new();
    for field in &fields {
        for (what, value) in of_field(message, field, depth) {
            let mut variant = message.clone();
            variant.set_field(field, value);
            found.push((format!("{}{what}", field.name()), variant));
        }
    }
    found
}

fn of_field(
    message: &DynamicMessage,
    field: &FieldDescriptor,
    depth: usize,
) -> Vec<(String, Value)> {
    if matches!(field.name(), "validate_only" | "force") || field.is_map() {
        return Vec::new();
    }
    let own = message.get_field(field);
    if !field.is_list() {
        return of_value(&field.kind(), Some(&own), depth);
    }
    let first = own.as_list().and_then(|list| list.first());
    let of_one = of_value(&field.kind(), first, depth).into_iter();
    let mut found: Vec<_> =
        of_one.map(|(what, value)| (format!("[0]{what}"), Value::List(vec![value]))).collect();
    let one = match field.kind() {
        Kind::Message(kind) => Value::Message(DynamicMessage::new(kind)),
        Kind::String => Value::String("x".to_owned()),
        kind => kind.default_value(),
    };
    found.push((" of 50,000".to_owned(), Value::List(vec![one; 50_000])));
    found
}

/// The hostile values of a kind, each with a name.
fn of_value(kind: &Kind, own: Option<&Value>, depth: usize) -> Vec<(String, Value)> {
    let named = |values: Vec<Value>| {
        values.into_iter().map(|value| (format!(" = {}", shown(&value)), value)).collect()
    };
    match kind {
        Kind::Message(kind) if depth < DEEPEST => {
            let inner = own.and_then(Value::as_message).cloned();
            let inner =
                inner.unwrap_or_else(|| DynamicMessage::new(MessageDescriptor::clone(kind)));
            let variants = of_message(&inner, depth + 1).into_iter();
            variants.map(|(what, inner)| (format!(".{what}"), Value::Message(inner))).collect()
        }
        Kind::Message(_) => Vec::new(),
        Kind::String => named(strings()),
        Kind::Bytes => named(vec![Value::Bytes(vec![0xff; 1 << 20].into())]),
        Kind::Bool => named(vec![Value::Bool(true)]),
        Kind::Enum(_) => named([-1, 99, i32::MAX].map(Value::EnumNumber).to_vec()),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => {
            named([i32::MIN, -1, 1_000_000_001, i32::MAX].map(Value::I32).to_vec())
        }
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => {
            named([i64::MIN, -1, 253_402_300_800, i64::MAX].map(Value::I64).to_vec())
        }
        Kind::Uint32 | Kind::Fixed32 => named(vec![Value::U32(u32::MAX)]),
        Kind::Uint64 | Kind::Fixed64 => named(vec![Value::U64(u64::MAX)]),
        Kind::Double => named([f64::NAN, f64::INFINITY, -1.0].map(Value::F64).to_vec()),
        Kind::Float => named([f32::NAN, f32::INFINITY, -1.0].map(Value::F32).to_vec()),
    }
}

/// Bad names of every kind, bad tokens, bad filters, bad paths and plain bad text.
fn strings() -> Vec<Value> {
    let long = "x".repeat(10_000);
    [
        NOT_UTF8.to_owned(),
        "\u{0}".to_owned(),
        "x\r\ny\u{1b}[31m\u{202e}".to_owned(),
        "\u{1F480}".repeat(700),
        long.clone(),
        "x".repeat(1 << 20),
        "../../etc/passwd".to_owned(),
        "'; DROP TABLE events; --".to_owned(),
        "%s%n{}{0}${x}".to_owned(),
        "-".to_owned(),
        "clusters/-".to_owned(),
        "clusters/none".to_owned(),
        "CLUSTERS/MAIN".to_owned(),
        "clusters//virtualServices/".to_owned(),
        "clusters/main/virtualServices/web/realServers/none".to_owned(),
        "clusters/main/virtualServices/none".to_owned(),
        "clusters/none/virtualServices/web/realServers/one".to_owned(),
        "clusters/main/appliances/none".to_owned(),
        "clusters/main/virtualServices/web\n".to_owned(),
        format!("clusters/main/virtualServices/{long}"),
        "certificates/none".to_owned(),
        "events/-9223372036854775808".to_owned(),
        "events/99999999999999999999".to_owned(),
        "revisions/1.99999999".to_owned(),
        "99999999999999999999.1".to_owned(),
        "1".to_owned(),
        "0123456789abcdef:clusters/main".to_owned(),
        "(".repeat(2000),
        "name = a AND ".repeat(150),
        format!("name = \"{}", "\\\"".repeat(900)),
        "a.".repeat(3000),
        "(((((((((a{99}){99}){99}){99}){99}){99}){99}){99}){99})".to_owned(),
        "00000000-0000-0000-0000-000000000000".to_owned(),
    ]
    .map(Value::String)
    .to_vec()
}

fn shown(value: &Value) -> String {
    format!("{value:?}").chars().take(60).collect()
}
