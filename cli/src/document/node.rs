//! YAML or JSON text as a tree that remembers where each value stood.
//!
//! Scalars keep the way they were written (`1.10` and `007` stay that), because only the field
//! that takes one decides what it is. Size and nesting are bounded; so is what aliases expand to.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{DuplicateKeyPolicy, Spanned};

use super::{Problem, Problems};

/// One value of a document.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    /// Counted from 1; 0 when not known, as in JSON.
    pub(crate) line: u64,
    pub(crate) value: Value,
}

#[derive(Clone, Debug)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    /// As written.
    Number(String),
    Text(String),
    List(Vec<Node>),
    Map(Vec<(String, Node)>),
}

impl Node {
    /// Reads a document. What begins with a brace is JSON, all else YAML.
    pub(crate) fn parse(text: &str) -> Result<Self, Problems> {
        let content = if text.trim_start().starts_with('{') { json(text) } else { yaml(text) };
        content.map(|content| content.into_node(text)).map_err(Problems::from)
    }

    /// Reads `{a: 1}` or `[1, 2]` that was typed as an argument: YAML, of which JSON is a part.
    pub(crate) fn flow(text: &str) -> Result<Self, Problems> {
        Ok(yaml(text)?.into_node(text))
    }

    /// `a,b` that was typed as an argument, as a list.
    pub(crate) fn list(text: &str) -> Self {
        let items = text.split(',').map(Self::text).collect();
        Self { line: 0, value: Value::List(items) }
    }

    /// Text that was typed as an argument.
    pub(crate) fn text(text: &str) -> Self {
        Self { line: 0, value: Value::Text(text.to_owned()) }
    }

    /// Whether this is a map with one of these keys.
    pub(crate) fn has_key(&self, keys: &[&str]) -> bool {
        match &self.value {
            Value::Map(entries) => entries.iter().any(|(key, _)| keys.contains(&key.as_str())),
            _ => false,
        }
    }
}

struct Content(Spanned<Shape>);

enum Shape {
    Null,
    Bool(bool),
    Number(String),
    Text(String),
    List(Vec<Content>),
    Map(Vec<(String, Content)>),
}

fn json(text: &str) -> Result<Content, Problem> {
    serde_json::from_str(text).map_err(|error| {
        let line = u64::try_from(error.line()).unwrap_or(0);
        let whole = error.to_string();
        let message = whole.split(" at line ").next().unwrap_or(&whole).to_owned();
        Problem { line, path: String::new(), message: format!("not JSON: {message}") }
    })
}

fn yaml(text: &str) -> Result<Content, Problem> {
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! { max_nodes: 10_000_000, max_events: 20_000_000 },
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: 50_000 },
        duplicate_keys: DuplicateKeyPolicy::Error,
        strict_booleans: true,
        with_snippet: false,
    };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let line = error.location().map_or(0, |place| place.line());
        let whole = error.to_string();
        let message = whole.split(" at line ").next().unwrap_or(&whole).to_owned();
        Problem { line, path: String::new(), message: format!("not YAML: {message}") }
    })
}

impl Content {
    fn into_node(self, source: &str) -> Node {
        let place = self.0.defined;
        let written = || {
            let start = usize::try_from(place.span().byte_offset()?).ok()?;
            let length = usize::try_from(place.span().byte_len()?).ok()?;
            source.get(start..start.checked_add(length)?).map(str::to_owned)
        };
        let value = match self.0.value {
            Shape::Null => Value::Null,
            Shape::Bool(value) => Value::Bool(value),
            Shape::Number(shown) => Value::Number(written().unwrap_or(shown)),
            Shape::Text(text) => Value::Text(text),
            Shape::List(items) => {
                Value::List(items.into_iter().map(|item| item.into_node(source)).collect())
            }
            Shape::Map(entries) => Value::Map(
                entries.into_iter().map(|(key, item)| (key, item.into_node(source))).collect(),
            ),
        };
        Node { line: self.0.referenced.line(), value }
    }
}

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Spanned::deserialize(deserializer).map(Self)
    }
}

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ShapeVisitor)
    }
}

struct ShapeVisitor;

impl<'de> Visitor<'de> for ShapeVisitor {
    type Value = Shape;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Shape, E> {
        Ok(Shape::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Shape, E> {
        Ok(Shape::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Shape, E> {
        Ok(Shape::Number(value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Shape, E> {
        Ok(Shape::Number(value.to_string()))
    }

    fn visit_i128<E>(self, value: i128) -> Result<Shape, E> {
        Ok(Shape::Number(value.to_string()))
    }

    fn visit_u128<E>(self, value: u128) -> Result<Shape, E> {
        Ok(Shape::Number(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Shape, E> {
        Ok(Shape::Number(value.to_string()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Shape, E> {
        Ok(Shape::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Shape, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(Shape::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Shape, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = access.next_entry()? {
            entries.push(entry);
        }
        Ok(Shape::Map(entries))
    }
}
