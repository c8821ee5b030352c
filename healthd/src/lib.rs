//! The health checks: [`probe`] asks one real server once, [`schedule`] decides who is asked when,
//! and [`board`] holds what is concluded and wakes whoever must know.
//!
//! Around them stands the daemon: [`orders`] takes the desired state from the agent's loop,
//! [`feed`] tells the verdicts to the agents beside it, [`memory`] keeps them over a restart.

pub mod board;
pub mod feed;
pub mod memory;
pub mod orders;
pub mod probe;
pub mod schedule;
mod words;
