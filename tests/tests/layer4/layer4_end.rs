//! How real servers leave: drained, halted, failed, deleted; and what the death of a process changes.

use std::time::Duration;

use gantry_proto::v1 as pb;
use gantry_tests::lab::{Client, End};
use libtest_mimic::Trial;
use pb::layer4::Method;
use pb::real_server_status::State;

use crate::stand::{Service, Stand, checked, layer4, layer4_with, persistent, real};

pub(crate) fn trials() -> Vec<Trial> {
    trials![
        layer4_end_a_drained_server_keeps_its_connections_and_gets_no_clients,
        layer4_end_a_drain_moves_persistent_clients,
        layer4_end_a_drain_ends_at_its_deadline,
        layer4_end_a_halted_server_resets_its_connections,
        layer4_end_a_failed_server_loses_clients_at_once_and_connections_after_the_grace,
        layer4_end_a_server_that_recovers_in_time_has_lost_nothing,
        layer4_end_a_server_whose_process_ends_is_left_between_two_checks,
        layer4_end_with_no_server_left_clients_are_refused_at_once,
        layer4_end_idle_timeouts_are_the_services,
        layer4_end_agent_l4_killed_in_a_drain_changes_nothing,
        layer4_end_controller_and_agents_killed_cut_nothing,
        layer4_end_failover_works_without_the_controller,
    ]
}

fn nat<'a>(stand: &'a Stand, service: pb::VirtualService) -> Service<'a> {
    let vip = stand.vip();
    let servers = ["rs1", "rs2"].map(|name| real(name, vip));
    stand.serve(vip, service, servers.into())
}

/// A client of each server.
fn one_each(stand: &Stand, service: &Service<'_>) -> [Client; 2] {
    let mut clients = [(); 2].map(|()| stand.connect(service.at()).unwrap());
    clients.sort_by(|one, other| one.served_by.cmp(&other.served_by));
    assert_eq!(clients.each_ref().map(|client| client.served_by.as_str()), ["rs1", "rs2"]);
    clients
}

fn drain(stand: &Stand, service: &Service<'_>, server: &str, after: Option<Duration>) {
    let (id, server) = (service.id.clone(), server.to_owned());
    stand.site(async move |site| site.drain(&id, &server, after).await);
}

fn layer4_end_a_drained_server_keeps_its_connections_and_gets_no_clients() {
    let stand = Stand::two_arm();
    let _servers = stand.servers(["rs1", "rs2"], &[104]);
    let service = nat(stand, layer4(Method::Nat));
    let [mut drained, _other] = one_each(stand, &service);
    drain(stand, &service, "rs1", None);
    for _ in 0..4 {
        assert_eq!(stand.connect(service.at()).unwrap().served_by, "rs2");
    }
    drained.echoes().unwrap();
    stand.eventually("the drain shows what is left", || {
        let status = service.server_status("rs1");
        (status.state() == State::Draining && status.active_connections == 1).then_some(())
    });
    drop(drained);
    stand.eventually("nothing is left", || {
        (service.server_status("rs1").active_connections == 0).then_some(())
    });
    let id = service.id.clone();
    stand.site(async move |site| site.online(&id, "rs1").await);
    assert_eq!(stand.connect(service.at()).unwrap().served_by, "rs1", "it has the fewest");
}

fn layer4_end_a_drain_moves_persistent_clients() {
    let stand = Stand::two_arm();
    let _servers = stand.servers(["rs1", "rs2"], &[104]);
    let service = nat(stand, persistent(layer4(Method::Nat)));
    let first = stand.connect_from(205, service.at()).unwrap();
    drain(stand, &service, &first.served_by.clone(), None);
    let second = stand.connect_from(205, service.at()).unwrap();
    assert_ne!(second.served_by, first.served_by);
}

fn layer4_end_a_drain_ends_at_its_deadline() {
    let stand = Stand::two_arm();
    let _servers = stand.servers(["rs1", "rs2"], &[104]);
    let service = nat(stand, layer4(Method::Nat));
    let [mut drained, mut other] = one_each(stand, &service);
    drain(stand, &service, "rs1", Some(Duration::from_secs(2)));
    let ended = stand.eventually("the connection is reset", || drained.echoes().err());
    assert_eq!(ended.kind(), std::io::ErrorKind::ConnectionReset);
    other.echoes().unwrap();
    assert_eq!(service.server_status("rs1").state(), State::Halted);
}

fn layer4_end_a_halted_server_resets_its_connections() {
    let stand = Stand::two_arm();
    let _servers = stand.servers(["rs1", "rs2"], &[104]);
    let service = nat(stand, layer4(Method::Nat));
    let [mut halted, mut other] = one_each(stand, &service);
    let id = service.id.clone();
    stand.site(async move |site| site.halt(&id, "rs1").await);
    let ended = halted.echoes().unwrap_err();
    assert_eq!(ended.kind(), std::io::ErrorKind::ConnectionReset);
    other.echoes().unwrap();
}

fn layer4_end_a_failed_server_loses_clients_at_once_and_connections_after_the_grace() {
    let stand = Stand::two_arm();
    let [first, _second] = stand.servers(["rs1", "rs2"], &[104]);
    // The check fails while the connections work: it asks a port of its own.
    let asked = stand.servers(["rs1", "rs2"], &[9104]);
    let [asked, _other] = asked;
    let mut service = checked(layer4(Method::Nat), Duration::from_secs(4));
    service.health_check.as_mut().unwrap().port = 9104;
    let service = nat(stand, service);
    let [mut kept, mut other] = one_each(stand, &service);
    asked.stop();
    service.shows(&["10.77.0.21:104", "Masq    0 "]);
    assert_eq!(stand.connect(service.at()).unwrap().served_by, "rs2");
    kept.echoes().unwrap();
    let ended = stand.eventually("the grace ends", || kept.echoes().err());
    assert_eq!(ended.kind(), std::io::ErrorKind::ConnectionReset);
    other.echoes().unwrap();
    drop(first);
}

fn layer4_end_a_server_that_recovers_in_time_has_lost_nothing() {
    let stand = Stand::two_arm();
    let _servers = stand.servers(["rs1", "rs2"], &[104]);
    let [asked, _other] = stand.servers(["rs1", "rs2"], &[9104]);
    let mut service = checked(layer4(Method::Nat), Duration::from_secs(600));
    service.health_check.as_mut().unwrap().port = 9104;
    let service = nat(stand, service);
    let [mut kept, _] = one_each(stand, &service);
    asked.stop();
    service.shows(&["10.77.0.21:104", "Masq    0 "]);
    let _asked = stand.servers(["rs1"], &[9104]);
    service.shows(&["10.77.0.21:104", "Masq    100 "]);
    kept.echoes().unwrap();
}

fn layer4_end_a_server_whose_process_ends_is_left_between_two_checks() {
    let stand = Stand::two_arm();
    let [first, _second] = stand.servers(["rs1", "rs2"], &[104]);
    let mut service = checked(layer4(Method::Nat), Duration::from_secs(600));
    let check = service.health_check.as_mut().unwrap();
    check.interval = Some(gantry_tests::services::duration(Duration::from_secs(86400)));
    check.hold_connection = true;
    let service = nat(stand, service);
    stand.eventually("the first check has been made, and a connection is held", || {
        let serves = service.server_status("rs1").state() == State::Serving;
        let held = ["-Htn", "state", "established", "sport", "=", ":104"];
        let held = stand.node("rs1").run("ss", &held).output();
        (serves && held.lines().count() == 1).then_some(())
    });
    first.stop();
    service.shows(&["10.77.0.21:104", "Masq    0 "]);
    assert_eq!(stand.connect(service.at()).unwrap().served_by, "rs2");
}

fn layer4_end_with_no_server_left_clients_are_refused_at_once() {
    let stand = Stand::two_arm();
    let servers = stand.servers(["rs1", "rs2"], &[104]);
    let service = nat(stand, checked(layer4(Method::Nat), Duration::ZERO));
    servers.into_iter().for_each(|server| server.stop());
    stand.eventually("the service is down", || {
        let down = pb::virtual_service_status::State::Down;
        (service.status().state() == down).then_some(())
    });
    let refused = stand.connect(service.at()).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
}

fn layer4_end_idle_timeouts_are_the_services() {
    let stand = Stand::one_arm();
    let vip = stand.vip();
    let day = layer4_with(Method::Dr, |layer4| {
        layer4.idle_timeout = Some(gantry_tests::services::duration(Duration::from_secs(86400)));
    });
    let service = stand.serve(vip, day, vec![real("rs1", vip)]);
    let shown = || stand.ipvsadm("-L --timeout");
    assert!(shown().contains("(tcp tcpfin udp): 86400 "), "{}", shown());
    drop(service);
    let vip = stand.vip();
    let _service = stand.serve(vip, layer4(Method::Dr), vec![real("rs1", vip)]);
    assert!(shown().contains("(tcp tcpfin udp): 3600 "), "{}", shown());
}

fn layer4_end_agent_l4_killed_in_a_drain_changes_nothing() {
    let stand = Stand::two_arm();
    let _servers = stand.servers(["rs1", "rs2"], &[104]);
    let service = nat(stand, layer4(Method::Nat));
    let [mut drained, mut other] = one_each(stand, &service);
    drain(stand, &service, "rs1", None);
    let before = stand.ipvsadm("-Sn");
    stand.site(async |site| {
        let agent = site.agent_l4.as_mut().unwrap();
        agent.kill();
        agent.start_again();
        site.agents_report().await;
    });
    assert_eq!(stand.ipvsadm("-Sn"), before);
    drained.echoes().unwrap();
    other.echoes().unwrap();
    for _ in 0..3 {
        assert_eq!(stand.connect(service.at()).unwrap().served_by, "rs2");
    }
}

fn layer4_end_controller_and_agents_killed_cut_nothing() {
    let stand = Stand::two_arm();
    let _servers = stand.servers(["rs1", "rs2"], &[104]);
    let service = nat(stand, checked(layer4(Method::Nat), Duration::from_secs(600)));
    let mut held = one_each(stand, &service);
    stand.site(async |site| {
        site.controller.kill();
        for agent in [&mut site.agent_l4, &mut site.healthd] {
            agent.as_mut().unwrap().kill();
        }
    });
    held.iter_mut().for_each(|client| client.echoes().unwrap());
    one_each(stand, &service);
    stand.site(async |site| {
        for agent in [&mut site.agent_l4, &mut site.healthd] {
            agent.as_mut().unwrap().start_again();
        }
        site.controller.start_again();
        site.agents_report().await;
    });
    held.iter_mut().for_each(|client| client.echoes().unwrap());
    one_each(stand, &service);
}

fn layer4_end_failover_works_without_the_controller() {
    let stand = Stand::two_arm();
    let [first, _second] = stand.servers(["rs1", "rs2"], &[104]);
    let service = nat(stand, checked(layer4(Method::Nat), Duration::from_secs(600)));
    let [mut lost, mut other] = one_each(stand, &service);
    stand.site(async |site| site.controller.kill());
    first.stop();
    assert_eq!(lost.ends(), End::Closed);
    stand.eventually("the dead server gets no clients", || {
        let all = [(); 4].map(|()| stand.connect(service.at()));
        all.iter()
            .all(|client| client.as_ref().is_ok_and(|client| client.served_by == "rs2"))
            .then_some(())
    });
    other.echoes().unwrap();
    stand.site(async |site| {
        site.controller.start_again();
        site.agents_report().await;
    });
}
