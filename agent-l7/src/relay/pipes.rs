//! The pipes through which bulk is spliced.
//!
//! A pipe is lent while bytes are in it and comes back empty; one with bytes in it is only ever
//! dropped. A worker opens a bounded number; where none is to be had, or only a small one, the
//! borrower copies instead.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};

/// Read end and write end of a large pipe.
#[derive(Debug)]
pub(crate) struct Pipe {
    pub(super) out: OwnedFd,
    pub(super) into: OwnedFd,
    /// Counts the pipes that are open.
    _open: Arc<()>,
}

#[derive(Debug)]
pub(crate) struct Pipes {
    idle: Vec<Pipe>,
    open: Arc<()>,
    limit: usize,
}

/// What a pipe holds.
pub(super) const PIPE: usize = 1 << 20;
/// Empty pipes kept for the next borrower.
const IDLE: usize = 64;

impl Pipes {
    /// At most `limit` at a time.
    pub(crate) fn new(limit: usize) -> Self {
        Self { idle: Vec::new(), open: Arc::new(()), limit }
    }

    /// An empty pipe of full size, if there is one to be had.
    pub(super) fn lend(&mut self) -> Option<Pipe> {
        self.idle.pop().or_else(|| self.open())
    }

    /// Takes back an empty pipe.
    pub(super) fn give_back(&mut self, pipe: Pipe) {
        if self.idle.len() < IDLE {
            self.idle.push(pipe);
        }
    }

    /// A pipe that came from another process, with bytes in it.
    pub(super) fn adopt(&self, out: OwnedFd, into: OwnedFd) -> Pipe {
        Pipe { out, into, _open: Arc::clone(&self.open) }
    }

    fn open(&self) -> Option<Pipe> {
        if Arc::strong_count(&self.open) > self.limit {
            return None;
        }
        let (out, into) = pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC).ok()?;
        // Beyond what a user may have in pipes, the kernel refuses to make one larger.
        let size = fcntl_setpipe_size(&into, PIPE).ok()?;
        (size >= PIPE).then(|| Pipe { out, into, _open: Arc::clone(&self.open) })
    }
}

#[cfg(test)]
impl Pipes {
    /// Pipes that are open, lent ones included.
    pub(super) fn count(&self) -> usize {
        Arc::strong_count(&self.open) - 1
    }

    pub(super) fn idle(&self) -> usize {
        self.idle.len()
    }
}
