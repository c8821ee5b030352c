//! The agents of an appliance.

use std::fmt;

use crate::name::ApplianceName;

/// What an agent does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AgentKind {
    /// Programs IPVS.
    L4,
    /// Proxies.
    L7,
    /// Checks health.
    Health,
}

/// One agent of one appliance.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AgentName {
    pub appliance: ApplianceName,
    pub kind: AgentKind,
}

impl AgentKind {
    pub const ALL: [Self; 3] = [Self::L4, Self::L7, Self::Health];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::L4 => "agent-l4",
            Self::L7 => "agent-l7",
            Self::Health => "healthd",
        }
    }
}

impl fmt::Display for AgentKind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.as_str())
    }
}

impl fmt::Display for AgentName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{}", self.appliance, self.kind)
    }
}
