//! The two command sets of a C-ECHO (DICOM PS3.7, section 9.3.5), in implicit VR little endian as
//! all command sets are. Too small for a DICOM library, and read with nothing taken on trust.

/// The one message of the association.
const MESSAGE_ID: u16 = 1;

const C_ECHO_RQ: u16 = 0x0030;
const C_ECHO_RSP: u16 = 0x8030;
const NO_DATA_SET: u16 = 0x0101;

/// Element numbers of group 0000.
mod element {
    pub(super) const GROUP_LENGTH: u16 = 0x0000;
    pub(super) const AFFECTED_SOP_CLASS: u16 = 0x0002;
    pub(super) const COMMAND_FIELD: u16 = 0x0100;
    pub(super) const MESSAGE_ID: u16 = 0x0110;
    pub(super) const MESSAGE_ID_RESPONDED_TO: u16 = 0x0120;
    pub(super) const DATA_SET_TYPE: u16 = 0x0800;
    pub(super) const STATUS: u16 = 0x0900;
}

pub(super) fn echo_request(sop_class: &str) -> Vec<u8> {
    let mut uid = sop_class.as_bytes().to_vec();
    if uid.len() % 2 == 1 {
        uid.push(0);
    }
    let mut rest = Vec::with_capacity(64);
    put(&mut rest, element::AFFECTED_SOP_CLASS, &uid);
    put(&mut rest, element::COMMAND_FIELD, &C_ECHO_RQ.to_le_bytes());
    put(&mut rest, element::MESSAGE_ID, &MESSAGE_ID.to_le_bytes());
    put(&mut rest, element::DATA_SET_TYPE, &NO_DATA_SET.to_le_bytes());
    let length = u32::try_from(rest.len()).expect("four short elements");
    let mut command = Vec::with_capacity(12 + rest.len());
    put(&mut command, element::GROUP_LENGTH, &length.to_le_bytes());
    command.extend_from_slice(&rest);
    command
}

/// The status of a response; the error says what is wrong with it.
pub(super) fn echo_status(command: &[u8]) -> Result<u16, String> {
    let number = |element| number(command, element);
    let malformed = || "the C-ECHO response is malformed".to_owned();
    let field = number(element::COMMAND_FIELD).ok_or_else(malformed)?;
    if field != C_ECHO_RSP {
        return Err(format!("the server answered the C-ECHO with command 0x{field:04X}"));
    }
    let answered = number(element::MESSAGE_ID_RESPONDED_TO).ok_or_else(malformed)?;
    if answered != MESSAGE_ID {
        return Err(format!("the C-ECHO response is for message {answered}, not {MESSAGE_ID}"));
    }
    number(element::STATUS).ok_or_else(|| "the C-ECHO response has no status".to_owned())
}

fn put(command: &mut Vec<u8>, element: u16, value: &[u8]) {
    let length = u32::try_from(value.len()).expect("a UID or a number");
    command.extend_from_slice(&[0, 0]);
    command.extend_from_slice(&element.to_le_bytes());
    command.extend_from_slice(&length.to_le_bytes());
    command.extend_from_slice(value);
}

/// The number in `wanted`, if the elements up to it are well formed.
fn number(command: &[u8], wanted: u16) -> Option<u16> {
    let mut rest = command;
    loop {
        let (head, after) = rest.split_first_chunk::<8>()?;
        let &[group_low, group_high, low, high, a, b, c, d] = head;
        let length = usize::try_from(u32::from_le_bytes([a, b, c, d])).ok()?;
        let (value, after) = after.split_at_checked(length)?;
        if u16::from_le_bytes([group_low, group_high]) != 0 {
            return None;
        }
        if u16::from_le_bytes([low, high]) == wanted {
            return value.try_into().ok().map(u16::from_le_bytes);
        }
        rest = after;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(field: u16, answered: u16, status: u16) -> Vec<u8> {
        let mut command = Vec::new();
        put(&mut command, element::COMMAND_FIELD, &field.to_le_bytes());
        put(&mut command, element::MESSAGE_ID_RESPONDED_TO, &answered.to_le_bytes());
        put(&mut command, element::STATUS, &status.to_le_bytes());
        command
    }

    #[test]
    fn a_request_is_what_the_standard_shows() {
        let command = echo_request("1.2.840.10008.1.1");
        assert_eq!(&command[..12], [0, 0, 0, 0, 4, 0, 0, 0, 56, 0, 0, 0]);
        assert_eq!(&command[12..20], [0, 0, 2, 0, 18, 0, 0, 0]);
        assert_eq!(&command[20..38], b"1.2.840.10008.1.1\0");
        assert_eq!(command.len(), 12 + 56);
        assert_eq!(number(&command, element::MESSAGE_ID), Some(MESSAGE_ID));
    }

    #[test]
    fn responses() {
        let err = |words: &str| Err(words.to_owned());
        assert_eq!(echo_status(&response(0x8030, 1, 0)), Ok(0));
        assert_eq!(echo_status(&response(0x8030, 1, 0x0110)), Ok(0x0110));
        let other = "the C-ECHO response is for message 7, not 1";
        assert_eq!(echo_status(&response(0x8030, 7, 0)), err(other));
        let other = "the server answered the C-ECHO with command 0x8001";
        assert_eq!(echo_status(&response(0x8001, 1, 0)), err(other));
        let mut without = response(0x8030, 1, 0);
        without.truncate(20);
        assert_eq!(echo_status(&without), err("the C-ECHO response has no status"));
        assert_eq!(echo_status(&[]), err("the C-ECHO response is malformed"));
        assert_eq!(echo_status(&[0xFF; 100]), err("the C-ECHO response is malformed"));
    }
}
