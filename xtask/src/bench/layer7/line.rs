//! A connection of the load's: non-blocking.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{self, RecvFlags, SendFlags, SocketFlags, SocketType, sockopt};

#[derive(Debug)]
pub(super) struct Line(OwnedFd);

impl Line {
    /// Begins to connect, from an address of one's own if one is given.
    pub(super) fn open(to: SocketAddr, from: Option<SocketAddr>) -> io::Result<Self> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let family =
            if to.is_ipv4() { net::AddressFamily::INET } else { net::AddressFamily::INET6 };
        let socket = net::socket_with(family, SocketType::STREAM, flags, None)?;
        sockopt::set_tcp_nodelay(&socket, true)?;
        if let Some(from) = from {
            net::bind(&socket, &from)?;
        }
        match net::connect(&socket, &to) {
            Ok(()) | Err(Errno::INPROGRESS) => Ok(Self(socket)),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether the connection stands; an error when there will be none.
    pub(super) fn is_connected(&self) -> io::Result<bool> {
        sockopt::socket_error(&self.0)??;
        match net::getpeername(&self.0) {
            Ok(_) => Ok(true),
            Err(Errno::NOTCONN) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    pub(super) fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        Ok(net::send(&self.0, bytes, SendFlags::NOSIGNAL)?)
    }

    pub(super) fn read(&self, bytes: &mut [u8]) -> io::Result<usize> {
        Ok(net::recv(&self.0, bytes, RecvFlags::empty())?.0)
    }
}

impl AsFd for Line {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

pub(super) fn is_block(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
}
