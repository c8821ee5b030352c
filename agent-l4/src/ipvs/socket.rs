//! One netlink socket to the kernel, and one question at a time.
//!
//! The kernel works on what is sent before the send returns, and answers into the socket's
//! receive buffer; only the later parts of a long list are made while it is read. So a reply
//! that is not there was lost: it is waited for no longer than a moment.

use std::io;
use std::time::Duration;

use netlink_sys::SocketAddr;
use rustix::net::sockopt;

use super::Error;
use super::attribute::{Table, Writer};
use super::message::{self, Envelope};
use super::reading::Reading;
use super::uapi::{
    ACK, CONTROLLER, DUMP, FAMILY_ID, FAMILY_NAME, GET_FAMILY, IPVS_NAME, NETLINK_GENERIC, REQUEST,
};

#[derive(Debug)]
pub(super) struct Socket {
    socket: netlink_sys::Socket,
    /// The number of IPVS among the families of generic netlink.
    family: u16,
    sequence: u32,
    received: Vec<u8>,
    limits: Limits,
}

/// What may be sent at once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) bytes: usize,
    /// So many that every one of them may fail without the receive buffer overflowing.
    pub(super) messages: usize,
}

/// What to ask.
#[derive(Clone, Copy)]
pub(super) struct Question {
    pub(super) command: u8,
    /// For all there is, rather than for one.
    pub(super) list: bool,
}

/// The kernel makes parts of a list as long as the reader's buffer, up to 32 KiB.
const RECEIVE_BYTES: usize = 64 << 10;
const SEND_BYTES: usize = 64 << 10;

/// What is asked of the kernel for replies that wait; it doubles that.
const RECEIVE_BUFFER: usize = 1 << 20;

/// What a refusal takes of the receive buffer at the most: 40 bytes, a line of text, and
/// the kernel's bookkeeping, about 1.3 KiB with everything.
const REFUSAL_BYTES: usize = 2 << 10;

const PATIENCE: Duration = Duration::from_secs(10);

/// A list that changes while it is read is read anew this often.
const ATTEMPTS: usize = 16;

impl Socket {
    /// Opens generic netlink, and finds IPVS there: `ENOENT` if the kernel has none.
    pub(super) fn open() -> Result<Self, Error> {
        let mut socket = netlink_sys::Socket::new(NETLINK_GENERIC)?;
        socket.bind_auto()?;
        // Nobody but the kernel can send to it from here on.
        socket.connect(&SocketAddr::new(0, 0))?;
        socket.set_cap_ack(true)?;
        socket.set_ext_ack(true)?;
        // The privilege that IPVS asks for allows this too, but not in a user namespace.
        sockopt::set_socket_recv_buffer_size_force(&socket, RECEIVE_BUFFER)
            .or_else(|_| sockopt::set_socket_recv_buffer_size(&socket, RECEIVE_BUFFER))
            .map_err(io::Error::from)?;
        sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(PATIENCE))
            .map_err(io::Error::from)?;
        let held = sockopt::socket_recv_buffer_size(&socket).map_err(io::Error::from)?;
        let sent = sockopt::socket_send_buffer_size(&socket).map_err(io::Error::from)?;
        let limits =
            Limits { bytes: SEND_BYTES.min(sent / 2), messages: (held / REFUSAL_BYTES).max(1) };
        let received = Vec::with_capacity(RECEIVE_BYTES);
        let mut socket = Self { socket, family: CONTROLLER, sequence: 0, received, limits };
        socket.family = socket.find_family()?;
        Ok(socket)
    }

    pub(super) fn limits(&self) -> Limits {
        self.limits
    }

    pub(super) fn family(&self) -> u16 {
        self.family
    }

    /// The number of the next message.
    pub(super) fn sequence(&self) -> u32 {
        self.sequence
    }

    /// Takes the numbers of so many messages.
    pub(super) fn use_up(&mut self, messages: usize) {
        let messages = u32::try_from(messages).expect("a datagram holds a few hundred");
        self.sequence = self.sequence.wrapping_add(messages);
    }

    pub(super) fn send(&self, bytes: &[u8]) -> Result<(), Error> {
        self.socket.send(bytes, 0)?;
        Ok(())
    }

    /// The next datagram.
    pub(super) fn receive(&mut self) -> Result<&[u8], Error> {
        self.received.clear();
        loop {
            match self.socket.recv(&mut self.received, libc::MSG_TRUNC) {
                Ok(length) if length > self.received.len() => {
                    return Err(Error::Malformed("a datagram of more than 64 KiB"));
                }
                Ok(_) => return Ok(&self.received),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Err(Error::Silent);
                }
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                    return Err(Error::Lost);
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Asks, and reads the answers until the kernel says that this was all. A list that changed
    /// while it was read is read again.
    pub(super) fn ask<T>(
        &mut self,
        question: Question,
        fill: impl Fn(&mut Writer<'_>),
        read: impl Fn(&Table<'_>) -> Result<Option<T>, Error>,
    ) -> Result<Vec<T>, Error> {
        for _ in 0..ATTEMPTS {
            let sequence = self.put(question, &fill)?;
            let mut reading = Reading::new(sequence);
            while !reading.take(self.receive()?, &read)? {}
            if let Some(answers) = reading.finish()? {
                return Ok(answers);
            }
        }
        Err(Error::Unstable)
    }

    fn put(&mut self, question: Question, fill: impl Fn(&mut Writer<'_>)) -> Result<u32, Error> {
        let sequence = self.sequence;
        self.use_up(1);
        let flags = REQUEST | if question.list { DUMP } else { ACK };
        let (family, command) = (self.family, question.command);
        let mut bytes = Vec::new();
        message::write(&mut bytes, Envelope { family, flags, sequence, command }, fill);
        self.send(&bytes)?;
        Ok(sequence)
    }

    fn find_family(&mut self) -> Result<u16, Error> {
        let question = Question { command: GET_FAMILY, list: false };
        let name = |writer: &mut Writer<'_>| writer.text(FAMILY_NAME, IPVS_NAME);
        let found = self.ask(question, name, |table| table.u16(FAMILY_ID).map(Some))?;
        found.first().copied().ok_or(Error::Malformed("a family without a number"))
    }
}
