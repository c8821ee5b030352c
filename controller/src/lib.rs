//! The control plane: keeps the configuration in SQLite, streams it to the agents, shows what they
//! say.
//!
//! Desired state flows down: [`api`], [`store`], [`publish`], stream. Observed state flows up:
//! stream, [`observed`], [`status`] when somebody asks.

pub mod api;
pub mod approvals;
pub mod authority;
pub mod backup;
pub mod certificate;
pub mod condition;
pub mod difference;
pub mod effects;
pub mod expiry;
pub mod folder;
pub mod observed;
pub mod page;
pub mod publish;
pub mod questions;
pub mod serve;
pub mod state;
pub mod status;
pub mod store;
