//! Bytes both ways after the protocol was switched (RFC 9110, section 7.8), as WebSocket does.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use gantry_model::termination::Termination;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf, split};

use crate::ending::{Ending, Phase};
use crate::relay::{End, Side};
use crate::stats::{Count, Traffic};

use super::leash::{Cut, Held};

const BUFFER: usize = 16 << 10;

type Stream = TokioIo<Upgraded>;

/// Carries bytes until both sides have ended, one breaks off, both are silent for `patience`, or the
/// server is taken out; gives the reason.
pub(super) async fn carry(
    client: Upgraded,
    server: Upgraded,
    held: Held,
    traffic: Arc<Traffic>,
    patience: Duration,
) -> Termination {
    let (from_client, to_client) = split(TokioIo::new(client));
    let (from_server, to_server) = split(TokioIo::new(server));
    held.expect(patience);
    let heard = || held.rope().heard(patience);
    let ended = [Cell::new(false), Cell::new(false)];
    let [of_client, of_server] = &ended;
    let up = async {
        let side = Side::Client;
        pass((from_client, to_server), side, &traffic.from_clients, heard).await?;
        of_client.set(true);
        Ok(())
    };
    let down = async {
        let side = Side::Server;
        pass((from_server, to_client), side, &traffic.to_clients, heard).await?;
        of_server.set(true);
        Ok(())
    };
    let both = async { tokio::try_join!(up, down) };
    let end = tokio::select! {
        // One side that failed ends both.
        both = both => both.map_or_else(End::Reset, |_| End::Complete),
        cut = held.cut() => match cut {
            Cut::Taken => return held.taken(),
            // Who has ended is not waited for.
            Cut::Silent if of_client.get() => End::Idle(Side::Server),
            Cut::Silent => End::Idle(Side::Client),
        },
    };
    Ending::Relayed(end).termination(Phase::relayed(ended.map(|side| side.get())))
}

/// Carries what `side` says to the other, until it ends; gives the side that failed.
async fn pass(
    (mut from, mut to): (ReadHalf<Stream>, WriteHalf<Stream>),
    side: Side,
    count: &Count,
    heard: impl Fn(),
) -> Result<(), Side> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let read = from.read(&mut buffer).await.map_err(|_| side)?;
        if read == 0 {
            return to.shutdown().await.map_err(|_| side.other());
        }
        to.write_all(&buffer[..read]).await.map_err(|_| side.other())?;
        count.add(read as u64);
        heard();
    }
}
