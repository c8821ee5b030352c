//! A modality's place in the network: an address of its own, and a hand on its cable.
//!
//! dcmtk's clients cannot choose the address they call from, nor stop half-way. So they call a
//! `Modality`, which calls on from its own address and carries the bytes; it can be told to hold them
//! after so many, until it is told to go on.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

const NO_LIMIT: u64 = u64::MAX;

/// Calls from one address. Dropped, its connections end.
#[derive(Debug)]
pub struct Modality {
    /// What dcmtk is to call.
    pub address: SocketAddr,
    cable: Arc<Cable>,
    _tasks: JoinSet<()>,
}

#[derive(Debug)]
struct Cable {
    source: IpAddr,
    target: SocketAddr,
    /// Bytes that each connection may send.
    limit: watch::Sender<u64>,
    /// Bytes that all connections have sent.
    sent: watch::Sender<u64>,
}

impl Modality {
    /// A modality at `source` that calls `target`.
    pub async fn start(source: impl Into<IpAddr>, target: SocketAddr) -> Self {
        let source = source.into();
        let listener = TcpListener::bind((source, 11_112)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let limit = watch::Sender::new(NO_LIMIT);
        let cable = Arc::new(Cable { source, target, limit, sent: watch::Sender::new(0) });
        let mut tasks = JoinSet::new();
        tasks.spawn(serve(listener, Arc::clone(&cable)));
        Self { address, cable, _tasks: tasks }
    }

    /// Holds each connection once it has sent `bytes`.
    pub fn hold_after(&self, bytes: u64) {
        self.cable.sent.send_replace(0);
        self.cable.limit.send_replace(bytes);
    }

    /// Waits until a connection has sent `bytes`.
    pub async fn has_sent(&self, bytes: u64) {
        let mut sent = self.cable.sent.subscribe();
        let enough = sent.wait_for(|sent| *sent >= bytes);
        crate::wait::soon("a modality has sent its bytes", enough).await.unwrap();
    }

    pub fn go_on(&self) {
        self.cable.limit.send_replace(NO_LIMIT);
    }
}

async fn serve(listener: TcpListener, cable: Arc<Cable>) {
    let mut calls = JoinSet::new();
    loop {
        let Ok((client, _)) = listener.accept().await else { return };
        calls.spawn(call(client, Arc::clone(&cable)));
        while calls.try_join_next().is_some() {}
    }
}

/// Carries one connection. When the far side goes away, so does this one.
async fn call(client: TcpStream, cable: Arc<Cable>) {
    let Ok(server) = dial(&cable).await else { return };
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let back = async {
        let _ended = copy(&mut from_server, &mut to_client).await;
        let _closed = to_client.shutdown().await;
    };
    // Both arms may be dropped: when the server has ended there is nobody left to send to.
    tokio::select! {
        () = back => {}
        () = forward(&mut from_client, &mut to_server, &cable) => {
            let _ended = copy(&mut from_server, &mut to_client).await;
        }
    }
}

async fn dial(cable: &Cable) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((cable.source, 0).into())?;
    let stream = socket.connect(cable.target).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

async fn forward(from: &mut OwnedReadHalf, to: &mut OwnedWriteHalf, cable: &Cable) {
    let (mut buffer, mut own) = (vec![0; 16 << 10], 0);
    let mut limit = cable.limit.subscribe();
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        if limit.wait_for(|limit| own < *limit).await.is_err() {
            return;
        }
        if to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
        own += count as u64;
        cable.sent.send_modify(|sent| *sent = own.max(*sent));
    }
    let _closed = to.shutdown().await;
}
