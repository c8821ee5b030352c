//! What the proxy and the health checks know of the protocols of hospitals: where a message ends, who sends
//! it, and to whom. No I/O, no clock, and nothing of a patient.
//!
//! [`mllp`] frames messages of HL7 v2, [`hl7`] reads their first segment, [`dicom`] the messages by which
//! two DICOM nodes come to an association.

pub mod dicom;
pub mod hl7;
pub mod mllp;
