//! A connection of the load's: non-blocking, with TLS or without.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::io::Errno;
use rustix::net::{self, RecvFlags, SendFlags, SocketFlags, SocketType, sockopt};
use rustls::{ClientConfig, ClientConnection};

use super::secrets;

#[derive(Debug)]
pub(super) struct Line {
    socket: Socket,
    tls: Option<Box<ClientConnection>>,
}

#[derive(Debug)]
struct Socket(OwnedFd);

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
        let client = |config| ClientConnection::new(Arc::clone(config), secrets::server_name());
        let tls = tls.map(client).transpose().map_err(io::Error::other)?;
        Ok(Self { socket: Socket(socket), tls: tls.map(Box::new) })
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

    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(tls) = &mut self.tls else { return self.socket.write(bytes) };
        while tls.is_handshaking() {
            tls.complete_io(&mut self.socket)?;
        }
        flush(tls, &mut self.socket)?;
        let taken = tls.writer().write(bytes)?;
        // What is left goes first the next time.
        match flush(tls, &mut self.socket) {
            Err(error) if !is_block(&error) => Err(error),
            _ => Ok(taken),
        }
    }

    pub(super) fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let Some(tls) = &mut self.tls else { return self.socket.read(bytes) };
        match flush(tls, &mut self.socket) {
            Err(error) if !is_block(&error) => return Err(error),
            _ => {}
        }
        loop {
            match tls.reader().read(bytes) {
                Err(error) if is_block(&error) => {}
                done => return done,
            }
            tls.read_tls(&mut self.socket)?;
            tls.process_new_packets().map_err(io::Error::other)?;
        }
    }
}

fn flush(tls: &mut ClientConnection, socket: &mut Socket) -> io::Result<()> {
    while tls.wants_write() {
        tls.write_tls(socket)?;
    }
    Ok(())
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

impl AsFd for Line {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.0.as_fd()
    }
}

pub(super) fn is_block(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
}
