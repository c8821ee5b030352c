//! What Gantry knows of the two protocols of hospitals on the wire: DICOM's upper layer, and HL7
//! version 2 in MLLP.
//!
//! Bytes come in as slices, of any size, and what they mean goes out; nothing here does I/O, awaits
//! or reads a clock. No patient data is looked at: of HL7 the header and the acknowledgement, of
//! DICOM the association and the command sets, and all else is passed over by its length. Every
//! reader takes time in proportion to the bytes, whatever they are.

pub mod dicom;
pub mod hl7;
pub mod mllp;

mod scan;
