use std::path::Path;

use super::*;
use crate::document::{Documented, Node};

/// A layer 4 service with this in its `layer4`, and two archives; over UDP, if it is the syslog.
fn told(address: &str, layer4: &str, hosts: [&str; 2], system: Option<System>) -> String {
    let service = format!(
        "name: clusters/main/virtualServices/dicom-store
displayName: DICOM archive
listener: {{address: '{address}', ports: ['104', '8000-8010']}}
{layer4}"
    );
    let server = |(at, host): (usize, &str)| {
        let text = format!(
            "name: clusters/main/virtualServices/dicom-store/realServers/pacs-{}
endpoint: {{address: '{host}', port: 104}}",
            at + 1
        );
        v1::RealServer::from_node(&Node::parse(&text).unwrap()).unwrap()
    };
    let service = v1::VirtualService::from_node(&Node::parse(&service).unwrap()).unwrap();
    let servers: Vec<_> = hosts.into_iter().enumerate().map(server).collect();
    advice(&service, &servers, system).unwrap()
}

const V4: [&str; 2] = ["10.12.1.110", "10.12.1.111"];
const V6: [&str; 2] = ["fd00::110", "fd00::111"];

/// Compares with `tests/golden/arp/{name}.txt`; with `UPDATE=1` in the environment, writes it.
fn golden(name: &str, text: &str) {
    for line in text.lines() {
        assert!(line.chars().count() <= 100 && line.trim_end() == line, "{name}: {line:?}");
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/arp");
    let path = folder.join(format!("{name}.txt"));
    if std::env::var_os("UPDATE").is_some() {
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(&path, text).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(text, expected, "{} differs; UPDATE=1 rewrites it", path.display());
}

#[test]
fn direct_routing_on_every_system() {
    let dr = "layer4: {method: DR}";
    golden("dr", &told("10.12.1.100", dr, V4, None));
    golden("dr-ipv6", &told("fd00::10", dr, V6, Some(System::Linux)));
    for (name, system) in [
        ("windows", System::Windows),
        ("macos", System::MacOs),
        ("freebsd", System::FreeBsd),
        ("solaris", System::Solaris),
    ] {
        golden(&format!("dr-{name}"), &told("10.12.1.100", dr, V4, Some(system)));
        golden(&format!("dr-{name}-ipv6"), &told("fd00::10", dr, V6, Some(system)));
    }
}

/// The controller refuses a check through the address that has a port of its own.
#[test]
fn a_check_through_the_address_has_no_port_of_its_own() {
    let dr = "layer4: {method: DR}\nhealthCheck: {port: 104}";
    let text = told("10.12.1.100", dr, V4, None);
    assert!(text.contains(".through_virtual_address=true health_check.port=\n"), "{text}");
}

#[test]
fn tunnels_come_out_where_their_wrapping_ends() {
    let linux = Some(System::Linux);
    let ipip = "layer4: {method: TUNNEL}";
    let gue = "layer4: {method: TUNNEL, encapsulation: GUE, tunnelPort: 6081}";
    let gre = "layer4: {method: TUNNEL, encapsulation: GRE}";
    golden("tunnel", &told("10.12.1.100", ipip, V4, linux));
    golden("tunnel-ipv6", &told("fd00::10", ipip, V6, linux));
    golden("tunnel-mixed", &told("10.12.1.100", ipip, [V4[0], V6[1]], linux));
    golden("tunnel-gue", &told("10.12.1.100", gue, V4, linux));
    golden("tunnel-gre", &told("10.12.1.100", gre, V4, linux));
    for (address, hosts, layer4, device) in [
        ("fd00::10", V4, ipip, "sit0"),
        ("fd00::10", V6, gre, "ip6gre0"),
        ("fd00::10", V6, gue, "ip6tnl0"),
        ("10.12.1.100", V6, ipip, "gantry4in6"),
    ] {
        let text = told(address, layer4, hosts, linux);
        assert!(text.contains(&format!(" dev {device}")), "{text}");
    }
    let windows = told("10.12.1.100", ipip, V4, Some(System::Windows));
    assert!(windows.contains("Use method DR"), "{windows}");
}

#[test]
fn where_nothing_has_to_be_done_it_is_said() {
    golden("nat", &told("10.12.1.100", "layer4: {method: NAT}", V4, None));
    let snat = told("10.12.1.100", "layer4: {method: SNAT, snatAddress: 10.12.1.99}", V4, None);
    golden("snat", &snat);
    golden("layer7", &told("10.12.1.100", "layer7: {}", V4, Some(System::Windows)));
    let windows = told("10.12.1.100", "layer4: {method: NAT}", V4, Some(System::Windows));
    assert!(windows.contains("New-NetRoute"), "{windows}");
}

#[test]
fn a_check_over_tcp_is_not_advised_for_udp() {
    let udp = told("10.12.1.100", "layer4: {method: DR}", V4, None);
    assert!(udp.contains("through_virtual_address"));
    let service = v1::VirtualService {
        name: "clusters/main/virtualServices/syslog".into(),
        listener: Some(v1::Listener {
            address: "10.12.1.100".into(),
            ports: vec!["514".into()],
            protocol: v1::listener::Protocol::Udp.into(),
            ..Default::default()
        }),
        forwarding: Some(Forwarding::Layer4(v1::Layer4 {
            method: Method::Dr.into(),
            ..Default::default()
        })),
        ..Default::default()
    };
    let text = advice(&service, &[], None).unwrap();
    assert!(text.contains("port 514 (UDP)") && !text.contains("through_virtual_address"), "{text}");
}
