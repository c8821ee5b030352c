//! Why connections end: each reason is provoked, and counted as what it is.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use gantry_model::server::{AdminState, RealServer};
use gantry_model::service::{ServerTls, VirtualService};
use gantry_runtime::clock;

use crate::support::*;
use crate::tls::{Authority, BOTH, client_config, exchange};

impl Bed {
    fn ended(&self, reason: &str) -> u64 {
        let ended = self.sample("pacs").ended;
        ended.into_iter().find(|(seen, _)| seen.name() == reason).map_or(0, |(_, count)| count)
    }

    /// Waits until connections have ended for these reasons, one for each, and for no other.
    pub(crate) fn only(&self, reasons: &[&str]) {
        until(&format!("{reasons:?}"), || {
            let ended = self.sample("pacs").ended;
            ended.iter().map(|(_, count)| count).sum::<u64>() == reasons.len() as u64
        });
        let mut wanted: Vec<_> = reasons.iter().map(|&reason| (reason, 1)).collect();
        wanted.sort_unstable();
        let ended = self.sample("pacs").ended;
        let mut seen: Vec<_> = ended.iter().map(|(seen, count)| (seen.name(), *count)).collect();
        seen.sort_unstable();
        assert_eq!(seen, wanted);
    }
}

fn patience(service: &mut VirtualService, client: u64, server: u64) {
    layer7(service).timeouts.client = Duration::from_millis(client);
    layer7(service).timeouts.server = Duration::from_millis(server);
}

/// Keeps its end of the connection, and does nothing.
fn hold(_: TcpStream) {
    thread::park();
}

fn to_end(stream: &mut TcpStream) {
    let mut heard = Vec::new();
    stream.read_to_end(&mut heard).unwrap();
}

/// A server that speaks first, ends when it hears a byte, and holds out.
fn short_spoken() -> SocketAddr {
    serve(|mut stream| {
        stream.shutdown(Shutdown::Write).unwrap();
        let _ = stream.read(&mut [0; 64]);
        hold(stream);
    })
}

/// A server that hears its client's end, says a word, and holds out.
fn attentive() -> SocketAddr {
    serve(|mut stream| {
        to_end(&mut stream);
        stream.write_all(b"a").unwrap();
        hold(stream);
    })
}

#[test]
fn both_sides_or_the_client_or_the_server() {
    let mut bed = Bed::new();
    let service = bed.service("pacs", "104");
    let put = |bed: &mut Bed, at| bed.put(&service, &[server("pacs", "a", at)]);
    put(&mut bed, greeter('a'));
    drop(bed.visit(104));
    bed.only(&["COMPLETED"]);
    reset(bed.visit(104).1);
    bed.only(&["COMPLETED", "CLIENT_RESET"]);
    put(&mut bed, attentive());
    let mut hasty = bed.connect(104);
    hasty.shutdown(Shutdown::Write).unwrap();
    hear(&mut hasty);
    reset(hasty);
    bed.only(&["COMPLETED", "CLIENT_RESET", "CLIENT_RESET_AFTER_ITS_END"]);
    put(&mut bed, short_spoken());
    let mut full = bed.connect(104);
    to_end(&mut full);
    reset(full);
    let last = "CLIENT_RESET_AFTER_SERVER_END";
    bed.only(&["COMPLETED", "CLIENT_RESET", "CLIENT_RESET_AFTER_ITS_END", last]);
}

#[test]
fn the_server_resets() {
    let mut bed = Bed::new();
    let service = bed.service("pacs", "104");
    let put = |bed: &mut Bed, at| bed.put(&service, &[server("pacs", "a", at)]);
    put(
        &mut bed,
        serve(|mut stream| {
            hear(&mut stream);
            reset(stream);
        }),
    );
    let mut client = bed.connect(104);
    client.write_all(b"?").unwrap();
    expect_reset(&mut client);
    bed.only(&["SERVER_RESET"]);
    put(
        &mut bed,
        serve(|mut stream| {
            to_end(&mut stream);
            reset(stream);
        }),
    );
    let mut client = bed.connect(104);
    client.shutdown(Shutdown::Write).unwrap();
    expect_reset(&mut client);
    bed.only(&["SERVER_RESET", "SERVER_RESET_AFTER_CLIENT_END"]);
    put(
        &mut bed,
        serve(|mut stream| {
            stream.shutdown(Shutdown::Write).unwrap();
            hear(&mut stream);
            reset(stream);
        }),
    );
    let mut client = bed.connect(104);
    to_end(&mut client);
    client.write_all(b"?").unwrap();
    bed.only(&["SERVER_RESET", "SERVER_RESET_AFTER_CLIENT_END", "SERVER_RESET_AFTER_ITS_END"]);
}

#[test]
fn silence_is_told_by_who_is_silent_and_when() {
    const LONG: u64 = 3_600_000;
    const SHORT: u64 = 100;
    let mut bed = Bed::new();
    let mut service = bed.service("pacs", "104");
    let echo = greeter('a');
    for (client, of_server, who) in [(SHORT, LONG, "CLIENT"), (LONG, SHORT, "SERVER")] {
        patience(&mut service, client, of_server);
        bed.put(&service, &[server("pacs", "a", echo)]);
        to_end(&mut bed.connect(104));
        until("it is counted", || bed.ended(&format!("{who}_TIMEOUT")) >= 1);
        let after_client = ["CLIENT_TIMEOUT_AFTER_ITS_END", "SERVER_TIMEOUT_AFTER_CLIENT_END"];
        let after_server = ["CLIENT_TIMEOUT_AFTER_SERVER_END", "SERVER_TIMEOUT_AFTER_ITS_END"];
        let which = usize::from(who == "SERVER");
        // On a busy machine the end may come when the time is over already: then once more.
        bed.put(&service, &[server("pacs", "b", serve(hold))]);
        until("it is counted", || {
            let mut client = bed.connect(104);
            client.shutdown(Shutdown::Write).unwrap();
            let _ = client.read(&mut [0; 1]);
            bed.ended(after_client[which]) >= 1
        });
        bed.put(&service, &[server("pacs", "c", short_spoken())]);
        until("it is counted", || {
            let mut client = bed.connect(104);
            let _ = client.read(&mut [0; 1]);
            until("it has ended", || bed.sample("pacs").active == 0);
            bed.ended(after_server[which]) >= 1
        });
    }
}

#[test]
fn nobody_takes_it() {
    let mut bed = Bed::new();
    let mut service = bed.service("pacs", "104");
    bed.put(&service, &[]);
    expect_reset(&mut bed.connect(104));
    bed.only(&["NO_SERVER"]);
    bed.put(&service, &[server("pacs", "a", nobody()), server("pacs", "b", nobody())]);
    expect_reset(&mut bed.connect(104));
    bed.only(&["NO_SERVER", "CONNECT_REFUSED"]);
    layer7(&mut service).timeouts.connect = Duration::from_millis(50);
    let deaf = Deaf::new();
    bed.put(&service, &[server("pacs", "c", deaf.at)]);
    expect_reset(&mut bed.connect(104));
    bed.only(&["NO_SERVER", "CONNECT_REFUSED", "CONNECT_TIMEOUT"]);
    layer7(&mut service).timeouts.connect = Duration::from_secs(3600);
    bed.put(&service, &[server("pacs", "d", deaf.at)]);
    let early = bed.connect(104);
    until("it is connected to", || bed.server("pacs", "d").active == 1);
    reset(early);
    bed.only(&["NO_SERVER", "CONNECT_REFUSED", "CONNECT_TIMEOUT", "CLIENT_LEFT_IN_CONNECT"]);
}

#[test]
fn the_queue_ends_by_time_or_by_leaving() {
    let mut bed = Bed::new();
    let mut service = bed.service("pacs", "104");
    let only = RealServer { max_connections: 1, ..server("pacs", "a", greeter('a')) };
    bed.put(&service, std::slice::from_ref(&only));
    let inside = bed.visit(104).1;
    let waiting = bed.connect(104);
    until("it waits", || bed.sample("pacs").queued == 1);
    drop(waiting);
    bed.only(&["CLIENT_LEFT_IN_QUEUE"]);
    layer7(&mut service).timeouts.queue = Duration::from_millis(20);
    bed.put(&service, &[only]);
    expect_reset(&mut bed.connect(104));
    bed.only(&["CLIENT_LEFT_IN_QUEUE", "QUEUE_TIMEOUT"]);
    drop(inside);
}

#[test]
fn operators_and_checks_end_connections() {
    let mut bed = Bed::new();
    let mut service = bed.service("pacs", "104");
    layer7(&mut service).close_on_failure = true;
    let mut one = server("pacs", "a", greeter('a'));
    let visit = |bed: &mut Bed, service: &VirtualService, one: &RealServer| {
        bed.put(service, std::slice::from_ref(one));
        bed.visit(104).1
    };
    let mut open = visit(&mut bed, &service, &one);
    bed.verdict("pacs", "a", Some(false));
    expect_reset(&mut open);
    bed.only(&["SERVER_FAILED"]);
    bed.verdict("pacs", "a", Some(true));

    let mut open = visit(&mut bed, &service, &one);
    one.admin_state = AdminState::Halt;
    bed.put(&service, std::slice::from_ref(&one));
    expect_reset(&mut open);
    bed.only(&["SERVER_FAILED", "SERVER_HALTED"]);

    one.admin_state = AdminState::Online;
    let mut open = visit(&mut bed, &service, &one);
    let soon = clock::wall() + Duration::from_millis(300);
    one.admin_state = AdminState::Drain { halt_at: Some(soon) };
    bed.put(&service, std::slice::from_ref(&one));
    expect_reset(&mut open);
    bed.only(&["SERVER_FAILED", "SERVER_HALTED", "DRAIN_OVER"]);
    assert!(clock::wall() >= soon);

    one.admin_state = AdminState::Online;
    let mut open = visit(&mut bed, &service, &one);
    bed.put(&service, &[]);
    expect_reset(&mut open);
    bed.only(&["SERVER_FAILED", "SERVER_HALTED", "DRAIN_OVER", "SERVER_REMOVED"]);

    let mut open = visit(&mut bed, &service, &one);
    service.disabled = true;
    bed.put(&service, std::slice::from_ref(&one));
    expect_reset(&mut open);
    let all = ["SERVER_FAILED", "SERVER_HALTED", "DRAIN_OVER", "SERVER_REMOVED", "SERVICE_CLOSED"];
    bed.only(&all);
}

#[test]
fn tls_fails_on_either_side_in_its_own_way() {
    let authority = Authority::new();
    let site = authority.issue("site", &["pacs.example"]);
    let mut bed = Bed::new();
    let mut service = bed.secret();
    bed.put_secret(&service, greeter('a'), &[&site]);
    let silent = bed.connect(104);
    let mut stranger = bed.connect(104);
    stranger.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    bed.only(&["TLS_FAILED"]);
    let mut leaves = bed.connect(104);
    leaves.write_all(&[0x16, 3, 1]).unwrap();
    drop(leaves);
    bed.only(&["TLS_FAILED", "CLIENT_LEFT_IN_TLS"]);

    layer7(&mut service).server_tls = Some(ServerTls::default());
    for no_tls in [serve(drop), serve(|mut stream| stream.write_all(b"220 hello\r\n").unwrap())] {
        let seen = bed.ended("SERVER_TLS_FAILED");
        let servers = vec![Arc::new(server("pacs", "b", no_tls))];
        bed.plane.put(Arc::new(service.clone()), servers, vec![site.clone()]).unwrap();
        let config = client_config(&authority, None, &BOTH);
        exchange(&mut bed.call(&config, "pacs.example"), b"hello").unwrap_err();
        until("it is counted", || bed.ended("SERVER_TLS_FAILED") == seen + 1);
    }
    until("it ran out of time", || bed.ended("TLS_TIMEOUT") == 1);
    drop(silent);
}

#[test]
fn ends_of_streams_are_told_apart_through_tls_as_well() {
    let authority = Authority::new();
    let site = authority.issue("site", &["pacs.example"]);
    let mut bed = Bed::new();
    let service = bed.secret();
    let config = client_config(&authority, None, &BOTH);
    bed.put_secret(&service, attentive(), &[&site]);
    let mut hasty = bed.call(&config, "pacs.example");
    hasty.conn.complete_io(&mut hasty.sock).unwrap();
    hasty.conn.send_close_notify();
    hasty.flush().unwrap();
    hasty.read_exact(&mut [0; 1]).unwrap();
    reset(hasty.sock);
    bed.only(&["CLIENT_RESET_AFTER_ITS_END"]);
    bed.put_secret(&service, short_spoken(), &[&site]);
    let mut full = bed.call(&config, "pacs.example");
    full.read_to_end(&mut Vec::new()).unwrap();
    reset(full.sock);
    bed.only(&["CLIENT_RESET_AFTER_ITS_END", "CLIENT_RESET_AFTER_SERVER_END"]);
}
