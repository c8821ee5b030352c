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
        listener: Some(pb::Listener { address: address.to_owned(), ports, protocol: 0 }),
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
    let found = violations.finish::<()>(None).unwrap_err();
    found.into_iter().map(|v| format!("{} {}", v.field, v.reason)).collect()
}

#[test]
fn servers_fit_their_service() {
    use pb::layer4::Method::{Dr, Nat};
    let cases: &[(Wire, &[&str], &str, i32, &str)] = &[
        (layer7(), &["104"], "10.0.0.9", 11112, ""),
        (layer7(), &["104"], "fe80::9", 0, ""),
        (layer7(), &["104", "11112"], "10.0.0.9", 0, ""),
        (layer7(), &["104", "11112"], "10.0.0.9", 104, "endpoint.port PORT_TRANSLATION"),
        (layer4(Nat), &["104"], "10.0.0.9", 11112, ""),
        (layer4(Dr), &["104"], "10.0.0.9", 104, ""),
        (layer4(Dr), &["104"], "10.0.0.9", 11112, "endpoint.port PORT_TRANSLATION"),
        (layer4(Nat), &["104"], "fe80::9", 0, "endpoint.address ADDRESS_FAMILY"),
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
    let labelled = |id| RealServer { label: "PACS".into(), ..server(id, "10.0.0.9", 0) };
    let service = service("x", "10.0.0.1", &["104"], layer7());
    let found = found(&service, &[labelled("a"), labelled("b")]);
    assert_eq!(found, ["real_servers[1].display_name DUPLICATE"]);
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
