//! Bytes both ways after the protocol was switched (RFC 9110, section 7.8), as WebSocket does.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf, split};

use crate::stats::{Count, Traffic};

use super::leash::Held;

const BUFFER: usize = 16 << 10;

type Stream = TokioIo<Upgraded>;

/// Carries bytes until both sides have ended, one breaks off, both are silent for `patience`, or the
/// server is taken out.
pub(super) async fn carry(
    client: Upgraded,
    server: Upgraded,
    held: Held,
    traffic: Arc<Traffic>,
    patience: Duration,
) {
    let (from_client, to_client) = split(TokioIo::new(client));
    let (from_server, to_server) = split(TokioIo::new(server));
    held.expect(patience);
    let heard = || held.rope().heard(patience);
    let up = pass(from_client, to_server, &traffic.from_clients, heard);
    let down = pass(from_server, to_client, &traffic.to_clients, heard);
    let both = async { tokio::try_join!(up, down) };
    tokio::select! {
        // One side that failed ends both.
        _ = both => {}
        _ = held.cut() => {}
    }
}

async fn pass(
    mut from: ReadHalf<Stream>,
    mut to: WriteHalf<Stream>,
    count: &Count,
    heard: impl Fn(),
) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let read = from.read(&mut buffer).await?;
        if read == 0 {
            return to.shutdown().await;
        }
        to.write_all(&buffer[..read]).await?;
        count.add(read as u64);
        heard();
    }
}
