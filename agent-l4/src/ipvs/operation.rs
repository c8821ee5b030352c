//! One change to what the kernel holds, and how it may fail.

use std::fmt;

use rustix::io::Errno;

use super::{Destination, DestinationKey, Service, ServiceKey};

/// A service or server that is added must not be there yet, one that is set or deleted must be.
/// Set replaces every property.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    AddService(Service),
    SetService(Service),
    /// Its servers go with it.
    DeleteService(ServiceKey),
    AddDestination(ServiceKey, Destination),
    SetDestination(ServiceKey, Destination),
    DeleteDestination(ServiceKey, DestinationKey),
}

/// An operation that the kernel refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Which of those given to [`Client::apply`](super::Client::apply).
    pub at: usize,
    pub errno: Errno,
    /// What the kernel said, or else what the number means for this operation.
    pub message: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Operation {
    /// What a refusal means.
    pub(super) fn refusal(&self, errno: Errno) -> String {
        let service =
            matches!(self, Self::AddService(_) | Self::SetService(_) | Self::DeleteService(_));
        match errno {
            Errno::SRCH => "no such service".to_owned(),
            Errno::NOENT if service => "the kernel has no such scheduler".to_owned(),
            Errno::NOENT => "no such server".to_owned(),
            Errno::EXIST if service => "the service exists already".to_owned(),
            Errno::EXIST => "the server exists already".to_owned(),
            errno => described(errno),
        }
    }
}

pub(super) fn described(errno: Errno) -> String {
    match errno {
        Errno::PERM => "IPVS needs CAP_NET_ADMIN".to_owned(),
        Errno::SRCH => "there is none".to_owned(),
        Errno::EXIST => "there is one already".to_owned(),
        errno => errno.to_string(),
    }
}
