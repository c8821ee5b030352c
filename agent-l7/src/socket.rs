//! The few ways in which this proxy makes and ends TCP sockets.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use gantry_model::service::{CongestionControl, Tcp};
use nix::sys::socket::sockopt::{IpBindAddressNoPort, IpTransparent};
use nix::sys::socket::{SetSockOpt, setsockopt};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
use rustix::{io, net};

const FLAGS: SocketFlags = SocketFlags::NONBLOCK.union(SocketFlags::CLOEXEC);

/// Questions after which a peer that does not answer is given up.
const KEEPALIVES: u32 = 4;

/// Connections that may wait to be accepted; the kernel cuts it to `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// A socket bound to an address that need not exist yet; it does not listen.
pub(crate) fn bound(address: SocketAddr) -> io::Result<OwnedFd> {
    let socket = bindable(address)?;
    sockopt::set_socket_reuseport(&socket, true)?;
    // Accepted sockets inherit it.
    sockopt::set_tcp_nodelay(&socket, true)?;
    net::bind(&socket, &address)?;
    Ok(socket)
}

/// Whether anybody listens at `address` already. Sockets that share a port would not tell.
pub(crate) fn claim(address: SocketAddr) -> io::Result<()> {
    net::bind(bindable(address)?, &address)
}

pub(crate) fn listen(socket: &OwnedFd) -> io::Result<()> {
    net::listen(socket, BACKLOG)
}

/// Stops listening at once, whoever else holds the socket.
pub(crate) fn stop_listening(socket: &OwnedFd) {
    // It can only fail if the socket does not listen.
    let _ = net::shutdown(socket, net::Shutdown::Both);
}

/// The next client, if one waits.
pub(crate) fn accept(listener: &OwnedFd) -> io::Result<Option<(OwnedFd, SocketAddr)>> {
    match net::acceptfrom_with(listener, FLAGS) {
        Ok((client, peer)) => {
            Ok(peer.and_then(|peer| SocketAddr::try_from(peer).ok()).map(|peer| (client, peer)))
        }
        Err(Errno::AGAIN) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Where a connection to a real server comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// Whatever the kernel thinks best.
    Any,
    /// An address of this machine.
    Own(IpAddr),
    /// That of the client, which is not this machine's.
    Client(IpAddr),
}

/// Begins to connect; the socket becomes writable when that has succeeded.
pub(crate) fn connect(address: SocketAddr, source: Source, tcp: &Tcp) -> io::Result<OwnedFd> {
    let socket = net::socket_with(family(address), SocketType::STREAM, FLAGS, None)?;
    sockopt::set_tcp_nodelay(&socket, true)?;
    treat(&socket, tcp)?;
    match source {
        Source::Any => {}
        Source::Own(address) => bind_source(&socket, address)?,
        Source::Client(address) => {
            be_transparent(&socket)?;
            bind_source(&socket, address)?;
        }
    }
    match net::connect(&socket, &address) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(socket),
        Err(error) => Err(error),
    }
}

/// Whether a connection failed for want of descriptors, ports or an address, which is no fault of the server's.
pub(crate) fn is_ours(error: Errno) -> bool {
    [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM, Errno::ADDRNOTAVAIL].contains(&error)
}

/// Whether this machine has `address`.
pub(crate) fn is_own(address: IpAddr) -> io::Result<bool> {
    let family = family(SocketAddr::new(address, 0));
    let socket = net::socket_with(family, SocketType::STREAM, FLAGS, None)?;
    match bind_source(&socket, address) {
        Err(Errno::ADDRNOTAVAIL) => Ok(false),
        result => result.map(|()| true),
    }
}

/// Sets what `tcp` asks for. Sockets that are accepted inherit it from their listener.
pub(crate) fn treat(socket: impl AsFd, tcp: &Tcp) -> io::Result<()> {
    if let Some(after) = tcp.keepalive {
        sockopt::set_tcp_keepidle(&socket, after)?;
        sockopt::set_tcp_keepintvl(
            &socket,
            Duration::from_secs(after.as_secs() / u64::from(KEEPALIVES)),
        )?;
        sockopt::set_tcp_keepcnt(&socket, KEEPALIVES)?;
        sockopt::set_socket_keepalive(&socket, true)?;
    }
    if let Some(timeout) = tcp.user_timeout {
        let milliseconds = u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX);
        sockopt::set_tcp_user_timeout(&socket, milliseconds)?;
    }
    if let Some(name) = &tcp.congestion_control {
        sockopt::set_tcp_congestion(&socket, name.as_str())?;
    }
    Ok(())
}

/// Whether this kernel has a congestion control, and lets this process use it.
pub(crate) fn can_use(name: &CongestionControl) -> io::Result<()> {
    let socket = net::socket_with(AddressFamily::INET, SocketType::STREAM, FLAGS, None)?;
    sockopt::set_tcp_congestion(socket, name.as_str())
}

/// Sets what `tcp` asks for on a listener that may have been treated in another way before.
pub(crate) fn treat_anew(listener: impl AsFd, tcp: &Tcp) -> io::Result<()> {
    let default = net::socket_with(AddressFamily::INET, SocketType::STREAM, FLAGS, None)?;
    sockopt::set_socket_keepalive(&listener, false)?;
    sockopt::set_tcp_user_timeout(&listener, 0)?;
    sockopt::set_tcp_congestion(&listener, &sockopt::tcp_congestion(default)?)?;
    treat(listener, tcp)
}

/// Makes the close of `socket` a reset, which tells the peer that something was cut short.
pub(crate) fn reset_on_close(socket: impl AsFd) {
    // Without it the close is a plain one: worse for the peer, but nothing to be done about.
    let _ = sockopt::set_socket_linger(socket, Some(Duration::ZERO));
}

/// Whether this process may take the addresses of its clients.
pub(crate) fn can_be_transparent() -> io::Result<()> {
    be_transparent(&net::socket_with(AddressFamily::INET, SocketType::STREAM, FLAGS, None)?)
}

/// Lets `socket` have an address that is not this machine's (IP_TRANSPARENT of ip(7), which holds for IPv6 as
/// well).
fn be_transparent(socket: &OwnedFd) -> io::Result<()> {
    set(socket, IpTransparent)
}

fn set(socket: &OwnedFd, option: impl SetSockOpt<Val = bool>) -> io::Result<()> {
    setsockopt(socket, option, &true).map_err(|error| Errno::from_raw_os_error(error as i32))
}

/// Fixes where `socket` will connect from. Its port is chosen when it connects and where to is known:
/// each server can be connected to from all of them, and not all servers together.
fn bind_source(socket: &OwnedFd, source: IpAddr) -> io::Result<()> {
    set(socket, IpBindAddressNoPort)?;
    net::bind(socket, &SocketAddr::new(source, 0))
}

fn bindable(address: SocketAddr) -> io::Result<OwnedFd> {
    let socket = net::socket_with(family(address), SocketType::STREAM, FLAGS, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true)?;
        sockopt::set_ipv6_freebind(&socket, true)?;
    } else {
        sockopt::set_ip_freebind(&socket, true)?;
    }
    Ok(socket)
}

fn family(address: SocketAddr) -> AddressFamily {
    if address.is_ipv6() { AddressFamily::INET6 } else { AddressFamily::INET }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_has_an_address_of_this_machine_and_no_port() {
        for (source, is_own_address) in [("127.0.0.9", true), ("::1", true), ("192.0.2.77", false)]
        {
            let source: IpAddr = source.parse().unwrap();
            assert_eq!(is_own(source), Ok(is_own_address), "{source}");
            let family = family(SocketAddr::new(source, 0));
            let socket = net::socket_with(family, SocketType::STREAM, FLAGS, None).unwrap();
            assert_eq!(bind_source(&socket, source).is_ok(), is_own_address);
            if is_own_address {
                let bound: SocketAddr = net::getsockname(&socket).unwrap().try_into().unwrap();
                assert_eq!(bound, SocketAddr::new(source, 0));
            }
        }
    }
}
