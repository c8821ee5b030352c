//! The machine as layer 4 needs it, on real interfaces.
//!
//! Every test makes network namespaces of its own, for which it must run as root.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod capabilities;
mod nft;
mod packet;
mod route;
mod space;
mod sysctl;
