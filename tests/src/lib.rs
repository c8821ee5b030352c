//! What the end-to-end tests are made of: a site of real Gantry processes, real peers beside it, and
//! waiting for conditions.
//!
//! Every process has a log file in a temporary folder; the ends of the logs are printed when a test
//! fails. Every test has loopback addresses of its own, so that tests run side by side.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

pub mod backend;
pub mod block;
pub mod browser;
pub mod buf;
pub mod dcmtk;
pub mod disk;
pub mod forge;
pub mod lab;
pub mod modality;
pub mod openssl;
pub mod orthanc;
pub mod own_ca;
pub mod process;
pub mod raw;
pub mod services;
pub mod site;
pub mod sqlite;
pub mod wait;

pub use block::Block;
pub use lab::Lab;
pub use process::Process;
pub use site::Site;
pub use wait::eventually;
