use std::collections::HashSet;

use gantry_proto::v1 as pb;
use pb::virtual_service::Forwarding as Wire;

use super::*;
use crate::wire;

fn layer4(method: pb::layer4::Method) -> Wire {
    Wire::Layer4(pb::Layer4 { method: method.into(), ..Default::default() })
}

fn layer7() -> Wire {
    Wire::Layer7(pb::Layer7::default())
}

fn service(id: &str, address: &str, ports: &[&str], forwarding: Wire) -> VirtualService {
    let name = format!("clusters/main/virtualServices/{id}").parse().unwrap();
    let ports = ports.iter().map(|port| (*port).to_owned()).collect();
    let message = pb::VirtualService {
        listener: Some(pb::Listener { address: address.to_owned(), ports, ..Default::default() }),
        forwarding: Some(forwarding),
        ..Default::default()
    };
    wire::virtual_service(&mut Violations::new(), name, &message).unwrap()
}

fn server(id: &str, address: &str, port: i32) -> RealServer {
    let name = format!("clusters/main/virtualServices/x/realServers/{id}").parse().unwrap();
    let endpoint = Some(pb::Endpoint { address: address.to_owned(), port });
    let message = pb::RealServer { endpoint, ..Default::default() };
    wire::real_server(&mut Violations::new(), name, &message).unwrap()
}

fn found(service: &VirtualService, servers: &[RealServer]) -> Vec<String> {
    let mut violations = Violations::new();
    let servers = servers.iter().enumerate();
    let servers = servers.map(|(at, server)| (format!("real_servers[{at}]"), server));
    check_together(&mut violations, service, servers);
    let found = violations.into_found();
    found.into_iter().map(|v| format!("{} {}", v.field, v.reason)).collect()
}

#[test]
fn servers_fit_their_service() {
    use pb::layer4::Method::{Dr, Nat};
    let cases: &[(Wire, &[&str], &str, i32, &str)] = &[
        (layer7(), &["104"], "10.0.0.9", 11112, ""),
        (layer7(), &["104"], "fd00::9", 0, ""),
        (layer7(), &["104", "11112"], "10.0.0.9", 0, ""),
        (layer7(), &["104", "11112"], "10.0.0.9", 104, "endpoint.port PORT_TRANSLATION"),
        (layer4(Nat), &["104"], "10.0.0.9", 11112, ""),
        (layer4(Dr), &["104"], "10.0.0.9", 104, ""),
        (layer4(Dr), &["104"], "10.0.0.9", 11112, "endpoint.port PORT_TRANSLATION"),
        (layer4(Nat), &["104"], "fd00::9", 0, "endpoint.address ADDRESS_FAMILY"),
        (layer7(), &["104"], "fe80::9", 0, "endpoint.address LINK_LOCAL"),
        (layer7(), &["104"], "::ffff:10.0.0.9", 0, "endpoint.address MAPPED_ADDRESS"),
        (layer7(), &["104"], "255.255.255.255", 0, "endpoint.address INVALID_ADDRESS"),
        (layer7(), &["104"], "0.1.2.3", 0, "endpoint.address INVALID_ADDRESS"),
        (layer7(), &["104"], "127.0.0.9", 0, ""),
        (layer7(), &["104"], "10.0.0.1", 104, "endpoint LOOP"),
        (layer7(), &["104"], "10.0.0.1", 105, ""),
    ];
    for (forwarding, ports, address, port, expected) in cases {
        let service = service("x", "10.0.0.1", ports, forwarding.clone());
        let found = found(&service, &[server("a", address, *port)]).join(", ");
        let expected = match *expected {
            "" => String::new(),
            expected => format!("real_servers[0].{expected}"),
        };
        assert_eq!(found, expected, "{ports:?} {address}:{port}");
    }
}

#[test]
fn labels_of_servers_are_their_own() {
    let labelled = |id, at| RealServer { label: "PACS".into(), ..server(id, at, 0) };
    let service = service("x", "10.0.0.1", &["104"], layer7());
    let found = found(&service, &[labelled("a", "10.0.0.8"), labelled("b", "10.0.0.9")]);
    assert_eq!(found, ["real_servers[1].display_name DUPLICATE"]);
}

#[test]
fn endpoints_of_servers_are_their_own() {
    let one_port = service("x", "10.0.0.1", &["104"], layer7());
    let twins = [server("a", "10.0.0.9", 0), server("b", "10.0.0.9", 104)];
    assert_eq!(found(&one_port, &twins), ["real_servers[1].endpoint DUPLICATE"]);
    let others = [server("a", "10.0.0.9", 105), server("b", "10.0.0.9", 104)];
    assert_eq!(found(&one_port, &others), [""; 0]);
    let two_ports = service("x", "10.0.0.1", &["104", "105"], layer7());
    let twins = [server("a", "10.0.0.9", 0), server("b", "10.0.0.9", 0)];
    assert_eq!(found(&two_ports, &twins), ["real_servers[1].endpoint DUPLICATE"]);
}

/// What is wrong with a service by itself, when `change` was made to one that is right.
fn wrong(forwarding: Wire, change: impl FnOnce(&mut pb::VirtualService)) -> Vec<String> {
    let mut message = pb::VirtualService {
        listener: Some(pb::Listener {
            address: "10.0.0.1".into(),
            ports: vec!["104".into()],
            ..Default::default()
        }),
        forwarding: Some(forwarding),
        ..Default::default()
    };
    change(&mut message);
    let name = "clusters/main/virtualServices/x".parse().unwrap();
    let service = wire::virtual_service(&mut Violations::new(), name, &message).unwrap();
    let mut violations = Violations::new();
    check_service(&mut violations, &service);
    let found = violations.into_found();
    found.into_iter().map(|v| format!("{} {}", v.field, v.reason)).collect()
}

#[test]
fn addresses_must_be_reachable() {
    for (address, expected) in [
        ("10.0.0.1", ""),
        ("127.12.1.100", ""),
        ("::1", ""),
        ("fd00::1", ""),
        ("255.255.255.255", "listener.address INVALID_ADDRESS"),
        ("0.0.0.1", "listener.address INVALID_ADDRESS"),
        ("fe80::1", "listener.address LINK_LOCAL"),
        ("::ffff:10.0.0.1", "listener.address MAPPED_ADDRESS"),
    ] {
        let found = wrong(layer7(), |it| it.listener.as_mut().unwrap().address = address.into());
        assert_eq!(found.join(", "), expected, "{address}");
    }
}

#[test]
fn a_fallback_is_another_machine_on_a_port_that_can_be_reached() {
    use pb::layer4::Method::{Dr, Nat};
    let cases: &[(Wire, &[&str], &str, i32, &str)] = &[
        (layer7(), &["104"], "10.0.0.9", 80, ""),
        (layer7(), &["104", "105"], "10.0.0.9", 80, ""),
        (layer7(), &["104", "105"], "10.0.0.9", 0, ""),
        (layer7(), &["104"], "10.0.0.1", 0, "fallback LOOP"),
        (layer7(), &["104", "105"], "10.0.0.1", 105, "fallback LOOP"),
        (layer7(), &["104"], "10.0.0.1", 80, ""),
        (layer7(), &["104"], "fe80::1", 80, "fallback.address LINK_LOCAL"),
        (layer4(Nat), &["104"], "10.0.0.9", 80, ""),
        (layer4(Nat), &["104", "105"], "10.0.0.9", 80, "fallback.port PORT_TRANSLATION"),
        (layer4(Dr), &["104"], "10.0.0.9", 80, "fallback.port PORT_TRANSLATION"),
        (layer4(Dr), &["104"], "10.0.0.9", 104, ""),
    ];
    for (forwarding, ports, address, port, expected) in cases {
        let found = wrong(forwarding.clone(), |it| {
            it.listener.as_mut().unwrap().ports = ports.iter().map(|p| (*p).to_owned()).collect();
            it.fallback = Some(pb::Endpoint { address: (*address).to_owned(), port: *port });
        });
        assert_eq!(found.join(", "), *expected, "{ports:?} {address}:{port}");
    }
    let mut alone = service("x", "10.0.0.1", &["104"], layer7());
    alone.fallback = Some(server("f", "10.0.0.9", 104).endpoint);
    let found = found(&alone, &[server("a", "10.0.0.9", 0), server("b", "10.0.0.8", 0)]);
    assert_eq!(found, ["real_servers[0].endpoint IS_FALLBACK"]);
}

#[test]
fn parts_that_need_each_other() {
    let layer7 = |layer7| Wire::Layer7(layer7);
    let reencrypt = pb::Layer7 { reencrypt: true, ..Default::default() };
    let found = wrong(layer7(reencrypt.clone()), |_| {});
    assert_eq!(found, ["layer7.reencrypt NEEDS_CERTIFICATE"]);
    let both = pb::Layer7 { certificate: "certificates/pacs".into(), ..reencrypt };
    assert_eq!(wrong(layer7(both), |_| {}), [""; 0]);
    let mode = pb::layer7::Mode::DicomMode.into();
    let found = wrong(layer7(pb::Layer7 { mode, ..Default::default() }), |it| {
        let key = pb::persistence::Key::CallingAeTitle.into();
        it.persistence = Some(pb::Persistence { key, prefix_length: 24, ..Default::default() });
    });
    assert_eq!(found, ["persistence.prefix_length NEEDS_SOURCE_IP"]);
}

#[test]
fn parts_of_layer_4_fit_each_other() {
    use pb::layer4::Method::{Dr, Nat, Snat, Tunnel};
    use pb::layer4::Scheduler::{MaglevHash, WeightedRoundRobin};
    type Change = fn(&mut pb::VirtualService, &mut pb::Layer4);
    let udp = |it: &mut pb::VirtualService| {
        it.listener.as_mut().unwrap().set_protocol(pb::listener::Protocol::Udp);
    };
    let asks = |it: &mut pb::VirtualService, port| {
        let check = it.health_check.get_or_insert_default();
        (check.through_virtual_address, check.port) = (true, port);
    };
    let cases: &[(pb::layer4::Method, Change, bool, Option<i32>, &str)] = &[
        (Nat, |_, _| {}, false, None, ""),
        (Nat, |_, it| (it.hash_ports = true, it.set_scheduler(MaglevHash)).1, false, None, ""),
        (
            Nat,
            |_, it| (it.hash_ports = true, it.set_scheduler(WeightedRoundRobin)).1,
            false,
            None,
            "layer4.hash_ports NEEDS_HASH_SCHEDULER",
        ),
        (Dr, |_, it| it.one_packet = true, true, None, ""),
        (Nat, |_, it| it.one_packet = true, true, None, "layer4.one_packet NEEDS_DIRECT_ROUTING"),
        (Dr, |_, it| it.one_packet = true, false, None, "layer4.one_packet NEEDS_UDP"),
        (
            Dr,
            |service, it| {
                it.one_packet = true;
                service.persistence = Some(pb::Persistence::default());
            },
            true,
            None,
            "layer4.one_packet EXCLUDES_PERSISTENCE",
        ),
        (Snat, |_, it| it.snat_address = "10.0.0.2".into(), false, None, ""),
        (
            Nat,
            |_, it| it.snat_address = "10.0.0.2".into(),
            false,
            None,
            "layer4.snat_address NEEDS_SNAT",
        ),
        (
            Snat,
            |_, it| it.snat_address = "fd00::2".into(),
            false,
            None,
            "layer4.snat_address ADDRESS_FAMILY",
        ),
        (
            Snat,
            |_, it| it.snat_address = "0.0.0.2".into(),
            false,
            None,
            "layer4.snat_address INVALID_ADDRESS",
        ),
        (Dr, |_, _| {}, false, Some(0), ""),
        (Tunnel, |_, _| {}, false, Some(0), ""),
        (
            Nat,
            |_, _| {},
            false,
            Some(0),
            "health_check.through_virtual_address NEEDS_DIRECT_ROUTING",
        ),
        (Dr, |_, _| {}, true, Some(0), "health_check.through_virtual_address NEEDS_TCP"),
        (Dr, |_, _| {}, false, Some(80), "health_check.port OTHER_PORT"),
    ];
    for (at, (method, change, over_udp, way, expected)) in cases.iter().enumerate() {
        let mut layer4 = pb::Layer4 { method: (*method).into(), ..Default::default() };
        let found = wrong(layer7(), |it| {
            change(it, &mut layer4);
            it.forwarding = Some(Wire::Layer4(layer4));
            if *over_udp {
                udp(it);
            }
            if let Some(port) = way {
                asks(it, *port);
            }
        });
        assert_eq!(found.join(", "), *expected, "case {at}");
    }
    let way = pb::HealthCheck { through_virtual_address: true, ..Default::default() };
    let found = wrong(layer7(), |it| it.health_check = Some(way));
    assert_eq!(found, ["health_check.through_virtual_address NEEDS_DIRECT_ROUTING"]);
}

#[test]
fn probes_that_no_server_can_answer() {
    use pb::health_check::{Http, Mllp, Probe};
    let by = |check| wrong(layer7(), |it| it.health_check = Some(check)).join(", ");
    let with = |probe| by(pb::HealthCheck { probe: Some(probe), ..Default::default() });
    let mllp = |message: &str, codes: &[&str]| {
        let expect_codes = codes.iter().map(|code| (*code).to_owned()).collect();
        with(Probe::Mllp(Mllp { message: message.to_owned(), expect_codes, tls: false }))
    };
    assert_eq!(mllp("", &[]), "");
    assert_eq!(mllp("MSH|^~\\&|\r", &["AA", "AR"]), "");
    assert_eq!(mllp("PID|1", &[]), "health_check.mllp.message INVALID_MESSAGE");
    assert_eq!(mllp("\u{b}MSH|", &[]), "health_check.mllp.message INVALID_MESSAGE");
    let long = format!("MSH{}", "x".repeat(64 << 10));
    assert_eq!(mllp(&long, &[]), "health_check.mllp.message TOO_LONG");
    assert_eq!(mllp("", &["AA", "OK"]), "health_check.mllp.expect_codes[1] UNKNOWN_CODE");
    let http = Http { path: format!("/{}", "x".repeat(2048)), ..Default::default() };
    assert_eq!(with(Probe::Http(http)), "health_check.http.path TOO_LONG");
    let holding =
        |probe| by(pb::HealthCheck { hold_connection: true, probe, ..Default::default() });
    assert_eq!(holding(None), "");
    let none = Probe::None(pb::health_check::None {});
    assert_eq!(holding(Some(none)), "health_check.hold_connection NEEDS_PROBE");
}

/// The conflicts of these services, as `id field` each, when the ids in `changed` are new.
fn conflicts_of(services: &[VirtualService], changed: &[&str]) -> Vec<String> {
    let changed: HashSet<_> = services
        .iter()
        .map(|service| &service.name)
        .filter(|name| changed.contains(&name.service.as_str()))
        .collect();
    let found = conflicts(services, &changed);
    found.into_iter().map(|c| format!("{} {}", c.service.service, c.field)).collect()
}

#[test]
fn listeners_do_not_overlap() {
    let services = [
        service("a", "10.0.0.1", &["100-200"], layer7()),
        service("b", "10.0.0.1", &["300", "150"], layer7()),
        service("c", "10.0.0.2", &["150"], layer7()),
        service("d", "10.0.0.1", &["199-201"], layer7()),
    ];
    assert_eq!(conflicts_of(&services, &["b"]), ["b listener.ports"]);
    assert_eq!(conflicts_of(&services, &["a"]), ["a listener.ports", "a listener.ports"]);
    assert_eq!(conflicts_of(&services, &["c"]), [""; 0]);
    let all = conflicts_of(&services, &["a", "b", "c", "d"]);
    assert_eq!(all, ["b listener.ports", "d listener.ports"]);
}

#[test]
fn labels_of_services_are_their_own() {
    let labelled = |id, address| VirtualService {
        label: "HL7".into(),
        ..service(id, address, &["2575"], layer7())
    };
    let services = [labelled("a", "10.0.0.1"), labelled("b", "10.0.0.2")];
    assert_eq!(conflicts_of(&services, &["a"]), ["a display_name"]);
    assert_eq!(conflicts_of(&services, &["b"]), ["b display_name"]);
    assert_eq!(conflicts_of(&services, &["a", "b"]).len(), 1);
    assert_eq!(conflicts_of(&services, &[]), [""; 0]);
}

#[test]
fn pools_have_routes_and_routes_a_mode_that_sees_them() {
    let route = |paths: &[&str]| pb::layer7::Route {
        hosts: vec!["viewer.example".to_owned()],
        path_prefixes: paths.iter().map(|&path| path.to_owned()).collect(),
        pool: "viewer".to_owned(),
    };
    let with = |mode: pb::layer7::Mode, route: pb::layer7::Route| {
        let layer7 = pb::Layer7 { mode: mode.into(), routes: vec![route], ..pb::Layer7::default() };
        service("x", "10.0.0.1", &["443"], Wire::Layer7(layer7))
    };
    let routed = with(pb::layer7::Mode::TcpMode, route(&[]));
    let pooled =
        |pool: &str| RealServer { pool: pool.parse().ok(), ..server("a", "10.0.0.9", 443) };
    assert_eq!(found(&routed, &[pooled("viewer"), server("b", "10.0.0.8", 443)]), [""; 0]);
    assert_eq!(found(&routed, &[pooled("other")]), ["real_servers[0].pool NEEDS_ROUTE"]);
    let to_cardio = pb::layer7::DicomRoute {
        called_ae_titles: vec!["PACS".to_owned()],
        pool: "cardio".to_owned(),
        ..Default::default()
    };
    let dicom = pb::layer7::Dicom { routes: vec![to_cardio], ..Default::default() };
    let mode = pb::layer7::Mode::DicomMode.into();
    let by_title = pb::Layer7 { mode, dicom: Some(dicom), ..Default::default() };
    let by_title = service("x", "10.0.0.1", &["104"], Wire::Layer7(by_title));
    assert!(found(&by_title, &[pooled("cardio")]).is_empty());
    let told = |service: &VirtualService| {
        let mut violations = Violations::new();
        check_service(&mut violations, service);
        let found = violations.into_found();
        found.into_iter().map(|v| format!("{} {}", v.field, v.reason)).collect::<Vec<_>>()
    };
    let paths = route(&["/a"]);
    assert_eq!(told(&with(pb::layer7::Mode::HttpMode, paths.clone())), [""; 0]);
    assert_eq!(
        told(&with(pb::layer7::Mode::TcpMode, paths)),
        ["layer7.routes[0].path_prefixes NEEDS_HTTP_MODE"]
    );
    assert_eq!(
        told(&with(pb::layer7::Mode::MllpMode, route(&[]))),
        ["layer7.routes[0] NEEDS_OTHER_MODE"]
    );
    let http = pb::layer7::Http { trust_forwarded: true, ..Default::default() };
    let layer7 = pb::Layer7 { http: Some(http), ..Default::default() };
    let plain = service("x", "10.0.0.1", &["80"], Wire::Layer7(layer7));
    assert_eq!(told(&plain), ["layer7.http NEEDS_HTTP_MODE"]);
}

#[test]
fn the_source_address_reaches_all_that_is_connected_to() {
    let from = |source: &str| {
        Wire::Layer7(pb::Layer7 { source_address: source.to_owned(), ..pb::Layer7::default() })
    };
    let cases = [
        ("10.0.0.2", "10.0.0.9", ""),
        ("10.0.0.2", "fd00::9", "real_servers[0].endpoint.address ADDRESS_FAMILY"),
        ("fd00::2", "fd00::9", ""),
        ("fd00::2", "10.0.0.9", "real_servers[0].endpoint.address ADDRESS_FAMILY"),
    ];
    for (source, address, expected) in cases {
        let service = service("x", "10.0.0.1", &["104"], from(source));
        let found = found(&service, &[server("a", address, 0)]).join(", ");
        assert_eq!(found, expected, "{source} to {address}");
    }
    let cases = [
        ("10.0.0.2", "10.0.0.9", ""),
        ("10.0.0.2", "fd00::9", "layer7.source_address ADDRESS_FAMILY"),
        ("fe80::2", "fd00::9", "layer7.source_address LINK_LOCAL"),
        ("0.1.2.3", "10.0.0.9", "layer7.source_address INVALID_ADDRESS"),
    ];
    for (source, fallback, expected) in cases {
        let found = wrong(from(source), |it| {
            it.fallback = Some(pb::Endpoint { address: fallback.to_owned(), port: 80 });
        });
        assert_eq!(found.join(", "), expected, "{source} to {fallback}");
    }
}

#[test]
fn a_client_can_only_be_stood_for_in_its_own_family_and_by_nobody_else() {
    let layer7 = pb::Layer7 {
        transparent_source: true,
        source_address: "10.0.0.2".into(),
        ..Default::default()
    };
    let both = wrong(Wire::Layer7(layer7), |_| {}).join(", ");
    assert_eq!(both, "layer7.transparent_source EXCLUDES_SOURCE_ADDRESS");
    let layer7 = pb::Layer7 { transparent_source: true, ..Default::default() };
    let service = service("x", "10.0.0.1", &["104"], Wire::Layer7(layer7));
    for (address, expected) in
        [("10.0.0.9", ""), ("fd00::9", "real_servers[0].endpoint.address ADDRESS_FAMILY")]
    {
        assert_eq!(found(&service, &[server("a", address, 0)]).join(", "), expected, "{address}");
    }
}

#[test]
fn what_persistence_goes_by_must_be_there_to_see() {
    let with = |certificate: &str, key: pb::persistence::Key| {
        let certificate = certificate.to_owned();
        let layer7 = pb::Layer7 { certificate, ..pb::Layer7::default() };
        let found = wrong(Wire::Layer7(layer7), |it| {
            it.persistence = Some(pb::Persistence { key: key.into(), ..Default::default() });
        });
        found.join(", ")
    };
    use pb::persistence::Key::{RdpCookie, SourceIp};
    assert_eq!(with("", RdpCookie), "");
    assert_eq!(with("certificates/site", SourceIp), "");
    assert_eq!(with("certificates/site", RdpCookie), "persistence.key EXCLUDES_CERTIFICATE");
}
