//! A direction as it is handed from one process to another.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::handover::format;
use crate::relay::Pipes;

use super::{Direction, Held, Last, Phase};

/// A direction that came from another process.
#[derive(Debug)]
pub(in crate::relay) struct Handed {
    phase: Phase,
    ending: bool,
    severed: bool,
    held: HandedBytes,
}

#[derive(Debug)]
enum HandedBytes {
    Held(Vec<u8>),
    Piped { out: OwnedFd, into: OwnedFd, bytes: usize },
}

impl Direction {
    /// Says where the direction stands. The pipe with its bytes, if there is one, joins `descriptors`.
    pub(in crate::relay) fn describe<'a>(
        &'a self,
        descriptors: &mut Vec<BorrowedFd<'a>>,
    ) -> format::Direction {
        let (held, piped) = match &self.held {
            Held::Nothing => (Vec::new(), 0),
            Held::Bytes { bytes, written } => (bytes[*written..].to_vec(), 0),
            Held::Piped { pipe, bytes } => {
                descriptors.extend([pipe.out.as_fd(), pipe.into.as_fd()]);
                (Vec::new(), *bytes as u64)
            }
        };
        let phase = match self.phase {
            Phase::Flowing => format::Phase::Flowing,
            Phase::Ending(Last::End) => format::Phase::Ending,
            Phase::Ending(Last::Reset) => format::Phase::Resetting,
            Phase::Closed => format::Phase::Closed,
            Phase::Reset => format::Phase::Reset,
            Phase::Broken => format::Phase::Broken,
        };
        let (ending, severed) = (self.ending, self.severed);
        format::Direction { phase: phase.into(), ending, severed, held, piped }
    }

    /// Goes on; the poller says anew what can be read and written.
    pub(in crate::relay) fn resume(moved: Handed, pipes: &Pipes) -> Self {
        let Handed { phase, ending, severed, held } = moved;
        let held = match held {
            HandedBytes::Held(bytes) => Held::bytes(&bytes),
            HandedBytes::Piped { out, into, bytes } => {
                Held::Piped { pipe: pipes.adopt(out, into), bytes }
            }
        };
        Self { phase, held, ending, severed, ..Self::new(Vec::new()) }
    }
}

impl Handed {
    /// Reads a description, and takes its pipe out of `descriptors`; none if it makes no sense.
    pub(in crate::relay) fn read(
        said: format::Direction,
        descriptors: &mut impl Iterator<Item = OwnedFd>,
    ) -> Option<Self> {
        let phase = match format::Phase::try_from(said.phase).ok()? {
            format::Phase::Flowing => Phase::Flowing,
            format::Phase::Ending => Phase::Ending(Last::End),
            format::Phase::Resetting => Phase::Ending(Last::Reset),
            format::Phase::Closed => Phase::Closed,
            format::Phase::Reset => Phase::Reset,
            format::Phase::Broken => Phase::Broken,
        };
        let held = match usize::try_from(said.piped).ok()? {
            0 => HandedBytes::Held(said.held),
            bytes => {
                let (out, into) = (descriptors.next()?, descriptors.next()?);
                HandedBytes::Piped { out, into, bytes }
            }
        };
        Some(Self { phase, ending: said.ending, severed: said.severed, held })
    }
}
