//! The socket between a process and its successor: letters, and descriptors with them.

use std::io::{IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use prost::Message;
use rustix::cmsg_space;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg, sockopt,
};

use super::format::{Letter, Word};

/// Blocking, and patient for a bounded time.
#[derive(Debug)]
pub(crate) struct Channel(UnixStream);

/// What was said, and the descriptors that came with it.
pub(crate) type Said = (Word, Vec<OwnedFd>);

#[derive(Debug, thiserror::Error)]
pub enum ChannelError {
    #[error("speak with the other process")]
    Io(#[from] std::io::Error),
    #[error("the other process belongs to user {0}")]
    Stranger(u32),
    #[error("the other process says what is not understood")]
    Nonsense(#[source] prost::DecodeError),
    #[error("the other process says something else than is due")]
    OutOfOrder,
    #[error("not all descriptors have come: raise LimitNOFILE of the agent")]
    Truncated,
}

/// The most that the kernel passes at once.
pub(crate) const DESCRIPTORS: usize = 250;
/// Length and number of descriptors go before each letter.
const HEADER: usize = 8;
/// A persistence table in one letter is the longest.
const LONGEST: usize = 256 << 20;

impl Channel {
    /// Takes only a process of the same user for the other side.
    pub(crate) fn new(stream: UnixStream) -> Result<Self, ChannelError> {
        let other = sockopt::socket_peercred(&stream).map_err(std::io::Error::from)?.uid;
        if other != rustix::process::geteuid() {
            return Err(ChannelError::Stranger(other.as_raw()));
        }
        stream.set_nonblocking(false)?;
        Ok(Self(stream))
    }

    /// How long the other side may take for each word, or for taking one.
    pub(crate) fn set_patience(&self, patience: Duration) -> Result<(), ChannelError> {
        self.0.set_read_timeout(Some(patience))?;
        Ok(self.0.set_write_timeout(Some(patience))?)
    }

    /// The other side may take any time for its next word.
    pub(crate) fn wait_for_ever(&self) -> Result<(), ChannelError> {
        Ok(self.0.set_read_timeout(None)?)
    }

    pub(crate) fn say(&self, word: Word) -> Result<(), ChannelError> {
        self.give(word, &[])
    }

    /// Says `word`, and passes descriptors: at most [`DESCRIPTORS`].
    pub(crate) fn give(&self, word: Word, given: &[BorrowedFd<'_>]) -> Result<(), ChannelError> {
        let letter = Letter { word: Some(word) };
        let mut bytes = vec![0; HEADER];
        letter.encode(&mut bytes).expect("a vector has room");
        let length = u32::try_from(bytes.len() - HEADER).map_err(|_| ChannelError::OutOfOrder)?;
        let count = u32::try_from(given.len()).map_err(|_| ChannelError::OutOfOrder)?;
        bytes[..4].copy_from_slice(&length.to_be_bytes());
        bytes[4..HEADER].copy_from_slice(&count.to_be_bytes());
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(DESCRIPTORS))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !given.is_empty() && !control.push(SendAncillaryMessage::ScmRights(given)) {
            return Err(ChannelError::OutOfOrder);
        }
        // The header goes with the descriptors, so that whoever reads it has them all.
        let sent = sendmsg(&self.0, &[IoSlice::new(&bytes)], &mut control, SendFlags::NOSIGNAL);
        Ok((&self.0).write_all(&bytes[sent.map_err(std::io::Error::from)?..])?)
    }

    /// Waits for what the other side says next.
    pub(crate) fn hear(&self) -> Result<Said, ChannelError> {
        let mut header = [0; HEADER];
        let taken = self.read_header(&mut header)?;
        let [a, b, c, d, e, f, g, h] = header;
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        if u32::from_be_bytes([e, f, g, h]) as usize != taken.len() || length > LONGEST {
            return Err(ChannelError::Truncated);
        }
        let mut bytes = vec![0; length];
        (&self.0).read_exact(&mut bytes)?;
        let letter = Letter::decode(bytes.as_slice()).map_err(ChannelError::Nonsense)?;
        Ok((letter.word.ok_or(ChannelError::OutOfOrder)?, taken))
    }

    fn read_header(&self, header: &mut [u8; HEADER]) -> Result<Vec<OwnedFd>, ChannelError> {
        let mut taken = Vec::new();
        let mut read = 0;
        while read < HEADER {
            let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(DESCRIPTORS))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let mut into = [IoSliceMut::new(&mut header[read..])];
            let got = recvmsg(&self.0, &mut into, &mut control, RecvFlags::CMSG_CLOEXEC);
            let got = got.map_err(std::io::Error::from)?;
            for message in control.drain() {
                if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                    taken.extend(descriptors);
                }
            }
            if got.flags.contains(ReturnFlags::CTRUNC) {
                return Err(ChannelError::Truncated);
            }
            if got.bytes == 0 {
                return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into());
            }
            read += got.bytes;
        }
        Ok(taken)
    }
}

#[cfg(test)]
mod tests;
