//! Bytes that wait for a socket to take them.

use std::os::fd::OwnedFd;

use rustix::io::{self, Errno};
use rustix::net::{self, SendFlags};

/// Bytes to be sent, in order. An empty one has no buffer to speak of.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    bytes: Vec<u8>,
    sent: usize,
}

/// How much of a buffer is kept for later when it is empty.
const KEPT: usize = 512;

impl Outbox {
    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Has `write` put up to `room` bytes behind what is there; it gives how many.
    pub(crate) fn fill(&mut self, room: usize, write: impl FnOnce(&mut [u8]) -> usize) {
        let end = self.bytes.len();
        self.bytes.resize(end + room, 0);
        let written = write(&mut self.bytes[end..]);
        self.bytes.truncate(end + written);
    }

    /// Gives `socket` what it takes; true if that is all.
    pub(crate) fn send(&mut self, socket: &OwnedFd) -> io::Result<bool> {
        while self.sent < self.bytes.len() {
            match net::send(socket, &self.bytes[self.sent..], SendFlags::NOSIGNAL) {
                Ok(sent) => self.sent += sent,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        self.clear();
        Ok(true)
    }

    /// Gives `socket` first what is there, then `bytes`, and keeps what it does not take; true if that
    /// is nothing.
    pub(crate) fn send_on(&mut self, socket: &OwnedFd, mut bytes: &[u8]) -> io::Result<bool> {
        let mut free = self.send(socket)?;
        while free && !bytes.is_empty() {
            match net::send(socket, bytes, SendFlags::NOSIGNAL) {
                Ok(sent) => bytes = &bytes[sent..],
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => free = false,
                Err(error) => return Err(error),
            }
        }
        self.push(bytes);
        Ok(free)
    }

    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.shrink_to(KEPT);
        self.sent = 0;
    }
}
