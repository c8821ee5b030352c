//! One request to rtnetlink at a time, and its answer.

use std::io;
use std::time::Duration;

use netlink_packet_core::{
    DoneBuffer, ErrorBuffer, NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NLMSG_DONE,
    NLMSG_ERROR, NLMSG_NOOP, NetlinkBuffer, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::SocketAddr;
use netlink_sys::protocols::NETLINK_ROUTE;
use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};

use super::RouteError;

/// A blocking socket to the kernel.
#[derive(Debug)]
pub(super) struct Socket {
    socket: netlink_sys::Socket,
    sequence: u32,
}

/// What one datagram brings of an answer.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Part {
    /// The bodies of its messages.
    pub(super) bodies: Vec<Vec<u8>>,
    /// The end of the answer, with the kernel's verdict.
    pub(super) end: Option<Result<(), Errno>>,
    /// What was listed has changed meanwhile.
    pub(super) interrupted: bool,
}

/// The kernel answers at once; a lost answer must not hold up the agent for ever.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often a list is asked for that changes while it is read.
const ATTEMPTS: usize = 8;

impl Socket {
    pub(super) fn open() -> io::Result<Self> {
        let mut socket = netlink_sys::Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        set_socket_timeout(&socket, Timeout::Recv, Some(PATIENCE))?;
        Ok(Self { socket, sequence: 0 })
    }

    /// A list, as it was at one moment if that can be had.
    pub(super) fn dump(
        &mut self,
        action: &'static str,
        message: &RouteNetlinkMessage,
    ) -> Result<Vec<Vec<u8>>, RouteError> {
        let mut bodies = Vec::new();
        for _ in 0..ATTEMPTS {
            let (listed, interrupted) = self.exchange(action, message, NLM_F_DUMP)?;
            bodies = listed;
            if !interrupted {
                break;
            }
        }
        Ok(bodies)
    }

    /// A single request and what is answered, which may be nothing but consent.
    pub(super) fn ask(
        &mut self,
        action: &'static str,
        message: &RouteNetlinkMessage,
        flags: u16,
    ) -> Result<Vec<Vec<u8>>, RouteError> {
        self.exchange(action, message, flags | NLM_F_ACK).map(|(bodies, _)| bodies)
    }

    fn exchange(
        &mut self,
        action: &'static str,
        message: &RouteNetlinkMessage,
        flags: u16,
    ) -> Result<(Vec<Vec<u8>>, bool), RouteError> {
        self.sequence = self.sequence.wrapping_add(1);
        let request = request(message.clone(), flags, self.sequence);
        self.socket.send(&request, 0).map_err(RouteError::Send)?;
        let (mut bodies, mut interrupted) = (Vec::new(), false);
        loop {
            let (datagram, _) = self.socket.recv_from_full().map_err(RouteError::Receive)?;
            let part = part(&datagram, self.sequence).map_err(RouteError::Malformed)?;
            bodies.extend(part.bodies);
            interrupted |= part.interrupted;
            match part.end {
                Some(Ok(())) => return Ok((bodies, interrupted)),
                Some(Err(source)) => return Err(RouteError::Refused { action, source }),
                None => {}
            }
        }
    }
}

pub(super) fn request(message: RouteNetlinkMessage, flags: u16, sequence: u32) -> Vec<u8> {
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | flags;
    header.sequence_number = sequence;
    let mut message = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(message));
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    bytes
}

/// Takes a datagram apart. Late answers to other requests are left out.
pub(super) fn part(mut datagram: &[u8], sequence: u32) -> Result<Part, String> {
    let mut part = Part::default();
    while !datagram.is_empty() {
        let message = NetlinkBuffer::new_checked(datagram).map_err(|error| error.to_string())?;
        if message.sequence_number() == sequence {
            part.interrupted |= message.flags() & NLM_F_DUMP_INTR != 0;
            let body = message.payload();
            match message.message_type() {
                NLMSG_NOOP => {}
                NLMSG_ERROR => part.end = Some(verdict(error_code(body)?)),
                NLMSG_DONE => part.end = Some(verdict(done_code(body)?)),
                _ => part.bodies.push(body.to_vec()),
            }
        }
        let length = usize::try_from(message.length()).unwrap_or(usize::MAX);
        datagram = datagram.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(part)
}

/// Zero, or the number of an error with its sign turned.
fn verdict(code: i32) -> Result<(), Errno> {
    if code == 0 { Ok(()) } else { Err(Errno::from_raw_os_error(code.saturating_neg())) }
}

fn error_code(body: &[u8]) -> Result<i32, String> {
    let buffer = ErrorBuffer::new_checked(body).map_err(|error| error.to_string())?;
    Ok(buffer.code().map_or(0, i32::from))
}

/// Some lists end without a word.
fn done_code(body: &[u8]) -> Result<i32, String> {
    if body.is_empty() {
        return Ok(0);
    }
    DoneBuffer::new_checked(body).map(|buffer| buffer.code()).map_err(|error| error.to_string())
}
