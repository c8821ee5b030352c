//! The test bed itself: with `ipvsadm` in Gantry's place, the lab does what a network does.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use gantry_tests::Site;
use gantry_tests::lab::{Client, End, Lab, Node, Server, Tunnel};
use gantry_tests::services::{layer7, server};
use libtest_mimic::Trial;

pub(crate) fn trials() -> Vec<Trial> {
    trials![
        layer4_bed_direct_routing_keeps_both_addresses,
        layer4_bed_nat_translates_address_and_port,
        layer4_bed_tunnels_of_every_kind_lead_to_the_real_server,
        layer4_bed_persistence_holds_by_source_address,
        layer4_bed_weight_zero_drains,
        layer4_bed_a_cut_cable_cuts,
        layer4_bed_a_site_runs_inside_a_node,
    ]
}

fn layer4_bed_direct_routing_keeps_both_addresses() {
    let lab = Lab::one_arm();
    let (lb1, c1) = (lab.node("lb1"), lab.node("c1"));
    for vip in ["10.77.0.100", "fd77::100"].map(address) {
        own(lb1, vip);
        let at = SocketAddr::new(vip, 104);
        ipvs(lb1, &format!("-A -t {at} -s rr"));
        ipvs(lb1, &format!("-A -u {at} -s rr"));
        for rs in ["rs1", "rs2"] {
            lab.real_server_for(rs, vip);
            let real = SocketAddr::new(real(rs, vip), 104);
            ipvs(lb1, &format!("-a -t {at} -r {real} -g"));
            ipvs(lb1, &format!("-a -u {at} -r {real} -g"));
        }
    }
    let _servers = ["rs1", "rs2"].map(|rs| {
        let node = lab.node(rs);
        let asked = ["10.77.0.100:104", "[fd77::100]:104"].map(socket);
        (Server::tcp(node, rs, &[104]), Server::udp(node, rs, &asked))
    });
    for (source, vip) in [("10.77.0.203", "10.77.0.100"), ("fd77::203", "fd77::100")] {
        let (source, at) = (address(source), SocketAddr::new(address(vip), 104));
        let mut clients = [(); 2].map(|()| Client::connect(c1, Some(source), at).unwrap());
        assert_eq!(names(&clients), ["rs1", "rs2"]);
        for client in &mut clients {
            client.echoes().unwrap();
            assert_eq!((client.seen_as, client.arrived_at), (source, at));
        }
        let answer = Client::ask_udp(c1, Some(source), at).unwrap();
        assert_eq!((answer.seen_as, answer.arrived_at), (source, at));
    }
}

fn layer4_bed_nat_translates_address_and_port() {
    let lab = Lab::two_arm();
    let (lb1, c2) = (lab.node("lb1"), lab.node("c2"));
    let _servers = ["rs1", "rs2"].map(|rs| Server::tcp(lab.node(rs), rs, &[11112]));
    for vip in ["10.78.0.100", "fd78::100"].map(address) {
        own(lb1, vip);
        let at = SocketAddr::new(vip, 104);
        ipvs(lb1, &format!("-A -t {at} -s rr"));
        let reals = ["rs1", "rs2"].map(|rs| SocketAddr::new(real(rs, vip), 11112));
        for real in reals {
            ipvs(lb1, &format!("-a -t {at} -r {real} -m"));
        }
        let clients = [(); 2].map(|()| Client::connect(c2, None, at).unwrap());
        assert_eq!(names(&clients), ["rs1", "rs2"]);
        assert_eq!(BTreeSet::from(clients.each_ref().map(|one| one.arrived_at)), reals.into());
        let own = c2.run("ip", &["-o", "addr", "show", "dev", "eth0"]).output();
        assert!(own.contains(&format!(" {}/", clients[0].seen_as)), "{clients:?}, {own}");
    }
}

fn layer4_bed_tunnels_of_every_kind_lead_to_the_real_server() {
    let lab = Lab::one_arm();
    let (lb1, c1) = (lab.node("lb1"), lab.node("c1"));
    let _server = Server::tcp(lab.node("rs1"), "rs1", &[104]);
    for (vip, tunnel, options) in [
        ("10.77.0.100", Tunnel::Ipip, ""),
        ("fd77::100", Tunnel::Ipip, ""),
        ("10.77.0.101", Tunnel::Gue(6080), "--tun-type gue --tun-port 6080"),
        ("10.77.0.102", Tunnel::Gre, "--tun-type gre"),
    ] {
        let vip = address(vip);
        own(lb1, vip);
        lab.real_server_for_tunnel("rs1", vip, tunnel);
        let (at, real) = (SocketAddr::new(vip, 104), SocketAddr::new(real("rs1", vip), 104));
        ipvs(lb1, &format!("-A -t {at} -s rr"));
        ipvs(lb1, &format!("-a -t {at} -r {real} -i {options}"));
        let client = Client::connect(c1, None, at);
        let mut client = client.unwrap_or_else(|error| panic!("{tunnel:?} to {at}: {error}"));
        client.echoes().unwrap();
        assert_eq!(client.arrived_at, at, "{tunnel:?}");
        lab.forget("rs1", vip);
    }
}

fn layer4_bed_persistence_holds_by_source_address() {
    let lab = Lab::two_arm();
    let at = nat_service(&lab, "-p 300");
    let _servers = ["rs1", "rs2"].map(|rs| Server::tcp(lab.node(rs), rs, &[104]));
    let connect = |last: u8| {
        let source = IpAddr::from([10, 78, 0, last]);
        let client = Client::connect(lab.node("c1"), Some(source), at).unwrap();
        assert_eq!(client.seen_as, source);
        client.served_by
    };
    let first: Vec<_> = (201..=204).map(connect).collect();
    let again: Vec<_> = (201..=204).map(connect).collect();
    assert_eq!(first, again);
    assert_eq!(BTreeSet::from_iter(&first).len(), 2, "{first:?}");
}

fn layer4_bed_weight_zero_drains() {
    let lab = Lab::two_arm();
    let at = nat_service(&lab, "");
    let (lb1, c1) = (lab.node("lb1"), lab.node("c1"));
    let [first, second] = ["rs1", "rs2"].map(|rs| Server::tcp(lab.node(rs), rs, &[104]));
    let mut clients = [(); 2].map(|()| Client::connect(c1, None, at).unwrap());
    clients.sort_by(|one, other| one.served_by.cmp(&other.served_by));
    let [mut drained, mut other] = clients;
    ipvs(lb1, &format!("-e -t {at} -r 10.77.0.21:104 -m -w 0"));
    for _ in 0..3 {
        assert_eq!(Client::connect(c1, None, at).unwrap().served_by, "rs2");
    }
    drained.echoes().unwrap();
    first.stop();
    assert_eq!(drained.ends(), End::Closed);
    second.reset();
    assert_eq!(other.ends(), End::Reset);
    let refused = Client::connect(c1, None, at).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
}

fn layer4_bed_a_cut_cable_cuts() {
    let lab = Lab::build()
        .network("left")
        .network("right")
        .node("dicom1", &[("left", &["10.12.1.110/24"])])
        .node("router", &[("left", &["10.12.1.1/24"]), ("right", &["10.12.2.1/24"])])
        .node("ct1", &[("right", &["10.12.2.110/24"])])
        .route("dicom1", "default", "10.12.1.1")
        .route("ct1", "default", "10.12.2.1")
        .forwards("router")
        .up();
    let (ct1, at) = (lab.node("ct1"), socket("10.12.1.110:104"));
    let _server = Server::tcp(lab.node("dicom1"), "dicom1", &[104]);
    let mut client = Client::connect(ct1, None, at).unwrap();
    lab.cut("router");
    let silence = Client::connect_within(Duration::from_secs(1), ct1, None, at);
    assert!(silence.is_err(), "{silence:?}");
    lab.join("router");
    client.echoes().unwrap();
    Client::connect(ct1, None, at).unwrap();
}

fn layer4_bed_a_site_runs_inside_a_node() {
    let lab = Lab::one_arm();
    let _server = Server::tcp(lab.node("rs1"), "rs1", &[104]);
    let lb1 = lab.node("lb1");
    lb1.block_on(async || {
        let site = Site::start().await;
        let (at, real) = (socket("10.77.0.11:104"), socket("10.77.0.21:104"));
        site.create("dicom", layer7(at), vec![server("rs1", real)]).await;
        site.up("dicom").await;
        let client = Client::connect(lab.node("c1"), None, at).unwrap();
        assert_eq!(client.served_by, "rs1");
        assert_eq!(client.seen_as, at.ip());
    });
}

/// A service of lb1 in two arms, with rs1 and rs2 behind it.
fn nat_service(lab: &Lab, options: &str) -> SocketAddr {
    let (lb1, at) = (lab.node("lb1"), socket("10.78.0.100:104"));
    own(lb1, at.ip());
    ipvs(lb1, &format!("-A -t {at} -s rr {options}"));
    for real in ["10.77.0.21:104", "10.77.0.22:104"] {
        ipvs(lb1, &format!("-a -t {at} -r {real} -m"));
    }
    at
}

/// Puts a virtual service's address on the balancer, as a host's own.
fn own(balancer: &Node, vip: IpAddr) {
    let device = if balancer.name() == "lb1" && is_front(vip) { "eth1" } else { "eth0" };
    // Not preferred: else IPv6 takes it for the source of tunnels, and their ends drop what comes from an
    // address of their own.
    let (bits, more) = if vip.is_ipv4() { (32, "") } else { (128, "nodad preferred_lft 0") };
    balancer.ip(&[format!("addr add {vip}/{bits} dev {device} {more}")]);
}

fn is_front(vip: IpAddr) -> bool {
    ["10.78.", "fd78:"].iter().any(|front| vip.to_string().starts_with(front))
}

/// A real server's own address, of the family of `vip`.
fn real(name: &str, vip: IpAddr) -> IpAddr {
    let number = name.trim_start_matches("rs");
    address(&if vip.is_ipv4() { format!("10.77.0.2{number}") } else { format!("fd77::2{number}") })
}

#[track_caller]
fn ipvs(node: &Node, arguments: &str) {
    node.run("ipvsadm", &arguments.split_whitespace().collect::<Vec<_>>()).output();
}

/// Who serves them, sorted.
fn names(clients: &[Client]) -> Vec<&str> {
    let mut names: Vec<_> = clients.iter().map(|client| client.served_by.as_str()).collect();
    names.sort_unstable();
    names
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn socket(text: &str) -> SocketAddr {
    text.parse().unwrap()
}
