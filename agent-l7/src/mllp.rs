//! Messages of HL7 v2: what they say of themselves, what is remembered of them, and how they fared.
//!
//! Of a message no more is read than its header, and of an answer what it acknowledges. Contents pass, and
//! are kept only for as long as their acknowledgement is waited for.

pub(crate) use counts::MllpCounts;
pub(crate) use inlet::{Inlet, Inward};
pub(crate) use ledger::{Ledger, Standing};
pub(crate) use letter::{Answer, Letter, Name};

mod counts;
mod inlet;
mod ledger;
mod letter;
