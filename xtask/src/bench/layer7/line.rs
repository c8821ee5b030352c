//! A connection of the load's: non-blocking, plain or TLS.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::io::Errno;
use rustix::net::{self, RecvFlags, SendFlags, SocketFlags, SocketType, sockopt};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};

#[derive(Debug)]
pub(super) struct Line {
    socket: Socket,
    tls: Option<Box<ClientConnection>>,
}

#[derive(Debug)]
struct Socket(OwnedFd);

/// What TLS may hold that the socket did not take.
const TLS_BUFFER: usize = 256 * 1024;

impl Line {
    /// Begins to connect, from an address of one's own if one is given.
    pub(super) fn open(
        to: SocketAddr,
        from: Option<SocketAddr>,
        tls: Option<&Arc<ClientConfig>>,
    ) -> io::Result<Self> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let family =
            if to.is_ipv4() { net::AddressFamily::INET } else { net::AddressFamily::INET6 };
        let socket = net::socket_with(family, SocketType::STREAM, flags, None)?;
        sockopt::set_tcp_nodelay(&socket, true)?;
        if let Some(from) = from {
            net::bind(&socket, &from)?;
        }
        match net::connect(&socket, &to) {
            Ok(()) | Err(Errno::INPROGRESS) => {}
            Err(error) => return Err(error.into()),
        }
        let session = |config: &Arc<ClientConfig>| {
            let name = ServerName::try_from("bench.local").map_err(io::Error::other)?;
            let mut session =
                ClientConnection::new(Arc::clone(config), name).map_err(io::Error::other)?;
            session.set_buffer_limit(Some(TLS_BUFFER));
            io::Result::Ok(Box::new(session))
        };
        Ok(Self { socket: Socket(socket), tls: tls.map(session).transpose()? })
    }

    /// Whether the connection stands; an error when there will be none.
    pub(super) fn is_connected(&self) -> io::Result<bool> {
        sockopt::socket_error(&self.socket.0)??;
        match net::getpeername(&self.socket.0) {
            Ok(_) => Ok(true),
            Err(Errno::NOTCONN) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Takes the handshake as far as it goes.
    pub(super) fn shake_hands(&mut self) -> io::Result<()> {
        let Some(session) = &mut self.tls else { return Ok(()) };
        while session.is_handshaking() {
            match flush(session, &mut self.socket) {
                Err(error) if !is_block(&error) => return Err(error),
                _ => {}
            }
            if !session.is_handshaking() {
                break;
            }
            match session.read_tls(&mut self.socket) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) => {
                    session.process_new_packets().map_err(io::Error::other)?;
                }
                Err(error) if is_block(&error) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        self.flush()
    }

    /// Sends what TLS still holds, as far as the socket takes it.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        let Some(session) = &mut self.tls else { return Ok(()) };
        match flush(session, &mut self.socket) {
            Err(error) if !is_block(&error) => Err(error),
            _ => Ok(()),
        }
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(session) = &mut self.tls else { return self.socket.write(bytes) };
        flush(session, &mut self.socket)?;
        let written = session.writer().write(bytes)?;
        self.flush()?;
        if written == 0 { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(written) }
    }

    pub(super) fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let Some(session) = &mut self.tls else { return self.socket.read(bytes) };
        loop {
            match session.reader().read(bytes) {
                Err(error) if is_block(&error) => {}
                done => return done,
            }
            if session.read_tls(&mut self.socket)? == 0 {
                return Ok(0);
            }
            session.process_new_packets().map_err(io::Error::other)?;
        }
    }

    /// Says goodbye; the socket is closed when this is dropped.
    pub(super) fn close(mut self) {
        if let Some(session) = &mut self.tls {
            session.send_close_notify();
            // Whoever has gone need not be told.
            let _ = flush(session, &mut self.socket);
        }
    }
}

impl AsFd for Line {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.0.as_fd()
    }
}

impl Read for Socket {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        Ok(net::recv(&self.0, bytes, RecvFlags::empty())?.0)
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(net::send(&self.0, bytes, SendFlags::NOSIGNAL)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn flush(session: &mut ClientConnection, socket: &mut Socket) -> io::Result<()> {
    while session.wants_write() {
        session.write_tls(socket)?;
    }
    Ok(())
}

pub(super) fn is_block(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
}
