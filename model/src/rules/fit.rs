//! What cannot work although every field by itself is right.
//!
//! These rules are for what comes in now. What is stored already is never held against them, or a
//! new version of a rule would keep a controller from starting: reading knows [`crate::wire`] only.

use std::net::IpAddr;

use crate::check::{HealthCheck, Mllp, Probe};
use crate::dicom::Dicom;
use crate::http::Http;
use crate::port::Port;
use crate::service::{
    Endpoint, Forwarding, Layer4, Layer7, Listener, Method, Mode, PersistenceKey, Protocol,
    Scheduler, Strategy, VirtualService,
};
use crate::violation::Violations;

/// MSA-1 codes there are (HL7 table 0008).
const ACKNOWLEDGEMENTS: [&str; 6] = ["AA", "AE", "AR", "CA", "CE", "CR"];

const LONGEST_MESSAGE: usize = 64 << 10;
const LONGEST_PATH: usize = 2048;
const LONGEST_HEADER: usize = 255;

/// Checks a service for itself.
pub fn check_service(violations: &mut Violations, service: &VirtualService) {
    violations.within("listener", |violations| {
        check_address(violations, service.listener.address);
    });
    if let Some(fallback) = &service.fallback {
        violations.within("fallback", |violations| {
            check_address(violations, fallback.address);
            check_fallback(violations, service, fallback);
        });
    }
    if let Some(persistence) = &service.persistence
        && persistence.prefix.is_some()
        && persistence.key != PersistenceKey::SourceIp
    {
        let what = "is only for key SOURCE_IP: leave it out, or choose that key";
        violations.add("persistence.prefix_length", "NEEDS_SOURCE_IP", what);
    }
    if let Forwarding::Layer4(layer4) = &service.forwarding {
        violations.within("layer4", |violations| check_layer4(violations, service, layer4));
    }
    if service.check.through_virtual_address {
        violations.within("health_check", |violations| check_way(violations, service));
    }
    if let Forwarding::Layer7(layer7) = &service.forwarding {
        if layer7.server_tls.is_some() && layer7.tls.is_none() {
            let what = "needs layer7.certificate: only what was decrypted here can be encrypted anew. \
                        To pass TLS through untouched, leave both out";
            violations.add("layer7.reencrypt", "NEEDS_CERTIFICATE", what);
        }
        violations.within("layer7", |violations| check_http(violations, layer7));
        violations.within("layer7", |violations| check_medical(violations, layer7));
        violations.within("layer7", |violations| check_source(violations, service, layer7));
        let by_user = service.persistence.is_some_and(|kept| kept.key == PersistenceKey::RdpCookie);
        if by_user && layer7.tls.is_some() {
            let what = "is said before TLS begins, which Remote Desktop does by itself: leave \
                        layer7.certificate out, or use SOURCE_IP";
            violations.add("persistence.key", "EXCLUDES_CERTIFICATE", what);
        }
        let remembers = service.persistence.is_some_and(|kept| kept.key != PersistenceKey::Cookie);
        if remembers && !layer7.routes.is_empty() {
            let what = "keeps a client on one real server, and layer7.routes send it to several \
                        pools: use COOKIE, or a virtual service for each pool";
            violations.add("persistence.key", "EXCLUDES_ROUTES", what);
        }
        if remembers && !layer7.dicom.routes.is_empty() {
            let what = "keeps a client on one real server, and layer7.dicom.routes send it to \
                        several pools: leave one out, or use a virtual service for each pool";
            violations.add("persistence.key", "EXCLUDES_ROUTES", what);
        }
    }
    violations.within("health_check", |violations| check_probe(violations, &service.check));
}

/// Checks the source address by itself and against the fallback; real servers are checked against it.
fn check_source(violations: &mut Violations, service: &VirtualService, layer7: &Layer7) {
    if layer7.transparent_source && layer7.source_address.is_some() {
        let what = "takes the client's address, and source_address another: leave one of them out";
        violations.add("transparent_source", "EXCLUDES_SOURCE_ADDRESS", what);
    }
    let Some(source) = layer7.source_address else { return };
    if let Some(fallback) = &service.fallback
        && fallback.address.is_ipv4() != source.is_ipv4()
    {
        let what = format!(
            "{source} is not of the address family of the fallback {}, which could not be \
             connected to from it: use an address of that family, or leave it out",
            fallback.address
        );
        violations.add("source_address", "ADDRESS_FAMILY", what);
    }
    check_host(violations, "source_address", source);
}

fn check_http(violations: &mut Violations, layer7: &Layer7) {
    if layer7.mode != Mode::Http && layer7.http != Http::default() {
        let what = "is for mode HTTP_MODE only: choose it, or leave this out";
        violations.add("http", "NEEDS_HTTP_MODE", what);
    }
    if layer7.mode == Mode::Http && layer7.http.redirect_to_https && layer7.tls.is_some() {
        let what = "answers requests without TLS, and all come with it here: leave it out, and make a \
                    virtual service at port 80 for it";
        violations.add("http.redirect_to_https", "EXCLUDES_CERTIFICATE", what);
    }
    for (at, route) in layer7.routes.iter().enumerate() {
        let field = format!("routes[{at}]");
        match layer7.mode {
            Mode::Http => {}
            Mode::Tcp if route.path_prefixes.is_empty() => {}
            Mode::Tcp => {
                let what = "are for mode HTTP_MODE only: of TLS that passes only the host is seen";
                violations.add(&format!("{field}.path_prefixes"), "NEEDS_HTTP_MODE", what);
            }
            Mode::Dicom | Mode::Mllp => {
                let what = "are for the modes HTTP_MODE and TCP_MODE only: leave them out";
                violations.add(&field, "NEEDS_OTHER_MODE", what);
            }
        }
    }
}

fn check_medical(violations: &mut Violations, layer7: &Layer7) {
    if layer7.mode != Mode::Dicom && layer7.dicom != Dicom::default() {
        let what = "is for mode DICOM_MODE only: choose it, or leave this out";
        violations.add("dicom", "NEEDS_DICOM_MODE", what);
    }
    let asks = layer7.tls.as_ref().is_some_and(|tls| tls.clients.is_some());
    for (at, route) in layer7.dicom.routes.iter().enumerate() {
        if !route.certificates.is_empty() && !asks {
            let what = "is of certificates that clients show, and they are not asked for any: set \
                        layer7.tls.client_certificates, or leave it out";
            let field = format!("dicom.routes[{at}].certificate_names");
            violations.add(&field, "NEEDS_CLIENT_CERTIFICATES", what);
        }
    }
    if layer7.mode != Mode::Mllp && layer7.mllp != crate::mllp::Mllp::default() {
        let what = "is for mode MLLP_MODE only: choose it, or leave this out";
        violations.add("mllp", "NEEDS_MLLP_MODE", what);
    }
}

fn check_layer4(violations: &mut Violations, service: &VirtualService, layer4: &Layer4) {
    let listener = &service.listener;
    let hashes = matches!(layer4.scheduler, Scheduler::SourceHash | Scheduler::MaglevHash);
    if layer4.hash_ports && !(hashes && service.strategy == Strategy::Balance) {
        let what =
            "is for the schedulers SOURCE_HASH and MAGLEV_HASH only: choose one, or leave it out";
        violations.add("hash_ports", "NEEDS_HASH_SCHEDULER", what);
    }
    if layer4.one_packet && listener.protocol != Protocol::Udp {
        violations.add(
            "one_packet",
            "NEEDS_UDP",
            "is for listener.protocol UDP only: leave it out",
        );
    } else if layer4.one_packet && service.persistence.is_some() {
        let what =
            "forgets each datagram at once, and persistence remembers clients: leave one out";
        violations.add("one_packet", "EXCLUDES_PERSISTENCE", what);
    }
    if layer4.one_packet && !layer4.method.keeps_address() {
        let what = "is for methods DR and TUNNEL only: nothing is remembered by which answers could be \
                    translated back. Leave it out, or choose one of these";
        violations.add("one_packet", "NEEDS_DIRECT_ROUTING", what);
    }
    let Some(address) = layer4.snat_address else { return };
    if layer4.method != Method::Snat {
        let what = "is for method SNAT only: leave it out, or choose that method";
        violations.add("snat_address", "NEEDS_SNAT", what);
    } else if address.is_ipv4() != listener.address.is_ipv4() {
        let what = "is not of the listener's address family: real servers would not be reached";
        violations.add("snat_address", "ADDRESS_FAMILY", what);
    }
    check_host(violations, "snat_address", address);
}

/// Checks that come by way of the virtual address can be made.
fn check_way(violations: &mut Violations, service: &VirtualService) {
    let fits = match &service.forwarding {
        Forwarding::Layer4(layer4) => layer4.method.keeps_address(),
        Forwarding::Layer7(_) => false,
    };
    let field = "through_virtual_address";
    if !fits {
        let what = "is for layer4 with method DR or TUNNEL, where real servers have the virtual address \
                    themselves: leave it out";
        violations.add(field, "NEEDS_DIRECT_ROUTING", what);
    } else if service.listener.protocol == Protocol::Udp {
        violations.add(field, "NEEDS_TCP", "connects over TCP, and this service is for UDP");
    } else if let Some(port) = service.check.port {
        let what = format!(
            "asks the port {} that clients connect to, and {port} is asked for here: leave it out",
            service.listener.ports.first()
        );
        violations.add("port", "OTHER_PORT", what);
    }
}

/// Checks the address of one host, which must be one that can be connected to.
pub(super) fn check_address(violations: &mut Violations, address: IpAddr) {
    check_host(violations, "address", address);
}

fn check_host(violations: &mut Violations, field: &str, address: IpAddr) {
    let refuse = |violations: &mut Violations, reason, what: String| {
        violations.add(field, reason, what);
    };
    match address {
        IpAddr::V4(v4) if v4.is_broadcast() || v4.octets()[0] == 0 => {
            refuse(violations, "INVALID_ADDRESS", format!("{v4} is not the address of one host"));
        }
        IpAddr::V6(v6) => {
            if let Some(v4) = v6.to_ipv4_mapped() {
                let what = format!("{v6} is an IPv4 address in other clothes: write {v4}");
                refuse(violations, "MAPPED_ADDRESS", what);
            } else if v6.is_unicast_link_local() {
                let what = format!(
                    "{v6} is good on one link only, and which one an address does not say: use a \
                     global or a unique local address (fd00::/8)"
                );
                refuse(violations, "LINK_LOCAL", what);
            }
        }
        IpAddr::V4(_) => {}
    }
}

/// The port that connections to `port` of the service reach at `endpoint`.
pub(super) fn effective_port(listener: &Listener, endpoint: &Endpoint) -> Option<Port> {
    endpoint.port.or(listener.ports.is_single().then(|| listener.ports.first()))
}

/// Whether connections sent to `endpoint` come back to the listener.
pub(super) fn comes_back(listener: &Listener, endpoint: &Endpoint) -> bool {
    let ports = &listener.ports;
    endpoint.address == listener.address
        && endpoint.port.is_none_or(|port| ports.iter().any(|own| own == port))
}

fn check_fallback(violations: &mut Violations, service: &VirtualService, fallback: &Endpoint) {
    let listener = &service.listener;
    if comes_back(listener, fallback) {
        let what = "is the virtual service's own: connections would come back for ever";
        violations.add("", "LOOP", what);
    }
    let (Forwarding::Layer4(layer4), Some(port)) = (&service.forwarding, fallback.port) else {
        return;
    };
    let translates = !layer4.method.keeps_address();
    if !listener.ports.is_single() {
        let what = format!(
            "{port} would be the target of all the ports {}: leave it out, or use layer7",
            listener.ports
        );
        violations.add("port", "PORT_TRANSLATION", what);
    } else if !translates && port != listener.ports.first() {
        let what = format!(
            "{port} is not the port {} that clients connect to, and this method cannot translate \
             ports: leave it out, or use NAT, SNAT or layer7",
            listener.ports
        );
        violations.add("port", "PORT_TRANSLATION", what);
    }
}

fn check_probe(violations: &mut Violations, check: &HealthCheck) {
    if check.hold_connection && check.probe == Probe::None {
        let what = "is the reason for a check, and \"none\" is asked for: choose a probe, such as \
                    tcp_connect, or leave it out";
        violations.add("hold_connection", "NEEDS_PROBE", what);
    }
    match &check.probe {
        Probe::Http(http) => violations.within("http", |violations| {
            let fields = [
                ("path", http.path.len(), LONGEST_PATH),
                ("host", http.host.len(), LONGEST_HEADER),
                ("content_type", http.content_type.len(), LONGEST_HEADER),
            ];
            for (field, length, longest) in fields {
                if length > longest {
                    let what = format!("has {length} characters: at most {longest} are sent");
                    violations.add(field, "TOO_LONG", what);
                }
            }
        }),
        Probe::Mllp(mllp) => violations.within("mllp", |violations| check_mllp(violations, mllp)),
        Probe::TcpConnect | Probe::Exchange(_) | Probe::DicomEcho(_) | Probe::None => {}
    }
}

fn check_mllp(violations: &mut Violations, mllp: &Mllp) {
    let message = &mllp.message;
    if message.len() > LONGEST_MESSAGE {
        violations.add("message", "TOO_LONG", "is longer than 64 KiB");
    } else if message.contains(['\u{b}', '\u{1c}']) {
        let what = "has the bytes 0x0B or 0x1C, which frame a message: leave the frame out, it is \
                    added";
        violations.add("message", "INVALID_MESSAGE", what);
    } else if !message.is_empty() && !message.starts_with("MSH") {
        let what = "does not begin with a segment MSH, as every HL7 message does";
        violations.add("message", "INVALID_MESSAGE", what);
    }
    for (at, code) in mllp.expect_codes.iter().enumerate() {
        if !ACKNOWLEDGEMENTS.contains(&code.as_str()) {
            let what = format!("there is no such code: use {}", ACKNOWLEDGEMENTS.join(", "));
            violations.add(&format!("expect_codes[{at}]"), "UNKNOWN_CODE", what);
        }
    }
}
