//! The health checks: [`probe`] asks one real server once.

pub mod probe;
