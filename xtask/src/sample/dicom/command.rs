//! The command sets of C-ECHO and C-STORE (DICOM PS3.7, sections 9.3.1 and 9.3.5), in implicit VR
//! little endian as all command sets are.

use anyhow::{Context, ensure};

pub(super) const C_STORE_RQ: u16 = 0x0001;
pub(super) const C_ECHO_RQ: u16 = 0x0030;
const RESPONSE: u16 = 0x8000;
const NO_DATA_SET: u16 = 0x0101;

/// How a request went (DICOM PS3.7, annex C, and PS3.4, section B.2.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    Success = 0x0000,
    UnrecognizedOperation = 0x0211,
    OutOfResources = 0xA700,
    CannotUnderstand = 0xC000,
}

/// A request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) field: u16,
    pub(super) message_id: u16,
    pub(super) has_data_set: bool,
    pub(super) sop_class: String,
    pub(super) sop_instance: String,
}

impl Request {
    pub(super) fn parse(command: &[u8]) -> anyhow::Result<Self> {
        let mut rest = command;
        let (mut field, mut message_id, mut data_set) = (None, None, None);
        let (mut sop_class, mut sop_instance) = (String::new(), String::new());
        while let Some((head, after)) = rest.split_first_chunk::<8>() {
            let &[g0, g1, e0, e1, a, b, c, d] = head;
            let length = usize::try_from(u32::from_le_bytes([a, b, c, d]))?;
            let cut = after.split_at_checked(length).context("a command that is cut short")?;
            let value = cut.0;
            rest = cut.1;
            ensure!([g0, g1] == [0, 0], "an element of another group in a command");
            match u16::from_le_bytes([e0, e1]) {
                0x0002 => sop_class = text(value),
                0x0100 => field = Some(number(value)?),
                0x0110 => message_id = Some(number(value)?),
                0x0800 => data_set = Some(number(value)?),
                0x1000 => sop_instance = text(value),
                _ => {}
            }
        }
        Ok(Self {
            field: field.context("a command without command field")?,
            message_id: message_id.context("a command without message id")?,
            has_data_set: data_set.context("a command without data set type")? != NO_DATA_SET,
            sop_class,
            sop_instance,
        })
    }

    /// The response to this request.
    pub(super) fn response(&self, status: Status) -> Vec<u8> {
        let mut rest = Vec::new();
        put_text(&mut rest, 0x0002, &self.sop_class);
        put(&mut rest, 0x0100, &(self.field | RESPONSE).to_le_bytes());
        put(&mut rest, 0x0120, &self.message_id.to_le_bytes());
        put(&mut rest, 0x0800, &NO_DATA_SET.to_le_bytes());
        put(&mut rest, 0x0900, &(status as u16).to_le_bytes());
        put_text(&mut rest, 0x1000, &self.sop_instance);
        let length = u32::try_from(rest.len()).expect("two UIDs and some numbers");
        let mut command = Vec::with_capacity(12 + rest.len());
        put(&mut command, 0x0000, &length.to_le_bytes());
        command.extend_from_slice(&rest);
        command
    }
}

/// A UID without its padding.
fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(value).trim_end_matches(['\0', ' ']).to_owned()
}

fn number(value: &[u8]) -> anyhow::Result<u16> {
    Ok(u16::from_le_bytes(value.try_into().context("a number that is not of two bytes")?))
}

/// A UID, unless the request had none either.
fn put_text(command: &mut Vec<u8>, element: u16, uid: &str) {
    let mut value = uid.as_bytes().to_vec();
    if value.len() % 2 == 1 {
        value.push(0);
    }
    if !value.is_empty() {
        put(command, element, &value);
    }
}

fn put(command: &mut Vec<u8>, element: u16, value: &[u8]) {
    let length = u32::try_from(value.len()).expect("a command set is below 64 KiB");
    command.extend_from_slice(&[0, 0]);
    command.extend_from_slice(&element.to_le_bytes());
    command.extend_from_slice(&length.to_le_bytes());
    command.extend_from_slice(value);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_answers_its_request() {
        let mut command = Vec::new();
        put_text(&mut command, 0x0002, "1.2.840.10008.1.1");
        put(&mut command, 0x0100, &C_ECHO_RQ.to_le_bytes());
        put(&mut command, 0x0110, &7u16.to_le_bytes());
        put(&mut command, 0x0800, &NO_DATA_SET.to_le_bytes());
        let request = Request::parse(&command).unwrap();
        assert_eq!((request.field, request.message_id), (C_ECHO_RQ, 7));
        assert_eq!(request.sop_class, "1.2.840.10008.1.1");
        assert!(!request.has_data_set);
        let response = request.response(Status::OutOfResources);
        assert_eq!(usize::from(response[8]), response.len() - 12);
        assert_eq!(response[response.len() - 2..], 0xA700u16.to_le_bytes());
    }

    #[test]
    fn nothing_is_taken_on_trust() {
        for bad in [&[][..], &[0; 7], &[0xFF; 40], &[0, 0, 0, 1, 9, 0, 0, 0, 1]] {
            assert!(Request::parse(bad).is_err(), "{bad:?}");
        }
    }
}
