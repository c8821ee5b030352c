//! Filters of lists (a part of AIP-160): conditions joined by AND, over the fields that a list has.
//!
//! A list gives a table of its fields: name, kind, and how to get the values out of a resource. In
//! goes the text of a client; out comes a [`Filter`], or what is wrong with the text, where, and
//! what would be right. A field with several values matches when one of them does, and `!=` when
//! none is equal. OR, NOT, parentheses and wildcards are refused in clear words.

mod parse;
mod tables;

use std::borrow::Cow;
use std::cmp::Ordering;
use std::net::IpAddr;

use gantry_model::revision::Revision;
use gantry_model::wire;
use jiff::Timestamp;

use self::parse::{Condition, Fault, Operator, shown};
pub(super) use self::tables::{
    APPLIANCES, CERTIFICATES, CLUSTERS, EVENTS, REAL_SERVERS, USERS, VIRTUAL_SERVICES,
};
use super::error::ApiError;
use super::fields;

/// A field of the resource `T` that filters may name.
#[derive(Debug)]
pub(super) struct Field<T: 'static> {
    name: &'static str,
    kind: Kind,
    get: Get<T>,
}

/// Gets the values of a field out of a resource.
pub(super) type Get<T> = for<'a> fn(&'a T) -> Values<'a>;

/// What is known of a field: none, one or many values.
pub(super) type Values<'a> = Vec<Value<'a>>;

/// What a field holds, and so what it may be compared with.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Text,
    /// An IP address, however it is written.
    Address,
    Number,
    Bool,
    /// RFC 3339.
    Time,
    /// `epoch.number`
    Revision,
    /// A value of the enum with this full name, by its name.
    Choice(&'static str),
    /// The same, when its values have an order.
    Grade(&'static str),
}

/// One value of a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value<'a> {
    Text(Cow<'a, str>),
    /// Every number from one to the other.
    Numbers(i64, i64),
    Bool(bool),
    Time(Timestamp),
    Revision(Revision),
    /// A value of an enum.
    Choice(i32),
}

/// A filter that was read and fits its fields.
#[derive(Debug)]
pub(super) struct Filter<T: 'static> {
    tests: Vec<Test<T>>,
}

impl<T> Field<T> {
    pub(super) const fn new(name: &'static str, kind: Kind, get: Get<T>) -> Self {
        Self { name, kind, get }
    }
}

impl<T> Filter<T> {
    /// Reads the field `filter` of a request.
    pub(super) fn parse(text: &str, fields: &'static [Field<T>]) -> Result<Self, ApiError> {
        Self::read(text, fields).map_err(|fault| {
            let place = fault.at.and_then(|at| text.get(..at)).map(|before| before.chars().count());
            let what = match place {
                Some(before) => format!("at character {}: {}", before + 1, fault.what),
                None => fault.what,
            };
            ApiError::field("filter", fault.reason, what)
        })
    }

    /// Whether anything is filtered at all.
    pub(super) fn is_empty(&self) -> bool {
        self.tests.is_empty()
    }

    pub(super) fn matches(&self, item: &T) -> bool {
        self.tests.iter().all(|test| test.matches(item))
    }

    fn read(text: &str, fields: &'static [Field<T>]) -> Result<Self, Fault> {
        let conditions = parse::conditions(text)?;
        let tests = conditions.iter().map(|condition| Test::new(condition, fields));
        Ok(Self { tests: tests.collect::<Result<_, _>>()? })
    }
}

/// One value that is text.
pub(super) fn text(value: &str) -> Values<'_> {
    vec![Value::Text(Cow::Borrowed(value))]
}

/// One value that is text, or none when it is empty.
pub(super) fn text_if_any(value: &str) -> Values<'_> {
    if value.is_empty() { Vec::new() } else { text(value) }
}

pub(super) fn number<'a>(value: impl Into<i64>) -> Values<'a> {
    let value = value.into();
    vec![Value::Numbers(value, value)]
}

pub(super) fn truth<'a>(value: bool) -> Values<'a> {
    vec![Value::Bool(value)]
}

pub(super) fn time<'a>(value: Option<&prost_types::Timestamp>) -> Values<'a> {
    value.and_then(wire::timestamp).map(Value::Time).into_iter().collect()
}

pub(super) fn revision(value: &str) -> Values<'_> {
    read_revision(value).map(Value::Revision).into_iter().collect()
}

pub(super) fn choice<'a>(value: i32) -> Values<'a> {
    vec![Value::Choice(value)]
}

/// One condition, with its value read.
#[derive(Debug)]
struct Test<T: 'static> {
    get: Get<T>,
    operator: Operator,
    wanted: Wanted,
}

/// What a field is compared with.
#[derive(Debug)]
enum Wanted {
    Text(String),
    /// In lower case, anywhere in the text.
    Part(String),
    Number(i64),
    Bool(bool),
    Time(Timestamp),
    Revision(Revision),
    Choice(i32),
    /// Any of these values of an enum.
    AnyOf(Vec<i32>),
}

impl<T> Test<T> {
    fn new(condition: &Condition<'_>, fields: &'static [Field<T>]) -> Result<Self, Fault> {
        let name = condition.field;
        let Some(field) = fields.iter().find(|field| field.name == name.text) else {
            let known: Vec<_> = fields.iter().map(|field| field.name).collect();
            let (name, at, known) = (shown(name.text), name.at, known.join(", "));
            let what = format!("there is no field {name}; there are {known}");
            return Err(Fault::new(at, "UNKNOWN_FIELD", what));
        };
        check_operator(condition, field.kind)?;
        let operator = condition.operator;
        Ok(Self { get: field.get, operator, wanted: Wanted::read(condition, field.kind)? })
    }

    fn matches(&self, item: &T) -> bool {
        let values = (self.get)(item);
        let any = values.iter().any(|value| self.wanted.holds(self.operator, value));
        any != (self.operator == Operator::NotEqual)
    }
}

fn check_operator(condition: &Condition<'_>, kind: Kind) -> Result<(), Fault> {
    use Operator::{Greater, GreaterOrEqual, Less, LessOrEqual};
    let operator = condition.operator;
    let orders = matches!(operator, Less | LessOrEqual | Greater | GreaterOrEqual);
    if orders && matches!(kind, Kind::Bool | Kind::Choice(_)) {
        let name = shown(condition.field.text);
        let what = format!("{name} has no order, which {operator} needs: use = or !=");
        return Err(Fault::new(condition.operator_at, "INVALID_OPERATOR", what));
    }
    Ok(())
}

impl Wanted {
    fn read(condition: &Condition<'_>, kind: Kind) -> Result<Self, Fault> {
        let text = condition.value.as_str();
        let contains = condition.operator == Operator::Contains;
        let fault = |what: &str| {
            let what = format!("{} is not {what}", shown(text));
            Fault::new(condition.value_at, "INVALID_VALUE", what)
        };
        Ok(match kind {
            Kind::Text | Kind::Address if contains => Self::Part(text.to_lowercase()),
            Kind::Text => Self::Text(text.to_owned()),
            Kind::Address => {
                let address = text.parse::<IpAddr>();
                Self::Text(address.map_err(|_| fault("an IPv4 or IPv6 address"))?.to_string())
            }
            Kind::Number => Self::Number(text.parse().map_err(|_| fault("a whole number"))?),
            Kind::Bool => Self::Bool(text.parse().map_err(|_| fault("true or false"))?),
            Kind::Time => {
                let what = "a time such as 2026-01-31T08:00:00Z";
                Self::Time(text.parse().map_err(|_| fault(what))?)
            }
            Kind::Revision => {
                let what = "a revision, \"epoch.number\" such as 1.17";
                Self::Revision(read_revision(text).ok_or_else(|| fault(what))?)
            }
            Kind::Choice(kind) | Kind::Grade(kind) if contains => {
                let part = text.to_lowercase();
                let values = fields::choices(kind).filter(|(name, _)| named(name, &part));
                Self::AnyOf(values.map(|(_, number)| number).collect())
            }
            Kind::Choice(kind) | Kind::Grade(kind) => {
                let found = fields::choices(kind).find(|(name, _)| name == text);
                let Some((_, number)) = found else {
                    let known: Vec<_> = fields::choices(kind).map(|(name, _)| name).collect();
                    return Err(fault(&format!("one of {}", known.join(", "))));
                };
                Self::Choice(number)
            }
        })
    }

    /// Whether `value` stands to this as the operator says; for `!=`, whether they are equal.
    fn holds(&self, operator: Operator, value: &Value<'_>) -> bool {
        match (self, value) {
            (Self::Part(part), Value::Text(text)) => text.to_lowercase().contains(part),
            (Self::AnyOf(numbers), Value::Choice(number)) => numbers.contains(number),
            (Self::Text(wanted), Value::Text(text)) => operator.admits(text.as_ref().cmp(wanted)),
            (Self::Bool(wanted), Value::Bool(truth)) => wanted == truth,
            (Self::Time(wanted), Value::Time(time)) => operator.admits(time.cmp(wanted)),
            (Self::Revision(wanted), Value::Revision(it)) => operator.admits(it.cmp(wanted)),
            (Self::Choice(wanted), Value::Choice(number)) => operator.admits(number.cmp(wanted)),
            (Self::Number(wanted), Value::Numbers(first, last)) => match operator {
                Operator::Less | Operator::LessOrEqual => operator.admits(first.cmp(wanted)),
                Operator::Greater | Operator::GreaterOrEqual => operator.admits(last.cmp(wanted)),
                _ => (first..=last).contains(&wanted),
            },
            _ => false,
        }
    }
}

impl Operator {
    /// Whether a value that compares so is let through. Contains, of what has no parts, is
    /// equality; and what is not equal is told by the caller, who knows all values.
    fn admits(self, ordering: Ordering) -> bool {
        match self {
            Self::Equal | Self::NotEqual | Self::Contains => ordering.is_eq(),
            Self::Less => ordering.is_lt(),
            Self::LessOrEqual => ordering.is_le(),
            Self::Greater => ordering.is_gt(),
            Self::GreaterOrEqual => ordering.is_ge(),
        }
    }
}

fn read_revision(text: &str) -> Option<Revision> {
    let (epoch, number) = text.split_once('.')?;
    Some(Revision { epoch: epoch.parse().ok()?, number: number.parse().ok()? })
}

fn named(name: &str, part: &str) -> bool {
    name.to_lowercase().contains(part)
}

#[cfg(test)]
mod tests;
