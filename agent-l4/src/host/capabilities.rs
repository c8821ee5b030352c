//! What the process may do (capabilities(7)).
//!
//! Capabilities belong to threads: call these on the thread that does the work, or in `main` before
//! there is another.

use std::io;

use rustix::io::Errno;
use rustix::thread::{
    CapabilitySet, capabilities, configure_capability_in_ambient_set, set_capabilities,
};

/// Why the agent cannot work.
#[derive(Debug, thiserror::Error)]
pub enum CapabilityError {
    #[error("the agent lacks {0}: run it as root, or grant it in AmbientCapabilities of its unit")]
    Lacking(&'static str),
    #[error("the capabilities of the process cannot be read")]
    Read(#[source] io::Error),
    #[error("the capability to change the network cannot be passed on to the program nft")]
    PassOn(#[source] io::Error),
}

/// What the agent works with, by the names that capabilities(7) and systemd give them.
const NEEDED: [(CapabilitySet, &str); 2] =
    [(CapabilitySet::NET_ADMIN, "CAP_NET_ADMIN"), (CapabilitySet::NET_RAW, "CAP_NET_RAW")];

/// Whether this thread may change the network and send raw frames.
pub fn check() -> Result<(), CapabilityError> {
    let held = capabilities(None).map_err(|error| CapabilityError::Read(error.into()))?;
    match lacking(held.effective) {
        Some(name) => Err(CapabilityError::Lacking(name)),
        None => Ok(()),
    }
}

/// Lets the programs that this thread starts change the network, as it may itself.
///
/// A program that root starts may anyhow. One that another user starts has what is in the ambient
/// set of the thread that starts it, which must be in its inheritable set first.
pub fn keep_for_children() -> Result<(), CapabilityError> {
    pass_on(CapabilitySet::NET_ADMIN).map_err(|error| CapabilityError::PassOn(error.into()))
}

fn lacking(effective: CapabilitySet) -> Option<&'static str> {
    NEEDED.iter().find(|(needed, _)| !effective.contains(*needed)).map(|(_, name)| *name)
}

fn pass_on(capability: CapabilitySet) -> Result<(), Errno> {
    let mut held = capabilities(None)?;
    if !held.inheritable.contains(capability) {
        held.inheritable |= capability;
        set_capabilities(None, held)?;
    }
    configure_capability_in_ambient_set(capability, true)
}

#[cfg(test)]
mod tests;
