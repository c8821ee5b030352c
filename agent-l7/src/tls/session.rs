//! One TLS connection, without its socket: bytes of the wire go in, plain ones come out, and the other
//! way round.
//!
//! What is to be sent is gathered in `out`, in the order in which it was encrypted. A record that has
//! come in part waits in `incoming`. Nothing else is kept: a session that is idle has its keys and no
//! buffer.

use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::io::{self, Errno};
use rustix::net::{self, RecvFlags};
use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::ServerName;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, UnbufferedStatus};
use rustls::{ClientConfig, Error, ServerConfig};

use crate::outbox::Outbox;

/// A TLS connection with a client or a real server.
pub(crate) struct Session {
    machine: Machine,
    /// The beginning of a record whose end has not come yet.
    incoming: Vec<u8>,
    talk: Talk,
}

/// How far two peers have come in agreeing on keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shaken {
    /// The peer has to say something, or to take it.
    Pending,
    Done,
}

/// Why two peers do not agree.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ShakeError {
    #[error("the peer closed the connection")]
    Closed,
    #[error("{0}")]
    Io(Errno),
    #[error("{0}")]
    Tls(Error),
}

enum Machine {
    WithClient(Box<UnbufferedServerConnection>),
    WithServer(Box<UnbufferedClientConnection>),
}

/// What came of the protocol so far.
#[derive(Debug, Default)]
struct Talk {
    out: Outbox,
    established: bool,
    /// The peer has said that it sends nothing more.
    ended: bool,
}

/// What the protocol wants after a step.
#[derive(Debug, PartialEq, Eq)]
enum Wants {
    AnotherStep,
    Input,
}

/// What is to be encrypted.
#[derive(Clone, Copy)]
enum Say<'a> {
    Words(&'a [u8]),
    End,
}

/// Plain bytes in a record at most (RFC 8446, section 5.1).
const RECORD: usize = 16 * 1024;
/// Bytes that a record adds at most: header, explicit nonce or type, and tag.
const OVERHEAD: usize = 64;
/// How much of a buffer is kept for later when it is empty.
const KEPT: usize = 512;

impl Session {
    pub(crate) fn with_client(config: &Arc<ServerConfig>) -> Result<Self, Error> {
        let connection = UnbufferedServerConnection::new(Arc::clone(config))?;
        Ok(Self::new(Machine::WithClient(Box::new(connection))))
    }

    pub(crate) fn with_server(
        config: &Arc<ClientConfig>,
        name: ServerName<'static>,
    ) -> Result<Self, Error> {
        let connection = UnbufferedClientConnection::new(Arc::clone(config), name)?;
        Ok(Self::new(Machine::WithServer(Box::new(connection))))
    }

    fn new(machine: Machine) -> Self {
        Self { machine, incoming: Vec::new(), talk: Talk::default() }
    }

    /// Room that [`Session::seal`] needs for so many plain bytes.
    pub(crate) fn room(plain: usize) -> usize {
        plain + plain.div_ceil(RECORD) * OVERHEAD
    }

    /// What waits to be sent.
    pub(crate) fn out(&self) -> &Outbox {
        &self.talk.out
    }

    pub(crate) fn out_mut(&mut self) -> &mut Outbox {
        &mut self.talk.out
    }

    /// The peer has said that it sends nothing more.
    pub(crate) fn has_ended(&self) -> bool {
        self.talk.ended
    }

    /// The DNS names in the certificate that the peer has shown; empty where it has shown none.
    pub(crate) fn peer_names(&self) -> Vec<String> {
        let chain = match &self.machine {
            Machine::WithClient(it) => it.peer_certificates(),
            Machine::WithServer(it) => it.peer_certificates(),
        };
        let Some(leaf) = chain.and_then(<[_]>::first) else { return Vec::new() };
        let Ok(leaf) = webpki::EndEntityCert::try_from(leaf) else { return Vec::new() };
        leaf.valid_dns_names().map(str::to_owned).collect()
    }

    /// Does of the handshake what can be done now. What the peer says right after it goes to `plain`.
    pub(crate) fn shake(
        &mut self,
        socket: &OwnedFd,
        buffer: &mut [u8],
        plain: &mut Vec<u8>,
    ) -> Result<Shaken, ShakeError> {
        // Who opens a connection speaks first.
        self.settle().map_err(ShakeError::Tls)?;
        loop {
            let all_sent = self.talk.out.send(socket).map_err(ShakeError::Io)?;
            if self.talk.established && all_sent {
                return Ok(Shaken::Done);
            }
            match self.receive(socket, buffer) {
                Ok(0) => return Err(ShakeError::Closed),
                Ok(read) => {
                    let opened = self.open(&mut buffer[..read], plain);
                    if let Err(error) = opened {
                        // The alert tells the peer why. More than to try cannot be done.
                        let _ = self.talk.out.send(socket);
                        return Err(ShakeError::Tls(error));
                    }
                }
                Err(Errno::AGAIN) => return Ok(Shaken::Pending),
                Err(Errno::INTR) => {}
                Err(error) => return Err(ShakeError::Io(error)),
            }
        }
    }

    /// Reads bytes of the wire into `buffer`, behind the record that has begun. Gives how many lie
    /// there in all; 0 at the end of the stream.
    pub(crate) fn receive(&mut self, socket: &OwnedFd, buffer: &mut [u8]) -> io::Result<usize> {
        let begun = self.incoming.len();
        let (read, _) = net::recv(socket, &mut buffer[begun..], RecvFlags::empty())?;
        if read == 0 {
            return Ok(0);
        }
        buffer[..begun].copy_from_slice(&self.incoming);
        self.incoming.clear();
        self.incoming.shrink_to(KEPT);
        Ok(begun + read)
    }

    /// How much of what [`Session::receive`] gives was there before.
    pub(crate) fn begun(&self) -> usize {
        self.incoming.len()
    }

    /// Decrypts what was received, and appends it to `plain`. After an error the alert that tells of
    /// it waits to be sent.
    pub(crate) fn open(&mut self, wire: &mut [u8], plain: &mut Vec<u8>) -> Result<(), Error> {
        let mut at = 0;
        loop {
            let (discard, wants) = self.step(&mut wire[at..], plain);
            at += discard;
            match wants {
                Ok(Wants::AnotherStep) => {}
                Ok(Wants::Input) => break,
                Err(error) => {
                    self.take_alert(&mut wire[at..]);
                    return Err(error);
                }
            }
        }
        self.incoming.extend_from_slice(&wire[at..]);
        Ok(())
    }

    /// After an error the protocol has an alert to say, and nothing else.
    fn take_alert(&mut self, wire: &mut [u8]) {
        let mut at = 0;
        while self.has_news() {
            at += self.step(&mut wire[at..], &mut Vec::new()).0;
        }
    }

    /// The protocol has something to say.
    fn has_news(&self) -> bool {
        match &self.machine {
            Machine::WithClient(it) => it.wants_write(),
            Machine::WithServer(it) => it.wants_write(),
        }
    }

    /// Encrypts `plain` into `space`, which has [`Session::room`] for it, behind what waits to be sent.
    pub(crate) fn seal(&mut self, plain: &[u8], space: &mut [u8]) -> Result<usize, Error> {
        self.settle()?;
        self.say(Say::Words(plain), space)
    }

    /// Tells the peer, behind what waits to be sent, that nothing more will be.
    pub(crate) fn end(&mut self) -> Result<(), Error> {
        self.settle()?;
        let mut space = [0; OVERHEAD];
        let written = self.say(Say::End, &mut space)?;
        self.talk.out.push(&space[..written]);
        Ok(())
    }

    /// Has the protocol say what it has to say before anything else.
    fn settle(&mut self) -> Result<(), Error> {
        if self.talk.established && !self.has_news() {
            return Ok(());
        }
        let mut wire = std::mem::take(&mut self.incoming);
        self.open(&mut wire, &mut Vec::new())
    }

    fn step(&mut self, wire: &mut [u8], plain: &mut Vec<u8>) -> (usize, Result<Wants, Error>) {
        match &mut self.machine {
            Machine::WithClient(it) => self.talk.heed(it.process_tls_records(wire), plain),
            Machine::WithServer(it) => self.talk.heed(it.process_tls_records(wire), plain),
        }
    }

    fn say(&mut self, what: Say<'_>, space: &mut [u8]) -> Result<usize, Error> {
        let wire = &mut self.incoming[..];
        match &mut self.machine {
            Machine::WithClient(it) => what.put(it.process_tls_records(wire), space),
            Machine::WithServer(it) => what.put(it.process_tls_records(wire), space),
        }
    }
}

impl Talk {
    /// Does what the protocol asks for. Gives how much of the wire is done with.
    fn heed<Data>(
        &mut self,
        status: UnbufferedStatus<'_, '_, Data>,
        plain: &mut Vec<u8>,
    ) -> (usize, Result<Wants, Error>) {
        let mut discard = status.discard;
        let wants = match status.state {
            Err(error) => Err(error),
            Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                let mut result = Ok(Wants::AnotherStep);
                while let Some(record) = traffic.next_record() {
                    match record {
                        Ok(record) => {
                            plain.extend_from_slice(record.payload);
                            discard += record.discard;
                        }
                        Err(error) => result = Err(error),
                    }
                }
                result
            }
            Ok(ConnectionState::EncodeTlsData(mut data)) => {
                let mut encode = |space: &mut [u8]| match data.encode(space) {
                    Ok(written) => Ok(written),
                    Err(EncodeError::InsufficientSize(short)) => Err(short.required_size),
                    Err(EncodeError::AlreadyEncoded) => Ok(0),
                };
                if let Err(room) = encode(&mut []) {
                    self.out.fill(room, |space| encode(space).unwrap_or(0));
                }
                Ok(Wants::AnotherStep)
            }
            Ok(ConnectionState::TransmitTlsData(data)) => {
                // It waits in order, which is as good as sent.
                data.done();
                Ok(Wants::AnotherStep)
            }
            Ok(ConnectionState::PeerClosed) => {
                self.ended = true;
                Ok(Wants::AnotherStep)
            }
            Ok(ConnectionState::WriteTraffic(_)) => {
                self.established = true;
                Ok(Wants::Input)
            }
            // There is no early data, since no ticket allows for it.
            Ok(_) => Ok(Wants::Input),
        };
        (discard, wants)
    }
}

impl Say<'_> {
    fn put<Data>(
        self,
        status: UnbufferedStatus<'_, '_, Data>,
        space: &mut [u8],
    ) -> Result<usize, Error> {
        let ConnectionState::WriteTraffic(mut traffic) = status.state? else {
            return Err(Error::HandshakeNotComplete);
        };
        let written = match self {
            Self::Words(plain) => traffic.encrypt(plain, space),
            Self::End => traffic.queue_close_notify(space),
        };
        written.map_err(|error| match error {
            EncryptError::EncryptExhausted => Error::EncryptError,
            EncryptError::InsufficientSize(short) => {
                Error::General(format!("no room for {} bytes", short.required_size))
            }
        })
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Session").field("talk", &self.talk).finish_non_exhaustive()
    }
}
