//! The command set of a message, as far as it tells what is asked for and what came of it.
//!
//! Source: PS3.7, section 6.3.1 (its encoding: implicit VR, little endian, always) and annex E.1.

use super::item::{Item, Malformed, uid};
use super::status::Status;
use crate::scan;

/// What a command set says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommandSet<'a> {
    /// (0000,0100)
    pub field: CommandField,
    /// (0000,0110), in requests.
    pub message_id: Option<u16>,
    /// (0000,0120), in responses and in C-CANCEL-RQ: the ID of the message that is meant.
    pub responds_to: Option<u16>,
    /// (0000,0900), in responses.
    pub status: Option<Status>,
    /// (0000,0002), the affected SOP class; none where it is not given, or no UID.
    pub sop_class: Option<&'a str>,
}

/// The operation, and whether it is asked for or answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CommandField(pub u16);

impl CommandField {
    pub const C_STORE_RQ: Self = Self(0x0001);
    pub const C_STORE_RSP: Self = Self(0x8001);
    pub const C_GET_RQ: Self = Self(0x0010);
    pub const C_GET_RSP: Self = Self(0x8010);
    pub const C_FIND_RQ: Self = Self(0x0020);
    pub const C_FIND_RSP: Self = Self(0x8020);
    pub const C_MOVE_RQ: Self = Self(0x0021);
    pub const C_MOVE_RSP: Self = Self(0x8021);
    pub const C_ECHO_RQ: Self = Self(0x0030);
    pub const C_ECHO_RSP: Self = Self(0x8030);
    pub const N_EVENT_REPORT_RQ: Self = Self(0x0100);
    pub const N_EVENT_REPORT_RSP: Self = Self(0x8100);
    pub const N_GET_RQ: Self = Self(0x0110);
    pub const N_GET_RSP: Self = Self(0x8110);
    pub const N_SET_RQ: Self = Self(0x0120);
    pub const N_SET_RSP: Self = Self(0x8120);
    pub const N_ACTION_RQ: Self = Self(0x0130);
    pub const N_ACTION_RSP: Self = Self(0x8130);
    pub const N_CREATE_RQ: Self = Self(0x0140);
    pub const N_CREATE_RSP: Self = Self(0x8140);
    pub const N_DELETE_RQ: Self = Self(0x0150);
    pub const N_DELETE_RSP: Self = Self(0x8150);
    /// It has no response of its own.
    pub const C_CANCEL_RQ: Self = Self(0x0fff);

    /// Whether this answers a request.
    pub fn is_response(self) -> bool {
        self.0 & 0x8000 != 0
    }
}

const AFFECTED_SOP_CLASS: u16 = 0x0002;
const COMMAND_FIELD: u16 = 0x0100;
const MESSAGE_ID: u16 = 0x0110;
const RESPONDS_TO: u16 = 0x0120;
const STATUS: u16 = 0x0900;

impl<'a> CommandSet<'a> {
    /// Reads a whole command set.
    pub fn read(bytes: &'a [u8]) -> Result<Self, Malformed> {
        Self::collect(Elements { rest: bytes })
    }

    /// Reads the beginning of a command set that goes on; elements are in the order of their tags.
    pub(super) fn read_beginning(bytes: &'a [u8]) -> Result<Self, Malformed> {
        Self::collect(Elements { rest: bytes }.take_while(Result::is_ok))
    }

    fn collect(
        elements: impl Iterator<Item = Result<(u16, &'a [u8]), Malformed>>,
    ) -> Result<Self, Malformed> {
        let (mut field, mut message_id, mut responds_to) = (None, None, None);
        let (mut status, mut sop_class) = (None, None);
        for element in elements {
            match element? {
                (AFFECTED_SOP_CLASS, value) => sop_class = uid(value, Item::CommandElement).ok(),
                (COMMAND_FIELD, value) => field = Some(CommandField(number(value)?)),
                (MESSAGE_ID, value) => message_id = Some(number(value)?),
                (RESPONDS_TO, value) => responds_to = Some(number(value)?),
                (STATUS, value) => status = Some(Status(number(value)?)),
                _ => {}
            }
        }
        let field = field.ok_or(Malformed::Missing(Item::CommandField))?;
        Ok(Self { field, message_id, responds_to, status, sop_class })
    }
}

/// The elements of a command set: element number and value. The group is 0000 for all.
struct Elements<'a> {
    rest: &'a [u8],
}

impl<'a> Elements<'a> {
    fn take(&mut self) -> Result<(u16, &'a [u8]), Malformed> {
        let short = Malformed::Length(Item::CommandElement);
        let (fixed, rest) = self.rest.split_first_chunk::<8>().ok_or(short)?;
        let [group @ .., e0, e1, l0, l1, l2, l3] = *fixed;
        if group != [0, 0] {
            return Err(Malformed::Value(Item::CommandElement));
        }
        let length = usize::try_from(u32::from_le_bytes([l0, l1, l2, l3])).map_err(|_| short)?;
        let (value, rest) = rest.split_at_checked(length).ok_or(short)?;
        self.rest = rest;
        scan::looked_at(8);
        Ok((u16::from_le_bytes([e0, e1]), value))
    }
}

impl<'a> Iterator for Elements<'a> {
    type Item = Result<(u16, &'a [u8]), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let element = self.take();
        if element.is_err() {
            self.rest = &[];
        }
        Some(element)
    }
}

/// A value of the VR US.
fn number(value: &[u8]) -> Result<u16, Malformed> {
    value.try_into().map(u16::from_le_bytes).map_err(|_| Malformed::Length(Item::CommandElement))
}

#[cfg(test)]
mod tests;
