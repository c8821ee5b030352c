use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread;

use gantry_runtime::clock;
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, Event, EventData};

use super::*;

const HOUR: Patience =
    Patience { client: Duration::from_secs(3600), server: Duration::from_secs(3600) };

/// A relay with nobody but the test to drive it.
struct Stand {
    relay: Relay,
    bench: Bench,
    poller: OwnedFd,
    events: Vec<Event>,
    traffic: Arc<Traffic>,
}

/// Two connected sockets: the one in the test's hand, and the relay's.
fn line() -> (TcpStream, OwnedFd) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let outer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (inner, _) = listener.accept().unwrap();
    inner.set_nonblocking(true).unwrap();
    (outer, inner.into())
}

/// A client, a server, and the relay between them.
fn stand(early: Early, patience: Patience, pipes: usize) -> (TcpStream, TcpStream, Stand) {
    let ((near, client), (far, server)) = (line(), line());
    let poller = epoll::create(epoll::CreateFlags::CLOEXEC).unwrap();
    epoll::add(&poller, &client, EventData::new_u64(0), INTEREST).unwrap();
    epoll::add(&poller, &server, EventData::new_u64(1), INTEREST).unwrap();
    let traffic = Arc::new(Traffic::default());
    let pair = Pair { client, server, early, patience, traffic: Arc::clone(&traffic) };
    let relay = Relay::new(pair, clock::monotonic());
    let bench = Bench::new(Pipes::new(pipes));
    (near, far, Stand { relay, bench, poller, events: Vec::with_capacity(16), traffic })
}

impl Stand {
    /// Takes what events there are, and one turn.
    fn step(&mut self, wait: Duration) -> Progress {
        let wait = wait.try_into().unwrap();
        self.events.clear();
        epoll::wait(&self.poller, spare_capacity(&mut self.events), Some(&wait)).unwrap();
        for event in self.events.drain(..) {
            let side = if { event.data }.u64() == 0 { Side::Client } else { Side::Server };
            self.relay.notice(side, event.flags);
        }
        self.relay.turn(&mut self.bench, clock::monotonic())
    }

    /// Works until `done` or the end of the relay.
    fn until(&mut self, mut done: impl FnMut(&mut Self) -> bool) -> Option<End> {
        loop {
            if let Progress::Ended(end) = self.step(Duration::from_millis(1)) {
                return Some(end);
            }
            if done(self) {
                return None;
            }
        }
    }

    fn run(mut self) -> End {
        let end = self.until(|_| false).expect("it only stops at the end");
        self.relay.close(end);
        end
    }
}

#[test]
fn early_words_come_first_in_both_directions() {
    let early = Early { from_client: b"GET ".to_vec(), from_server: b"220 ".to_vec() };
    let (mut near, mut far, stand) = stand(early, HOUR, 8);
    near.write_all(b"/index").unwrap();
    near.shutdown(Shutdown::Write).unwrap();
    far.write_all(b"ready").unwrap();
    far.shutdown(Shutdown::Write).unwrap();
    assert_eq!(stand.run(), End::Complete);
    let (mut up, mut down) = (String::new(), String::new());
    far.read_to_string(&mut up).unwrap();
    near.read_to_string(&mut down).unwrap();
    assert_eq!((up.as_str(), down.as_str()), ("GET /index", "220 ready"));
}

/// Sends 20 MB through a relay that may have `pipes`; returns how many it opened.
fn bulk(pipes: usize) -> usize {
    let (mut near, mut far, mut stand) = stand(Early::default(), HOUR, pipes);
    let sent: Vec<u8> = (0..20_000_000_u32).map(|at| (at % 251) as u8).collect();
    thread::scope(|scope| {
        scope.spawn(|| {
            near.write_all(&sent).unwrap();
            near.shutdown(Shutdown::Write).unwrap();
        });
        let heard = scope.spawn(|| {
            let mut heard = Vec::new();
            far.read_to_end(&mut heard).unwrap();
            far.shutdown(Shutdown::Write).unwrap();
            heard
        });
        assert_eq!(stand.until(|_| false), Some(End::Complete));
        assert!(heard.join().unwrap() == sent);
    });
    assert_eq!(stand.traffic.from_clients.get(), 20_000_000);
    assert!(stand.relay.directions.iter().all(Direction::is_empty));
    stand.bench.pipes.count()
}

#[test]
fn bulk_is_spliced_through_one_pipe_or_copied_without() {
    assert_eq!(bulk(8), 1);
    assert_eq!(bulk(0), 0);
}

#[test]
fn a_pipe_with_bytes_in_it_is_not_lent_again() {
    let (mut near, far, mut stand) = stand(Early::default(), HOUR, 8);
    near.set_nonblocking(true).unwrap();
    let piece = vec![7; 1 << 18];
    let full = |stand: &mut Stand| {
        while near.write(&piece).is_ok() {}
        let held = &stand.relay.directions[0];
        !held.is_empty() && stand.bench.pipes.count() == 1
    };
    assert_eq!(stand.until(full), None);
    assert_eq!(stand.bench.pipes.idle(), 0, "it is held");
    drop(stand.relay);
    assert_eq!((stand.bench.pipes.idle(), stand.bench.pipes.count()), (0, 0), "and gone");
    drop(far);
}

#[test]
fn an_acknowledgement_is_owed_until_something_is_sent_back() {
    let (mut near, mut far, mut stand) = stand(Early::default(), HOUR, 8);
    let now = clock::monotonic;
    for exchange in 0..5 {
        near.write_all(b"a piece").unwrap();
        assert_eq!(stand.until(|stand| stand.relay.pulse.owed[0].since.is_some()), None);
        let is_due = stand.relay.owes_since().unwrap() <= now();
        assert_eq!(is_due, exchange < 3, "who is used to an answer will get one");
        far.read_exact(&mut [0; 7]).unwrap();
        far.write_all(b"an answer").unwrap();
        assert_eq!(stand.until(|stand| stand.relay.pulse.owed[1].since.is_some()), None);
        near.read_exact(&mut [0; 9]).unwrap();
        assert!(stand.relay.pulse.owed[0].since.is_none(), "the answer has brought it");
    }
    for pieces in 6..8 {
        near.write_all(b"a piece").unwrap();
        assert_eq!(stand.until(|stand| stand.traffic.from_clients.get() == 7 * pieces), None);
    }
    stand.relay.acknowledge(now());
    assert!(stand.relay.owes_since().is_none());
}

#[test]
fn data_and_its_end_in_one_event_are_both_seen() {
    for _ in 0..100 {
        let (mut near, mut far, stand) = stand(Early::default(), HOUR, 8);
        near.write_all(b"x").unwrap();
        near.shutdown(Shutdown::Write).unwrap();
        far.shutdown(Shutdown::Write).unwrap();
        assert_eq!(stand.run(), End::Complete);
        let mut heard = Vec::new();
        far.read_to_end(&mut heard).unwrap();
        assert_eq!(heard, b"x");
    }
}

#[test]
fn a_reset_follows_what_was_read_before_it() {
    let (mut near, mut far, stand) = stand(Early::default(), HOUR, 8);
    far.write_all(b"last words").unwrap();
    socket2::SockRef::from(&far).set_linger(Some(Duration::ZERO)).unwrap();
    drop(far);
    assert_eq!(stand.run(), End::Reset(Side::Server));
    let mut heard = [0; 10];
    near.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"last words");
    assert!(near.read(&mut heard).is_err(), "a reset, not an end");
}

#[test]
fn who_had_the_whole_stream_is_not_reset() {
    let (mut near, mut far, mut stand) = stand(Early::default(), HOUR, 8);
    far.write_all(b"answer").unwrap();
    far.shutdown(Shutdown::Write).unwrap();
    assert_eq!(stand.until(|stand| stand.relay.directions[1].phase() == Phase::Closed), None);
    drop(far);
    near.write_all(b"too late").unwrap();
    near.write_all(b"far too late").unwrap();
    assert_eq!(stand.run(), End::Reset(Side::Server));
    let mut heard = String::new();
    near.read_to_string(&mut heard).unwrap();
    assert_eq!(heard, "answer");
}

#[test]
fn silence_is_measured_for_each_side() {
    let day = Duration::from_secs(24 * 3600);
    let patience = Patience { client: day, server: Duration::from_secs(60) };
    let (_near, _far, stand) = stand(Early::default(), patience, 8);
    let now = clock::monotonic();
    assert_eq!(stand.relay.expired(now), None);
    assert!(stand.relay.deadline() <= now + Duration::from_secs(60));
    let later = now + Duration::from_secs(61);
    assert_eq!(stand.relay.expired(later), Some(End::Idle(Side::Server)));
    assert_eq!(stand.relay.expired(now + 2 * day), Some(End::Idle(Side::Client)));
}

#[test]
fn a_silent_end_is_clean_only_if_nothing_is_lost() {
    let (mut near, _far, mut idle) = stand(Early::default(), HOUR, 8);
    idle.relay.close(End::Idle(Side::Client));
    drop(idle);
    assert_eq!(near.read(&mut [0; 1]).unwrap(), 0);

    let early = Early { from_client: b"held".to_vec(), from_server: Vec::new() };
    let (mut near, mut far, mut holding) = stand(early, HOUR, 8);
    holding.relay.close(End::Idle(Side::Server));
    drop(holding);
    assert!(near.read(&mut [0; 1]).is_err());
    assert!(far.read(&mut [0; 1]).is_err());
}
