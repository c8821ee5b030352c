//! Puts command sets together from the fragments that they travel in (PS3.8, annex E).

use super::super::command::CommandSet;
use super::super::item::Malformed;
use super::Lost;
use crate::scan;

/// How much of a command set is kept. Its elements are in the order of their tags, so that what is
/// asked for comes early; lists and comments, which may be long, come later.
pub(super) const KEPT: usize = 4096;

const IS_COMMAND: u8 = 1;
const IS_LAST: u8 = 2;

/// The command set that is coming, or the last one that came.
#[derive(Debug, Default)]
pub(super) struct Assembly {
    bytes: Vec<u8>,
    /// More came than is kept.
    cut: bool,
    /// The presentation context of the command set that is coming.
    context: Option<u8>,
    /// The fragment that is coming is its last one.
    is_last: bool,
}

impl Assembly {
    /// A fragment follows; tells whether it belongs to a command set. Within one no other message may
    /// come, nor its own data set.
    pub(super) fn begin(&mut self, context: u8, control: u8) -> Result<bool, Lost> {
        let is_command = control & IS_COMMAND != 0;
        match self.context {
            Some(before) if !is_command || before != context => return Err(Lost::Interleaved),
            None if is_command => {
                self.bytes.clear();
                self.cut = false;
                self.context = Some(context);
            }
            _ => {}
        }
        self.is_last = is_command && control & IS_LAST != 0;
        Ok(is_command)
    }

    pub(super) fn add(&mut self, bytes: &[u8]) {
        let kept = bytes.len().min(KEPT - self.bytes.len());
        self.cut |= kept < bytes.len();
        self.bytes.extend_from_slice(&bytes[..kept]);
        scan::looked_at(kept);
    }

    /// A fragment is over; gives the presentation context if a command set is.
    pub(super) fn complete(&mut self) -> Option<u8> {
        if self.is_last { self.context.take() } else { None }
    }

    pub(super) fn read(&self) -> Result<CommandSet<'_>, Malformed> {
        if self.cut {
            return CommandSet::read_beginning(&self.bytes);
        }
        CommandSet::read(&self.bytes)
    }
}
