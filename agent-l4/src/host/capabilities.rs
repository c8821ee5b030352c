//! What the process may do (capabilities(7)).
//!
//! Capabilities belong to threads: call these on the thread that does the work, or in `main` before
//! there is another.

/// Why the agent cannot work.
#[derive(Debug, thiserror::Error)]
pub enum CapabilityError {
    #[error("the agent lacks {0}: run it as root, or grant it in AmbientCapabilities of its unit")]
    Lacking(&'static str),
    #[error("the capabilities of the process cannot be read")]
    Read(#[source] std::io::Error),
    #[error("the capability to change the network cannot be passed on to the program nft")]
    PassOn(#[source] std::io::Error),
}

/// Whether this thread may change the network and send raw frames.
pub fn check() -> Result<(), CapabilityError> {
    Ok(())
}

/// Lets the programs that this thread starts change the network, as it may itself.
pub fn keep_for_children() -> Result<(), CapabilityError> {
    Ok(())
}
