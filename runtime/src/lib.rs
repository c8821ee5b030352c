//! The process shell, and the loop that every agent is.

pub mod clock;
