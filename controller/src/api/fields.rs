//! Fields by their paths: update masks (AIP-134) and the difference between two messages.
//!
//! Generic over descriptors, so that a new field needs no line here.

use std::sync::LazyLock;

use gantry_model::violation::Violations;
use gantry_proto::v1::FieldChange;
use prost_reflect::prost::Message;
use prost_reflect::{
    DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, ReflectMessage, Value,
};

use super::error::{ApiError, sound};

static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| {
    DescriptorPool::decode(gantry_proto::DESCRIPTORS).expect("the descriptors we were built with")
});

/// What an update may never change, since it is the controller's to say.
const OUTPUT_ONLY: &[&str] = &["name", "uid", "status", "etag", "create_time", "update_time"];

/// A message type that can be looked at by field.
pub(super) trait Reflected: Message + Default {
    const NAME: &'static str;
}

impl Reflected for gantry_proto::v1::VirtualService {
    const NAME: &'static str = "gantry.v1.VirtualService";
}

impl Reflected for gantry_proto::v1::RealServer {
    const NAME: &'static str = "gantry.v1.RealServer";
}

impl Reflected for gantry_proto::v1::Cluster {
    const NAME: &'static str = "gantry.v1.Cluster";
}

/// Gives `current` with the fields in `mask` taken from `given`. No mask: every field that is
/// populated in `given`; `*`: every field.
pub(super) fn merge<M: Reflected>(
    current: &M,
    given: &M,
    mask: Option<&prost_types::FieldMask>,
) -> Result<M, ApiError> {
    let mut target = dynamic(current);
    let source = dynamic(given);
    let paths = mask.map(|mask| mask.paths.as_slice()).unwrap_or_default();
    let everything = paths == ["*"];
    if paths.is_empty() || everything {
        let fields: Vec<_> = source.descriptor().fields().filter(|f| !is_output_only(f)).collect();
        for field in fields.iter().filter(|_| everything) {
            target.clear_field(field);
        }
        for field in fields.iter().filter(|field| source.has_field(field)) {
            copy(&mut target, &source, field);
        }
    } else {
        let mut violations = Violations::new();
        for (at, path) in paths.iter().enumerate() {
            let field = format!("update_mask.paths[{at}]");
            if let Err(why) = merge_path(&mut target, &source, path) {
                violations.add(&field, "INVALID_PATH", why);
            }
        }
        sound(violations, Some(()))?;
    }
    Ok(concrete(&target))
}

/// The paths of the configuration fields in which two messages differ, at most two deep.
pub(super) fn difference<M: Reflected>(one: &M, other: &M) -> Vec<String> {
    changes(one, other).into_iter().map(|change| change.path).collect()
}

/// The configuration fields in which two messages differ, at most two deep, with both values.
pub(super) fn changes<M: Reflected>(before: &M, after: &M) -> Vec<FieldChange> {
    let (before, after) = (dynamic(before), dynamic(after));
    let mut found = Vec::new();
    for field in before.descriptor().fields().filter(|field| !is_output_only(field)) {
        match (sub_message(&before, &field), sub_message(&after, &field)) {
            (Some(before), Some(after)) if !is_well_known(&before.descriptor()) => {
                for inner in before.descriptor().fields() {
                    let path = || format!("{}.{}", field.name(), inner.name());
                    found.extend(field_change(&before, &after, &inner, path));
                }
            }
            _ => {
                found.extend(field_change(&before, &after, &field, || field.name().to_owned()));
            }
        }
    }
    found
}

fn field_change(
    before: &DynamicMessage,
    after: &DynamicMessage,
    field: &FieldDescriptor,
    path: impl FnOnce() -> String,
) -> Option<FieldChange> {
    let (before, after) = (value(before, field), value(after, field));
    (before != after).then(|| FieldChange {
        path: path(),
        before: before.map_or_else(String::new, |value| json(field, value)),
        after: after.map_or_else(String::new, |value| json(field, value)),
    })
}

/// A field's value in the JSON form of proto3.
fn json(field: &FieldDescriptor, value: Value) -> String {
    let mut alone = DynamicMessage::new(field.parent_message().clone());
    alone.set_field(field, value);
    let members = serde_json::to_value(&alone).expect("messages have text keys only");
    members.get(field.json_name()).map(ToString::to_string).unwrap_or_default()
}

/// The values of one of our enums: name and number.
pub(super) fn choices(full_name: &str) -> impl Iterator<Item = (String, i32)> {
    let kind = POOL.get_enum_by_name(full_name).expect("an enum of our own");
    let values: Vec<_> = kind.values().map(|v| (v.name().to_owned(), v.number())).collect();
    values.into_iter()
}

fn merge_path(
    target: &mut DynamicMessage,
    source: &DynamicMessage,
    path: &str,
) -> Result<(), String> {
    let (first, rest) = path.split_once('.').map_or((path, None), |(a, b)| (a, Some(b)));
    let Some(field) = find(&target.descriptor(), first) else {
        let known: Vec<_> = target.descriptor().fields().map(|f| f.name().to_owned()).collect();
        let known = known.join(", ");
        return Err(format!("{path:?}: there is no field {first:?}; there are {known}"));
    };
    if is_output_only(&field) && target.descriptor().full_name().starts_with("gantry.v1.") {
        return Err(format!("{path:?} cannot be changed"));
    }
    let Some(rest) = rest else {
        if source.has_field(&field) {
            copy(target, source, &field);
        } else {
            target.clear_field(&field);
        }
        return Ok(());
    };
    if field.is_list() || field.is_map() {
        return Err(format!("{path:?}: {first} is a list, which can only be changed as a whole"));
    }
    let Kind::Message(inner) = field.kind() else {
        return Err(format!("{path:?}: {first} has no fields of its own"));
    };
    let mut nested =
        sub_message(target, &field).unwrap_or_else(|| DynamicMessage::new(inner.clone()));
    let given = sub_message(source, &field).unwrap_or_else(|| DynamicMessage::new(inner));
    merge_path(&mut nested, &given, rest)?;
    target.set_field(&field, Value::Message(nested));
    Ok(())
}

/// Finds a field by its proto name or its JSON name.
fn find(descriptor: &MessageDescriptor, name: &str) -> Option<FieldDescriptor> {
    descriptor.get_field_by_name(name).or_else(|| descriptor.get_field_by_json_name(name))
}

fn copy(target: &mut DynamicMessage, source: &DynamicMessage, field: &FieldDescriptor) {
    target.set_field(field, source.get_field(field).into_owned());
}

fn value(message: &DynamicMessage, field: &FieldDescriptor) -> Option<Value> {
    message.has_field(field).then(|| message.get_field(field).into_owned())
}

fn sub_message(message: &DynamicMessage, field: &FieldDescriptor) -> Option<DynamicMessage> {
    match value(message, field)? {
        Value::Message(message) => Some(message),
        _ => None,
    }
}

fn is_output_only(field: &FieldDescriptor) -> bool {
    OUTPUT_ONLY.contains(&field.name())
}

fn is_well_known(descriptor: &MessageDescriptor) -> bool {
    descriptor.full_name().starts_with("google.protobuf.")
}

fn dynamic<M: Reflected>(message: &M) -> DynamicMessage {
    let descriptor = POOL.get_message_by_name(M::NAME).expect("a message of our own");
    let mut dynamic = DynamicMessage::new(descriptor);
    dynamic.transcode_from(message).expect("a message of this very type");
    dynamic
}

fn concrete<M: Reflected>(message: &DynamicMessage) -> M {
    message.transcode_to().expect("a message of this very type")
}

#[cfg(test)]
mod tests;
