//! The health checks: [`probe`] asks one real server once, [`schedule`] decides who is asked when,
//! and [`board`] holds what is concluded and wakes whoever must know.
//!
//! Nothing here knows where the configuration comes from or who listens to the verdicts.

pub mod board;
pub mod probe;
pub mod schedule;
