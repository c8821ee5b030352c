//! Associations of DICOM: who asks for them, how far they are, and what becomes of them.
//!
//! What they carry is watched in passing and never kept: of a command set only what was asked for and how
//! it ended, of an image nothing.

use std::sync::Arc;

use crate::stats::Count;

pub(crate) use association::Association;
pub(crate) use member::Member;
pub(crate) use titles::Titles;

mod association;
mod member;
mod titles;

/// What the log is told of an association.
#[derive(Debug)]
pub(crate) struct Story {
    pub(crate) called: Arc<str>,
    pub(crate) calling: Arc<str>,
    /// C-STORE operations that succeeded, and those that failed.
    pub(crate) stored: Count,
    pub(crate) failed: Count,
}

impl Story {
    pub(crate) fn new(called: &str, calling: &str) -> Self {
        let (stored, failed) = (Count::default(), Count::default());
        Self { called: called.into(), calling: calling.into(), stored, failed }
    }
}
