//! Clients of a lab: connections and questions that come from a node.

use std::io::{Error, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use gantry_runtime::clock;
use socket2::{Domain, Socket, Type};

use super::node::Node;
use crate::wait::patience;

/// After so long without an answer a datagram is sent again.
const AGAIN: Duration = Duration::from_secs(2);

/// What a server says of itself and of who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub served_by: String,
    /// The client's address as the server saw it.
    pub seen_as: IpAddr,
    /// The server's own address and port, to which the client came.
    pub arrived_at: SocketAddr,
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Closed,
    Reset,
}

/// A connection to a [`Server`](super::Server), through whatever is between.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    pub served_by: String,
    /// The client's address as the server saw it.
    pub seen_as: IpAddr,
    /// The server's own address and port, to which the client came.
    pub arrived_at: SocketAddr,
}

impl Client {
    /// Connects from a node, from one of its addresses if `source` is one, and hears who is there.
    pub fn connect(node: &Node, source: Option<IpAddr>, to: SocketAddr) -> std::io::Result<Self> {
        Self::connect_within(patience(), node, source, to)
    }

    /// The same, but it waits no longer than this: where silence is expected.
    pub fn connect_within(
        limit: Duration,
        node: &Node,
        source: Option<IpAddr>,
        to: SocketAddr,
    ) -> std::io::Result<Self> {
        let socket = socket(node, Type::STREAM, source, to)?;
        socket.connect_timeout(&to.into(), limit)?;
        let mut stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(limit))?;
        stream.set_write_timeout(Some(limit))?;
        let Answer { served_by, seen_as, arrived_at } = parse(&read_line(&mut stream)?)?;
        stream.set_read_timeout(Some(patience()))?;
        Ok(Self { stream, served_by, seen_as, arrived_at })
    }

    /// Asks by datagram, again and again until there is an answer.
    pub fn ask_udp(node: &Node, source: Option<IpAddr>, to: SocketAddr) -> std::io::Result<Answer> {
        let socket = socket(node, Type::DGRAM, source, to)?;
        // Connected, it hears nothing that another address answers.
        socket.connect(&to.into())?;
        let socket = UdpSocket::from(socket);
        socket.set_read_timeout(Some(AGAIN))?;
        let (begun, mut buffer) = (clock::monotonic(), [0; 512]);
        while clock::monotonic() - begun < patience() {
            socket.send(b"who is there?\n")?;
            match socket.recv(&mut buffer) {
                Ok(count) => return parse(&buffer[..count]),
                Err(error) if is_time_out(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Err(ErrorKind::TimedOut.into())
    }

    /// Sends something and waits for it to come back.
    pub fn echoes(&mut self) -> std::io::Result<()> {
        self.stream.write_all(b"are you there?")?;
        let mut back = [0; 14];
        self.stream.read_exact(&mut back)?;
        assert_eq!(&back, b"are you there?");
        Ok(())
    }

    /// Waits until the connection ends; tells how.
    pub fn ends(&mut self) -> End {
        match self.stream.read(&mut [0; 64]) {
            Ok(0) => End::Closed,
            Ok(count) => panic!("{count} bytes came instead of the end"),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => End::Reset,
            Err(error) => panic!("no end came: {error}"),
        }
    }
}

fn socket(
    node: &Node,
    kind: Type,
    source: Option<IpAddr>,
    to: SocketAddr,
) -> std::io::Result<Socket> {
    let socket = node.enter(|| Socket::new(Domain::for_address(to), kind, None))?;
    if let Some(source) = source {
        socket.bind(&SocketAddr::new(source, 0).into())?;
    }
    Ok(socket)
}

fn read_line(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let (mut line, mut buffer) = (Vec::new(), [0; 512]);
    while !line.ends_with(b"\n") {
        match stream.read(&mut buffer) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(count) => line.extend_from_slice(&buffer[..count]),
            Err(error) if is_time_out(&error) => return Err(ErrorKind::TimedOut.into()),
            Err(error) => return Err(error),
        }
    }
    Ok(line)
}

/// A read that ran out of time says that it would block.
fn is_time_out(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

fn parse(line: &[u8]) -> std::io::Result<Answer> {
    let line = String::from_utf8_lossy(line);
    let mut words = line.split_whitespace();
    let mut word = || words.next().unwrap_or_default();
    let answer = (|| {
        let served_by = word().to_owned();
        let (seen_as, arrived_at) = (word().parse().ok()?, word().parse().ok()?);
        Some(Answer { served_by, seen_as, arrived_at })
    })();
    answer.ok_or_else(|| Error::new(ErrorKind::InvalidData, format!("no server says {line:?}")))
}
