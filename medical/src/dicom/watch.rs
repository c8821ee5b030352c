//! Follows one direction of an association that somebody else carries on.
//!
//! Every byte goes in, in pieces of any size, and events come out. Copied are only the headers of
//! PDUs and of PDVs, PDUs of ten bytes, and command sets; data sets are passed over by their length.
//! Nothing is judged by the state of the association, and nothing stops the bytes: at what cannot be
//! followed, [`Event::Lost`] is the last event.
//!
//! Source: PS3.8, section 9.3, and annex E.2 for what is in a PDV.

use super::abort::Abort;
use super::command::CommandSet;
use super::item::Malformed;
use super::pdu::{Header, HeaderError, Kind};
use super::reject::Reject;
use crate::scan;
use assembly::Assembly;

mod assembly;

/// What was seen to pass. All but commands are told when the PDU is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// A-ASSOCIATE-RQ.
    Requested,
    /// A-ASSOCIATE-AC.
    Accepted,
    /// A-ASSOCIATE-RJ.
    Rejected(Reject),
    /// A command set is complete. A data set may follow, on the same presentation context.
    Command { context: u8, command: CommandSet<'a> },
    /// P-DATA-TF.
    Data,
    /// A-RELEASE-RQ.
    ReleaseRequested,
    /// A-RELEASE-RP.
    Released,
    /// A-ABORT.
    Aborted(Abort),
    /// From here on nothing is known, and nothing is told.
    Lost(Lost),
}

/// What could not be followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Lost {
    #[error(transparent)]
    Header(#[from] HeaderError),
    #[error("{0} with a length that it cannot have")]
    Length(Kind),
    #[error("a presentation data value that does not fit into its PDU")]
    DataValue,
    #[error("a command set that is broken off by another message")]
    Interleaved,
    #[error(transparent)]
    Malformed(#[from] Malformed),
}

/// Sees one direction of an association pass.
#[derive(Debug)]
pub struct Watcher {
    state: State,
    /// A header, or what follows it in a PDU of ten bytes, as far as it has come.
    fixed: [u8; FIXED],
    filled: usize,
    command: Assembly,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// Where a PDU begins.
    Header,
    /// In a PDU of which four bytes follow the header.
    Short(Kind),
    /// In a PDU that is not looked at.
    Passing {
        event: Event<'static>,
        left: u32,
    },
    /// In a P-DATA-TF, where a PDV begins or the PDU ends.
    DataValue {
        left: u32,
    },
    /// In a PDV. `after` is what the PDU has after it.
    Fragment {
        is_command: bool,
        left: u32,
        after: u32,
    },
    Lost,
}

/// What a step has come to.
enum Step {
    GoOn,
    /// All of the input is used up.
    Wait,
    Tell(Event<'static>),
    /// A command set is complete, on that presentation context.
    Command(u8),
}

/// As much is collected at most: the header of a PDV is as long as that of a PDU.
const FIXED: usize = Header::LENGTH;
/// What follows the header of a short PDU (tables 9-21 and 9-24 to 9-26).
const SHORT: usize = 4;

impl Watcher {
    /// For the first byte of a connection.
    pub fn new() -> Self {
        let command = Assembly::default();
        Self { state: State::Header, fixed: [0; FIXED], filled: 0, command }
    }

    /// Reads to the next event, or through all of `input` if there is none; `input` is left with
    /// what comes after. It is called until it gives none.
    pub fn read(&mut self, input: &mut &[u8]) -> Option<Event<'_>> {
        let context = loop {
            match self.step(input) {
                Ok(Step::GoOn) => {}
                Ok(Step::Wait) => return None,
                Ok(Step::Tell(event)) => return Some(event),
                Ok(Step::Command(context)) => break context,
                Err(lost) => {
                    self.state = State::Lost;
                    return Some(Event::Lost(lost));
                }
            }
        };
        Some(match self.command.read() {
            Ok(command) => Event::Command { context, command },
            Err(malformed) => {
                self.state = State::Lost;
                Event::Lost(Lost::Malformed(malformed))
            }
        })
    }

    /// Whether the last PDU is over and no other has begun: an A-ABORT could be put in here.
    pub fn is_between_pdus(&self) -> bool {
        matches!(self.state, State::Header) && self.filled == 0
    }

    fn step(&mut self, input: &mut &[u8]) -> Result<Step, Lost> {
        match self.state {
            State::Header => self.header(input),
            State::Short(kind) => self.short(kind, input),
            State::Passing { event, left: 0 } => Ok(self.end(event)),
            State::Passing { event, left } => {
                let left = left - length(take(input, left));
                self.state = State::Passing { event, left };
                Ok(if left == 0 { Step::GoOn } else { Step::Wait })
            }
            State::DataValue { left: 0 } => Ok(self.end(Event::Data)),
            State::DataValue { left } => self.data_value(left, input),
            State::Fragment { left: 0, after, .. } => {
                self.state = State::DataValue { left: after };
                Ok(self.command.complete().map_or(Step::GoOn, Step::Command))
            }
            State::Fragment { is_command, left, after } => {
                let passed = take(input, left);
                if is_command {
                    self.command.add(passed);
                }
                let left = left - length(passed);
                self.state = State::Fragment { is_command, left, after };
                Ok(if left == 0 { Step::GoOn } else { Step::Wait })
            }
            State::Lost => {
                *input = &[];
                Ok(Step::Wait)
            }
        }
    }

    fn header(&mut self, input: &mut &[u8]) -> Result<Step, Lost> {
        self.collect(FIXED, input);
        let header = Header::read(&self.fixed[..self.filled], u32::MAX)?;
        let Some(Header { kind, length: left }) = header else { return Ok(Step::Wait) };
        self.filled = 0;
        self.state = match kind {
            Kind::AssociateRequest => State::Passing { event: Event::Requested, left },
            Kind::AssociateAccept => State::Passing { event: Event::Accepted, left },
            Kind::Data => State::DataValue { left },
            _ if left as usize == SHORT => State::Short(kind),
            _ => return Err(Lost::Length(kind)),
        };
        Ok(Step::GoOn)
    }

    fn short(&mut self, kind: Kind, input: &mut &[u8]) -> Result<Step, Lost> {
        if !self.collect(SHORT, input) {
            return Ok(Step::Wait);
        }
        let [first, second, third, fourth, ..] = self.fixed;
        let body = [first, second, third, fourth];
        self.filled = 0;
        Ok(self.end(match kind {
            Kind::AssociateReject => Event::Rejected(Reject::from_body(body)?),
            Kind::ReleaseRequest => Event::ReleaseRequested,
            Kind::ReleaseResponse => Event::Released,
            Kind::Abort => Event::Aborted(Abort::from_body(body)),
            Kind::AssociateRequest | Kind::AssociateAccept | Kind::Data => {
                return Err(Lost::Length(kind));
            }
        }))
    }

    /// Reads the header of a PDV: length, presentation context ID and message control header. The
    /// length counts the last two (table 9-23).
    fn data_value(&mut self, left: u32, input: &mut &[u8]) -> Result<Step, Lost> {
        let room = left.checked_sub(4).ok_or(Lost::DataValue)?;
        if !self.collect(FIXED, input) {
            return Ok(Step::Wait);
        }
        let [l0, l1, l2, l3, context, control] = self.fixed;
        self.filled = 0;
        let length = u32::from_be_bytes([l0, l1, l2, l3]);
        let after = room.checked_sub(length).ok_or(Lost::DataValue)?;
        let left = length.checked_sub(2).ok_or(Lost::DataValue)?;
        let is_command = self.command.begin(context, control)?;
        self.state = State::Fragment { is_command, left, after };
        Ok(Step::GoOn)
    }

    fn end(&mut self, event: Event<'static>) -> Step {
        self.state = State::Header;
        Step::Tell(event)
    }

    /// Copies until so many bytes are there; tells whether they are.
    fn collect(&mut self, wanted: usize, input: &mut &[u8]) -> bool {
        let (copied, rest) = input.split_at((wanted - self.filled).min(input.len()));
        self.fixed[self.filled..self.filled + copied.len()].copy_from_slice(copied);
        scan::looked_at(copied.len());
        self.filled += copied.len();
        *input = rest;
        self.filled == wanted
    }
}

impl Default for Watcher {
    fn default() -> Self {
        Self::new()
    }
}

/// Takes so many bytes off the input, or all that it has.
fn take<'a>(input: &mut &'a [u8], most: u32) -> &'a [u8] {
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    let (taken, rest) = input.split_at(most.min(input.len()));
    *input = rest;
    taken
}

/// The length of what was taken: no more than what a `u32` asked for.
fn length(taken: &[u8]) -> u32 {
    u32::try_from(taken.len()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
