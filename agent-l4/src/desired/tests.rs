use gantry_model::mark::Mark;
use gantry_model::violation::Violations;
use gantry_model::wire;
use gantry_proto::v1 as pb;
use pb::virtual_service::Forwarding as Wire;

use super::*;
use crate::ipvs::Scheduler;

fn plan(edit: impl FnOnce(&mut pb::VirtualService, &mut pb::Layer4)) -> ServicePlan {
    let mut layer4 = pb::Layer4 { method: pb::layer4::Method::Dr.into(), ..Default::default() };
    let mut service = pb::VirtualService {
        listener: Some(pb::Listener {
            address: "10.12.1.100".to_owned(),
            ports: vec!["104".to_owned()],
            ..Default::default()
        }),
        ..Default::default()
    };
    edit(&mut service, &mut layer4);
    service.forwarding = Some(Wire::Layer4(layer4));
    let mut violations = Violations::new();
    let name = "clusters/main/virtualServices/dicom".parse().unwrap();
    let service = wire::virtual_service(&mut violations, name, &service);
    let service = service.unwrap_or_else(|| panic!("{violations:?}"));
    let server = |(id, address, priority): (&str, &str, i32)| {
        let endpoint = Some(pb::Endpoint { address: address.to_owned(), port: 0 });
        let message = pb::RealServer { endpoint, priority, ..Default::default() };
        let name = service.name.server(id.parse().unwrap());
        wire::real_server(&mut Violations::new(), name, &message).unwrap()
    };
    let servers = [("a", "10.12.1.110", 2), ("b", "10.12.1.111", 1), ("c", "10.12.1.112", 2)];
    let servers = servers.map(server).into();
    let mark = service.needs_mark().then_some(Mark::FIRST);
    ServicePlan { service, servers, mark, key_pairs: Vec::new() }
}

fn formed(plan: &ServicePlan) -> Form {
    form(plan, Timestamp::UNIX_EPOCH, |_| Health::Serves)
}

fn only(form: &Form) -> &Programmed {
    assert_eq!(form.services.len(), 1);
    form.services.values().next().unwrap()
}

fn weights(form: &Form) -> Vec<u32> {
    only(form).destinations.values().map(|destination| destination.weight).collect()
}

fn ports(service: &mut pb::VirtualService, ports: &[&str]) {
    let listener = service.listener.as_mut().unwrap();
    listener.ports = ports.iter().map(|port| (*port).to_owned()).collect();
}

#[test]
fn failover_goes_by_priority_then_by_name() {
    let plan = plan(|service, _| service.strategy = pb::virtual_service::Strategy::Failover.into());
    let form = formed(&plan);
    assert_eq!(only(&form).service.scheduler, Scheduler::Failover);
    assert_eq!(weights(&form), [2, 3, 1], "b, then a, then c");
}

#[test]
fn schedulers_have_their_flags() {
    use pb::layer4::Scheduler as Named;
    for (named, scheduler, hash_ports, hash_fallback) in [
        (Named::Unspecified, Scheduler::WeightedLeastConnection, false, false),
        (Named::SourceHash, Scheduler::SourceHash, true, true),
        (Named::MaglevHash, Scheduler::MaglevHash, true, true),
        (Named::WeightedOverflow, Scheduler::Overflow, false, false),
        (Named::NeverQueue, Scheduler::NeverQueue, false, false),
    ] {
        let plan = plan(|_, layer4| {
            layer4.scheduler = named.into();
            layer4.hash_ports = true;
        });
        let form = formed(&plan);
        let service = only(&form).service;
        assert_eq!(service.scheduler, scheduler);
        assert_eq!((service.hash_ports, service.hash_fallback), (hash_ports, hash_fallback));
    }
}

#[test]
fn methods_are_the_kernels() {
    use pb::layer4::{Encapsulation, Method as Named};
    let gue = |port| ipvs::Method::Tunnel(Tunnel::Gue { port, checksum: Checksum::None });
    for (named, wrapped, port, expected) in [
        (Named::Dr, Encapsulation::Unspecified, 0, ipvs::Method::DirectRouting),
        (Named::Nat, Encapsulation::Unspecified, 0, ipvs::Method::Masquerade),
        (Named::Snat, Encapsulation::Unspecified, 0, ipvs::Method::Masquerade),
        (Named::Tunnel, Encapsulation::Unspecified, 0, ipvs::Method::Tunnel(Tunnel::Ipip)),
        (Named::Tunnel, Encapsulation::Gue, 0, gue(6080)),
        (Named::Tunnel, Encapsulation::Gue, 5555, gue(5555)),
    ] {
        let plan = plan(|_, layer4| {
            layer4.method = named.into();
            layer4.encapsulation = wrapped.into();
            layer4.tunnel_port = port;
        });
        let form = formed(&plan);
        let destinations = only(&form).destinations.values();
        assert!(
            destinations.map(|destination| destination.method).all(|method| method == expected)
        );
    }
}

#[test]
fn ports_are_services_of_their_own_or_share_a_mark() {
    let plain = plan(|service, _| ports(service, &["104", "11112"]));
    let form = formed(&plain);
    let listed: Vec<_> = form.services.keys().map(ToString::to_string).collect();
    assert_eq!(listed, ["tcp 10.12.1.100:104", "tcp 10.12.1.100:11112"]);
    let at: Vec<_> = form.servers.keys().map(|key| key.port).collect();
    assert_eq!(at, [104, 11112, 104, 11112, 104, 11112]);
    assert_eq!(form.rules, Rules::default());

    let sticky = plan(|service, _| {
        ports(service, &["104", "11112", "8000-8010"]);
        service.persistence = Some(pb::Persistence { prefix_length: 24, ..Default::default() });
    });
    let form = formed(&sticky);
    let held = only(&form);
    assert_eq!(held.service.key, ServiceKey::Mark { family: Family::V4, mark: 0x4700_0001 });
    assert_eq!(held.service.persistence, Some(ipvs::Persistence { timeout: 3600, prefix: 24 }));
    assert!(held.destinations.keys().all(|key| key.port == 0));
    let ranges: Vec<_> = form.rules.marks.keys().map(|key| (key.first, key.last)).collect();
    assert_eq!(ranges, [(104, 104), (8000, 8010), (11112, 11112)]);

    let wide = plan(|service, _| ports(service, &["8000-8016"]));
    assert!(matches!(only(&formed(&wide)).service.key, ServiceKey::Mark { .. }));
}

#[test]
fn snat_translates_the_source_to_a_virtual_address() {
    let nat = |address: &str| {
        plan(|_, layer4| {
            layer4.method = pb::layer4::Method::Snat.into();
            address.clone_into(&mut layer4.snat_address);
        })
    };
    for (given, source, addresses) in [("", "10.12.1.100", 1), ("10.13.1.9", "10.13.1.9", 2)] {
        let form = formed(&nat(given));
        let sources: Vec<_> = form.rules.sources.values().map(ToString::to_string).collect();
        assert_eq!(sources, [source]);
        assert_eq!(form.addresses.len(), addresses);
    }
}

#[test]
fn a_disabled_service_wants_nothing_and_one_of_layer_7_its_address() {
    assert_eq!(formed(&plan(|service, _| service.disabled = true)), Form::default());
    let mut plan = plan(|_, _| {});
    plan.service.forwarding = Forwarding::Layer7(Box::new(gantry_model::service::Layer7::plain()));
    let form = formed(&plan);
    assert_eq!((form.services.len(), form.addresses.len(), form.method), (0, 1, None));
}

#[test]
fn times_are_whole_seconds_that_fit() {
    assert_eq!(seconds(Duration::from_millis(1500)), 2);
    assert_eq!(seconds(Duration::from_secs(3600)), 3600);
    assert_eq!(seconds(Duration::from_secs(365 * 24 * 3600)), 49 * 24 * 3600);
}

#[test]
fn an_ipv6_service_counts_whole_addresses() {
    let plan = plan(|service, _| {
        service.listener.as_mut().unwrap().address = "fd77::100".to_owned();
        service.persistence = Some(pb::Persistence::default());
    });
    let form = formed(&plan);
    assert_eq!(only(&form).service.persistence.unwrap().prefix, 128);
}
