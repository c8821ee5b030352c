//! Maxima, and the line of those that wait.

use std::io::Write;
use std::net::TcpStream;
use std::num::NonZeroU8;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use gantry_agent_l7::stats::WaitSample;
use gantry_model::server::{AdminState, RealServer};
use gantry_model::service::{Persistence, PersistenceKey};

use gantry_runtime::clock;

use crate::support::{Bed, expect_reset, greeter, hear, layer7, serve, server, until};

fn limited(id: &str, max: u32) -> RealServer {
    let name = id.chars().next().unwrap();
    RealServer { max_connections: max, ..server("pacs", id, greeter(name)) }
}

/// Connects `count` clients that have to wait, in an order that is known.
fn line_up(bed: &Bed, count: u64) -> Vec<TcpStream> {
    let before = bed.sample("pacs").queued;
    (1..=count)
        .map(|number| {
            let stream = bed.connect(104);
            until("it waits", || bed.sample("pacs").queued == before + number);
            stream
        })
        .collect()
}

#[test]
fn who_came_first_is_served_first() {
    let mut bed = Bed::new();
    bed.put(&bed.service("pacs", "104"), &[limited("a", 1)]);
    let mut inside = bed.visit(104).1;
    for (at, mut waiting) in line_up(&bed, 8).into_iter().enumerate() {
        assert_eq!(bed.sample("pacs").queued, 8 - at as u64);
        drop(inside);
        assert_eq!(hear(&mut waiting), 'a');
        inside = waiting;
    }
    assert_eq!(bed.server("pacs", "a").active, 1);
}

#[test]
fn a_client_that_leaves_makes_no_difference() {
    let mut bed = Bed::new();
    bed.put(&bed.service("pacs", "104"), &[limited("a", 1)]);
    let inside = bed.visit(104).1;
    let mut waiting = line_up(&bed, 3);
    drop(waiting.remove(0));
    until("its leaving is noticed", || bed.sample("pacs").queued == 2);
    crate::support::reset(waiting.remove(0));
    until("its reset is noticed", || bed.sample("pacs").queued == 1);
    drop(inside);
    assert_eq!(hear(&mut waiting[0]), 'a');
}

#[test]
fn waits_are_measured_of_those_that_wait() {
    let mut bed = Bed::new();
    bed.put(&bed.service("pacs", "104"), &[limited("a", 1)]);
    let inside = bed.visit(104).1;
    assert_eq!(bed.sample("pacs").waits, WaitSample::default(), "it was served at once");
    let begin = clock::monotonic();
    let mut waiting = line_up(&bed, 2);
    until("the first waits for a while", || {
        bed.sample("pacs").waits.longest_now > Some(Duration::from_millis(20))
    });
    drop(inside);
    assert_eq!(hear(&mut waiting[0]), 'a');
    let waits = bed.sample("pacs").waits;
    assert_eq!((waits.served, waits.waited > Duration::from_millis(20)), (1, true));
    assert!(waits.waited <= begin.elapsed(), "{waits:?}");
    assert!(waits.longest_now.is_some(), "the second");
    drop(waiting.remove(0));
    assert_eq!(hear(&mut waiting[0]), 'a');
    let both = bed.sample("pacs").waits;
    assert_eq!((both.served, both.longest_now), (2, None));
    assert!(both.waited > waits.waited, "{both:?}");
    drop(waiting);
    until("nobody is left", || bed.sample("pacs").active == 0);
    bed.visit(104);
    assert_eq!(bed.sample("pacs").waits, both, "who does not wait does not count");
}

#[test]
fn waiting_has_an_end() {
    let mut bed = Bed::new();
    let mut service = bed.service("pacs", "104");
    layer7(&mut service).timeouts.queue = Duration::from_millis(20);
    bed.put(&service, &[limited("a", 1)]);
    let inside = bed.visit(104).1;
    expect_reset(&mut bed.connect(104));
    let sample = bed.sample("pacs");
    assert_eq!((sample.queue_timeouts, sample.queued), (1, 0));
    drop(inside);
    assert_eq!(bed.visit(104).0, 'a');
}

#[test]
fn changes_reach_those_that_wait() {
    let mut bed = Bed::new();
    let service = bed.service("pacs", "104");
    let mut servers = vec![limited("a", 1)];
    bed.put(&service, &servers);
    let _inside = bed.visit(104).1;
    let mut waiting = line_up(&bed, 4);
    servers[0].max_connections = 2;
    bed.put(&service, &servers);
    assert_eq!(hear(&mut waiting[0]), 'a', "a higher maximum");
    servers.push(limited("b", 1));
    bed.put(&service, &servers);
    assert_eq!(hear(&mut waiting[1]), 'b', "a new server");
    servers.push(limited("c", 1));
    servers[2].admin_state = AdminState::Drain { halt_at: None };
    bed.put(&service, &servers);
    servers[2].admin_state = AdminState::Online;
    bed.put(&service, &servers);
    assert_eq!(hear(&mut waiting[2]), 'c', "a server back online");
    for id in ["a", "b", "c"] {
        bed.verdict("pacs", id, Some(false));
    }
    expect_reset(&mut waiting[3]);
    assert_eq!(bed.sample("pacs").queued, 0);
}

#[test]
fn a_persistent_client_waits_for_its_server_and_holds_nobody_up() {
    let mut bed = Bed::new();
    let mut service = bed.service("pacs", "104");
    service.persistence = Some(Persistence {
        key: PersistenceKey::SourceIp,
        timeout: Duration::from_secs(3600),
        prefix: NonZeroU8::new(32),
    });
    bed.put(&service, &[limited("a", 1), limited("b", 2)]);
    let (home, first) = bed.visit_from([127, 1, 1, 1]);
    assert_eq!(home, 'a');
    let mut more = bed.connect_from([127, 1, 1, 1]);
    until("it waits", || bed.sample("pacs").queued == 1);
    let (other, _second) = bed.visit_from([127, 1, 1, 2]);
    assert_eq!(other, 'b', "who wants something else goes past");
    assert_eq!(bed.sample("pacs").queued, 1);
    drop(first);
    assert_eq!(hear(&mut more), 'a');
}

#[test]
fn a_full_server_opens_again_below_its_minimum() {
    let mut bed = Bed::new();
    let mut server = limited("a", 4);
    server.min_connections = 2;
    bed.put(&bed.service("pacs", "104"), &[server]);
    let mut inside: Vec<_> = (0..4).map(|_| bed.visit(104).1).collect();
    let mut waiting = line_up(&bed, 1);
    for left in [3, 2] {
        inside.pop();
        until("it has left", || bed.server("pacs", "a").active == left);
        assert_eq!(bed.sample("pacs").queued, 1);
    }
    inside.pop();
    assert_eq!(hear(&mut waiting[0]), 'a');
}

#[test]
fn the_maximum_holds_while_many_come_and_go() {
    let inside = [(); 2].map(|()| Arc::new(AtomicUsize::new(0)));
    let worst = Arc::new(AtomicUsize::new(0));
    let servers = ["a", "b"].iter().zip(&inside).map(|(id, inside)| {
        let (inside, worst) = (Arc::clone(inside), Arc::clone(&worst));
        let at = serve(move |mut stream| {
            worst.fetch_max(inside.fetch_add(1, SeqCst) + 1, SeqCst);
            stream.write_all(b"!").unwrap();
            thread::yield_now();
            // Counted out before the proxy can know.
            inside.fetch_sub(1, SeqCst);
        });
        RealServer { max_connections: 3, ..server("pacs", id, at) }
    });
    let mut bed = Bed::new();
    bed.put(&bed.service("pacs", "104"), &servers.collect::<Vec<_>>());
    thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| (0..100).for_each(|_| assert_eq!(bed.visit(104).0, '!')));
        }
    });
    until("all have ended", || bed.sample("pacs").active == 0);
    let sample = bed.sample("pacs");
    assert!(worst.load(SeqCst) <= 3, "{worst:?}");
    assert_eq!((sample.traffic.connections, sample.queued, sample.unserved), (1600, 0, 0));
}
