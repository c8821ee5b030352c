//! Gantry's layer 7 proxy as a library.
//!
//! [`plane`] is the door: services are put in force there, and counters are read. Behind it, a
//! connection is accepted by a `worker`, given a seat on a real server by its `service`, and its
//! bytes are moved by the `relay`; one that speaks HTTP goes on to `http`. A process and its successor
//! meet in [`handover`]. Only [`steer`] knows the controller and the health checks.

pub mod handover;
pub mod keeper;
pub mod memory;
pub mod plane;
pub mod stats;
pub mod steer;

mod deadline;
mod dicom;
mod ending;
mod fading;
mod http;
mod leg;
mod limits;
mod mllp;
mod opening;
mod outbox;
mod pick;
mod proxy_header;
mod queue;
mod relay;
mod seat;
mod server;
mod service;
mod slab;
mod slots;
mod socket;
mod sticky;
mod tls;
mod trouble;
mod worker;
