//! Real servers of a lab: threads of the test whose sockets are in a node's namespace.
//!
//! To whoever connects they say in one line who they are, as whom they see the client, and at which of
//! their addresses it arrived; then they give back what they are sent.

use std::io::{Read, Write};
use std::net::{Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::sockopt::set_socket_linger;

use super::node::Node;

/// A server. Dropped, it is stopped.
#[derive(Debug)]
pub struct Server {
    /// Closed, or told [`RESET`], the thread ends.
    order: Option<UnixStream>,
    thread: Option<JoinHandle<()>>,
}

const RESET: u8 = b'r';

impl Server {
    /// Listens on these ports of every address that the node has or will have.
    pub fn tcp(node: &Node, name: &str, ports: &[u16]) -> Self {
        let listen = |port: &u16| TcpListener::bind((Ipv6Addr::UNSPECIFIED, *port));
        let listeners = node.enter(|| ports.iter().map(listen).collect::<Result<Vec<_>, _>>());
        let listeners = listeners.unwrap_or_else(|error| panic!("{name} at {ports:?}: {error}"));
        for listener in &listeners {
            listener.set_nonblocking(true).unwrap();
        }
        let name = name.to_owned();
        Self::start(move |order| serve_tcp(&name, &listeners, order))
    }

    /// Answers datagrams to these addresses, each from the address that was asked. The node must
    /// have them: for direct routing name the virtual service's own.
    pub fn udp(node: &Node, name: &str, addresses: &[SocketAddr]) -> Self {
        let sockets =
            node.enter(|| addresses.iter().map(UdpSocket::bind).collect::<Result<Vec<_>, _>>());
        let sockets = sockets.unwrap_or_else(|error| panic!("{name} at {addresses:?}: {error}"));
        for socket in &sockets {
            socket.set_nonblocking(true).unwrap();
        }
        let name = name.to_owned();
        Self::start(move |order| serve_udp(&name, &sockets, order))
    }

    /// Dies as a process does: nobody listens any more, and connections are closed.
    pub fn stop(self) {
        drop(self);
    }

    /// The same, but connections are reset.
    pub fn reset(mut self) {
        let mut order = self.order.take().expect("it is there until the end");
        order.write_all(&[RESET]).unwrap();
    }

    fn start(serve: impl FnOnce(&mut UnixStream) + Send + 'static) -> Self {
        let (order, mut heard) = UnixStream::pair().unwrap();
        let thread = std::thread::spawn(move || serve(&mut heard));
        Self { order: Some(order), thread: Some(thread) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.order.take());
        let outcome = self.thread.take().map(JoinHandle::join);
        if let (Some(Err(panic)), false) = (outcome, std::thread::panicking()) {
            std::panic::resume_unwind(panic);
        }
    }
}

fn serve_tcp(name: &str, listeners: &[TcpListener], order: &mut UnixStream) {
    let mut clients: Vec<TcpStream> = Vec::new();
    loop {
        let ready = readable(order, listeners, &clients);
        if ready[0] {
            break;
        }
        let (new, old) = ready[1..].split_at(listeners.len());
        let mut old = old.iter();
        clients.retain_mut(|client| !*old.next().unwrap_or(&false) || echo(client).is_ok());
        for (listener, _) in listeners.iter().zip(new).filter(|(_, new)| **new) {
            // One that is gone again, or that does not hear the greeting, is nobody's business.
            let accepted = listener.accept().and_then(|(client, _)| greet(client, name));
            clients.extend(accepted.ok());
        }
    }
    if matches!(order.read(&mut [0]), Ok(1)) {
        for client in &clients {
            set_socket_linger(client, Some(Duration::ZERO)).unwrap();
        }
    }
}

fn greet(mut client: TcpStream, name: &str) -> std::io::Result<TcpStream> {
    let greeting = greeting(name, client.peer_addr()?, client.local_addr()?);
    client.write_all(greeting.as_bytes())?;
    Ok(client)
}

/// An error when there is nothing more to come.
fn echo(client: &mut TcpStream) -> std::io::Result<()> {
    let mut buffer = [0; 4096];
    match client.read(&mut buffer)? {
        0 => client.shutdown(Shutdown::Both).and(Err(std::io::ErrorKind::UnexpectedEof.into())),
        count => client.write_all(&buffer[..count]),
    }
}

fn serve_udp(name: &str, sockets: &[UdpSocket], order: &mut UnixStream) {
    loop {
        let ready = readable(order, sockets, &[]);
        if ready[0] {
            return;
        }
        for (socket, _) in sockets.iter().zip(&ready[1..]).filter(|(_, ready)| **ready) {
            // Whom nobody answers asks again.
            let _ = answer(name, socket);
        }
    }
}

fn answer(name: &str, socket: &UdpSocket) -> std::io::Result<usize> {
    let (_, peer) = socket.recv_from(&mut [0; 2048])?;
    socket.send_to(greeting(name, peer, socket.local_addr()?).as_bytes(), peer)
}

fn greeting(name: &str, peer: SocketAddr, local: SocketAddr) -> String {
    let local = SocketAddr::new(local.ip().to_canonical(), local.port());
    format!("{name} {} {local}\n", peer.ip().to_canonical())
}

/// Waits until one of all these has something to read, or an end; tells which, the order first.
fn readable(order: &UnixStream, first: &[impl AsFd], second: &[TcpStream]) -> Vec<bool> {
    let watch = |fd| PollFd::from_borrowed_fd(fd, PollFlags::IN);
    let mut polled = vec![watch(order.as_fd())];
    polled.extend(first.iter().map(|one| watch(one.as_fd())));
    polled.extend(second.iter().map(|one| watch(one.as_fd())));
    poll(&mut polled, None).unwrap();
    polled.iter().map(|polled| !polled.revents().is_empty()).collect()
}
