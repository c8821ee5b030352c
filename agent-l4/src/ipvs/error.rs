//! Why the kernel's load balancer could not be spoken to.

use std::io;

use rustix::io::Errno;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("netlink: {0}")]
    Socket(#[from] io::Error),
    /// Messages of the kernel's were lost. What was asked for may be done or not: read it again.
    #[error("replies of the kernel were lost")]
    Lost,
    #[error("the kernel did not reply")]
    Silent,
    #[error("not understood: {0}")]
    Malformed(&'static str),
    #[error("the table changed again and again while it was read")]
    Unstable,
    #[error("{message}")]
    Refused { errno: Errno, message: String },
}

#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("the kernel has no IPVS, or its module ip_vs is missing")]
    NotInKernel,
    #[error("IPVS needs CAP_NET_ADMIN")]
    Denied,
    #[error(transparent)]
    Other(Error),
}

impl Error {
    /// The number with which the kernel refused, if it did.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::Refused { errno, .. } => Some(*errno),
            _ => None,
        }
    }
}

impl From<Error> for OpenError {
    fn from(error: Error) -> Self {
        Self::Other(error)
    }
}
