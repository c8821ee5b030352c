//! One direction of a relayed connection: what it holds and how far it has come.
//!
//! Bytes are copied through the worker's one buffer, and kept only when a write falls short. Once a
//! read brings as much as bulk does, the direction splices instead, through a pipe that is held
//! only while bytes are in it, until reads become small again.
//!
//! Events are edge-triggered, so what the poller said is remembered here until a call says
//! otherwise: `readable` until a read finds nothing more, `blocked` until the poller says that
//! there is room. A short read means that nothing is left, except at the end of a stream: data and
//! its end may come in one event, of which there is no second.

use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown};
use rustix::pipe::{SpliceFlags, splice};
use rustix::{io, net};

use super::Bench;
use super::pipes::{PIPE, Pipe};

pub(super) use moving::Handed;

mod moving;

#[derive(Debug)]
pub(super) struct Direction {
    phase: Phase,
    gear: Gear,
    /// Read and not yet written.
    held: Held,
    /// The source may have bytes.
    readable: bool,
    /// The source has ended: read until a read says so.
    ending: bool,
    /// The source was cut off: its end of stream is no clean one.
    severed: bool,
    /// The target took less than it was given.
    blocked: bool,
}

/// How far a direction has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Flowing,
    /// The source has ended; what is held still goes out.
    Ending(Last),
    /// The end of stream was passed on.
    Closed,
    /// The source reset the connection, and all that came before was written.
    Reset,
    /// The target takes nothing more, ever.
    Broken,
}

/// What a source said last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Last {
    End,
    Reset,
}

/// What one run of a direction did.
#[derive(Debug, Default)]
pub(super) struct Moved {
    pub(super) read: u64,
    pub(super) written: u64,
    /// The budget ran out before the work did.
    pub(super) more: bool,
    /// The source sent something small, and may wait for its acknowledgement to send more.
    pub(super) small: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gear {
    Copy,
    Bulk,
    /// No pipe was to be had: copy from now on.
    CopyOnly,
}

#[derive(Debug)]
enum Held {
    Nothing,
    Bytes { bytes: Box<[u8]>, written: usize },
    Piped { pipe: Pipe, bytes: usize },
}

/// A read of this size changes up.
const BULK: usize = 64 * 1024;
/// A run that brought less changes down: small answers want their acknowledgements at once.
const SMALL: u64 = 16 * 1024;
/// What one direction may move before others get their turn.
const BUDGET: u64 = 2 << 20;

const SPLICE: SpliceFlags = SpliceFlags::NONBLOCK.union(SpliceFlags::MOVE);

impl Direction {
    pub(super) fn new(early: Vec<u8>) -> Self {
        Self {
            phase: Phase::Flowing,
            gear: Gear::Copy,
            held: Held::bytes(&early),
            readable: false,
            ending: false,
            severed: false,
            blocked: false,
        }
    }

    pub(super) fn phase(&self) -> Phase {
        self.phase
    }

    /// Nothing is held for the target.
    pub(super) fn is_empty(&self) -> bool {
        matches!(self.held, Held::Nothing)
    }

    /// The source's end has been seen.
    pub(super) fn is_read_out(&self) -> bool {
        !matches!(self.phase, Phase::Flowing)
    }

    /// The source has ended its stream, and was not cut off.
    pub(super) fn has_ended(&self) -> bool {
        matches!(self.phase, Phase::Ending(Last::End) | Phase::Closed)
    }

    pub(super) fn notice_readable(&mut self, ending: bool) {
        self.readable = true;
        self.ending |= ending;
    }

    pub(super) fn notice_writable(&mut self) {
        self.blocked = false;
    }

    /// The target is gone.
    pub(super) fn break_off(&mut self) {
        if matches!(self.phase, Phase::Flowing | Phase::Ending(_)) {
            self.phase = Phase::Broken;
            self.held = Held::Nothing;
        }
    }

    /// The source can no longer be written to: what it still sent is its last. True the first time.
    pub(super) fn last_words(&mut self) -> bool {
        let first = !self.severed;
        self.severed = true;
        self.notice_readable(true);
        first
    }

    /// Moves what can be moved now. The end of the `last` direction to end is passed on by the close
    /// of the target, which follows at once.
    pub(super) fn run(
        &mut self,
        (from, to): (&OwnedFd, &OwnedFd),
        last: bool,
        bench: &mut Bench,
    ) -> Moved {
        let mut moved = Moved::default();
        while self.flush(to, bench, &mut moved) {
            if let Phase::Ending(end) = self.phase {
                self.finish(end, to, last);
            }
            if self.phase != Phase::Flowing || !self.readable {
                break;
            }
            if moved.read >= BUDGET {
                moved.more = true;
                break;
            }
            match self.gear {
                Gear::Bulk => self.splice_in(from, bench, &mut moved),
                Gear::Copy | Gear::CopyOnly => self.copy(from, to, bench, &mut moved),
            }
        }
        moved
    }

    fn finish(&mut self, end: Last, to: &OwnedFd, last: bool) {
        self.phase = match end {
            Last::Reset => Phase::Reset,
            Last::End if last => Phase::Closed,
            Last::End if net::shutdown(to, Shutdown::Write).is_ok() => Phase::Closed,
            Last::End => Phase::Broken,
        };
    }

    /// Writes what is held; true if nothing is held any more.
    fn flush(&mut self, to: &OwnedFd, bench: &mut Bench, moved: &mut Moved) -> bool {
        while !self.is_empty() && !self.blocked {
            let result = match &self.held {
                Held::Nothing => return true,
                Held::Bytes { bytes, written } => send(to, &bytes[*written..]),
                Held::Piped { pipe, bytes } => splice(&pipe.out, None, to, None, *bytes, SPLICE),
            };
            if let Some(written) = self.wrote(result, moved) {
                self.held = std::mem::replace(&mut self.held, Held::Nothing).less(written, bench);
            }
        }
        self.is_empty()
    }

    /// Judges the result of a write.
    fn wrote(&mut self, result: io::Result<usize>, moved: &mut Moved) -> Option<usize> {
        match result {
            Ok(written) => {
                moved.written += written as u64;
                return Some(written);
            }
            Err(Errno::AGAIN) => self.blocked = true,
            Err(Errno::INTR) => {}
            Err(_) => self.break_off(),
        }
        None
    }

    /// Judges the result of a read: some bytes, or none for now, or the end.
    fn got(&mut self, result: io::Result<usize>, moved: &mut Moved) -> usize {
        match result {
            Ok(0) if self.severed => self.phase = Phase::Ending(Last::Reset),
            Ok(0) => self.phase = Phase::Ending(Last::End),
            Ok(read) => {
                moved.read += read as u64;
                return read;
            }
            Err(Errno::AGAIN) => self.readable = false,
            Err(Errno::INTR) => {}
            Err(_) => self.phase = Phase::Ending(Last::Reset),
        }
        0
    }

    fn copy(&mut self, from: &OwnedFd, to: &OwnedFd, bench: &mut Bench, moved: &mut Moved) {
        // Not read(), which goes a longer way through the kernel.
        let result = net::recv(from, &mut *bench.buffer, RecvFlags::empty()).map(|(read, _)| read);
        let read = self.got(result, moved);
        if read == 0 {
            return;
        }
        moved.small = true;
        if read < bench.buffer.len() && !self.ending {
            self.readable = false;
        }
        if read >= BULK && self.gear == Gear::Copy {
            self.gear = Gear::Bulk;
            self.readable = true;
        }
        let mut rest = &bench.buffer[..read];
        while !rest.is_empty() && !self.blocked && self.phase != Phase::Broken {
            if let Some(written) = self.wrote(send(to, rest), moved) {
                rest = &rest[written..];
            }
        }
        if self.phase != Phase::Broken {
            self.held = Held::bytes(rest);
        }
    }

    fn splice_in(&mut self, from: &OwnedFd, bench: &mut Bench, moved: &mut Moved) {
        let Some(pipe) = bench.pipes.lend() else {
            self.gear = Gear::CopyOnly;
            return;
        };
        // The pipe is empty: if there is nothing to be had now, it is the socket that has nothing.
        let result = splice(from, None, &pipe.into, None, PIPE, SPLICE);
        if result == Err(Errno::INVAL) {
            self.gear = Gear::CopyOnly;
            bench.pipes.give_back(pipe);
            return;
        }
        let bytes = self.got(result, moved);
        if !self.readable && moved.read < SMALL {
            self.gear = Gear::Copy;
            moved.small = true;
        }
        self.held = Held::Piped { pipe, bytes }.less(0, bench);
    }
}

impl Held {
    fn bytes(bytes: &[u8]) -> Self {
        match bytes {
            [] => Self::Nothing,
            bytes => Self::Bytes { bytes: bytes.into(), written: 0 },
        }
    }

    /// What is left after `gone` bytes more were written.
    fn less(self, gone: usize, bench: &mut Bench) -> Self {
        match self {
            Self::Nothing => Self::Nothing,
            Self::Bytes { bytes, written } if written + gone < bytes.len() => {
                Self::Bytes { bytes, written: written + gone }
            }
            Self::Bytes { .. } => Self::Nothing,
            Self::Piped { pipe, bytes } if gone < bytes => {
                Self::Piped { pipe, bytes: bytes - gone }
            }
            Self::Piped { pipe, .. } => {
                bench.pipes.give_back(pipe);
                Self::Nothing
            }
        }
    }
}

fn send(to: &OwnedFd, bytes: &[u8]) -> io::Result<usize> {
    net::send(to, bytes, SendFlags::NOSIGNAL)
}
