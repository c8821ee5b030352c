//! Many operations in few system calls.
//!
//! A batch is one datagram of messages, which the kernel works on one after the other, each for
//! itself. Only the last asks for an acknowledgement: the kernel reports refusals anyway, in
//! order, so that is all there is to read. A batch is never so long that its refusals could
//! overflow the receive buffer, even if all of them were.

use super::message::{self, Envelope, Messages};
use super::socket::{Limits, Socket};
use super::uapi::{ACK, ERROR, REQUEST};
use super::{Error, Failure, Operation, encode};

/// What one operation takes at the most.
const LONGEST: usize = 256;

/// What the kernel said of a batch so far.
pub(super) struct Tally<'a> {
    batch: &'a [Operation],
    /// The number of the first.
    sequence: u32,
    failures: Vec<Failure>,
}

/// Carries out `operations` in order, and returns those that the kernel refused.
pub(super) fn apply(socket: &mut Socket, operations: &[Operation]) -> Result<Vec<Failure>, Error> {
    let mut failures = Vec::new();
    let mut bytes = Vec::new();
    let mut done = 0;
    while done < operations.len() {
        let rest = &operations[done..];
        let sequence = socket.sequence();
        let packed = pack(&mut bytes, rest, socket.limits(), socket.family(), sequence);
        socket.use_up(packed);
        socket.send(&bytes)?;
        let mut tally = Tally::new(&rest[..packed], sequence);
        while !tally.take(socket.receive()?)? {}
        failures.extend(tally.failures(done));
        done += packed;
    }
    Ok(failures)
}

/// How many of `operations` were written to `bytes`, numbered from `sequence`; at least one.
pub(super) fn pack(
    bytes: &mut Vec<u8>,
    operations: &[Operation],
    limits: Limits,
    family: u16,
    sequence: u32,
) -> usize {
    bytes.clear();
    let mut packed = 0;
    let mut last = 0;
    let sequences = (0..).map(|at| sequence.wrapping_add(at));
    for (operation, sequence) in operations.iter().zip(sequences).take(limits.messages) {
        if packed > 0 && bytes.len() + LONGEST > limits.bytes {
            break;
        }
        last = bytes.len();
        let command = encode::command_of(operation);
        let envelope = Envelope { family, flags: REQUEST, sequence, command };
        message::write(bytes, envelope, |message| encode::operation(message, operation));
        packed += 1;
    }
    message::add_flags(bytes, last, ACK);
    packed
}

impl<'a> Tally<'a> {
    pub(super) fn new(batch: &'a [Operation], sequence: u32) -> Self {
        Self { batch, sequence, failures: Vec::new() }
    }

    /// Whether the last of the batch was spoken of.
    pub(super) fn take(&mut self, datagram: &[u8]) -> Result<bool, Error> {
        for message in Messages::new(datagram) {
            let message = message?;
            let at = message.sequence.wrapping_sub(self.sequence);
            let at = usize::try_from(at).unwrap_or(usize::MAX);
            // Others answer questions that were given up.
            let Some(operation) = self.batch.get(at).filter(|_| message.kind == ERROR) else {
                continue;
            };
            let verdict = message.error()?;
            if let Some(errno) = verdict.errno {
                let message = verdict.text.unwrap_or_else(|| operation.refusal(errno));
                self.failures.push(Failure { at, errno, message });
            }
            if at + 1 == self.batch.len() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Those that the kernel refused; `before` operations went before the batch.
    pub(super) fn failures(self, before: usize) -> impl Iterator<Item = Failure> {
        self.failures.into_iter().map(move |failure| Failure { at: before + failure.at, ..failure })
    }
}
