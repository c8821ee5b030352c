//! The data plane over real sockets: clients, a plane and real servers in one process.
//!
//! Every test has a loopback address of its own. They wait for conditions, never for time to pass.

mod changes;
mod limits;
mod relay;
mod setup;
mod support;
