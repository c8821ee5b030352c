//! Gantry's gRPC surface: `gantry.v1` for operators, `gantry.agent.v1` for the agents.
//!
//! Generated from the `.proto` files beside this crate, which are its documentation.

pub mod codec;
mod secret;

/// What operators use: virtual services, fleet, documents, overview and events.
#[allow(
    clippy::all,
    clippy::allow_attributes_without_reason,
    missing_debug_implementations,
    unreachable_pub,
    unused_lifetimes,
    elided_lifetimes_in_paths,
    reason = "generated"
)]
pub mod v1 {
    tonic::include_proto!("gantry.v1");
}

/// What controller and agents say to each other.
pub mod agent {
    #[allow(
        clippy::all,
        clippy::allow_attributes_without_reason,
        missing_debug_implementations,
        unreachable_pub,
        unused_lifetimes,
        elided_lifetimes_in_paths,
        reason = "generated"
    )]
    pub mod v1 {
        tonic::include_proto!("gantry.agent.v1");
    }
}

/// Every descriptor, comments included: for reflection and for the JSON form of messages.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
