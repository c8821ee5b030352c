//! One side of a connection as the proxy itself speaks with it: its socket, its TLS session if it has
//! one, and how far it is. Dropped, it is reset, unless it was let go.
//!
//! As in a plain direction, what the poller said is remembered until a call says otherwise.

use std::os::fd::OwnedFd;

use rustix::event::epoll::EventFlags;
use rustix::io::{self, Errno};
use rustix::net::{self, RecvFlags, Shutdown};

use crate::outbox::Outbox;
use crate::socket;
use crate::tls::Session;

#[derive(Debug)]
pub(crate) struct Leg {
    socket: OwnedFd,
    session: Option<Box<Session>>,
    /// What waits to be sent, if there is no session that keeps it.
    held: Outbox,
    /// The side may have sent bytes.
    readable: bool,
    /// It has ended its stream: read until a read says so.
    ending: bool,
    /// It took less than it was given.
    blocked: bool,
    /// It takes nothing more, ever.
    broken: bool,
    last: Option<Last>,
    /// It was said by TLS that the other side has ended its stream.
    said: bool,
    /// It knows that the other side has ended its stream.
    told: bool,
    /// It may be closed as any other: nothing is cut short by that.
    let_go: bool,
}

/// How a side's stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Last {
    End,
    /// TCP ended it, and TLS did not.
    Cut,
    Reset,
}

/// What one read brought.
#[derive(Debug, Default)]
pub(crate) struct Read<'a> {
    /// Bytes of the wire.
    pub(crate) wire: usize,
    pub(crate) plain: &'a [u8],
}

/// Bytes read at a time: what is decrypted and encrypted anew should stay in the processor's cache.
const CHUNK: usize = 64 * 1024;

impl Leg {
    pub(crate) fn new(socket: OwnedFd, session: Option<Box<Session>>) -> Self {
        let last = session.as_ref().and_then(|session| session.has_ended().then_some(Last::End));
        Self {
            socket,
            session,
            held: Outbox::default(),
            readable: false,
            ending: false,
            blocked: false,
            broken: false,
            last,
            said: false,
            told: false,
            let_go: false,
        }
    }

    pub(crate) fn socket(&self) -> &OwnedFd {
        &self.socket
    }

    pub(crate) fn last(&self) -> Option<Last> {
        self.last
    }

    pub(crate) fn was_told(&self) -> bool {
        self.told
    }

    pub(crate) fn is_broken(&self) -> bool {
        self.broken
    }

    pub(crate) fn may_read(&self) -> bool {
        self.readable && self.last.is_none()
    }

    /// Nothing waits to be sent.
    pub(crate) fn has_taken_all(&self) -> bool {
        self.session.as_ref().map_or(&self.held, |session| session.out()).is_empty()
    }

    pub(crate) fn notice(&mut self, flags: EventFlags) {
        let broken = flags.intersects(EventFlags::ERR | EventFlags::HUP);
        let ending = broken || flags.contains(EventFlags::RDHUP);
        if ending || flags.contains(EventFlags::IN) {
            self.readable = true;
            self.ending |= ending;
        }
        if broken || flags.contains(EventFlags::OUT) {
            self.blocked = false;
        }
        if flags.contains(EventFlags::ERR) && self.last.is_some() {
            // Nothing is left to be read there, so that no read will say it.
            self.break_off();
        }
    }

    /// Sends what waits; true if nothing does any more, and more would be taken.
    pub(crate) fn flush(&mut self) -> bool {
        if self.broken || self.blocked {
            return false;
        }
        let out = self.session.as_mut().map_or(&mut self.held, |session| session.out_mut());
        let sent = out.send(&self.socket);
        self.judge(sent)
    }

    /// Sends `plain`, encrypted in `sealed` where that is asked for, and keeps what is not taken.
    pub(crate) fn write(&mut self, plain: &[u8], sealed: &mut Vec<u8>) {
        if self.broken {
            return;
        }
        let sent = match &mut self.session {
            None => self.held.send_on(&self.socket, plain),
            Some(session) => {
                let room = Session::room(plain.len());
                if sealed.len() < room {
                    sealed.resize(room, 0);
                }
                match session.seal(plain, sealed) {
                    Ok(length) => session.out_mut().send_on(&self.socket, &sealed[..length]),
                    // The keys are worn out, or the session has failed.
                    Err(_) => Err(Errno::CONNABORTED),
                }
            }
        };
        self.judge(sent);
    }

    /// Reads once; what was sent is in one of the two buffers then.
    pub(crate) fn read<'a>(&mut self, buffer: &'a mut [u8], plain: &'a mut Vec<u8>) -> Read<'a> {
        let space = CHUNK.min(buffer.len());
        let Some(session) = &mut self.session else {
            let result = net::recv(&self.socket, &mut buffer[..space], RecvFlags::empty());
            let read = self.got(result.map(|(read, _)| read), space);
            return Read { wire: read, plain: &buffer[..read] };
        };
        plain.clear();
        let begun = session.begun();
        let result = session.receive(&self.socket, &mut buffer[..space]);
        let read = self.got(result, space);
        if read == 0 {
            return Read::default();
        }
        let session = self.session.as_mut().expect("it was there a moment ago");
        if session.open(&mut buffer[..read], plain).is_err() {
            self.last = Some(Last::Reset);
        } else if session.has_ended() {
            self.last = Some(Last::End);
        }
        Read { wire: read - begun, plain }
    }

    /// Tells the side that the other one's stream has ended as `last` says. All must have been sent
    /// before. `closing`: the socket is closed as soon as this is done.
    pub(crate) fn tell(&mut self, last: Last, closing: bool) {
        if self.told || last == Last::Reset {
            return;
        }
        if last == Last::End && !self.said {
            self.said = true;
            let ended = self.session.as_mut().map_or(Ok(()), |session| session.end());
            if ended.is_err() {
                return self.break_off();
            }
            if !self.flush() {
                return;
            }
        }
        if !closing && net::shutdown(&self.socket, Shutdown::Write).is_err() {
            return self.break_off();
        }
        self.told = true;
    }

    /// No TLS is spoken with it.
    pub(crate) fn is_plain(&self) -> bool {
        self.session.is_none()
    }

    /// Has the socket closed in peace when this is dropped.
    pub(crate) fn let_go(&mut self) {
        self.let_go = true;
    }

    /// Has TLS end, as well as that can be done now.
    pub(crate) fn say_goodbye(&mut self) {
        if let Some(session) = &mut self.session
            && !self.said
            && session.end().is_ok()
        {
            self.flush();
        }
    }

    /// Judges the result of a write; true if all was taken.
    fn judge(&mut self, sent: io::Result<bool>) -> bool {
        match sent {
            Ok(all) => {
                self.blocked = !all;
                all
            }
            Err(_) => {
                self.break_off();
                false
            }
        }
    }

    /// Judges the result of a read into `space` bytes: some bytes, or none for now, or the end.
    fn got(&mut self, result: io::Result<usize>, space: usize) -> usize {
        match result {
            Ok(0) if self.broken => self.last = Some(Last::Reset),
            Ok(0) => {
                let by_tcp_alone = self.session.is_some();
                self.last = Some(if by_tcp_alone { Last::Cut } else { Last::End });
            }
            Ok(read) => {
                if read < space && !self.ending {
                    self.readable = false;
                }
                return read;
            }
            Err(Errno::AGAIN) => self.readable = false,
            Err(Errno::INTR) => {}
            Err(_) => self.last = Some(Last::Reset),
        }
        0
    }

    /// The side takes nothing more. What it still sent is its last.
    fn break_off(&mut self) {
        self.broken = true;
        self.blocked = false;
        self.readable = true;
        self.ending = true;
        self.session.as_mut().map_or(&mut self.held, |session| session.out_mut()).clear();
    }
}

impl Drop for Leg {
    fn drop(&mut self) {
        if !self.let_go {
            socket::reset_on_close(&self.socket);
        }
    }
}
