//! Documents: API messages as YAML or JSON text, both ways.
//!
//! The form is the JSON form of proto3, so that a document looks like what any gRPC client shows:
//! lowerCamelCase names, durations as `"300s"`, enum values by name. Reading is a little kinder:
//! snake_case names, durations as `1h30m`, a number where text is expected. What cannot be meant
//! (unknown fields, wrong enum values, both arms of a oneof) is refused, all of it at once, each
//! with its place. Whether a value makes sense is the controller's business.

mod fill;
mod node;

use std::fmt;
use std::sync::LazyLock;

use gantry_proto::v1;
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor};

pub(crate) use fill::{at_path, human_duration};
pub(crate) use node::Node;

pub(crate) static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| {
    DescriptorPool::decode(gantry_proto::DESCRIPTORS).expect("the descriptors were built in")
});

/// A message that can be written as a document.
pub(crate) trait Documented: Message + Default {
    const FULL_NAME: &'static str;

    fn descriptor() -> MessageDescriptor {
        POOL.get_message_by_name(Self::FULL_NAME).expect("every message is in the descriptors")
    }

    /// The same message with names, for printing.
    fn to_dynamic(&self) -> DynamicMessage {
        let mut message = DynamicMessage::new(Self::descriptor());
        message.transcode_from(self).expect("the descriptors are those of the message");
        message
    }

    fn from_dynamic(message: &DynamicMessage) -> Self {
        message.transcode_to().expect("the descriptors are those of the message")
    }

    /// Reads a document.
    fn from_node(node: &Node) -> Result<Self, Problems> {
        fill::message(Self::descriptor(), node).map(|message| Self::from_dynamic(&message))
    }
}

macro_rules! documented {
    ($($message:ty = $name:literal),* $(,)?) => {$(
        impl Documented for $message {
            const FULL_NAME: &'static str = $name;
        }
    )*};
}
documented!(
    v1::Appliance = "gantry.v1.Appliance",
    v1::Authority = "gantry.v1.Authority",
    v1::Certificate = "gantry.v1.Certificate",
    v1::Cluster = "gantry.v1.Cluster",
    v1::Config = "gantry.v1.Config",
    v1::config::Service = "gantry.v1.Config.Service",
    v1::ApplyConfigResponse = "gantry.v1.ApplyConfigResponse",
    v1::Connection = "gantry.v1.Connection",
    v1::DiffRevisionsResponse = "gantry.v1.DiffRevisionsResponse",
    v1::PersistenceEntry = "gantry.v1.PersistenceEntry",
    v1::PlanConfigResponse = "gantry.v1.PlanConfigResponse",
    v1::Revision = "gantry.v1.Revision",
    v1::Event = "gantry.v1.Event",
    v1::HealthCheck = "gantry.v1.HealthCheck",
    v1::Overview = "gantry.v1.Overview",
    v1::RealServer = "gantry.v1.RealServer",
    v1::VirtualService = "gantry.v1.VirtualService",
);

/// Everything that is wrong with a document.
#[derive(Debug)]
pub(crate) struct Problems(Vec<Problem>);

#[derive(Debug)]
struct Problem {
    /// 0 when the line is not known.
    line: u64,
    path: String,
    message: String,
}

impl fmt::Display for Problems {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            let end = if index == 0 { "" } else { "\n" };
            write!(out, "{end}{problem}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line > 0 {
            write!(out, "line {}: ", self.line)?;
        }
        if !self.path.is_empty() {
            write!(out, "{}: ", self.path)?;
        }
        out.write_str(&self.message)
    }
}

impl std::error::Error for Problems {}

impl From<Problem> for Problems {
    fn from(problem: Problem) -> Self {
        Self(vec![problem])
    }
}

/// One value as indented JSON.
pub(crate) fn to_json(value: &impl serde::Serialize) -> String {
    serde_json::to_string_pretty(value).expect("messages have text keys only")
}

/// One value as YAML, ending in a line feed.
pub(crate) fn to_yaml(value: &impl serde::Serialize) -> String {
    let options =
        serde_saphyr::ser_options! { compact_list_indent: false, folded_wrap_chars: 100_000 };
    serde_saphyr::to_string_with_options(value, options).expect("messages have text keys only")
}

#[cfg(test)]
mod tests;
