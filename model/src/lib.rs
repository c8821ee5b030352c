//! Gantry's pure types and rules: what a virtual service is, when a server counts as healthy,
//! what one agent is told.
//!
//! Nothing here does I/O, awaits or reads a clock: times and facts come in as values. Types are
//! parsed at the border ([`wire`]) and cannot hold anything invalid afterwards.

pub mod address;
pub mod agent;
pub mod check;
pub mod desired;
pub mod dicom;
pub mod http;
pub mod judge;
pub mod key_pair;
pub mod mark;
pub mod mllp;
pub mod name;
pub mod plan;
pub mod port;
pub mod revision;
pub mod rules;
pub mod server;
pub mod service;
pub mod termination;
pub mod verdict;
pub mod violation;
pub mod wire;
