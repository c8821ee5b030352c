//! What a message of HL7 v2 says of itself: its first segment, MSH, and of an acknowledgement the segment MSA
//! (HL7 v2.9, chapter 2, sections 2.14.9 and 2.14.8). No other segment is looked into.

/// The segment MSH: who sends what, and which acknowledgement is wanted. Text as it stands in the message,
/// whatever its character set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header<'a> {
    /// MSH-3, the whole field.
    pub sending_application: &'a [u8],
    /// MSH-4, the whole field.
    pub sending_facility: &'a [u8],
    /// MSH-9.1 and MSH-9.2: `ADT`, `A01`.
    pub message_type: (&'a [u8], &'a [u8]),
    /// MSH-10, by which an acknowledgement names the message.
    pub control_id: &'a [u8],
    /// MSH-15: when a commit acknowledgement is wanted.
    pub accept_acknowledgement: Condition,
    /// MSH-16: when an application acknowledgement is wanted.
    pub application_acknowledgement: Condition,
}

/// When an acknowledgement is wanted (HL7 table 0155).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Condition {
    /// Nothing is said: with both so, the original mode.
    #[default]
    Unsaid,
    Always,
    Never,
    OnError,
    OnSuccess,
}

/// An acknowledgement of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acknowledgement<'a> {
    /// MSA-1.
    pub code: Code,
    /// MSA-2: MSH-10 of the message.
    pub control_id: &'a [u8],
}

/// What became of a message (HL7 table 0008).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    ApplicationAccept,
    ApplicationError,
    ApplicationReject,
    CommitAccept,
    CommitError,
    CommitReject,
}

/// Why a message says nothing of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    #[error("it does not begin with the segment MSH")]
    NoHeader,
    #[error("MSH-1 is not the character that parts fields, such as |")]
    Separator,
    #[error("MSH-2 is not the 4 or 5 characters that part what is within a field, such as ^~\\&")]
    EncodingCharacters,
    #[error("MSH-10, the control id, is missing: an acknowledgement could not name the message")]
    ControlId,
}

impl<'a> Header<'a> {
    /// Reads the first segment of a message.
    pub fn read(message: &'a [u8]) -> Result<Self, HeaderError> {
        let segment = segments(message).next().unwrap_or_default();
        let rest = segment.strip_prefix(b"MSH").ok_or(HeaderError::NoHeader)?;
        let (&separator, rest) = rest.split_first().ok_or(HeaderError::Separator)?;
        if separator.is_ascii_alphanumeric() || !separator.is_ascii_graphic() {
            return Err(HeaderError::Separator);
        }
        // MSH-1 is the separator itself, so that the first of these is MSH-2.
        let mut fields = rest.split(|byte| *byte == separator);
        let encoding = fields.next().filter(|it| (4..=5).contains(&it.len()));
        let &component = encoding.and_then(<[u8]>::first).ok_or(HeaderError::EncodingCharacters)?;
        let mut field = |skipped: usize| fields.nth(skipped).unwrap_or_default();
        let (sending_application, sending_facility) = (field(0), field(0));
        let mut message_type = field(4).split(|byte| *byte == component);
        let message_type =
            (message_type.next().unwrap_or_default(), message_type.next().unwrap_or_default());
        let control_id = field(0);
        if control_id.is_empty() {
            return Err(HeaderError::ControlId);
        }
        let accept_acknowledgement = Condition::read(field(4));
        let application_acknowledgement = Condition::read(field(0));
        Ok(Self {
            sending_application,
            sending_facility,
            message_type,
            control_id,
            accept_acknowledgement,
            application_acknowledgement,
        })
    }

    /// Whether a commit acknowledgement comes before the application's (enhanced mode).
    pub fn is_enhanced(&self) -> bool {
        [self.accept_acknowledgement, self.application_acknowledgement]
            != [Condition::Unsaid, Condition::Unsaid]
    }
}

impl Condition {
    /// What is in no table counts as unsaid.
    fn read(field: &[u8]) -> Self {
        match field {
            b"AL" => Self::Always,
            b"NE" => Self::Never,
            b"ER" => Self::OnError,
            b"SU" => Self::OnSuccess,
            _ => Self::Unsaid,
        }
    }
}

impl<'a> Acknowledgement<'a> {
    /// Reads what a message acknowledges; none if it is no acknowledgement.
    pub fn read(message: &'a [u8]) -> Option<Self> {
        let separator = *message.strip_prefix(b"MSH")?.first()?;
        let is_msa = |segment: &&[u8]| segment.starts_with(&[b'M', b'S', b'A', separator]);
        let segment = segments(message).find(is_msa)?;
        let mut fields = segment.split(|byte| *byte == separator).skip(1);
        let code = Code::read(fields.next()?)?;
        Some(Self { code, control_id: fields.next().unwrap_or_default() })
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

    /// As it stands in MSA-1.
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

    /// The message was taken.
    pub fn is_positive(self) -> bool {
        matches!(self, Self::ApplicationAccept | Self::CommitAccept)
    }

    /// It was stored, and what the application makes of it is still to come.
    pub fn is_commit(self) -> bool {
        matches!(self, Self::CommitAccept | Self::CommitError | Self::CommitReject)
    }
}

/// Segments end with CR. Some senders write line feeds.
fn segments(message: &[u8]) -> impl Iterator<Item = &[u8]> {
    let ends = |byte: &u8| *byte == b'\r' || *byte == b'\n';
    message.split(ends).filter(|segment| !segment.is_empty())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ADT: &[u8] =
        b"MSH|^~\\&|RIS^sub|WARD 3|PACS|RAD|20261127||ADT^A01^ADT_A01|4711|P|2.5|||AL|NE\r\
        EVN|A01\rPID|1||no business of anybody here\r";

    #[test]
    fn a_header_is_read_field_by_field() {
        let read = Header::read(ADT).unwrap();
        let expected = Header {
            sending_application: b"RIS^sub",
            sending_facility: b"WARD 3",
            message_type: (b"ADT", b"A01"),
            control_id: b"4711",
            accept_acknowledgement: Condition::Always,
            application_acknowledgement: Condition::Never,
        };
        assert_eq!(read, expected);
        assert!(read.is_enhanced());
    }

    #[test]
    fn headers_of_all_houses_are_read_and_what_is_none_is_told() {
        for (message, expected) in [
            (&b"MSH|^~\\&|a||||||ORU|1"[..], Ok((&b"a"[..], &b"ORU"[..], &b"1"[..]))),
            (b"MSH|^~\\&#|a||||||ORU^R01|1|P\n", Ok((b"a", b"ORU", b"1"))),
            (b"MSH$%~\\&$a$$$$$$ORU%R01$1\r", Ok((b"a", b"ORU", b"1"))),
            (b"\r\nMSH|^~\\&|||||||ACK|1", Ok((b"", b"ACK", b"1"))),
            (b"", Err(HeaderError::NoHeader)),
            (b"PID|1\rMSH|^~\\&|a||||||ORU|1", Err(HeaderError::NoHeader)),
            (b"MSH", Err(HeaderError::Separator)),
            (b"MSHA^~\\&A", Err(HeaderError::Separator)),
            (b"MSH\x0b", Err(HeaderError::Separator)),
            (b"MSH|", Err(HeaderError::EncodingCharacters)),
            (b"MSH|^~|a", Err(HeaderError::EncodingCharacters)),
            (b"MSH|^~\\&|a||||||ORU||P", Err(HeaderError::ControlId)),
            (b"MSH|^~\\&|a\rMSH|^~\\&|a||||||ORU|1", Err(HeaderError::ControlId)),
        ] {
            let read = Header::read(message);
            let told = read.map(|it| (it.sending_application, it.message_type.0, it.control_id));
            assert_eq!(told, expected, "{}", message.escape_ascii());
        }
    }

    #[test]
    fn acknowledgements_say_of_what_and_how() {
        use Code::*;
        for (words, expected) in [
            ("MSA|AA|4711", Some((ApplicationAccept, "4711"))),
            ("MSA|AE|4711|why not", Some((ApplicationError, "4711"))),
            ("MSA|AR|", Some((ApplicationReject, ""))),
            ("ERR|x\rMSA|CA|1", Some((CommitAccept, "1"))),
            ("MSA|CE|1", Some((CommitError, "1"))),
            ("MSA|CR", Some((CommitReject, ""))),
            ("MSA|XX|1", None),
            ("MSA", None),
            ("MSA^AA^1", None),
            ("PID|MSA|AA|1", None),
        ] {
            let message = format!("MSH|^~\\&|||||||ACK|9\r{words}\r");
            let read = Acknowledgement::read(message.as_bytes());
            let told = read.map(|it| (it.code, str::from_utf8(it.control_id).unwrap()));
            assert_eq!(told, expected, "{words}");
        }
        assert_eq!(Acknowledgement::read(ADT), None);
        let positive = [ApplicationAccept, CommitAccept].map(Code::is_positive);
        assert!(positive == [true; 2] && !ApplicationError.is_positive());
        assert!(CommitReject.is_commit() && !ApplicationReject.is_commit());
    }

    proptest! {
        #[test]
        fn anything_may_come(bytes: Vec<u8>, cut in 0..ADT.len(), at in 0..ADT.len(), byte: u8) {
            let _ = (Header::read(&bytes), Acknowledgement::read(&bytes));
            let mut damaged = ADT.to_vec();
            damaged[at] = byte;
            damaged.truncate(cut);
            let _ = (Header::read(&damaged), Acknowledgement::read(&damaged));
        }
    }
}
