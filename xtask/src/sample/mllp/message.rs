//! As much of HL7 version 2 as an acknowledgement needs: the MSH segment (chapter 2, section 2.14.9)
//! and the MSA that answers it.

use std::fmt;

use gantry_runtime::clock;
use uuid::Uuid;

/// The first segment of a message. HL7 counts the field separator as MSH-1.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Header {
    separator: char,
    fields: Vec<String>,
}

impl Header {
    /// Reads the MSH segment, if the message has one.
    pub(super) fn parse(message: &[u8]) -> Option<Self> {
        let line = message.split(|byte| matches!(byte, b'\r' | b'\n')).next()?;
        let line = String::from_utf8_lossy(line);
        let rest = line.strip_prefix("MSH")?;
        let separator = rest.chars().next().filter(char::is_ascii_punctuation)?;
        let fields = rest.split(separator).map(str::to_owned).collect();
        Some(Self { separator, fields })
    }

    /// MSH-`number`, from 2 on; empty if it is not there.
    fn field(&self, number: usize) -> &str {
        self.fields.get(number - 1).map_or("", String::as_str)
    }
}

/// Type and control id, which tell a message from others and nothing about its patient.
impl fmt::Display for Header {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} {}", self.field(9).escape_debug(), self.field(10).escape_debug())
    }
}

/// The acknowledgement by `name` of a message with this header: AA, or AR if it had none.
pub(super) fn acknowledge(header: Option<&Header>, name: &str) -> Vec<u8> {
    let (now, id) = (clock::wall().strftime("%Y%m%d%H%M%S+0000"), Uuid::new_v4().simple());
    let Some(header) = header else {
        return format!("MSH|^~\\&|||||{now}||ACK|{id}|P|2.5\rMSA|AR||{name}\r").into_bytes();
    };
    let field = |number| header.field(number);
    let event = field(9).split('^').nth(1).map(|event| format!("^{event}")).unwrap_or_default();
    let answer = [
        &["MSH", field(2), field(5), field(6), field(3), field(4)][..],
        &[&now.to_string(), "", &format!("ACK{event}"), &id.to_string(), field(11), field(12)],
    ];
    let separator = header.separator.to_string();
    let answer = answer.concat().join(&separator);
    let confirmed = ["MSA", "AA", field(10), name].join(&separator);
    format!("{answer}\r{confirmed}\r").into_bytes()
}

/// A message to try a receiver with: an arrival of nobody.
pub(super) fn sample() -> Vec<u8> {
    let (now, id) = (clock::wall().strftime("%Y%m%d%H%M%S+0000"), Uuid::new_v4().simple());
    let id = &id.to_string()[..20];
    format!(
        "MSH|^~\\&|GANTRY|SAMPLE|PACS|SAMPLE|{now}||ADT^A01|{id}|T|2.5\rEVN||{now}\r\
         PID|1||GANTRY-SAMPLE||SAMPLE^GANTRY\rPV1|1|N\r"
    )
    .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_acknowledgement_goes_back_to_the_sender() {
        let message = b"MSH|^~\\&|RIS|WARD|PACS|RAD|20250101||ORM^O01|42|P|2.3\rPID|1||SECRET\r";
        let header = Header::parse(message).unwrap();
        assert_eq!(header.to_string(), "ORM^O01 42");
        let answer = String::from_utf8(acknowledge(Some(&header), "MLLP1")).unwrap();
        assert!(answer.starts_with("MSH|^~\\&|PACS|RAD|RIS|WARD|20"), "{answer}");
        assert!(answer.contains("||ACK^O01|") && answer.contains("|P|2.3\r"), "{answer}");
        assert!(answer.ends_with("\rMSA|AA|42|MLLP1\r"), "{answer}");
    }

    #[test]
    fn odd_messages_are_answered_too() {
        let header = Header::parse(b"MSH#^~\\&#RIS").unwrap();
        let answer = String::from_utf8(acknowledge(Some(&header), "M")).unwrap();
        assert!(answer.ends_with("\rMSA#AA##M\r"), "{answer}");
        for bad in [&b""[..], b"PID|1", b"MSH", b"MSHA"] {
            assert_eq!(Header::parse(bad), None);
        }
        assert!(acknowledge(None, "M").ends_with(b"\rMSA|AR||M\r"));
    }
}
