//! Configuration that changes while traffic runs.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use gantry_model::server::{AdminState, RealServer};
use gantry_model::service::{Algorithm, CongestionControl, Protocol, Tcp};
use gantry_runtime::clock;

use crate::support::{Bed, expect_reset, greeter, is_alive, layer7, serve, server, until};

#[test]
fn a_drained_server_keeps_what_it_has() {
    let mut bed = Bed::new();
    let service = bed.service("pacs", "104");
    let mut servers = [("a", 'a'), ("b", 'b')].map(|(id, name)| server("pacs", id, greeter(name)));
    bed.put(&service, &servers[..1]);
    let (_, mut open) = bed.visit(104);
    servers[0].admin_state = AdminState::Drain { halt_at: None };
    bed.put(&service, &servers);
    assert!((0..10).all(|_| bed.visit(104).0 == 'b'));
    assert!(is_alive(&mut open));

    let soon = clock::wall() + Duration::from_millis(50);
    servers[0].admin_state = AdminState::Drain { halt_at: Some(soon) };
    bed.put(&service, &servers);
    expect_reset(&mut open);
    assert!(clock::wall() >= soon);
}

#[test]
fn halted_and_removed_servers_let_go_at_once() {
    let mut bed = Bed::new();
    let service = bed.service("pacs", "104");
    let mut servers =
        ["a", "b", "c"].map(|id| server("pacs", id, greeter(id.chars().next().unwrap())));
    bed.put(&service, &servers);
    let mut open: Vec<_> = (0..3).map(|_| bed.visit(104)).collect();
    open.sort_by_key(|(name, _)| *name);
    servers[0].admin_state = AdminState::Halt;
    bed.put(&service, &servers);
    expect_reset(&mut open[0].1);
    bed.put(&service, &servers[..2]);
    expect_reset(&mut open[2].1);
    assert!(is_alive(&mut open[1].1));
    until("they are gone", || bed.sample("pacs").active == 1);
    assert_eq!(bed.sample("pacs").traffic.connections, 3, "also those of the one that left");
}

#[test]
fn removed_and_disabled_services_end_alone() {
    let mut bed = Bed::new();
    let (mut ris, pacs) = (bed.service("ris", "105"), bed.service("pacs", "104"));
    let (at_ris, at_pacs) =
        ([server("ris", "a", greeter('r'))], [server("pacs", "a", greeter('p'))]);
    bed.put(&ris, &at_ris);
    bed.put(&pacs, &at_pacs);
    let (mut at_work, mut other) = (bed.visit(105).1, bed.visit(104).1);
    ris.disabled = true;
    bed.put(&ris, &at_ris);
    assert!(bed.refuses(105));
    expect_reset(&mut at_work);
    ris.disabled = false;
    bed.put(&ris, &at_ris);
    let mut at_work = bed.visit(105).1;
    bed.plane.remove(&ris.name);
    assert!(bed.refuses(105));
    expect_reset(&mut at_work);
    assert!(is_alive(&mut other));

    let mut heir = bed.service("heir", "105");
    heir.label = "takes over a port at once".into();
    bed.put(&heir, &[server("heir", "a", greeter('h'))]);
    assert_eq!(bed.visit(105).0, 'h');
}

#[test]
fn a_changed_endpoint_is_for_new_connections() {
    let mut bed = Bed::new();
    let service = bed.service("pacs", "104");
    bed.put(&service, &[server("pacs", "a", greeter('1'))]);
    let (_, mut open) = bed.visit(104);
    bed.put(&service, &[server("pacs", "a", greeter('2'))]);
    assert_eq!(bed.visit(104).0, '2');
    assert!(is_alive(&mut open));
    assert_eq!(bed.server("pacs", "a").traffic.connections, 2, "its counts stay");
}

#[test]
fn ports_come_and_go_one_by_one() {
    let mut bed = Bed::new();
    let servers = [server("pacs", "a", greeter('a'))];
    bed.put(&bed.service("pacs", "200-204"), &servers);
    let mut open: Vec<_> = (200..=204).map(|port| bed.visit(port).1).collect();
    bed.put(&bed.service("pacs", "202-206"), &servers);
    for port in [200, 201] {
        assert!(bed.refuses(port));
    }
    for port in 202..=206 {
        assert_eq!(bed.visit(port).0, 'a');
    }
    assert!(open.iter_mut().all(is_alive), "connections are not their listener's");
}

#[test]
fn an_endpoint_without_a_port_takes_the_clients() {
    let mut bed = Bed::new();
    let at = greeter('a');
    let mut behind = server("pacs", "a", at);
    behind.endpoint.port = None;
    bed.put(&bed.service("pacs", &at.port().to_string()), &[behind]);
    assert_eq!(bed.visit(at.port()).0, 'a');
}

#[test]
fn what_cannot_be_carried_out_is_refused_and_changes_nothing() {
    let mut bed = Bed::new();
    let good = bed.service("pacs", "104");
    let servers = [server("pacs", "a", greeter('a'))];
    bed.put(&good, &servers);
    let foreign = TcpListener::bind(SocketAddr::new(bed.address, 105)).unwrap();
    bed.put(&bed.service("ris", "106"), &[]);

    let mut bad = vec![];
    for (port, reason, field) in [
        ("104-105", "ADDRESS_IN_USE", "listener.address"),
        ("104-106", "ADDRESS_IN_USE", "listener.address"),
    ] {
        bad.push((bed.service("pacs", port), reason, field));
    }
    let mut other = |reason, field, change: &dyn Fn(&mut gantry_model::service::VirtualService)| {
        let mut service = bed.service("pacs", "107");
        change(&mut service);
        bad.push((service, reason, field));
    };
    other("UNSUPPORTED_TCP", "layer7.tcp.congestion_control", &|service| {
        layer7(service).tcp.congestion_control = CongestionControl::new("nonesuch");
    });
    other("UNSUPPORTED_PROTOCOL", "listener.protocol", &|service| {
        service.listener.protocol = Protocol::Udp;
    });
    for (service, reason, field) in bad {
        let refusal = bed.try_put(&service, &[]).unwrap_err();
        assert_eq!((refusal.reason, refusal.field.as_str()), (reason, field), "{refusal}");
        assert_eq!(bed.visit(104).0, 'a', "the last good form: after {reason}");
        assert!(bed.refuses(107));
    }
    drop(foreign);
    bed.put(&bed.service("pacs", "104-105"), &servers);
    assert_eq!(bed.visit(105).0, 'a');
}

#[test]
fn an_address_may_come_later() {
    let mut bed = Bed::new();
    // Another run of the tests has another port.
    let port = 10_000 + std::process::id() % 50_000;
    let mut service = bed.service("pacs", &port.to_string());
    for absent in ["192.0.2.77", "2001:db8::77"] {
        service.listener.address = absent.parse().unwrap();
        bed.put(&service, &[]);
    }
}

#[test]
fn verdicts_may_come_before_their_servers() {
    let mut bed = Bed::new();
    bed.verdict("pacs", "a", Some(false));
    let servers = [("a", 'a'), ("b", 'b')].map(|(id, name)| server("pacs", id, greeter(name)));
    bed.put(&bed.service("pacs", "104"), &servers);
    assert!((0..10).all(|_| bed.visit(104).0 == 'b'));
    bed.verdict("pacs", "a", None);
    bed.verdict("pacs", "b", Some(false));
    assert!((0..10).all(|_| bed.visit(104).0 == 'a'));
}

#[test]
fn a_failed_server_keeps_its_connections_unless_they_are_to_be_closed() {
    let mut bed = Bed::new();
    let mut service = bed.service("pacs", "104");
    let servers = [("a", 'a'), ("b", 'b')].map(|(id, name)| server("pacs", id, greeter(name)));
    bed.put(&service, &servers);
    let mut open = [(); 2].map(|()| bed.visit(104));
    open.sort_by_key(|(server, _)| *server);
    let [(_, mut of_a), (_, mut of_b)] = open;
    bed.verdict("pacs", "a", Some(false));
    assert!(is_alive(&mut of_a) && is_alive(&mut of_b));
    bed.verdict("pacs", "a", Some(true));
    layer7(&mut service).close_on_failure = true;
    bed.put(&service, &servers);
    assert!(is_alive(&mut of_a));
    bed.verdict("pacs", "a", Some(false));
    expect_reset(&mut of_a);
    assert!(is_alive(&mut of_b));
}

#[test]
fn connections_are_treated_as_the_service_says_now() {
    let seconds = std::time::Duration::from_secs;
    let mut bed = Bed::new();
    let at = greeter('a');
    let mut service = bed.service("pacs", "104");
    layer7(&mut service).tcp = Tcp {
        congestion_control: CongestionControl::new("reno"),
        keepalive: Some(seconds(40)),
        user_timeout: Some(seconds(30)),
    };
    bed.put(&service, &[server("pacs", "a", at)]);
    let ends = [format!("src {}:104", bed.address), format!("dst {at}")];
    let client = bed.visit(104);
    for end in &ends {
        let shown = sockets(end);
        assert!(shown.contains(" reno ") && shown.contains("timer:(keepalive,"), "{shown}");
    }
    drop(client);
    until("the connection has ended", || ends.iter().all(|end| sockets(end).is_empty()));
    layer7(&mut service).tcp = Tcp::default();
    bed.put(&service, &[server("pacs", "a", at)]);
    let _client = bed.visit(104);
    for end in &ends {
        let shown = sockets(end);
        assert!(!shown.contains(" reno ") && !shown.contains("keepalive"), "{shown}");
    }
}

/// What the kernel tells of established connections with this end.
fn sockets(end: &str) -> String {
    let filter: Vec<&str> = end.split(' ').collect();
    let listed = Command::new("ss").args(["-tinoH", "state", "established"]).args(filter).output();
    String::from_utf8(listed.unwrap().stdout).unwrap()
}

#[test]
fn nobody_is_lost_while_everything_changes() {
    let mut bed = Bed::new();
    let mut service = bed.service("pacs", "104");
    layer7(&mut service).algorithm = Algorithm::WeightedLeastConnection;
    let mut servers = ["a", "b", "c"].map(|id| {
        let at = serve(|mut stream| drop(stream.write_all(b"!")));
        RealServer { max_connections: 2, ..server("pacs", id, at) }
    });
    bed.put(&service, &servers);
    let (address, done) = (bed.address, AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..12 {
            scope.spawn(|| {
                for _ in 0..200 {
                    let mut stream = TcpStream::connect(SocketAddr::new(address, 104)).unwrap();
                    let mut heard = Vec::new();
                    stream.read_to_end(&mut heard).unwrap();
                    assert_eq!(heard, b"!");
                }
                done.fetch_add(1, SeqCst);
            });
        }
        for round in (0_usize..).take_while(|_| done.load(SeqCst) < 12) {
            // One of three is always left alone.
            let (weak, sick) = (round % 3, (round + 1) % 3);
            servers[weak].admin_state = AdminState::Drain { halt_at: None };
            bed.put(&service, &servers);
            bed.plane.verdict(&servers[sick].name, Some(false));
            thread::yield_now();
            bed.plane.verdict(&servers[sick].name, Some(true));
            servers[weak].admin_state = AdminState::Online;
            servers[weak].max_connections = 1 + u32::from(round % 2 == 0);
            bed.put(&service, &servers);
        }
    });
    until("all have ended", || bed.sample("pacs").active == 0);
    let sample = bed.sample("pacs");
    assert_eq!((sample.accepted, sample.traffic.connections), (2400, 2400));
    assert_eq!((sample.unserved, sample.queued, sample.panics), (0, 0, 0));
    assert!(sample.servers.iter().all(|server| server.active == 0));
}

#[test]
fn two_thousand_services_and_one_that_changes() {
    gantry_runtime::shell::raise_file_limit();
    let mut bed = Bed::new();
    let at = greeter('x');
    let id = |number: u16| format!("service-{number}");
    let four = |number| ["a", "b", "c", "d"].map(|name| server(&id(number), name, at));
    for number in 0..2000 {
        bed.put(&bed.service(&id(number), &(10_000 + number).to_string()), &four(number));
    }
    let mut open: Vec<_> = [0, 999, 1999].map(|number| bed.visit(10_000 + number).1).into();
    bed.put(&bed.service(&id(999), "30999"), &four(999));
    assert!(bed.refuses(10_999));
    assert_eq!(bed.visit(30_999).0, 'x');
    assert!(open.iter_mut().all(is_alive));
    assert_eq!(bed.plane.samples().len(), 2000);
}

#[test]
fn the_end_of_the_plane_is_the_end_of_its_connections() {
    let mut bed = Bed::new();
    bed.put(&bed.service("pacs", "104"), &[server("pacs", "a", greeter('a'))]);
    let (_, mut open) = bed.visit(104);
    bed.plane.shutdown();
    expect_reset(&mut open);
}
