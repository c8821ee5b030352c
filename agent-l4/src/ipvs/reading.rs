//! The answers to one question, datagram by datagram.

use super::attribute::Table;
use super::message::{Message, Messages, Verdict};
use super::uapi::{DONE, DUMP_INTERRUPTED, ERROR};
use super::{Error, operation};

/// What was read so far. A list is read to its end whatever is in it: the kernel begins no other
/// before.
pub(super) struct Reading<T> {
    sequence: u32,
    answers: Vec<T>,
    /// What was listed changed meanwhile.
    torn: bool,
    /// The first answer that was not understood.
    error: Option<Error>,
}

impl<T> Reading<T> {
    /// Of the answers to the question with this number.
    pub(super) fn new(sequence: u32) -> Self {
        Self { sequence, answers: Vec::new(), torn: false, error: None }
    }

    /// Whether that was all.
    pub(super) fn take(
        &mut self,
        datagram: &[u8],
        read: impl Fn(&Table<'_>) -> Result<Option<T>, Error>,
    ) -> Result<bool, Error> {
        for message in Messages::new(datagram) {
            let message = message?;
            // Others answer questions that were given up.
            if message.sequence != self.sequence {
                continue;
            }
            self.torn |= message.flags & DUMP_INTERRUPTED != 0;
            match message.kind {
                ERROR => return over(message.error()?),
                DONE => return over(message.done()?),
                _ => self.answer(&message, &read),
            }
        }
        Ok(false)
    }

    /// Nothing if it has to be read again.
    pub(super) fn finish(self) -> Result<Option<Vec<T>>, Error> {
        match self.error {
            Some(error) => Err(error),
            None if self.torn => Ok(None),
            None => Ok(Some(self.answers)),
        }
    }

    fn answer(
        &mut self,
        message: &Message<'_>,
        read: impl Fn(&Table<'_>) -> Result<Option<T>, Error>,
    ) {
        match message.table().and_then(|table| read(&table)) {
            Ok(answer) => self.answers.extend(answer),
            Err(error) => {
                self.error.get_or_insert(error);
            }
        }
    }
}

fn over(verdict: Verdict) -> Result<bool, Error> {
    let Some(errno) = verdict.errno else { return Ok(true) };
    let message = verdict.text.unwrap_or_else(|| operation::described(errno));
    Err(Error::Refused { errno, message })
}
