//! Which real server a client gets.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use gantry_proto::v1 as pb;
use libtest_mimic::Trial;
use pb::layer4::{Method, Scheduler};
use pb::virtual_service::Strategy;

use crate::stand::{Stand, checked, layer4, layer4_with, on_ports, persistent, real};

pub(crate) fn trials() -> Vec<Trial> {
    trials![
        layer4_balance_every_scheduler_is_the_kernels,
        layer4_balance_weights_share_the_clients,
        layer4_balance_one_client_stays_on_one_server,
        layer4_balance_persistence_is_shared_by_all_ports,
        layer4_balance_clients_of_one_prefix_count_as_one,
        layer4_balance_failover_uses_the_second_only_without_the_first,
        layer4_balance_the_fallback_serves_when_no_other_does,
        layer4_balance_a_full_server_gets_no_more_clients,
        layer4_balance_hashed_clients_of_a_failed_server_go_elsewhere,
    ]
}

fn nat(stand: &Stand, names: &[&str]) -> (std::net::IpAddr, Vec<pb::RealServer>) {
    let vip = stand.vip();
    (vip, names.iter().map(|name| real(name, vip)).collect())
}

fn layer4_balance_every_scheduler_is_the_kernels() {
    let stand = Stand::two_arm();
    let _servers = stand.servers(["rs1", "rs2"], &[104]);
    let (vip, servers) = nat(stand, &["rs1", "rs2"]);
    let service = stand.serve(vip, layer4(Method::Nat), servers);
    let at = service.at().to_string();
    for (scheduler, shown) in [
        (Scheduler::RoundRobin, "rr"),
        (Scheduler::WeightedRoundRobin, "wrr"),
        (Scheduler::LeastConnection, "lc"),
        (Scheduler::WeightedLeastConnection, "wlc"),
        (Scheduler::SourceHash, "sh (sh-fallback,sh-port)"),
        (Scheduler::MaglevHash, "mh (mh-fallback,mh-port)"),
        (Scheduler::DestinationHash, "dh"),
        (Scheduler::ShortestExpectedDelay, "sed"),
        (Scheduler::NeverQueue, "nq"),
        (Scheduler::WeightedOverflow, "ovf"),
    ] {
        let hashes = matches!(scheduler, Scheduler::SourceHash | Scheduler::MaglevHash);
        service.update(&["layer4"], move |service| {
            let changed = layer4_with(Method::Nat, |layer4| {
                layer4.scheduler = scheduler.into();
                layer4.hash_ports = hashes;
            });
            service.forwarding = changed.forwarding;
        });
        let listed = stand.ipvsadm("-Ln");
        let line = listed.lines().find(|line| line.contains(&at)).unwrap();
        assert!(line.trim_end().ends_with(&format!("{at} {shown}")), "{line}");
        stand.connect(service.at()).unwrap().echoes().unwrap();
    }
    service.update(&["strategy"], |service| service.strategy = Strategy::Failover.into());
    service.shows(&[&at, "fo"]);
}

fn layer4_balance_weights_share_the_clients() {
    let stand = Stand::two_arm();
    let _servers = stand.servers(["rs1", "rs2", "rs3"], &[104]);
    let (vip, mut servers) = nat(stand, &["rs1", "rs2", "rs3"]);
    for (server, weight) in servers.iter_mut().zip([30, 10, 0]) {
        server.weight = Some(weight);
    }
    let wrr =
        layer4_with(Method::Nat, |layer4| layer4.scheduler = Scheduler::WeightedRoundRobin.into());
    let service = stand.serve(vip, wrr, servers);
    let mut shares = BTreeMap::new();
    for _ in 0..8 {
        *shares.entry(stand.connect(service.at()).unwrap().served_by).or_insert(0) += 1;
    }
    assert_eq!(shares, [("rs1".to_owned(), 6), ("rs2".to_owned(), 2)].into());
}

fn layer4_balance_one_client_stays_on_one_server() {
    let stand = Stand::two_arm();
    let _servers = stand.servers(["rs1", "rs2", "rs3"], &[104]);
    let (vip, servers) = nat(stand, &["rs1", "rs2", "rs3"]);
    let service = stand.serve(vip, persistent(layer4(Method::Nat)), servers);
    let round =
        || (201..=206).map(|last| stand.connect_from(last, service.at()).unwrap().served_by);
    let first: Vec<_> = round().collect();
    assert_eq!(BTreeSet::from_iter(&first).len(), 3, "{first:?}");
    for _ in 0..2 {
        assert_eq!(round().collect::<Vec<_>>(), first);
    }
}

/// The reference deployment's: a modality that stores at port 104 finds its images at port 11112.
fn layer4_balance_persistence_is_shared_by_all_ports() {
    let stand = Stand::one_arm();
    let _servers = stand.servers(["rs1", "rs2"], &[104, 11112]);
    let vip = stand.vip();
    let service = persistent(on_ports(layer4(Method::Dr), &["104", "11112"]));
    let service = stand.serve(vip, service, stand.direct(["rs1", "rs2"], vip));
    let mut all = BTreeSet::new();
    for last in 201..=206 {
        let [stored, found] =
            [104, 11112].map(|port| stand.connect_from(last, service.at_port(port)).unwrap());
        assert_eq!(stored.served_by, found.served_by);
        all.insert(stored.served_by);
    }
    assert_eq!(all.len(), 2);
}

fn layer4_balance_clients_of_one_prefix_count_as_one() {
    let stand = Stand::two_arm();
    let _servers = stand.servers(["rs1", "rs2"], &[104]);
    for (vip, prefix) in [(stand.vip(), 24), (stand.vip6(), 64)] {
        let servers = ["rs1", "rs2"].map(|name| real(name, vip));
        let mut service = persistent(layer4(Method::Nat));
        service.persistence.as_mut().unwrap().prefix_length = prefix;
        let service = stand.serve(vip, service, servers.into());
        let names =
            (201..=204).map(|last| stand.connect_from(last, service.at()).unwrap().served_by);
        assert_eq!(names.collect::<BTreeSet<_>>().len(), 1);
    }
}

fn layer4_balance_failover_uses_the_second_only_without_the_first() {
    let stand = Stand::two_arm();
    let [first, _second] = stand.servers(["rs1", "rs2"], &[104]);
    let (vip, mut servers) = nat(stand, &["rs1", "rs2"]);
    servers[1].priority = 1;
    let failover = pb::VirtualService {
        strategy: Strategy::Failover.into(),
        ..checked(layer4(Method::Nat), Duration::from_secs(600))
    };
    let service = stand.serve(vip, failover, servers);
    let who = || stand.connect(service.at()).map(|client| client.served_by).ok();
    assert_eq!([(); 3].map(|()| who().unwrap()), ["rs1"; 3].map(str::to_owned));
    first.stop();
    stand.eventually("the second serves", || (who().as_deref() == Some("rs2")).then_some(()));
    let _first = stand.servers(["rs1"], &[104]);
    stand.eventually("the first serves again", || (who().as_deref() == Some("rs1")).then_some(()));
}

fn layer4_balance_the_fallback_serves_when_no_other_does() {
    let stand = Stand::two_arm();
    let [only, _fallback] = stand.servers(["rs1", "rs3"], &[104]);
    let (vip, servers) = nat(stand, &["rs1"]);
    let endpoint = real("rs3", vip).endpoint;
    let with_fallback = pb::VirtualService {
        fallback: endpoint,
        ..checked(layer4(Method::Nat), Duration::from_secs(600))
    };
    let service = stand.serve(vip, with_fallback, servers);
    let who = || stand.connect(service.at()).map(|client| client.served_by).ok();
    assert_eq!([(); 3].map(|()| who().unwrap()), ["rs1"; 3].map(str::to_owned));
    only.stop();
    stand.eventually("the fallback serves", || (who().as_deref() == Some("rs3")).then_some(()));
    let _only = stand.servers(["rs1"], &[104]);
    stand.eventually("the server serves again", || (who().as_deref() == Some("rs1")).then_some(()));
}

fn layer4_balance_a_full_server_gets_no_more_clients() {
    let stand = Stand::two_arm();
    let _servers = stand.servers(["rs1", "rs2"], &[104]);
    let (vip, mut servers) = nat(stand, &["rs1", "rs2"]);
    servers.iter_mut().for_each(|server| server.max_connections = 2);
    servers[0].min_connections = 1;
    let service = stand.serve(vip, layer4(Method::Nat), servers);
    let held: Vec<_> = (0..4).map(|_| stand.connect(service.at()).unwrap()).collect();
    let refused = stand.connect(service.at()).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    let listed = stand.ipvsadm("-Ln --thresholds");
    let limits = |server: &str| {
        let line = listed.lines().skip_while(|line| !line.contains(&service.at().to_string()));
        let line = line.into_iter().find(|line| line.contains(server)).unwrap().to_owned();
        line.split_whitespace().skip(2).take(2).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(limits("10.77.0.21:104"), ["2", "1"], "{listed}");
    assert_eq!(limits("10.77.0.22:104"), ["2", "0"], "{listed}");
    drop(held);
}

fn layer4_balance_hashed_clients_of_a_failed_server_go_elsewhere() {
    let stand = Stand::two_arm();
    let [first, _second] = stand.servers(["rs1", "rs2"], &[104]);
    let (vip, servers) = nat(stand, &["rs1", "rs2"]);
    let hashed = layer4_with(Method::Nat, |layer4| layer4.scheduler = Scheduler::SourceHash.into());
    let service = stand.serve(vip, checked(hashed, Duration::from_secs(600)), servers);
    let who = |last| stand.connect_from(last, service.at()).map(|client| client.served_by);
    let of_first: Vec<u8> = (201..=209).filter(|last| who(*last).unwrap() == "rs1").collect();
    assert!(!of_first.is_empty());
    first.stop();
    stand.eventually("its clients are served by the other", || {
        of_first.iter().all(|last| who(*last).is_ok_and(|name| name == "rs2")).then_some(())
    });
}
