//! Associations of DICOM: who is given which archive, what is tried again, and how each side learns of an
//! end. The peers here speak the upper layer by hand, to be as wrong as they like.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering::SeqCst};
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::Duration;

use gantry_agent_l7::stats::DicomSample;
use gantry_model::check::AeTitle;
use gantry_model::dicom::{Dicom, Route};
use gantry_model::server::{AdminState, RealServer};
use gantry_model::service::{
    Mode, PassiveHealth, Persistence, PersistenceKey, ServerTls, VirtualService,
};
use gantry_model::termination::Termination;
use gantry_runtime::clock;

use crate::support::*;
use crate::tls::{Authority, BOTH, client_config, secret_serve};

const RELEASE_REQUEST: [u8; 10] = [5, 0, 0, 0, 0, 4, 0, 0, 0, 0];
const RELEASED: [u8; 10] = [6, 0, 0, 0, 0, 4, 0, 0, 0, 0];
const ABORT_BY_PROVIDER: [u8; 10] = [7, 0, 0, 0, 0, 4, 0, 0, 2, 0];
const ABORT_BY_USER: [u8; 10] = [7, 0, 0, 0, 0, 4, 0, 0, 0, 0];

const SUCCESS: u16 = 0;
const OUT_OF_RESOURCES: u16 = 0xa700;

fn pdu(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    [&[kind, 0], length.as_slice(), body].concat()
}

/// A-ASSOCIATE-RQ, or with `kind` 2 A-ASSOCIATE-AC.
fn associate(kind: u8, called: &str, calling: &str, items: &[u8]) -> Vec<u8> {
    let titles = format!("{called:16}{calling:16}");
    pdu(kind, &[&[0, 1, 0, 0], titles.as_bytes(), &[0; 32], items].concat())
}

fn request(called: &str, calling: &str) -> Vec<u8> {
    associate(1, called, calling, b"\x10\x00\x00\x05items")
}

fn rejection(result: u8, source: u8, reason: u8) -> [u8; 10] {
    [3, 0, 0, 0, 0, 4, 0, result, source, reason]
}

/// A message of one command set: a C-STORE-RQ (1), or its answer (0x8001) with this status.
fn command(field: u16, status: u16) -> Vec<u8> {
    let number = |element: u16, value: u16| {
        let (element, value) = (element.to_le_bytes(), value.to_le_bytes());
        [&[0, 0], &element[..], &[2, 0, 0, 0], &value].concat()
    };
    let set = [number(0x0100, field), number(0x0900, status)].concat();
    let length = u32::try_from(set.len() + 2).unwrap().to_be_bytes();
    pdu(4, &[length.as_slice(), &[1, 3], &set].concat())
}

/// The next PDU; none at the end of the stream.
fn next(stream: &mut impl Read) -> Option<Vec<u8>> {
    let mut bytes = vec![0; 6];
    stream.read_exact(&mut bytes).ok()?;
    let length = u32::from_be_bytes(bytes[2..].try_into().unwrap());
    bytes.resize(6 + length as usize, 0);
    stream.read_exact(&mut bytes[6..]).ok()?;
    Some(bytes)
}

/// Reads until the end of the stream, which is to be a clean one.
fn rest(stream: &mut impl Read) -> Vec<u8> {
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).expect("an end of stream, and no reset");
    rest
}

/// An archive that accepts every association under its name, and answers each C-STORE with its status.
fn archive(name: &'static str) -> SocketAddr {
    archive_with(name, Arc::default())
}

fn archive_with(name: &'static str, status: Arc<AtomicU16>) -> SocketAddr {
    serve(move |stream| serve_associations(stream, name, &status))
}

fn serve_associations(mut stream: impl Read + Write, name: &str, status: &AtomicU16) {
    while let Some(pdu) = next(&mut stream) {
        let answer = match pdu[0] {
            1 => associate(2, name, "", b""),
            4 => command(0x8001, status.load(SeqCst)),
            5 => RELEASED.to_vec(),
            _ => return,
        };
        // In pieces, as archives do.
        for piece in answer.chunks(7) {
            if stream.write_all(piece).is_err() {
                return;
            }
        }
    }
}

/// A server that answers an association with these bytes and closes, and tells what it was asked.
fn answers(with: &'static [u8]) -> (SocketAddr, Receiver<Vec<u8>>) {
    let (tell, told) = mpsc::channel();
    let at = serve(move |mut stream| {
        if let Some(asked) = next(&mut stream) {
            let _ = stream.write_all(with);
            let _ = tell.send(asked);
        }
    });
    (at, told)
}

/// One end of an association that a test holds itself.
struct Held {
    stream: TcpStream,
}

/// A server that accepts associations, and leaves the rest to the test.
fn holder() -> (SocketAddr, Receiver<Held>) {
    let (give, take): (Sender<Held>, _) = mpsc::channel();
    let at = serve(move |mut stream| {
        if next(&mut stream).is_some() {
            stream.write_all(&associate(2, "HELD", "", b"")).unwrap();
            let _ = give.send(Held { stream });
        }
    });
    (at, take)
}

fn dicom(bed: &Bed) -> VirtualService {
    let mut service = bed.service("pacs", "104");
    layer7(&mut service).mode = Mode::Dicom;
    service
}

fn settings(service: &mut VirtualService) -> &mut Dicom {
    &mut layer7(service).dicom
}

/// The server `id` in the pool of that name.
fn in_pool(id: &str, at: SocketAddr, pool: &str) -> RealServer {
    RealServer { pool: pool.parse().ok(), ..server("pacs", id, at) }
}

impl Bed {
    fn ask(&self, called: &str, calling: &str) -> (TcpStream, Vec<u8>) {
        let mut stream = self.connect(104);
        stream.write_all(&request(called, calling)).unwrap();
        let answer = next(&mut stream).expect("an answer");
        (stream, answer)
    }

    /// Asks for an association; gives the archive that accepted it.
    fn associated(&self, calling: &str) -> (TcpStream, String) {
        let (stream, answer) = self.ask("PACS", calling);
        (stream, name(&answer))
    }

    /// An association from beginning to end, with one image.
    fn store(&self, calling: &str) -> String {
        let (mut stream, name) = self.associated(calling);
        stream.write_all(&command(1, 0)).unwrap();
        assert_eq!(next(&mut stream).unwrap()[0], 4);
        release(&mut stream);
        name
    }

    fn ended_by(&self, reason: Termination) -> u64 {
        let ended = self.sample("pacs").ended;
        ended.iter().find(|(why, _)| *why == reason).map_or(0, |(_, count)| *count)
    }

    fn counts(&self) -> DicomSample {
        self.sample("pacs").dicom
    }
}

fn release(stream: &mut (impl Read + Write)) {
    stream.write_all(&RELEASE_REQUEST).unwrap();
    assert_eq!(next(stream).unwrap(), RELEASED);
}

/// Who accepted.
fn name(accepted: &[u8]) -> String {
    assert_eq!(accepted[0], 2, "accepted: {accepted:?}");
    String::from_utf8_lossy(&accepted[10..26]).trim().to_owned()
}

#[test]
fn titles_and_sources_decide_which_pool_is_asked() {
    let title = |text: &&str| AeTitle::new(text).unwrap();
    let route = |called: &[&str], calling: &[&str], sources: &[&str], pool: &str| Route {
        called: called.iter().map(title).collect(),
        calling: calling.iter().map(title).collect(),
        sources: sources.iter().map(|text| text.parse().unwrap()).collect(),
        certificates: Vec::new(),
        pool: pool.parse().ok(),
    };
    let mut bed = Bed::new();
    let mut service = dicom(&bed);
    settings(&mut service).routes = vec![
        route(&["STORE"], &["CT1"], &[], "fast"),
        route(&["STORE"], &[], &["127.0.0.1"], "slow"),
        route(&["NOWHERE"], &[], &["10.0.0.0/8"], "slow"),
    ];
    let servers = [
        in_pool("f", archive("F"), "fast"),
        in_pool("s", archive("S"), "slow"),
        in_pool("d", archive("D"), ""),
    ];
    bed.put(&service, &servers);
    for (called, calling, found) in
        [("STORE", "CT1", "F"), ("STORE", "CT2", "S"), ("ELSE", "CT1", "D"), ("NOWHERE", "X", "D")]
    {
        assert_eq!(name(&bed.ask(called, calling).1), found, "{called} {calling}");
    }
    settings(&mut service).reject_unrouted = true;
    bed.put(&service, &servers);
    for (called, reject) in [("ELSE", rejection(1, 1, 7)), ("NOWHERE", rejection(1, 1, 3))] {
        let (mut stream, answer) = bed.ask(called, "CT1");
        assert_eq!(answer, reject, "{called}");
        assert_eq!(rest(&mut stream), b"", "and no more");
    }
    until("both are counted", || bed.ended_by(Termination::AssociationRefused) == 2);
    let counts = bed.counts();
    assert_eq!((counts.requested, counts.accepted, counts.refused), (6, 4, 2));
}

#[test]
fn who_does_not_accept_has_not_had_it_and_the_client_sees_nothing_of_that() {
    let transient = rejection(2, 3, 1);
    let (rejecting, asked) = answers(Box::leak(Box::new(transient)));
    let (closing, _) = answers(b"");
    let (babbling, _) = answers(b"HTTP/1.1 400 Bad Request\r\n\r\n");
    let (aborting, _) = answers(&ABORT_BY_PROVIDER);
    let silent = serve(|mut stream| drop(rest(&mut stream)));
    for (what, at) in [
        ("rejecting", rejecting),
        ("closing", closing),
        ("babbling", babbling),
        ("aborting", aborting),
        ("silent", silent),
    ] {
        let mut bed = Bed::new();
        let mut service = dicom(&bed);
        settings(&mut service).answer_timeout = Duration::from_millis(50);
        bed.put(&service, &[server("pacs", "a", at), server("pacs", "b", archive("B"))]);
        assert_eq!(bed.store("CT1"), "B", "{what}");
        assert_eq!(bed.store("CT1"), "B", "{what}");
        let failures = bed.server("pacs", "a").traffic.connect_failures;
        assert!(failures >= 1, "{what}");
        let counts = bed.counts();
        assert_eq!((counts.requested, counts.accepted, counts.rejected), (2, 2, 0), "{what}");
        until("both are over", || bed.ended_by(Termination::Completed) == 2);
    }
    assert_eq!(asked.recv().unwrap(), request("PACS", "CT1"), "the client's own bytes");
}

#[test]
fn what_is_rejected_for_good_or_by_all_is_told_as_it_was_said() {
    let mut bed = Bed::new();
    let service = dicom(&bed);
    let servers = |with: [u8; 10]| {
        let (at, asked) = answers(Box::leak(Box::new(with)));
        ([server("pacs", "a", at), server("pacs", "b", at)], asked)
    };
    for (said, asked_of) in [(rejection(1, 1, 3), 1), (rejection(2, 3, 2), 2)] {
        let (servers, asked) = servers(said);
        bed.put(&service, &servers);
        let (mut stream, answer) = bed.ask("PACS", "CT1");
        assert_eq!(answer, said);
        assert_eq!(rest(&mut stream), b"");
        drop(stream);
        until("it is counted", || bed.counts().rejected == bed.counts().requested);
        assert_eq!(asked.try_iter().count(), asked_of);
    }
    until("both are over", || bed.ended_by(Termination::AssociationRejected) == 2);
}

#[test]
fn who_cannot_be_served_is_told_so() {
    let mut bed = Bed::new();
    let mut service = dicom(&bed);
    bed.put(&service, &[server("pacs", "a", nobody())]);
    let (mut stream, answer) = bed.ask("PACS", "CT1");
    assert_eq!(answer, rejection(2, 3, 1));
    // What is sent after it does not take the rejection from the client.
    stream.write_all(&[0; 100_000]).unwrap();
    assert_eq!(rest(&mut stream), b"");
    drop(stream);
    bed.put(&service, &[]);
    assert_eq!(bed.ask("PACS", "CT1").1, rejection(2, 3, 1));

    layer7(&mut service).timeouts.queue = Duration::from_millis(10);
    let full = RealServer { max_connections: 1, ..server("pacs", "a", archive("A")) };
    bed.put(&service, &[full]);
    let held = bed.associated("CT1");
    assert_eq!(bed.ask("PACS", "CT2").1, rejection(2, 3, 2));
    drop(held);
    for why in [Termination::ConnectRefused, Termination::NoServer, Termination::QueueTimeout] {
        until("it is counted", || bed.ended_by(why) == 1);
    }
    assert_eq!(bed.counts().refused, 3);
}

#[test]
fn limits_are_of_the_service_and_of_each_title() {
    let mut bed = Bed::new();
    let mut service = dicom(&bed);
    settings(&mut service).most_associations = 3.try_into().ok();
    settings(&mut service).most_per_title = 2.try_into().ok();
    bed.put(&service, &[server("pacs", "a", archive("A"))]);
    let (one, mut two) = (bed.associated("CT1"), bed.associated("CT1"));
    assert_eq!(bed.ask("PACS", "CT1").1, rejection(2, 3, 2), "two of one title");
    let three = bed.associated("CT2");
    assert_eq!(bed.ask("PACS", "CT3").1, rejection(2, 3, 2), "three in all");
    release(&mut two.0);
    drop(two);
    until("it is over", || bed.counts().open == 2);
    let four = bed.associated("CT1");
    let titles: BTreeMap<_, _> = bed.sample("pacs").titles.into_iter().collect();
    let of = |title: &str| (titles[title].requested, titles[title].refused, titles[title].open);
    assert_eq!((of("CT1"), of("CT2"), of("CT3")), ((4, 1, 2), (1, 0, 1), (1, 1, 0)));
    drop((one, three, four));
}

#[test]
fn who_is_left_in_mid_association_gets_an_abort() {
    let (at, held) = holder();
    let mut bed = Bed::new();
    bed.put(&dicom(&bed), &[server("pacs", "a", at)]);
    for by_reset in [false, true] {
        let (mut client, _) = bed.associated("CT1");
        let server = held.recv().unwrap();
        client.write_all(&command(1, 0)).unwrap();
        if by_reset {
            reset(server.stream);
        } else {
            drop(server);
        }
        assert_eq!(next(&mut client).unwrap(), ABORT_BY_PROVIDER, "by reset: {by_reset}");
        assert_eq!(rest(&mut client), b"");
    }
    until("it is counted", || bed.ended_by(Termination::ServerLeftAssociation) == 2);
    for by_reset in [false, true] {
        let (client, _) = bed.associated("CT1");
        let mut server = held.recv().unwrap();
        if by_reset {
            reset(client);
        } else {
            drop(client);
        }
        assert_eq!(next(&mut server.stream).unwrap(), ABORT_BY_PROVIDER, "by reset: {by_reset}");
        assert_eq!(rest(&mut server.stream), b"");
    }
    until("it is counted", || bed.ended_by(Termination::ClientLeftAssociation) == 2);
    let counts = bed.counts();
    assert_eq!((counts.accepted, counts.aborted, counts.open), (4, 4, 0));
}

#[test]
fn in_the_middle_of_a_pdu_only_a_reset_tells_the_truth() {
    let (at, held) = holder();
    let mut bed = Bed::new();
    bed.put(&dicom(&bed), &[server("pacs", "a", at)]);
    let (mut client, _) = bed.associated("CT1");
    let mut server = held.recv().unwrap();
    server.stream.write_all(&command(0x8001, SUCCESS)[..9]).unwrap();
    client.read_exact(&mut [0; 9]).unwrap();
    drop(server);
    expect_reset(&mut client);
}

#[test]
fn aborts_of_either_side_are_carried_and_told_apart() {
    let (at, held) = holder();
    let mut bed = Bed::new();
    bed.put(&dicom(&bed), &[server("pacs", "a", at)]);
    let (mut client, _) = bed.associated("CT1");
    let mut server = held.recv().unwrap();
    client.write_all(&ABORT_BY_USER).unwrap();
    assert_eq!(next(&mut server.stream).unwrap(), ABORT_BY_USER);
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(rest(&mut server.stream), b"");
    drop(server);
    assert_eq!(rest(&mut client), b"");
    until("it is counted", || bed.ended_by(Termination::ClientAborted) == 1);

    let (mut client, _) = bed.associated("CT1");
    let mut server = held.recv().unwrap();
    server.stream.write_all(&ABORT_BY_PROVIDER).unwrap();
    drop(server);
    assert_eq!(next(&mut client).unwrap(), ABORT_BY_PROVIDER);
    assert_eq!(rest(&mut client), b"", "one is enough");
    drop(client);
    until("it is counted", || bed.ended_by(Termination::ServerAborted) == 1);
    assert_eq!(bed.counts().aborted, 2);
}

#[test]
fn a_drain_waits_for_releases_and_a_halt_does_not() {
    let (at, held) = holder();
    let mut bed = Bed::new();
    let service = dicom(&bed);
    let with = |admin_state| {
        let a = RealServer { admin_state, ..server("pacs", "a", at) };
        [a, server("pacs", "b", archive("B"))]
    };
    for (what, reason) in [("halt", Termination::ServerHalted), ("drain", Termination::DrainOver)] {
        bed.put(&service, &with(AdminState::Online)[..1]);
        let (mut client, _) = bed.associated("CT1");
        let mut server = held.recv().unwrap();
        bed.put(&service, &with(AdminState::Drain { halt_at: None }));
        assert_eq!(bed.store("CT2"), "B", "new associations go elsewhere");
        client.write_all(&command(1, 0)).unwrap();
        assert_eq!(next(&mut server.stream).unwrap(), command(1, 0), "and this one goes on");
        let end = match what {
            "halt" => AdminState::Halt,
            _ => AdminState::Drain { halt_at: Some(clock::wall() + Duration::from_millis(20)) },
        };
        bed.put(&service, &with(end));
        for side in [&mut client, &mut server.stream] {
            assert_eq!(next(side).unwrap(), ABORT_BY_PROVIDER, "{what}");
            assert_eq!(rest(side), b"", "{what}");
        }
        drop((client, server));
        until("it is counted", || bed.ended_by(reason) == 1);
    }
    bed.put(&service, &with(AdminState::Online)[..1]);
    let (mut client, _) = bed.associated("CT1");
    let mut server = held.recv().unwrap();
    bed.plane.remove(&service.name);
    for side in [&mut client, &mut server.stream] {
        assert_eq!(next(side).unwrap(), ABORT_BY_PROVIDER, "of a service that is gone");
    }
}

#[test]
fn a_side_that_is_silent_for_too_long_ends_it_for_both() {
    let (at, held) = holder();
    let mut bed = Bed::new();
    let mut service = dicom(&bed);
    layer7(&mut service).timeouts.server = Duration::from_millis(20);
    bed.put(&service, &[server("pacs", "a", at)]);
    let (mut client, _) = bed.associated("CT1");
    let mut server = held.recv().unwrap();
    for side in [&mut client, &mut server.stream] {
        assert_eq!(next(side).unwrap(), ABORT_BY_PROVIDER);
    }
    until("it is over", || bed.ended_by(Termination::ServerTimeout) == 1);
}

#[test]
fn what_is_no_request_is_closed_and_disturbs_nobody() {
    let mut bed = Bed::new();
    let mut service = dicom(&bed);
    bed.put(&service, &[server("pacs", "a", archive("A"))]);
    let (mut good, _) = bed.associated("CT1");
    let abort = |reason| [7, 0, 0, 0, 0, 4, 0, 0, 2, reason];
    let mut bare = request("PACS", "CT1");
    bare[10..26].copy_from_slice(b"                ");
    for (words, reason) in [
        (b"GET / HTTP/1.1\r\n\r\n".to_vec(), 1),
        (command(1, 0), 2),
        (vec![1, 0, 0xff, 0xff, 0xff, 0xff], 6),
        (bare, 6),
        (pdu(1, &[0; 20]), 6),
    ] {
        let mut stream = bed.connect(104);
        stream.write_all(&words).unwrap();
        assert_eq!(next(&mut stream).unwrap(), abort(reason), "{words:?}");
        assert_eq!(rest(&mut stream), b"");
    }
    until("all are counted", || bed.ended_by(Termination::GreetingMalformed) == 5);
    assert_eq!(bed.sample("pacs").malformed, 5);

    settings(&mut service).request_timeout = Duration::from_millis(30);
    bed.put(&service, &[server("pacs", "a", archive("A"))]);
    let (mut silent, mut slow) = (bed.connect(104), bed.connect(104));
    slow.write_all(&request("PACS", "CT1")[..50]).unwrap();
    assert_eq!(rest(&mut silent), b"");
    assert_eq!(rest(&mut slow), b"");
    until("both are counted", || bed.ended_by(Termination::GreetingTimeout) == 2);
    let mut leaving = bed.connect(104);
    leaving.write_all(&request("PACS", "CT1")[..50]).unwrap();
    drop(leaving);
    until("it is counted", || bed.ended_by(Termination::ClientLeftInGreeting) == 1);
    release(&mut good);
}

#[test]
fn a_request_comes_in_pieces_and_is_answered_once() {
    let mut bed = Bed::new();
    bed.put(&dicom(&bed), &[server("pacs", "a", archive("A"))]);
    let mut stream = bed.connect(104);
    let asked = associate(1, "PACS", "CT1", &vec![7; 300_000]);
    for piece in asked.chunks(999) {
        stream.write_all(piece).unwrap();
    }
    assert_eq!(name(&next(&mut stream).unwrap()), "A");
    release(&mut stream);
    drop(stream);
    until("it is over", || bed.ended_by(Termination::Completed) == 1);
    let traffic = bed.server("pacs", "a").traffic;
    assert_eq!(traffic.bytes_from_clients, asked.len() as u64 + 10);
    assert_eq!(traffic.bytes_to_clients, 74 + 10);
}

#[test]
fn a_study_stays_on_one_archive_by_title() {
    let mut bed = Bed::new();
    let hour = Duration::from_secs(3600);
    let kept = Persistence { key: PersistenceKey::CallingAeTitle, timeout: hour, prefix: None };
    let service = VirtualService { persistence: Some(kept), ..dicom(&bed) };
    let ids = ["a", "b", "c"];
    let names = ["A", "B", "C"];
    let servers: Vec<_> =
        ids.iter().zip(names).map(|(id, name)| server("pacs", id, archive(name))).collect();
    bed.put(&service, &servers);
    let first: Vec<String> = (0..6).map(|at| bed.store(&format!("CT{at}"))).collect();
    assert!(names.iter().all(|name| first.iter().filter(|at| at == name).count() == 2));
    for _ in 0..2 {
        let again: Vec<String> = (0..6).map(|at| bed.store(&format!("CT{at}"))).collect();
        assert_eq!(again, first);
    }
    let sample = bed.sample("pacs").persistence;
    assert_eq!((sample.clients, sample.new, sample.kept), (6, 6, 12));
}

#[test]
fn an_archive_out_of_resources_is_left_aside_while_others_accept() {
    let (full, fine) =
        (Arc::new(AtomicU16::new(OUT_OF_RESOURCES)), Arc::new(AtomicU16::new(SUCCESS)));
    let mut bed = Bed::new();
    let mut service = dicom(&bed);
    let hour = Duration::from_secs(3600);
    layer7(&mut service).passive_health =
        PassiveHealth { failures: 3.try_into().unwrap(), hold: hour, disabled: false };
    let servers = [
        server("pacs", "a", archive_with("A", Arc::clone(&full))),
        server("pacs", "b", archive_with("B", Arc::clone(&fine))),
    ];
    bed.put(&service, &servers);
    let stores = |bed: &Bed, count| (0..count).map(|_| bed.store("CT1")).collect::<Vec<_>>();
    let mut turns = stores(&bed, 10);
    let at_a = turns.iter().filter(|name| *name == "A").count();
    assert_eq!(at_a, 3, "three failures in a row, and no further one: {turns:?}");
    // It stays the last resort.
    bed.put(&service, &servers[..1]);
    assert_eq!(bed.store("CT1"), "A");
    bed.put(&service, &servers);
    fine.store(0xb007, SeqCst);
    turns = stores(&bed, 4);
    assert!(turns.iter().all(|name| name == "B"), "warnings are no failures: {turns:?}");
    let counts = bed.counts();
    assert_eq!((counts.stored, counts.store_warnings), (7 + 4, 4));
    assert_eq!((counts.store_failures, counts.out_of_resources), (4, 4));
    bed.verdict("pacs", "a", Some(false));
    bed.verdict("pacs", "a", Some(true));
    full.store(SUCCESS, SeqCst);
    turns = stores(&bed, 4);
    assert!(turns.iter().any(|name| name == "A"), "its check has found it well: {turns:?}");
}

#[test]
fn associations_are_watched_within_tls_as_well() {
    let authority = Authority::new();
    let site = authority.issue("site", &["pacs.example"]);
    let status = Arc::new(AtomicU16::new(SUCCESS));
    let mut bed = Bed::new();
    for reencrypt in [false, true] {
        let status = Arc::clone(&status);
        let at = if reencrypt {
            secret_serve(&site, None, move |stream| serve_associations(stream, "A", &status))
        } else {
            archive_with("A", status)
        };
        let mut service = bed.secret();
        layer7(&mut service).mode = Mode::Dicom;
        layer7(&mut service).server_tls = reencrypt.then(ServerTls::default);
        bed.put_secret(&service, at, &[&site]);
        for version in BOTH {
            let config = client_config(&authority, None, &[version]);
            let mut client = bed.call(&config, "pacs.example");
            client.write_all(&request("PACS", "CT1")).unwrap();
            assert_eq!(name(&next(&mut client).unwrap()), "A");
            client.write_all(&command(1, 0)).unwrap();
            assert_eq!(next(&mut client).unwrap(), command(0x8001, SUCCESS));
            bed.put_secret(&VirtualService { disabled: true, ..service.clone() }, at, &[&site]);
            assert_eq!(next(&mut client).unwrap(), ABORT_BY_PROVIDER);
            assert_eq!(rest(&mut client), b"", "TLS ends as it should");
            bed.put_secret(&service, at, &[&site]);
        }
    }
    assert_eq!(bed.counts().stored, 4);
    bed.put_secret(&bed_service(&bed), nobody(), &[&site]);
    let mut client = bed.call(&client_config(&authority, None, &BOTH), "pacs.example");
    client.write_all(&request("PACS", "CT1")).unwrap();
    assert_eq!(next(&mut client).unwrap(), rejection(2, 3, 1));
    assert_eq!(rest(&mut client), b"");
}

fn bed_service(bed: &Bed) -> VirtualService {
    let mut service = bed.secret();
    layer7(&mut service).mode = Mode::Dicom;
    service
}

#[test]
fn the_fallback_may_be_an_archive() {
    let mut bed = Bed::new();
    let service = VirtualService { fallback: Some(endpoint(archive("F"))), ..dicom(&bed) };
    bed.put(&service, &[server("pacs", "a", nobody())]);
    assert_eq!(bed.store("CT1"), "F");
    assert_eq!(bed.counts().stored, 1);
}
