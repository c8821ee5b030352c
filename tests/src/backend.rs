//! A real server that says its name to whoever connects and then gives back what it is sent; and a
//! client that looks whether its connection still works.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinSet;

use crate::wait::soon;

/// Longest name of a backend, with the line's end.
const GREETING: usize = 16;

/// A server in this process. Dropped, it is dead.
#[derive(Debug)]
pub struct Backend {
    pub address: SocketAddr,
    tasks: JoinSet<()>,
}

impl Backend {
    pub async fn start(name: &str, address: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind(address).unwrap();
        let listener = socket.listen(1024).unwrap();
        let address = listener.local_addr().unwrap();
        let greeting = format!("{name:<width$}", width = GREETING).into_bytes();
        let mut tasks = JoinSet::new();
        tasks.spawn(serve(listener, greeting));
        Self { address, tasks }
    }

    /// Dies, and gives its address free.
    pub async fn stop(mut self) {
        self.tasks.shutdown().await;
    }
}

async fn serve(listener: TcpListener, greeting: Vec<u8>) {
    let mut clients = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { return };
        clients.spawn(echo(stream, greeting.clone()));
        while clients.try_join_next().is_some() {}
    }
}

async fn echo(mut stream: TcpStream, greeting: Vec<u8>) {
    let mut buffer = vec![0; 4096];
    if stream.write_all(&greeting).await.is_err() {
        return;
    }
    while let Ok(count @ 1..) = stream.read(&mut buffer).await {
        if stream.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}

/// A connection to a backend, through whatever is between.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    /// The name of the backend that answered.
    pub served_by: String,
}

impl Client {
    /// Connects and hears who is there.
    pub async fn connect(to: SocketAddr) -> std::io::Result<Self> {
        Self::greet(TcpStream::connect(to).await?).await
    }

    /// The same from an address of one's own.
    pub async fn connect_from(source: impl Into<IpAddr>, to: SocketAddr) -> std::io::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.bind((source.into(), 0).into())?;
        Self::greet(socket.connect(to).await?).await
    }

    async fn greet(mut stream: TcpStream) -> std::io::Result<Self> {
        let mut greeting = [0; GREETING];
        soon("a backend greets", stream.read_exact(&mut greeting)).await?;
        let served_by = String::from_utf8_lossy(&greeting).trim().to_owned();
        Ok(Self { stream, served_by })
    }

    /// Sends something and waits for it to come back.
    pub async fn echoes(&mut self) -> std::io::Result<()> {
        self.stream.write_all(b"are you there?").await?;
        let mut back = [0; 14];
        soon("a backend echoes", self.stream.read_exact(&mut back)).await?;
        assert_eq!(&back, b"are you there?");
        Ok(())
    }

    /// Waits until the connection ends; gives whether it was reset.
    pub async fn ends(&mut self) -> bool {
        let mut buffer = [0; 64];
        match soon("a connection ends", self.stream.read(&mut buffer)).await {
            Ok(0) => false,
            Ok(count) => panic!("{count} bytes came instead of the end"),
            Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
        }
    }

    /// Whether it is open still: nothing has come, and no end either.
    pub async fn is_open(&mut self) -> bool {
        let mut buffer = [0; 1];
        let read = self.stream.read(&mut buffer);
        tokio::time::timeout(Duration::from_millis(1), read).await.is_err()
    }
}
