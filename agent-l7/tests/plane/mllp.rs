//! Lanes of HL7 messages: one sender's connection, and receivers that come, go, refuse, hang and die behind it.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::Duration;

use gantry_medical::hl7::{Acknowledgement, Code};
use gantry_medical::mllp::{Decoder, Frame};
use gantry_model::mllp::Mllp;
use gantry_model::server::{AdminState, RealServer};
use gantry_model::service::{
    Mode, PassiveHealth, Persistence, PersistenceKey, ServerTls, Strategy, VirtualService,
};
use gantry_model::termination::Termination;
use parking_lot::Mutex;

use crate::support::*;
use crate::tls::{Authority, BOTH, client_config, secret_serve};
use crate::upgrade::upgrade;

/// What a receiver does with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manner {
    Say(&'static str),
    /// A commit acknowledgement, and the application's when the test says so.
    Commit,
    /// No answer, with the connection open.
    Hang,
    /// Takes it, and closes.
    Die,
    /// The answer to another message first.
    Stray,
    /// An answer in pieces, with noise around it.
    Noisy,
    /// Something that is no HL7.
    Babble,
}

/// A receiver of messages: its manner may change at any time.
struct Engine {
    at: SocketAddr,
    manner: Arc<Mutex<Manner>>,
    /// The control ids of what it got, in order, and its open connections.
    seen: Arc<Mutex<Vec<String>>>,
    open: Arc<Mutex<Vec<TcpStream>>>,
}

impl Engine {
    fn new(manner: Manner) -> Self {
        Self::at(SocketAddr::new(own_address(), 0), manner)
    }

    fn at(at: SocketAddr, manner: Manner) -> Self {
        let (manner, seen) = (Arc::new(Mutex::new(manner)), Arc::default());
        let open: Arc<Mutex<Vec<TcpStream>>> = Arc::default();
        let listener = TcpListener::bind(at).unwrap();
        let at = listener.local_addr().unwrap();
        let (its_manner, its_seen) = (Arc::clone(&manner), Arc::clone(&seen));
        let its_open = Arc::clone(&open);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (manner, seen) = (Arc::clone(&its_manner), Arc::clone(&its_seen));
                let stream = stream.unwrap();
                its_open.lock().push(stream.try_clone().unwrap());
                thread::spawn(move || {
                    receive(&stream, &manner, &seen);
                    let _ = stream.shutdown(Shutdown::Both);
                });
            }
        });
        Self { at, manner, seen, open }
    }

    fn set(&self, manner: Manner) {
        *self.manner.lock() = manner;
    }

    fn seen(&self) -> Vec<String> {
        self.seen.lock().clone()
    }

    fn count(&self) -> usize {
        self.seen.lock().len()
    }

    /// Sends on its last connection, unasked.
    fn say(&self, bytes: &[u8]) {
        self.open.lock().last_mut().unwrap().write_all(bytes).unwrap();
    }

    /// Closes all its connections.
    fn hang_up(&self) {
        for stream in self.open.lock().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

fn receive(mut stream: impl Read + Write, manner: &Mutex<Manner>, seen: &Mutex<Vec<String>>) {
    let mut frames = Frames::default();
    while let Some(message) = frames.next(&mut stream) {
        let id = id(&message);
        seen.lock().push(id.clone());
        let manner = *manner.lock();
        let answers: Vec<Vec<u8>> = match manner {
            Manner::Say(code) => vec![acknowledgement(code, &id)],
            Manner::Commit => vec![acknowledgement("CA", &id)],
            Manner::Stray => vec![acknowledgement("AA", "elsewhere"), acknowledgement("AA", &id)],
            Manner::Noisy => {
                let answer = acknowledgement("AA", &id);
                let (one, two) = answer.split_at(5);
                vec![b"\r\n\0".to_vec(), one.to_vec(), two.to_vec(), b"\0".to_vec()]
            }
            Manner::Babble => vec![Frame::new(b"what?").unwrap().into_bytes()],
            Manner::Hang => continue,
            Manner::Die => return,
        };
        if answers.into_iter().any(|answer| stream.write_all(&answer).is_err()) {
            return;
        }
    }
}

/// Frames of one stream.
#[derive(Default)]
struct Frames {
    decoder: Decoder,
    ready: VecDeque<Vec<u8>>,
}

impl Frames {
    /// The next message; none at the end of the stream.
    fn next(&mut self, stream: &mut impl Read) -> Option<Vec<u8>> {
        let mut buffer = [0; 4096];
        loop {
            if let Some(message) = self.ready.pop_front() {
                return Some(message);
            }
            let read = stream.read(&mut buffer).ok().filter(|read| *read > 0)?;
            let mut bytes = &buffer[..read];
            while let Some(frame) = self.decoder.read(&mut bytes).unwrap() {
                self.ready.push_back(frame.message().to_vec());
            }
        }
    }
}

fn id(message: &[u8]) -> String {
    String::from_utf8_lossy(message.split(|byte| *byte == b'|').nth(9).unwrap_or_default()).into()
}

fn message(id: &str) -> Vec<u8> {
    message_with(id, "PID|1||TEST", "")
}

/// With a content, and MSH-15 and MSH-16.
fn message_with(id: &str, content: &str, conditions: &str) -> Vec<u8> {
    let text =
        format!("MSH|^~\\&|HIS|SITE|||20261127||ADT^A01|{id}|P|2.5|||{conditions}\r{content}\r");
    Frame::new(text.as_bytes()).unwrap().into_bytes()
}

fn acknowledgement(code: &str, id: &str) -> Vec<u8> {
    let text = format!("MSH|^~\\&|ENGINE|SITE|HIS|SITE|20261127||ACK|1|P|2.5\rMSA|{code}|{id}\r");
    Frame::new(text.as_bytes()).unwrap().into_bytes()
}

/// A sender, with its connection.
struct Feed {
    stream: TcpStream,
    frames: Frames,
}

impl Feed {
    fn new(bed: &Bed) -> Self {
        Self { stream: bed.connect(104), frames: Frames::default() }
    }

    fn from(bed: &Bed, client: [u8; 4]) -> Self {
        Self { stream: bed.connect_from(client), frames: Frames::default() }
    }

    /// Sends a message, and gives the code of its acknowledgement.
    fn send(&mut self, id: &str) -> String {
        self.stream.write_all(&message(id)).unwrap();
        self.hear(id).expect("an acknowledgement")
    }

    /// The code of the next acknowledgement, which is of that message; none at the end of the stream.
    fn hear(&mut self, id: &str) -> Option<String> {
        let answer = self.frames.next(&mut self.stream)?;
        let read = Acknowledgement::read(&answer).unwrap();
        assert_eq!(String::from_utf8_lossy(read.control_id), id);
        Some(read.code.as_str().to_owned())
    }
}

fn lanes(bed: &Bed) -> VirtualService {
    let mut service = bed.service("pacs", "104");
    layer7(&mut service).mode = Mode::Mllp;
    service
}

fn settings(service: &mut VirtualService) -> &mut Mllp {
    &mut layer7(service).mllp
}

/// The engines as real servers: `a`, `b` and so on.
fn servers(engines: &[Engine]) -> Vec<RealServer> {
    let names = ["a", "b", "c"];
    names.iter().zip(engines).map(|(name, engine)| server("pacs", name, engine.at)).collect()
}

fn willing<const COUNT: usize>() -> [Engine; COUNT] {
    std::array::from_fn(|_| Engine::new(Manner::Say("AA")))
}

#[test]
fn a_lane_stays_with_its_server_and_order_holds() {
    let engines = willing::<2>();
    let mut bed = Bed::new();
    bed.put(&lanes(&bed), &servers(&engines));
    let (mut one, mut two) = (Feed::new(&bed), Feed::new(&bed));
    let ids: Vec<String> = (0..20).map(|at| format!("M{at}")).collect();
    for id in &ids {
        assert_eq!((one.send(id), two.send(&format!("N{id}"))), ("AA".into(), "AA".into()));
    }
    let [first, second] = engines.each_ref().map(Engine::seen);
    assert_eq!(first, ids);
    assert_eq!(second, ids.iter().map(|id| format!("N{id}")).collect::<Vec<_>>());
    drop((one, two));
    until("both are over", || bed.sample("pacs").ended.contains(&(Termination::Completed, 2)));
    let sample = bed.sample("pacs").mllp;
    assert_eq!((sample.messages, sample.codes), (40, vec![(Some(Code::ApplicationAccept), 40)]));
    assert_eq!(sample.types, [("ADT^A01".to_owned(), 40)]);
    assert!(!sample.waited.is_zero());
    let of_server = bed.server("pacs", "a");
    assert_eq!((of_server.mllp.messages, of_server.traffic.connections), (20, 1));
}

#[test]
fn framing_is_borne_with_and_a_sender_that_goes_ahead_waits() {
    let engine = [Engine::new(Manner::Noisy)];
    let mut bed = Bed::new();
    bed.put(&lanes(&bed), &servers(&engine));
    let mut feed = Feed::new(&bed);
    let ids: Vec<String> = (0..50).map(|at| at.to_string()).collect();
    let mut stream = Vec::new();
    for id in &ids {
        stream.extend_from_slice(b"\r\n\0");
        stream.extend(message(id));
    }
    // All at once, and byte by byte.
    feed.stream.write_all(&stream).unwrap();
    for id in &ids {
        assert_eq!(feed.hear(id).as_deref(), Some("AA"));
    }
    let single = message("last");
    for byte in single.chunks(1) {
        feed.stream.write_all(byte).unwrap();
    }
    assert_eq!(feed.hear("last").as_deref(), Some("AA"));
    assert_eq!(engine[0].count(), 51);
    // FS alone is data, and a message may be as large as is allowed.
    let large = format!("OBX|1|ED|{}\u{1c}{}", "x".repeat(300_000), "y".repeat(300_000));
    feed.stream.write_all(&message_with("large", &large, "")).unwrap();
    assert_eq!(feed.hear("large").as_deref(), Some("AA"));
}

#[test]
fn too_long_a_message_closes_its_sender_only() {
    let engine = willing::<1>();
    let mut bed = Bed::new();
    let mut service = lanes(&bed);
    settings(&mut service).longest_message = 1024;
    bed.put(&service, &servers(&engine));
    let (mut good, mut bad) = (Feed::new(&bed), Feed::new(&bed));
    good.send("1");
    bad.stream.write_all(&message_with("2", &"x".repeat(2000), "")).unwrap();
    expect_reset(&mut bad.stream);
    let mut babbling = bed.connect(104);
    babbling.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    babbling.shutdown(Shutdown::Write).unwrap();
    assert_eq!(babbling.read(&mut [0]).unwrap(), 0, "there was nothing to answer");
    assert_eq!(good.send("3"), "AA");
    assert!(bed.sample("pacs").ended.contains(&(Termination::MessageTooLong, 1)));
    assert_eq!(engine[0].seen(), ["1", "3"]);
}

#[test]
fn a_server_that_is_not_there_or_left_between_messages_costs_nothing() {
    let engines = willing::<2>();
    let mut bed = Bed::new();
    let mut all = servers(&engines);
    all.push(server("pacs", "c", nobody()));
    bed.put(&lanes(&bed), &all);
    let mut feeds: Vec<Feed> = (0..3).map(|_| Feed::new(&bed)).collect();
    for (at, feed) in feeds.iter_mut().enumerate() {
        assert_eq!(feed.send(&format!("first-{at}")), "AA");
    }
    engines.iter().for_each(Engine::hang_up);
    for (at, feed) in feeds.iter_mut().enumerate() {
        assert_eq!(feed.send(&format!("second-{at}")), "AA");
    }
    for round in 0..4 {
        engines.iter().for_each(Engine::hang_up);
        until("no lane has a server", || {
            ["a", "b"].iter().all(|id| bed.server("pacs", id).active == 0)
        });
        for (at, feed) in feeds.iter_mut().enumerate() {
            assert_eq!(feed.send(&format!("round-{round}-{at}")), "AA");
        }
    }
    let sample = bed.sample("pacs");
    assert_eq!((sample.mllp.in_doubt, sample.accepted), (0, 3), "no sender has noticed");
}

#[test]
fn a_message_waits_for_a_server_to_come_back() {
    let mut bed = Bed::new();
    let at = nobody();
    bed.put(&lanes(&bed), &[server("pacs", "a", at)]);
    let mut feed = Feed::new(&bed);
    feed.stream.write_all(&message("1")).unwrap();
    until("it was tried", || bed.server("pacs", "a").traffic.connect_failures > 0);
    let engine = Engine::at(at, Manner::Say("AA"));
    assert_eq!(feed.hear("1").as_deref(), Some("AA"));
    assert_eq!(engine.seen(), ["1"]);

    let mut service = lanes(&bed);
    settings(&mut service).acknowledgement_timeout = Duration::from_millis(30);
    bed.put(&service, &[server("pacs", "a", nobody())]);
    feed.stream.write_all(&message("2")).unwrap();
    expect_reset(&mut feed.stream);
    assert!(bed.sample("pacs").ended.contains(&(Termination::ConnectRefused, 1)));
}

/// The sender's connection ends, nothing is acknowledged, and the message that it sends again goes elsewhere.
#[test]
fn in_doubt_the_sender_is_closed_and_its_repetition_goes_elsewhere() {
    for manner in [Manner::Die, Manner::Hang] {
        let engines = [Engine::new(manner), Engine::new(Manner::Say("AA"))];
        let mut bed = Bed::new();
        let mut service = lanes(&bed);
        settings(&mut service).acknowledgement_timeout = Duration::from_millis(50);
        // It would be tried again at once.
        layer7(&mut service).passive_health =
            PassiveHealth { disabled: true, ..PassiveHealth::DEFAULT };
        bed.put(&service, &servers(&engines));
        let mut feed = Feed::new(&bed);
        feed.stream.write_all(&message("1")).unwrap();
        expect_reset(&mut feed.stream);
        for _ in 0..3 {
            let mut again = Feed::new(&bed);
            assert_eq!(again.send("1"), "AA", "{manner:?}");
        }
        assert_eq!(engines[0].seen(), ["1"], "{manner:?}");
        assert_eq!(engines[1].seen(), ["1"], "the others got what was kept: {manner:?}");
        let sample = bed.sample("pacs");
        assert_eq!((sample.mllp.in_doubt, sample.mllp.replayed), (1, 2));
        assert_eq!((bed.server("pacs", "a").mllp.in_doubt, sample.mllp.resent), (1, 0));
        assert!(sample.ended.contains(&(Termination::MessageInDoubt, 1)));
    }
}

#[test]
fn by_choice_a_message_in_doubt_is_sent_again_at_once() {
    let engines =
        [Engine::new(Manner::Die), Engine::new(Manner::Die), Engine::new(Manner::Say("AA"))];
    let mut bed = Bed::new();
    let mut service = lanes(&bed);
    settings(&mut service).resend_in_doubt = true;
    bed.put(&service, &servers(&engines));
    let mut feed = Feed::new(&bed);
    for at in 0..5 {
        assert_eq!(feed.send(&at.to_string()), "AA");
    }
    assert_eq!(engines[2].count(), 5);
    assert!(engines.iter().take(2).all(|engine| engine.count() <= 1), "they are left aside");
    let sample = bed.sample("pacs");
    assert_eq!((sample.mllp.in_doubt, sample.mllp.resent), (2, 2));
}

#[test]
fn an_answer_that_nobody_waits_for_any_more_reaches_nobody() {
    let engine = [Engine::new(Manner::Stray)];
    let mut bed = Bed::new();
    bed.put(&lanes(&bed), &servers(&engine));
    let mut feed = Feed::new(&bed);
    assert_eq!(feed.send("1"), "AA");
    engine[0].say(&acknowledgement("AA", "1"));
    until("it is seen", || bed.sample("pacs").mllp.strays == 2);
    assert_eq!(feed.send("2"), "AA");
    engine[0].set(Manner::Babble);
    feed.stream.write_all(&message("3")).unwrap();
    assert_eq!(
        feed.frames.next(&mut feed.stream).unwrap(),
        b"what?",
        "it is the only answer there is"
    );
    assert_eq!(bed.sample("pacs").mllp.codes, [(Some(Code::ApplicationAccept), 2), (None, 1)]);
}

#[test]
fn a_repetition_gets_the_answer_that_was_kept_and_other_content_is_delivered() {
    let engine = willing::<1>();
    let mut bed = Bed::new();
    let mut service = lanes(&bed);
    bed.put(&service, &servers(&engine));
    let mut feed = Feed::new(&bed);
    feed.send("1");
    assert_eq!((feed.send("1"), Feed::new(&bed).send("1")), ("AA".into(), "AA".into()));
    assert_eq!(engine[0].count(), 1);
    let carried = bed.server("pacs", "a").traffic.bytes_to_clients;
    assert_eq!(carried, acknowledgement("AA", "1").len() as u64, "the server's own answer only");
    feed.stream.write_all(&message_with("1", "PID|1||OTHER", "")).unwrap();
    assert_eq!(feed.hear("1").as_deref(), Some("AA"));
    assert_eq!(engine[0].count(), 2);
    let sample = bed.sample("pacs").mllp;
    assert_eq!((sample.messages, sample.replayed, sample.reused), (4, 2, 1));
    // What was refused may be taken the next time.
    engine[0].set(Manner::Say("AE"));
    assert_eq!(feed.send("2"), "AE");
    engine[0].set(Manner::Say("AA"));
    assert_eq!(feed.send("2"), "AA");
    settings(&mut service).replay_window = None;
    bed.put(&service, &servers(&engine));
    assert_eq!((feed.send("3"), feed.send("3")), ("AA".into(), "AA".into()));
    assert_eq!(engine[0].seen()[4..], ["3", "3"]);
}

#[test]
fn refusals_are_told_and_many_in_a_row_leave_the_server_aside() {
    let engines = [Engine::new(Manner::Say("AE")), Engine::new(Manner::Say("AA"))];
    let mut bed = Bed::new();
    let mut service = lanes(&bed);
    settings(&mut service).negatives = 3.try_into().unwrap();
    let hour = Duration::from_secs(3600);
    layer7(&mut service).passive_health = PassiveHealth { hold: hour, ..PassiveHealth::DEFAULT };
    bed.put(&service, &servers(&engines));
    let mut feed = Feed::new(&bed);
    let codes: Vec<String> = (0..6).map(|at| feed.send(&at.to_string())).collect();
    assert_eq!(codes, ["AE", "AE", "AE", "AA", "AA", "AA"]);
    // Where all refuse, nobody is better.
    engines[1].set(Manner::Say("AR"));
    let codes: Vec<String> = (6..16).map(|at| feed.send(&at.to_string())).collect();
    assert!(codes.iter().all(|code| code == "AR" || code == "AE"), "{codes:?}");
    assert_eq!(bed.sample("pacs").accepted, 1, "the sender has stayed");
    assert_eq!(bed.sample("pacs").mllp.in_doubt, 0);
}

#[test]
fn a_drain_moves_the_lane_at_the_next_boundary_and_back() {
    let engines = willing::<2>();
    let mut bed = Bed::new();
    let mut service = lanes(&bed);
    service.strategy = Strategy::Failover;
    let with = |state| {
        let mut all = servers(&engines);
        all[0].admin_state = state;
        all
    };
    bed.put(&service, &with(AdminState::Online));
    let mut feeds: Vec<Feed> = (0..4).map(|_| Feed::new(&bed)).collect();
    let mut next = 0;
    let mut round = |feeds: &mut [Feed]| {
        for feed in feeds {
            next += 1;
            assert_eq!(feed.send(&next.to_string()), "AA");
        }
    };
    round(&mut feeds);
    assert_eq!(engines[0].count(), 4);
    for state in [AdminState::Drain { halt_at: None }, AdminState::Halt] {
        let before = engines[0].count();
        bed.put(&service, &with(state));
        until("an idle lane leaves at once", || bed.server("pacs", "a").active == 0);
        (0..3).for_each(|_| round(&mut feeds));
        assert_eq!(engines[0].count(), before, "not one further message");
        bed.put(&service, &with(AdminState::Online));
        round(&mut feeds);
        assert_eq!(engines[0].count(), before + 4, "and back");
    }
    bed.verdict("pacs", "a", Some(false));
    bed.verdict("pacs", "b", Some(true));
    let before = engines[0].count();
    round(&mut feeds);
    assert_eq!(engines[0].count(), before, "its check has failed");
    bed.verdict("pacs", "a", Some(true));
    round(&mut feeds);
    assert_eq!(engines[0].count(), before + 4);
    assert_eq!(bed.sample("pacs").accepted, 4, "the senders' connections are what they were");
}

#[test]
fn a_message_under_way_has_its_answer_while_the_server_drains() {
    let engines = [Engine::new(Manner::Hang), Engine::new(Manner::Say("AA"))];
    let mut bed = Bed::new();
    let service = lanes(&bed);
    bed.put(&service, &servers(&engines));
    let mut feed = Feed::new(&bed);
    feed.stream.write_all(&message("1")).unwrap();
    until("it is there", || engines[0].count() == 1);
    let mut all = servers(&engines);
    all[0].admin_state = AdminState::Drain { halt_at: None };
    bed.put(&service, &all);
    engines[0].say(&acknowledgement("AA", "1"));
    assert_eq!(feed.hear("1").as_deref(), Some("AA"));
    assert_eq!(feed.send("2"), "AA");
    assert_eq!((engines[0].seen(), engines[1].seen()), (vec!["1".into()], vec!["2".to_owned()]));
    // A halt does not wait: that one is in doubt.
    engines[1].set(Manner::Hang);
    feed.stream.write_all(&message("3")).unwrap();
    until("it is there", || engines[1].count() == 2);
    all[1].admin_state = AdminState::Halt;
    bed.put(&service, &all);
    expect_reset(&mut feed.stream);
    assert!(bed.sample("pacs").ended.contains(&(Termination::ServerHalted, 1)));
}

#[test]
fn each_message_may_get_a_server_of_its_own() {
    let engines = willing::<2>();
    let mut bed = Bed::new();
    let mut service = lanes(&bed);
    settings(&mut service).by_message = true;
    bed.put(&service, &servers(&engines));
    let mut feed = Feed::new(&bed);
    for at in 0..20 {
        assert_eq!(feed.send(&at.to_string()), "AA");
    }
    assert_eq!(engines.each_ref().map(Engine::count), [10, 10]);
    let connections = ["a", "b"].map(|id| bed.server("pacs", id).traffic.connections);
    assert_eq!(connections, [1, 1], "connections are kept for the next message");
    until("they count no longer", || {
        ["a", "b"].iter().all(|id| bed.server("pacs", id).active == 0)
    });
    engines[0].hang_up();
    for at in 20..30 {
        assert_eq!(feed.send(&at.to_string()), "AA");
    }
    let mut all = servers(&engines);
    all[0].admin_state = AdminState::Drain { halt_at: None };
    bed.put(&service, &all);
    let before = engines[0].count();
    for at in 30..40 {
        assert_eq!(feed.send(&at.to_string()), "AA");
    }
    assert_eq!(engines[0].count(), before);
    assert_eq!(bed.sample("pacs").mllp.in_doubt, 0);
}

#[test]
fn commit_and_application_acknowledgements_both_come_back() {
    let engines = [Engine::new(Manner::Commit), Engine::new(Manner::Say("AA"))];
    let mut bed = Bed::new();
    let service = lanes(&bed);
    bed.put(&service, &servers(&engines));
    let mut feed = Feed::new(&bed);
    for id in ["1", "2"] {
        feed.stream.write_all(&message_with(id, "PID|1", "AL|AL")).unwrap();
        assert_eq!(feed.hear(id).as_deref(), Some("CA"));
    }
    // The lane owes nothing to a server that drains, but that owes it something.
    let mut all = servers(&engines);
    all[0].admin_state = AdminState::Drain { halt_at: None };
    bed.put(&service, &all);
    engines[0].say(&acknowledgement("AA", "2"));
    assert_eq!(feed.hear("2").as_deref(), Some("AA"));
    engines[0].say(&acknowledgement("AE", "1"));
    assert_eq!(feed.hear("1").as_deref(), Some("AE"));
    assert_eq!(feed.send("3"), "AA");
    assert_eq!(engines[1].seen(), ["3"]);
    // The sender's own acknowledgement of an application acknowledgement goes to the server.
    feed.stream.write_all(&acknowledgement("CA", "9")).unwrap();
    until("it is there", || engines[1].count() == 2);
    // Nothing is waited for where nothing is asked for.
    feed.stream.write_all(&message_with("4", "PID|1", "NE|NE")).unwrap();
    engines[1].set(Manner::Hang);
    feed.stream.write_all(&message_with("5", "PID|1", "NE|NE")).unwrap();
    until("both are there", || engines[1].count() == 4);
}

#[test]
fn a_sender_keeps_its_server_by_its_address() {
    let engines = willing::<3>();
    let mut bed = Bed::new();
    let hour = Duration::from_secs(3600);
    let kept = Persistence { key: PersistenceKey::SourceIp, timeout: hour, prefix: None };
    let service = VirtualService { persistence: Some(kept), ..lanes(&bed) };
    bed.put(&service, &servers(&engines));
    for round in 0..3 {
        for client in 1..=3 {
            let mut feed = Feed::from(&bed, [127, 9, 9, client]);
            assert_eq!(feed.send(&format!("{client}-{round}")), "AA");
        }
    }
    for engine in &engines {
        let seen = engine.seen();
        assert_eq!(seen.len(), 3);
        assert!(seen.iter().all(|id| id[..1] == seen[0][..1]), "{seen:?}");
    }
}

#[test]
fn a_sender_that_only_half_closes_has_its_answer_and_one_that_leaves_is_missed_by_nobody() {
    let engine = [Engine::new(Manner::Hang)];
    let mut bed = Bed::new();
    bed.put(&lanes(&bed), &servers(&engine));
    let mut feed = Feed::new(&bed);
    feed.stream.write_all(&message("1")).unwrap();
    feed.stream.shutdown(Shutdown::Write).unwrap();
    until("it is there", || engine[0].count() == 1);
    engine[0].say(&acknowledgement("AA", "1"));
    assert_eq!(feed.hear("1").as_deref(), Some("AA"));
    assert_eq!(feed.hear("1"), None, "and the end");

    let leaving = Feed::new(&bed);
    (&leaving.stream).write_all(&message("2")).unwrap();
    until("it is there", || engine[0].count() == 2);
    reset(leaving.stream);
    engine[0].say(&acknowledgement("AA", "2"));
    until("it has ended", || bed.sample("pacs").active == 0);
    // Who comes back with the same message learns how it ended.
    assert_eq!(Feed::new(&bed).send("2"), "AA");
    assert_eq!(engine[0].count(), 2);
}

#[test]
fn idle_lanes_move_to_the_next_process_and_busy_ones_finish_first() {
    let engines = [Engine::new(Manner::Say("AA"))];
    let mut bed = Bed::new();
    let put = [(lanes(&bed), servers(&engines))];
    bed.put(&put[0].0, &put[0].1);
    let (mut idle, mut busy) = (Feed::new(&bed), Feed::new(&bed));
    assert_eq!((idle.send("1"), busy.send("2")), ("AA".into(), "AA".into()));
    engines[0].set(Manner::Hang);
    busy.stream.write_all(&message("3")).unwrap();
    until("it is there", || engines[0].count() == 3);
    let old = upgrade(&mut bed, 2, &put);
    assert_eq!(old.active(), 1);
    engines[0].set(Manner::Say("AA"));
    assert_eq!(idle.send("4"), "AA");
    let connections = engines[0].open.lock().len();
    assert_eq!(connections, 3, "the new process has made its own");
    for stream in engines[0].open.lock().iter_mut() {
        // The one of the lane that has moved is closed.
        let _ = stream.write_all(&acknowledgement("AA", "3"));
    }
    assert_eq!(busy.hear("3").as_deref(), Some("AA"));
    assert_eq!((busy.send("5"), idle.send("6")), ("AA".into(), "AA".into()));
    drop(busy);
    until("nobody is left behind", || old.active() == 0);
}

#[test]
fn messages_are_understood_within_tls_as_well() {
    let authority = Authority::new();
    let site = authority.issue("site", &["pacs.example"]);
    let mut bed = Bed::new();
    let (tell, told): (Sender<()>, Receiver<()>) = mpsc::channel();
    let at = secret_serve(&site, None, move |stream| {
        receive(stream, &Mutex::new(Manner::Say("AA")), &Mutex::default());
        let _ = tell.send(());
    });
    let mut service = bed.secret();
    layer7(&mut service).mode = Mode::Mllp;
    layer7(&mut service).server_tls = Some(ServerTls::default());
    bed.put_secret(&service, at, &[&site]);
    for (at, version) in BOTH.into_iter().enumerate() {
        let config = client_config(&authority, None, &[version]);
        let mut client = bed.call(&config, "pacs.example");
        let mut frames = Frames::default();
        for round in 0..10 {
            client.write_all(&message(&format!("{at}-{round}"))).unwrap();
            let answer = frames.next(&mut client).unwrap();
            assert_eq!(Acknowledgement::read(&answer).unwrap().code, Code::ApplicationAccept);
        }
        client.conn.send_close_notify();
        client.flush().unwrap();
        assert!(frames.next(&mut client).is_none());
        told.recv().unwrap();
    }
    assert_eq!(bed.sample("pacs").mllp.messages, 20);
}
