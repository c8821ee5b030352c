//! The header of an HL7 version 2 message (MSH), and what an acknowledgement says (MSA).
//!
//! Source: HL7 version 2, chapter 2, "Control": 2.15.9 MSH, 2.15.8 MSA; 2.9 on acknowledgements.
//! Section numbers are those of version 2.5.1.
//!
//! All other segments are walked over, and no more than the ends of their lines is looked at. Fields
//! are the bytes that were sent, in whatever character set; an absent field is empty. What is not
//! needed to route a message and to match its answer is not judged: that is the receiver's right.
//! Segments end with CR; LF and CR LF are taken as well.

use std::fmt;

use crate::scan;

/// What the message header says of a message: MSH, as far as it matters for routing and answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header<'a> {
    pub separators: Separators,
    /// MSH-3, all components.
    pub sending_application: &'a [u8],
    /// MSH-4, all components.
    pub sending_facility: &'a [u8],
    /// MSH-9.
    pub message_type: MessageType<'a>,
    /// MSH-10, by which the answer names the message; never empty.
    pub control_id: &'a [u8],
    /// MSH-15: when the receiver shall say that it has the message.
    pub accept: Condition,
    /// MSH-16: when the receiver shall say what became of it.
    pub application: Condition,
}

/// The characters that separate what is in a message: MSH-1 and MSH-2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Separators {
    pub field: u8,
    pub component: u8,
    pub repetition: Option<u8>,
    pub escape: Option<u8>,
    pub subcomponent: Option<u8>,
}

/// What kind of message it is, such as `ADT^A01`: the first two components of MSH-9.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessageType<'a> {
    pub code: &'a [u8],
    pub trigger: &'a [u8],
}

/// When an acknowledgement is asked for: table 0155.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Nothing is said. With both fields so, the original mode holds (2.9.2).
    Unset,
    /// `AL`
    Always,
    /// `NE`
    Never,
    /// `ER`
    OnError,
    /// `SU`
    OnSuccess,
    /// What is not in the table.
    Unknown,
}

/// What an acknowledgement says: MSA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acknowledgement<'a> {
    /// MSA-1.
    pub code: Code,
    /// MSA-2, the MSH-10 of the message that is answered. Empty where the receiver could not tell.
    pub control_id: &'a [u8],
}

/// The verdict on a message: table 0008.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Code {
    /// `AA`: the application took the message.
    ApplicationAccept,
    /// `AE`: the application found an error.
    ApplicationError,
    /// `AR`: the application refused the message.
    ApplicationReject,
    /// `CA`: the message is in safe storage (enhanced mode).
    CommitAccept,
    /// `CE`: it could not be stored.
    CommitError,
    /// `CR`: it was refused.
    CommitReject,
}

/// Why bytes are no message, or no acknowledgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    #[error("the message does not begin with MSH")]
    NoHeader,
    #[error("MSH-1 is no field separator")]
    FieldSeparator,
    #[error("MSH-2 is not made of 1 to 5 encoding characters")]
    EncodingCharacters,
    #[error("MSH-10, the message control ID, is missing")]
    NoControlId,
    #[error("the message has no segment MSA")]
    NoAcknowledgement,
    #[error("MSA-1 is no acknowledgement code")]
    Code,
}

const CR: u8 = b'\r';
const LF: u8 = b'\n';

impl<'a> Header<'a> {
    /// Reads the header of a message, and not further than MSH-16.
    pub fn read(message: &'a [u8]) -> Result<Self, Malformed> {
        let (separators, mut fields) = begin(message)?;
        let mut after = |skipped: usize| fields.nth(skipped).unwrap_or_default();
        // MSH-1 is the separator itself, and the encoding characters are MSH-2: here comes MSH-3.
        let header = Self {
            separators,
            sending_application: after(0),
            sending_facility: after(0),
            message_type: MessageType::read(after(4), separators.component),
            control_id: after(0),
            accept: Condition::read(after(4)),
            application: Condition::read(after(0)),
        };
        if header.control_id.is_empty() {
            return Err(Malformed::NoControlId);
        }
        Ok(header)
    }

    /// The first component of MSH-3: the application's name without the authority it comes from.
    pub fn sending_application_name(&self) -> &'a [u8] {
        self.separators.first_component(self.sending_application)
    }

    /// The first component of MSH-4.
    pub fn sending_facility_name(&self) -> &'a [u8] {
        self.separators.first_component(self.sending_facility)
    }

    /// Whether the enhanced mode holds, with commit acknowledgements: MSH-15 or MSH-16 is set.
    pub fn is_enhanced(&self) -> bool {
        self.accept != Condition::Unset || self.application != Condition::Unset
    }
}

impl Separators {
    /// Reads MSH-1 and MSH-2 of a message.
    pub fn read(message: &[u8]) -> Result<Self, Malformed> {
        begin(message).map(|(separators, _)| separators)
    }

    /// What a field says before its first component separator.
    pub fn first_component<'a>(&self, field: &'a [u8]) -> &'a [u8] {
        &field[..scan::find(field, |byte| byte == self.component).unwrap_or(field.len())]
    }
}

impl<'a> MessageType<'a> {
    fn read(field: &'a [u8], component: u8) -> Self {
        let mut components = Fields { rest: Some(field), separator: component };
        let mut next = || components.next().unwrap_or_default();
        Self { code: next(), trigger: next() }
    }
}

impl Condition {
    fn read(field: &[u8]) -> Self {
        match field {
            b"" => Self::Unset,
            b"AL" => Self::Always,
            b"NE" => Self::Never,
            b"ER" => Self::OnError,
            b"SU" => Self::OnSuccess,
            _ => Self::Unknown,
        }
    }
}

impl<'a> Acknowledgement<'a> {
    /// Reads the acknowledgement in a message: its first segment MSA.
    pub fn read(message: &'a [u8]) -> Result<Self, Malformed> {
        let separator = Separators::read(message)?.field;
        let is_answer = |line: &&[u8]| line.starts_with(b"MSA") && line.get(3) == Some(&separator);
        let line = Lines(Some(message)).find(is_answer).ok_or(Malformed::NoAcknowledgement)?;
        let mut fields = Fields { rest: Some(&line[4..]), separator };
        let code = fields.next().and_then(Code::read).ok_or(Malformed::Code)?;
        Ok(Self { code, control_id: fields.next().unwrap_or_default() })
    }

    /// Whether this is the answer to the message with that header.
    pub fn answers(&self, header: &Header<'_>) -> bool {
        self.control_id == header.control_id
    }
}

impl Code {
    const ALL: [Self; 6] = [
        Self::ApplicationAccept,
        Self::ApplicationError,
        Self::ApplicationReject,
        Self::CommitAccept,
        Self::CommitError,
        Self::CommitReject,
    ];

    fn read(field: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|code| code.as_str().as_bytes() == field)
    }

    /// As it is written in MSA-1.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ApplicationAccept => "AA",
            Self::ApplicationError => "AE",
            Self::ApplicationReject => "AR",
            Self::CommitAccept => "CA",
            Self::CommitError => "CE",
            Self::CommitReject => "CR",
        }
    }

    /// Whether the message was taken.
    pub fn is_positive(self) -> bool {
        matches!(self, Self::ApplicationAccept | Self::CommitAccept)
    }

    /// Whether this is the first of the two answers of the enhanced mode (2.9.3).
    pub fn is_commit(self) -> bool {
        matches!(self, Self::CommitAccept | Self::CommitError | Self::CommitReject)
    }
}

impl fmt::Display for Code {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.as_str())
    }
}

/// Reads what every message begins with, and gives the fields that follow, from MSH-3 on.
fn begin(message: &[u8]) -> Result<(Separators, Fields<'_>), Malformed> {
    let rest = message.strip_prefix(b"MSH").ok_or(Malformed::NoHeader)?;
    let (field, rest) = rest.split_first().ok_or(Malformed::FieldSeparator)?;
    if !field.is_ascii_punctuation() {
        return Err(Malformed::FieldSeparator);
    }
    let mut fields = Fields { rest: Some(rest), separator: *field };
    let encoding = fields.next().unwrap_or_default();
    let characters = encoding.iter().all(u8::is_ascii_punctuation) && encoding.len() <= 5;
    let component =
        *encoding.first().filter(|_| characters).ok_or(Malformed::EncodingCharacters)?;
    let other = |at: usize| encoding.get(at).copied();
    let separators = Separators {
        field: *field,
        component,
        repetition: other(1),
        escape: other(2),
        subcomponent: other(3),
    };
    Ok((separators, fields))
}

/// What a separator separates, to the end of the segment.
struct Fields<'a> {
    rest: Option<&'a [u8]>,
    separator: u8,
}

impl<'a> Iterator for Fields<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let rest = self.rest.take()?;
        let end = scan::find(rest, |byte| byte == self.separator || ends_segment(byte));
        let Some(end) = end else { return Some(rest) };
        if rest[end] == self.separator {
            self.rest = Some(&rest[end + 1..]);
        }
        Some(&rest[..end])
    }
}

/// The segments of a message; CR LF has an empty one within.
struct Lines<'a>(Option<&'a [u8]>);

impl<'a> Iterator for Lines<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let rest = self.0.take()?;
        let Some(end) = scan::find(rest, ends_segment) else { return Some(rest) };
        self.0 = Some(&rest[end + 1..]);
        Some(&rest[..end])
    }
}

fn ends_segment(byte: u8) -> bool {
    byte == CR || byte == LF
}

#[cfg(test)]
mod tests;
