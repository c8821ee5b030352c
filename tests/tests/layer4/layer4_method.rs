//! How packets reach the real servers, and as whom these see the client.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use gantry_proto::v1 as pb;
use gantry_tests::lab::{Client, Server, Tunnel};
use libtest_mimic::Trial;
use pb::layer4::{Encapsulation, Method};

use crate::stand::{Stand, layer4, layer4_with, on_ports, over_udp, persistent, real};

pub(crate) fn trials() -> Vec<Trial> {
    trials![
        layer4_method_direct_routing_shows_servers_the_client_and_the_virtual_address,
        layer4_method_direct_routing_works_over_ipv6,
        layer4_method_direct_routing_carries_udp,
        layer4_method_nat_translates_address_and_port_and_shows_the_client,
        layer4_method_nat_works_over_ipv6_and_udp,
        layer4_method_snat_shows_the_virtual_address_and_keeps_the_port,
        layer4_method_snat_from_another_address_in_one_arm,
        layer4_method_snat_carries_udp_and_ipv6,
        layer4_method_snat_of_several_persistent_ports_leaves_other_traffic_alone,
        layer4_method_tunnels_are_ipip_gue_and_gre,
        layer4_method_one_packet_schedules_each_datagram,
        layer4_method_several_ports_go_to_the_same_port_of_the_server,
        layer4_method_a_range_of_many_ports_is_one_kernel_service,
    ]
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn served_by(clients: &[Client]) -> BTreeSet<&str> {
    clients.iter().map(|client| client.served_by.as_str()).collect()
}

fn layer4_method_direct_routing_shows_servers_the_client_and_the_virtual_address() {
    let stand = Stand::one_arm();
    let _servers = stand.servers(["rs1", "rs2"], &[104]);
    let vip = stand.vip();
    let service = stand.serve(vip, layer4(Method::Dr), stand.direct(["rs1", "rs2"], vip));
    let clients = [201, 202].map(|last| stand.connect_from(last, service.at()).unwrap());
    assert_eq!(served_by(&clients).len(), 2);
    for (mut client, last) in clients.into_iter().zip([201, 202]) {
        client.echoes().unwrap();
        assert_eq!(client.seen_as, address(&format!("10.77.0.{last}")));
        assert_eq!(client.arrived_at, service.at());
    }
}

fn layer4_method_direct_routing_works_over_ipv6() {
    let stand = Stand::one_arm();
    let _servers = stand.servers(["rs1", "rs2"], &[104]);
    let vip = stand.vip6();
    let service = stand.serve(vip, layer4(Method::Dr), stand.direct(["rs1", "rs2"], vip));
    let clients = [201, 202].map(|last| stand.connect_from(last, service.at()).unwrap());
    assert_eq!(served_by(&clients).len(), 2);
    assert_eq!(clients[0].seen_as, address("fd77::201"));
    assert_eq!(clients[0].arrived_at, service.at());
}

fn layer4_method_direct_routing_carries_udp() {
    let stand = Stand::one_arm();
    let vip = stand.vip();
    let service = on_ports(over_udp(layer4(Method::Dr)), &["514"]);
    let service = stand.serve(vip, service, stand.direct(["rs1", "rs2"], vip));
    let _servers = ["rs1", "rs2"].map(|name| Server::udp(stand.node(name), name, &[service.at()]));
    let answer = Client::ask_udp(stand.node("c1"), Some(address("10.77.0.201")), service.at());
    let answer = answer.unwrap();
    assert_eq!((answer.seen_as, answer.arrived_at), (address("10.77.0.201"), service.at()));
}

fn layer4_method_nat_translates_address_and_port_and_shows_the_client() {
    let stand = Stand::two_arm();
    let _servers = stand.servers(["rs1", "rs2"], &[11112]);
    let vip = stand.vip();
    let translated = ["rs1", "rs2"].map(|name| {
        let mut server = real(name, vip);
        server.endpoint.as_mut().unwrap().port = 11112;
        server
    });
    let service = stand.serve(vip, layer4(Method::Nat), translated.into());
    let clients = [201, 202].map(|last| stand.connect_from(last, service.at()).unwrap());
    let arrived = BTreeSet::from(clients.each_ref().map(|client| client.arrived_at.to_string()));
    assert_eq!(arrived, ["10.77.0.21:11112", "10.77.0.22:11112"].map(str::to_owned).into());
    assert_eq!(clients[0].seen_as, address("10.78.0.201"));
}

fn layer4_method_nat_works_over_ipv6_and_udp() {
    let stand = Stand::two_arm();
    let _servers = stand.servers(["rs1"], &[104]);
    let vip = stand.vip6();
    let service = stand.serve(vip, layer4(Method::Nat), vec![real("rs1", vip)]);
    let client = stand.connect_from(203, service.at()).unwrap();
    assert_eq!((client.served_by.as_str(), client.seen_as), ("rs1", address("fd78::203")));

    let _server = Server::udp(stand.node("rs2"), "rs2", &["10.77.0.22:514".parse().unwrap()]);
    let vip = stand.vip();
    let udp = on_ports(over_udp(layer4(Method::Nat)), &["514"]);
    let service = stand.serve(vip, udp, vec![real("rs2", vip)]);
    let answer = Client::ask_udp(stand.node("c1"), Some(address("10.78.0.203")), service.at());
    assert_eq!(answer.unwrap().seen_as, address("10.78.0.203"));
}

fn layer4_method_snat_shows_the_virtual_address_and_keeps_the_port() {
    let stand = Stand::two_arm();
    let _servers = stand.servers(["rs1", "rs2"], &[104]);
    let vip = stand.vip();
    let servers = ["rs1", "rs2"].map(|name| real(name, vip));
    let service = stand.serve(vip, layer4(Method::Snat), servers.into());
    let clients = [201, 202].map(|last| stand.connect_from(last, service.at()).unwrap());
    assert_eq!(served_by(&clients).len(), 2);
    for mut client in clients {
        client.echoes().unwrap();
        assert_eq!(client.seen_as, vip);
    }
}

/// Clients and servers share the network, and the servers know nothing of the load balancer: with
/// any other method that changes nothing on them, answers would pass it by.
fn layer4_method_snat_from_another_address_in_one_arm() {
    let stand = Stand::one_arm();
    let _servers = stand.servers(["rs1"], &[104]);
    let (vip, source) = (stand.vip(), stand.vip());
    let snat = layer4_with(Method::Snat, |layer4| layer4.snat_address = source.to_string());
    let service = stand.serve(vip, snat, vec![real("rs1", vip)]);
    let mut client = stand.connect_from(204, service.at()).unwrap();
    client.echoes().unwrap();
    assert_eq!(client.seen_as, source);
    let listed = stand.node("lb1").run("ip", &["-o", "addr"]).output();
    assert!(listed.contains(&format!(" {source}/32 ")), "{listed}");
    drop(service);
    let listed = stand.node("lb1").run("ip", &["-o", "addr"]).output();
    assert!(!listed.contains(&format!(" {source}/32 ")), "{listed}");
}

fn layer4_method_snat_carries_udp_and_ipv6() {
    let stand = Stand::two_arm();
    let _server = Server::udp(stand.node("rs1"), "rs1", &["10.77.0.21:515".parse().unwrap()]);
    let vip = stand.vip();
    let udp = on_ports(over_udp(layer4(Method::Snat)), &["515"]);
    let service = stand.serve(vip, udp, vec![real("rs1", vip)]);
    let answer = Client::ask_udp(stand.node("c1"), None, service.at()).unwrap();
    assert_eq!(answer.seen_as, vip);

    let _servers = stand.servers(["rs2"], &[104]);
    let vip = stand.vip6();
    let service = stand.serve(vip, layer4(Method::Snat), vec![real("rs2", vip)]);
    assert_eq!(stand.connect(service.at()).unwrap().seen_as, vip);
}

fn layer4_method_snat_of_several_persistent_ports_leaves_other_traffic_alone() {
    let stand = Stand::two_arm();
    let _servers = stand.servers(["rs1", "rs2"], &[104, 11112]);
    let vip = stand.vip();
    let service = persistent(on_ports(layer4(Method::Snat), &["104", "11112"]));
    let servers = ["rs1", "rs2"].map(|name| real(name, vip));
    let service = stand.serve(vip, service, servers.into());
    let [one, other] =
        [104, 11112].map(|port| stand.connect_from(208, service.at_port(port)).unwrap());
    assert_eq!(one.served_by, other.served_by);
    assert_eq!((one.seen_as, other.seen_as, other.arrived_at.port()), (vip, vip, 11112));
    let own = Client::connect(stand.node("lb1"), None, "10.77.0.21:104".parse().unwrap());
    assert_eq!(own.unwrap().seen_as, address("10.77.0.11"), "the appliance's own connections");
}

fn layer4_method_tunnels_are_ipip_gue_and_gre() {
    let stand = Stand::one_arm();
    let _servers = stand.servers(["rs1"], &[104]);
    for (wrapped, port, tunnel) in [
        (Encapsulation::Ipip, 0, Tunnel::Ipip),
        (Encapsulation::Gue, 6081, Tunnel::Gue(6081)),
        (Encapsulation::Gre, 0, Tunnel::Gre),
    ] {
        let vip = stand.vip();
        stand.lab.real_server_for_tunnel("rs1", vip, tunnel);
        let service = layer4_with(Method::Tunnel, |layer4| {
            layer4.encapsulation = wrapped.into();
            layer4.tunnel_port = port;
        });
        let service = stand.serve(vip, service, vec![real("rs1", vip)]);
        let mut client = stand.connect(service.at()).unwrap();
        client.echoes().unwrap();
        assert_eq!(client.arrived_at, service.at(), "{wrapped:?}");
        stand.lab.forget("rs1", vip);
    }
}

fn layer4_method_one_packet_schedules_each_datagram() {
    let stand = Stand::one_arm();
    let vip = stand.vip();
    let servers = stand.direct(["rs1", "rs2"], vip);
    let at = SocketAddr::new(vip, 516);
    let _servers = ["rs1", "rs2"].map(|name| Server::udp(stand.node(name), name, &[at]));
    let service = layer4_with(Method::Dr, |layer4| {
        layer4.one_packet = true;
        layer4.scheduler = pb::layer4::Scheduler::RoundRobin.into();
    });
    let service = on_ports(over_udp(service), &["516"]);
    let service = stand.serve(vip, service, servers);
    service.shows(&[&at.to_string(), "ops"]);
    let ask = || Client::ask_udp(stand.node("c1"), None, service.at()).unwrap().served_by;
    let names: BTreeSet<_> = [(); 6].map(|()| ask()).into();
    assert_eq!(names, ["rs1".to_owned(), "rs2".to_owned()].into());
}

fn layer4_method_several_ports_go_to_the_same_port_of_the_server() {
    let stand = Stand::one_arm();
    let _servers = stand.servers(["rs1"], &[104, 11112]);
    let vip = stand.vip();
    let servers = stand.direct(["rs1"], vip);
    for service in [layer4(Method::Dr), persistent(layer4(Method::Dr))] {
        let service = on_ports(service, &["104", "11112"]);
        let service = stand.serve(vip, service, servers.clone());
        for port in [104, 11112] {
            let client = stand.connect(service.at_port(port)).unwrap();
            assert_eq!(client.arrived_at, service.at_port(port));
        }
        let refused = stand.connect(service.at_port(105)).unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused, "not one of its ports");
    }
}

fn layer4_method_a_range_of_many_ports_is_one_kernel_service() {
    let stand = Stand::one_arm();
    let _servers = stand.servers(["rs1"], &[8000, 8499]);
    let vip = stand.vip();
    let service = on_ports(layer4(Method::Dr), &["8000-8499"]);
    let service = stand.serve(vip, service, stand.direct(["rs1"], vip));
    for port in [8000, 8499] {
        assert_eq!(stand.connect(service.at_port(port)).unwrap().arrived_at.port(), port);
    }
    let listed = stand.ipvsadm("-Ln");
    assert_eq!(listed.lines().filter(|line| line.starts_with("FWM")).count(), 1, "{listed}");
}
