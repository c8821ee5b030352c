//! Every byte arrives, in order, and ends arrive as they were meant.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use crate::support::{Bed, expect_reset, layer7, reset, serve, server, until};

/// A repeatable sequence of sizes.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

/// The byte at `at` of a stream: a pattern of prime period, so that no buffer size hides a slip.
fn pattern(seed: u64, at: u64) -> u8 {
    ((at + seed) % 251) as u8
}

/// Writes `length` patterned bytes in pieces of all sizes, then ends the stream.
pub(crate) fn talk(mut stream: &TcpStream, seed: u64, length: u64) {
    let mut dice = Dice(seed);
    let mut at = 0;
    while at < length {
        let limit = if dice.below(2) == 0 { 600 } else { 400_000 };
        let piece = (1 + dice.below(limit)).min(length - at);
        let bytes: Vec<u8> = (at..at + piece).map(|at| pattern(seed, at)).collect();
        stream.write_all(&bytes).unwrap();
        at += piece;
    }
    stream.shutdown(Shutdown::Write).unwrap();
}

/// Reads to the end and checks every byte; `pause` makes a slow reader.
pub(crate) fn listen(mut stream: &TcpStream, seed: u64, length: u64, pause: Duration) {
    let mut buffer = vec![0; 100_003];
    let mut at = 0;
    loop {
        let read = stream.read(&mut buffer).unwrap();
        if read == 0 {
            break;
        }
        for byte in &buffer[..read] {
            assert_eq!(*byte, pattern(seed, at), "at {at} of {length}");
            at += 1;
        }
        thread::sleep(pause);
    }
    assert_eq!(at, length);
}

/// Talks and listens at once.
fn converse(stream: &TcpStream, say: (u64, u64), hear: (u64, u64), pause: Duration) {
    thread::scope(|scope| {
        scope.spawn(|| talk(stream, say.0, say.1));
        listen(stream, hear.0, hear.1, pause);
    });
}

/// A server whose part of the conversation is given by its client's first 16 bytes.
fn partner(done: &Arc<AtomicUsize>) -> std::net::SocketAddr {
    let done = Arc::clone(done);
    serve(move |mut stream| {
        let (mut up, mut down) = ([0; 8], [0; 8]);
        stream.read_exact(&mut up).unwrap();
        stream.read_exact(&mut down).unwrap();
        let (up, down) = (u64::from_be_bytes(up), u64::from_be_bytes(down));
        converse(&stream, (down, down), (up, up), Duration::ZERO);
        done.fetch_add(1, SeqCst);
    })
}

fn lengths(mut stream: &TcpStream, up: u64, down: u64) {
    stream.write_all(&[up.to_be_bytes(), down.to_be_bytes()].concat()).unwrap();
}

#[test]
fn many_conversations_at_once_arrive_byte_for_byte() {
    let (mut bed, done) = (Bed::new(), Arc::new(AtomicUsize::new(0)));
    bed.put(&bed.service("pacs", "104"), &[server("pacs", "a", partner(&done))]);
    let moved: u64 = thread::scope(|scope| {
        let bed = &bed;
        let talks: Vec<_> = (0..48)
            .map(|number| {
                scope.spawn(move || {
                    let mut dice = Dice(number);
                    let mut length = || match dice.below(4) {
                        0 => dice.below(3),
                        1 => dice.below(3_000),
                        2 => dice.below(300_000),
                        _ => dice.below(9_000_000),
                    };
                    let (up, down) = (length(), length());
                    let stream = bed.connect(104);
                    lengths(&stream, up, down);
                    converse(&stream, (up, up), (down, down), Duration::ZERO);
                    up + 16 + down
                })
            })
            .collect();
        talks.into_iter().map(|talk| talk.join().unwrap()).sum()
    });
    until("every server has heard all", || done.load(SeqCst) == 48);
    until("no connection is left", || bed.sample("pacs").active == 0);
    let traffic = bed.sample("pacs").traffic;
    assert_eq!(traffic.bytes_from_clients + traffic.bytes_to_clients, moved);
    assert_eq!(bed.server("pacs", "a").active, 0);
}

#[test]
fn a_half_closed_side_still_hears_slowly() {
    let (mut bed, done) = (Bed::new(), Arc::new(AtomicUsize::new(0)));
    bed.put(&bed.service("pacs", "104"), &[server("pacs", "a", partner(&done))]);
    let stream = bed.connect(104);
    lengths(&stream, 5, 6_000_000);
    talk(&stream, 5, 5);
    listen(&stream, 6_000_000, 6_000_000, Duration::from_millis(1));
    until("the server has heard all", || done.load(SeqCst) == 1);
}

#[test]
fn a_server_may_end_first_and_hear_on() {
    let (mut bed, done) = (Bed::new(), Arc::new(AtomicUsize::new(0)));
    bed.put(&bed.service("pacs", "104"), &[server("pacs", "a", partner(&done))]);
    let stream = bed.connect(104);
    lengths(&stream, 7_000_000, 3);
    listen(&stream, 3, 3, Duration::ZERO);
    talk(&stream, 7_000_000, 7_000_000);
    until("the server has heard all", || done.load(SeqCst) == 1);
}

#[test]
fn who_sends_and_closes_is_heard() {
    let (heard, hearing) = std::sync::mpsc::channel();
    let at = serve(move |mut stream| {
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        heard.send(all).unwrap();
    });
    let mut bed = Bed::new();
    bed.put(&bed.service("pacs", "104"), &[server("pacs", "a", at)]);
    for _ in 0..50 {
        let mut stream = bed.connect(104);
        stream.write_all(b"image").unwrap();
        drop(stream);
        assert_eq!(hearing.recv().unwrap(), b"image");
    }
}

#[test]
fn resets_go_through_both_ways() {
    let (met, meeting) = std::sync::mpsc::channel();
    let at = serve(move |mut stream| {
        let mut word = [0; 5];
        stream.read_exact(&mut word).unwrap();
        match &word {
            b"reset" => reset(stream),
            _ => met.send(stream.read(&mut word).map_err(|error| error.kind())).unwrap(),
        }
    });
    let mut bed = Bed::new();
    bed.put(&bed.service("pacs", "104"), &[server("pacs", "a", at)]);
    let mut client = bed.connect(104);
    client.write_all(b"reset").unwrap();
    expect_reset(&mut client);

    let mut client = bed.connect(104);
    client.write_all(b"hello").unwrap();
    until("the server has it", || bed.sample("pacs").traffic.bytes_from_clients == 10);
    reset(client);
    assert_eq!(meeting.recv().unwrap(), Err(std::io::ErrorKind::ConnectionReset));
    until("no connection is left", || bed.sample("pacs").active == 0);
}

#[test]
fn an_answer_before_a_reset_is_heard() {
    // A server that answers without reading all: its kernel resets the connection at its close.
    let at = serve(|mut stream| {
        stream.read_exact(&mut [0; 1]).unwrap();
        stream.write_all(b"too large").unwrap();
    });
    let mut bed = Bed::new();
    bed.put(&bed.service("pacs", "104"), &[server("pacs", "a", at)]);
    let mut client = bed.connect(104);
    client.write_all(&[0; 10_000]).unwrap();
    let mut answer = [0; 9];
    client.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"too large");
}

#[test]
fn a_server_that_does_not_read_blocks_its_client() {
    let (hold, held) = std::sync::mpsc::channel::<()>();
    let held = parking_lot::Mutex::new(held);
    let at = serve(move |stream| {
        let _ = held.lock().recv();
        drop(stream);
    });
    let mut bed = Bed::new();
    bed.put(&bed.service("pacs", "104"), &[server("pacs", "a", at)]);
    let mut client = bed.connect(104);
    client.set_nonblocking(true).unwrap();
    let (mut sent, mut calm, piece) = (0_u64, 0, vec![0; 1 << 16]);
    until("the client is blocked for good", || {
        match client.write(&piece) {
            Ok(written) => (sent, calm) = (sent + written as u64, 0),
            Err(_) => calm += 1,
        }
        calm > 200
    });
    let taken = bed.sample("pacs").traffic.bytes_from_clients;
    // Four socket buffers and what the relay itself may hold of one direction.
    assert!(sent - taken < 16 << 20, "{sent} sent, {taken} passed on");
    drop(hold);
    until("no connection is left", || bed.sample("pacs").active == 0);
}

#[test]
fn silent_connections_end() {
    let at = serve(|mut stream| drop(std::io::copy(&mut stream, &mut std::io::sink())));
    let mut bed = Bed::new();
    let mut service = bed.service("pacs", "104");
    for (client, server_patience) in [(20, 3_600_000), (3_600_000, 20)] {
        layer7(&mut service).timeouts.client = Duration::from_millis(client);
        layer7(&mut service).timeouts.server = Duration::from_millis(server_patience);
        bed.put(&service, &[server("pacs", "a", at)]);
        let mut whole = bed.connect(104);
        assert_eq!(whole.read(&mut [0; 1]).unwrap(), 0, "a clean end: nothing was lost");
        let mut half = bed.connect(104);
        half.shutdown(Shutdown::Write).unwrap();
        assert_eq!(half.read(&mut [0; 1]).unwrap(), 0);
    }
    until("no connection is left", || bed.sample("pacs").active == 0);
    assert!(bed.sample("pacs").idle_timeouts >= 2);
}
