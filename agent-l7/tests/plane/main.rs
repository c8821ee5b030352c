//! The data plane over real sockets: clients, a plane and real servers in one process.
//!
//! Every test has a loopback address of its own. They wait for conditions, never for time to pass.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod aside;
mod changes;
mod clients;
mod dicom;
mod ended;
mod ended_http;
mod http;
mod limits;
mod mllp;
mod opening;
mod relay;
mod robust;
mod setup;
mod slow;
mod source;
mod support;
mod tls;
mod told;
mod upgrade;
