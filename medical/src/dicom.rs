//! DICOM's upper layer, and of what travels in it the command sets.
//!
//! Source: PS3.8, section 9.3 (PDUs) and annexes D and E; PS3.7, section 6.3 and annexes C and E.
//! The numbers of tables are theirs.
//!
//! [`Header`] tells how long a PDU is. Whole PDUs are read by the type of their name, and those that
//! end an association are written as well. [`Watcher`] follows an association that somebody else
//! carries on. Reserved fields are not looked at, nor items of unknown types (9.3.1).

pub use abort::{Abort, AbortReason};
pub use accept::{AcceptedContext, AssociateAccept, ContextResult};
pub use command::{CommandField, CommandSet};
pub use item::{Item, Malformed};
pub use pdu::{Header, HeaderError, Kind};
pub use reject::{Reject, RejectReason, RejectResult};
pub use request::{APPLICATION_CONTEXT, AeTitles, AssociateRequest, ProposedContext};
pub use status::{Status, StatusClass};
pub use watch::{Event, Lost, Watcher};

mod abort;
mod accept;
mod command;
mod item;
mod pdu;
mod reject;
mod request;
#[cfg(test)]
mod samples;
mod status;
mod watch;
