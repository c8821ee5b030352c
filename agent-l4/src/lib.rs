//! Gantry's layer 4 agent as a library.
//!
//! [`director`] decides and acts: plans and verdicts go in, the kernel is led to what [`desired`] works
//! out, by the steps that [`diff`] finds. [`kernel`] is the machine as the director sees it; behind it,
//! [`ipvs`] speaks to the kernel's load balancer and [`host`] to the rest. [`door`] is where controller
//! and healthd meet the director.

pub mod desired;
pub mod diff;
pub mod director;
pub mod door;
pub mod host;
pub mod ipvs;
pub mod kernel;
pub mod owned;
pub mod passage;
