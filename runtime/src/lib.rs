//! The process shell, and the loop that every agent is.
//!
//! The shell: logs, shutdown, owned tasks, identity, connections to the controller. The loop
//! ([`agent`]): follow the desired state, keep it in a ledger, apply it, report. What applying
//! means is each agent's own.

pub mod agent;
pub mod any_certificate;
pub mod backoff;
pub mod clock;
pub mod feed;
pub mod identity;
pub mod join;
pub mod local;
pub mod log;
pub mod passage;
pub mod renewal;
pub mod rpc;
pub mod shell;
pub mod tasks;
