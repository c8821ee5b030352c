//! A real server is killed while clients keep coming to a service of two, each with a connection and
//! a message of its own: how many are not served, and how soon are all served again?

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::anyhow;
use gantry_runtime::clock;
use parking_lot::Mutex;

use super::super::figures::Durations;
use super::super::rig::Rig;
use super::targets::{Target, start_backend};
use super::wire;
use crate::say;

/// From one client to the next.
const PACE: Duration = Duration::from_millis(5);
/// How long a client waits for its acknowledgement.
const PATIENCE: Duration = Duration::from_secs(1);
/// Before a kill, and after it.
const CALM: Duration = Duration::from_secs(1);
const AFTER: Duration = Duration::from_secs(4);
/// For the checks to see a server again.
const RECOVERY: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Debug)]
struct Attempt {
    began: Instant,
    ended: Instant,
    succeeded: bool,
}

/// Kills a real server of `targets`, which all have `servers`; the first is the one that dies.
pub(super) fn measure(
    rig: &Rig,
    targets: &[Target],
    server: SocketAddr,
    kills: usize,
) -> anyhow::Result<()> {
    say("\na real server of two is killed; a client every 5 ms, each with one message");
    let mut failed = vec![0; targets.len()];
    let mut served = vec![Durations::default(); targets.len()];
    for _ in 0..kills {
        for (at, target) in targets.iter().enumerate() {
            let backend = start_backend(rig, server)?;
            std::thread::sleep(RECOVERY);
            let stop = Arc::new(AtomicBool::new(false));
            let attempts = Arc::new(Mutex::new(Vec::new()));
            let clients = {
                let (stop, attempts, to) =
                    (Arc::clone(&stop), Arc::clone(&attempts), target.ports.tcp);
                std::thread::spawn(move || keep_coming(to, &stop, &attempts))
            };
            std::thread::sleep(CALM);
            let killed = clock::monotonic();
            drop(backend);
            std::thread::sleep(AFTER);
            stop.store(true, Ordering::Relaxed);
            clients.join().map_err(|_| anyhow!("the clients panicked"))?;
            let attempts = attempts.lock();
            let lost = attempts.iter().filter(|attempt| !attempt.succeeded);
            let after =
                attempts.iter().filter(|attempt| attempt.succeeded && attempt.began >= killed);
            failed[at] += lost.count();
            let first = after.map(|attempt| attempt.ended - killed).min();
            served[at].push(first.unwrap_or(AFTER));
        }
    }
    for ((target, failed), served) in targets.iter().zip(failed).zip(&served) {
        say(format_args!(
            "  {:<8} not served in all: {failed:4}; kill to the first served: {}",
            target.name,
            served.spread()
        ));
    }
    Ok(())
}

/// Each client is a thread of its own: one that waits holds up no other.
fn keep_coming(to: SocketAddr, stop: &AtomicBool, attempts: &Arc<Mutex<Vec<Attempt>>>) {
    let mut next = clock::monotonic();
    let mut clients = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let attempts = Arc::clone(attempts);
        clients.push(std::thread::spawn(move || {
            let began = clock::monotonic();
            let succeeded = send_one(to).is_ok();
            attempts.lock().push(Attempt { began, ended: clock::monotonic(), succeeded });
        }));
        next += PACE;
        std::thread::sleep(next.saturating_duration_since(clock::monotonic()));
    }
    // None of them can panic.
    clients.into_iter().for_each(|client| drop(client.join()));
}

fn send_one(to: SocketAddr) -> std::io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&to, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let message = wire::message();
    stream.write_all(&message)?;
    let mut answer = [0; wire::ACKNOWLEDGEMENT];
    stream.read_exact(&mut answer)?;
    if wire::acknowledges(&answer, &message) {
        return Ok(());
    }
    Err(std::io::Error::other("an acknowledgement of another message"))
}
