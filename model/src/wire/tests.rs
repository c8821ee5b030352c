use gantry_proto::v1 as pb;
use gantry_proto::v1::virtual_service::Forwarding;

use super::{
    decode_plan, encode_plan, real_server, termination, termination_message, virtual_service,
    virtual_service_message,
};
use crate::mark::Mark;
use crate::plan::ServicePlan;
use crate::termination::Termination;
use crate::violation::Violations;

fn dicom() -> pb::VirtualService {
    pb::VirtualService {
        display_name: "DICOM-Modalities".into(),
        listener: Some(pb::Listener {
            address: "10.12.1.100".into(),
            ports: vec!["104".into(), "11112".into()],
            protocol: 0,
            interface: "eth0".into(),
        }),
        forwarding: Some(Forwarding::Layer4(pb::Layer4 {
            method: pb::layer4::Method::Dr.into(),
            ..Default::default()
        })),
        persistence: Some(pb::Persistence::default()),
        ..Default::default()
    }
}

fn violations(message: &pb::VirtualService) -> Vec<String> {
    let mut violations = Violations::new();
    let name = "clusters/main/virtualServices/dicom".parse().unwrap();
    let service = virtual_service(&mut violations, name, message);
    let found = violations.finish(service).map(|_| Vec::new()).unwrap_or_else(|found| found);
    found.into_iter().map(|v| format!("{} {}", v.field, v.reason)).collect()
}

fn server_violations(message: &pb::RealServer) -> Vec<String> {
    let mut violations = Violations::new();
    let name = "clusters/main/virtualServices/dicom/realServers/a".parse().unwrap();
    let server = real_server(&mut violations, name, message);
    let found = violations.finish(server).map(|_| Vec::new()).unwrap_or_else(|found| found);
    found.into_iter().map(|v| format!("{} {}", v.field, v.reason)).collect()
}

#[test]
fn everything_wrong_is_said_at_once() {
    let empty = pb::VirtualService::default();
    assert_eq!(violations(&empty), ["listener REQUIRED", "forwarding REQUIRED"]);
    let mut bad = dicom();
    bad.display_name = "x".repeat(64);
    bad.strategy = 99;
    bad.listener = Some(pb::Listener {
        address: "10.12.1.300".into(),
        ports: vec!["104".into(), "0".into(), "9-1".into()],
        ..Default::default()
    });
    assert_eq!(
        violations(&bad),
        [
            "display_name TOO_LONG",
            "listener.address INVALID_ADDRESS",
            "listener.ports[1] INVALID_PORT",
            "listener.ports[2] INVALID_PORT",
            "strategy UNKNOWN_VALUE",
        ]
    );
}

#[test]
fn parts_that_exclude_each_other() {
    let layer7 = |mode: pb::layer7::Mode| {
        Some(Forwarding::Layer7(pb::Layer7 { mode: mode.into(), ..Default::default() }))
    };
    let mut cookie = dicom();
    cookie.persistence =
        Some(pb::Persistence { key: pb::persistence::Key::Cookie.into(), ..Default::default() });
    assert_eq!(violations(&cookie), ["persistence.key NEEDS_OTHER_MODE"]);
    cookie.forwarding = layer7(pb::layer7::Mode::HttpMode);
    assert_eq!(violations(&cookie), [""; 0]);

    let mut udp = dicom();
    udp.forwarding = layer7(pb::layer7::Mode::TcpMode);
    udp.listener.as_mut().unwrap().protocol = pb::listener::Protocol::Udp.into();
    udp.listener.as_mut().unwrap().ports = vec!["1-65535".into()];
    assert_eq!(
        violations(&udp),
        ["listener.protocol NEEDS_LAYER4", "listener.ports TOO_MANY_PORTS"]
    );

    let mut prefix = dicom();
    prefix.persistence.as_mut().unwrap().prefix_length = 64;
    assert_eq!(violations(&prefix), ["persistence.prefix_length OUT_OF_RANGE"]);
}

#[test]
fn real_server_fields() {
    let endpoint = Some(pb::Endpoint { address: "fe80::1".into(), port: 104 });
    let good = pb::RealServer { endpoint, ..Default::default() };
    assert_eq!(server_violations(&good), [""; 0]);
    assert_eq!(server_violations(&pb::RealServer::default()), ["endpoint REQUIRED"]);
    let bad = pb::RealServer {
        endpoint: Some(pb::Endpoint { address: "0.0.0.0".into(), port: 70000 }),
        weight: Some(257),
        priority: -1,
        min_connections: 5,
        halt_time: Some(prost_types::Timestamp::default()),
        ..Default::default()
    };
    assert_eq!(
        server_violations(&bad),
        [
            "endpoint.address INVALID_ADDRESS",
            "endpoint.port INVALID_PORT",
            "weight OUT_OF_RANGE",
            "priority OUT_OF_RANGE",
            "min_connections NEEDS_MAX_CONNECTIONS",
            "halt_time NEEDS_DRAIN",
        ]
    );
}

#[test]
fn checks() {
    use pb::health_check::{DicomEcho, Exchange, Http, Probe};
    let with = |probe| {
        let check = pb::HealthCheck { probe: Some(probe), ..Default::default() };
        violations(&pb::VirtualService { health_check: Some(check), ..dicom() })
    };
    let exchange = Exchange { expect: "([".into(), ..Default::default() };
    assert_eq!(with(Probe::Exchange(exchange)), ["health_check.exchange.expect INVALID_PATTERN"]);
    let echo = DicomEcho { called_ae_title: "SEVENTEEN-LETTERS".into(), ..Default::default() };
    assert_eq!(
        with(Probe::DicomEcho(echo)),
        ["health_check.dicom_echo.called_ae_title INVALID_AE_TITLE"]
    );
    let http = Http {
        path: "no slash".into(),
        method: "G T".into(),
        expect_statuses: vec![200, 99],
        ..Default::default()
    };
    assert_eq!(
        with(Probe::Http(http)),
        [
            "health_check.http.method INVALID_METHOD",
            "health_check.http.path INVALID_PATH",
            "health_check.http.expect_statuses[1] OUT_OF_RANGE",
        ]
    );
    for (seconds, nanos) in [(i64::MIN, 0), (i64::MAX, 0), (4, -1), (4, i32::MAX), (-4, 0)] {
        let interval = Some(prost_types::Duration { seconds, nanos });
        let check = pb::HealthCheck { interval, ..Default::default() };
        let found = violations(&pb::VirtualService { health_check: Some(check), ..dicom() });
        assert_eq!(found, ["health_check.interval INVALID_DURATION"], "{seconds} {nanos}");
    }
    let mut slow = dicom();
    slow.health_check = Some(pb::HealthCheck {
        interval: Some(prost_types::Duration { seconds: -1, nanos: 0 }),
        rise: -2,
        ..Default::default()
    });
    assert_eq!(
        violations(&slow),
        ["health_check.interval INVALID_DURATION", "health_check.rise OUT_OF_RANGE"]
    );
}

#[test]
fn layer_7_connections_are_treated_within_limits() {
    use pb::layer7::{ProxyProtocol, Tcp};
    let seconds = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
    let read = |layer7: pb::Layer7| {
        let forwarding = Some(Forwarding::Layer7(layer7));
        violations(&pb::VirtualService { forwarding, ..dicom() })
    };
    let with = |tcp| read(pb::Layer7 { tcp: Some(tcp), ..Default::default() });
    let good = Tcp {
        congestion_control: "cubic".to_owned(),
        keepalive: seconds(60),
        user_timeout: seconds(30),
    };
    assert_eq!(with(good), [""; 0]);
    let bad = Tcp {
        congestion_control: "no such one".to_owned(),
        keepalive: seconds(3),
        user_timeout: seconds(0),
    };
    let wrong = [
        "layer7.tcp.congestion_control INVALID_NAME",
        "layer7.tcp.keepalive INVALID_DURATION",
        "layer7.tcp.user_timeout INVALID_DURATION",
    ];
    assert_eq!(with(bad), wrong);
    assert_eq!(with(Tcp { keepalive: seconds(32_401), ..Default::default() }), wrong[1..2]);
    let unsent =
        pb::Layer7 { proxy_protocol_version: ProxyProtocol::V1.into(), ..Default::default() };
    assert_eq!(read(unsent), ["layer7.proxy_protocol_version NEEDS_SEND_PROXY_PROTOCOL"]);
}

#[test]
fn what_is_written_reads_back() {
    let name: crate::name::ServiceName = "clusters/main/virtualServices/dicom".parse().unwrap();
    let mut violations = Violations::new();
    let service = virtual_service(&mut violations, name.clone(), &dicom()).unwrap();
    let again = virtual_service(&mut violations, name.clone(), &virtual_service_message(&service));
    assert_eq!(again.as_ref(), Some(&service));
    let server = pb::RealServer {
        endpoint: Some(pb::Endpoint { address: "10.12.1.110".into(), port: 0 }),
        admin_state: pb::real_server::AdminState::Drain.into(),
        halt_time: Some(prost_types::Timestamp { seconds: 1_800_000_000, nanos: 5 }),
        ..Default::default()
    };
    let server = real_server(&mut violations, name.server("a".parse().unwrap()), &server).unwrap();
    let plan = ServicePlan {
        service,
        servers: vec![server],
        mark: Some(Mark::FIRST),
        key_pairs: Vec::new(),
    };
    assert_eq!(decode_plan(&encode_plan(&plan)).unwrap(), plan);
}

#[test]
fn tls_says_what_it_needs() {
    use pb::layer7::{ServerTls, Tls, tls::ClientCertificates};
    let read = |layer7: pb::Layer7| {
        let forwarding = Some(Forwarding::Layer7(layer7));
        violations(&pb::VirtualService { forwarding, ..dicom() })
    };
    let loose = pb::Layer7 {
        tls: Some(Tls::default()),
        server_tls: Some(ServerTls::default()),
        ..Default::default()
    };
    let expected = ["layer7.tls NEEDS_CERTIFICATE", "layer7.server_tls NEEDS_REENCRYPT"];
    assert_eq!(read(loose), expected);
    let asked = |asked: ClientCertificates, authorities: &str| pb::Layer7 {
        certificate: "certificates/pacs".into(),
        tls: Some(Tls {
            client_certificates: asked.into(),
            client_authorities: authorities.into(),
            more_certificates: vec!["certificates/ok".into(), "wrong".into()],
            minimum_version: 7,
        }),
        reencrypt: true,
        server_tls: Some(ServerTls {
            server_name: "-x".into(),
            certificate: "x".into(),
            authorities: "x".repeat(200_000),
        }),
        ..Default::default()
    };
    let also = [
        "layer7.tls.minimum_version UNKNOWN_VALUE",
        "layer7.server_tls.authorities TOO_LONG",
        "layer7.server_tls.server_name INVALID_NAME",
        "layer7.server_tls.certificate INVALID_NAME",
    ];
    for (given, reason) in [
        (asked(ClientCertificates::Required, ""), Some("REQUIRED")),
        (asked(ClientCertificates::Unspecified, "PEM"), Some("NEEDS_CLIENT_CERTIFICATES")),
        (asked(ClientCertificates::Optional, "PEM"), None),
    ] {
        let mut expected = vec!["layer7.tls.more_certificates[1] INVALID_NAME".to_owned()];
        expected.extend(reason.map(|reason| format!("layer7.tls.client_authorities {reason}")));
        expected.extend(also.map(str::to_owned));
        let found: Vec<_> = read(given);
        assert_eq!(found[..expected.len() - 3], expected[..expected.len() - 3], "{found:?}");
    }
}

#[test]
fn tls_comes_back_as_it_was_sent() {
    use pb::layer7::{ServerTls, Tls, tls};
    let layer7 = pb::Layer7 {
        certificate: "certificates/pacs".into(),
        tls: Some(Tls {
            client_certificates: tls::ClientCertificates::Optional.into(),
            client_authorities: "PEM".into(),
            more_certificates: vec!["certificates/ris".into()],
            minimum_version: tls::Version::Tls13.into(),
        }),
        reencrypt: true,
        server_tls: Some(ServerTls {
            server_name: "archive.example".into(),
            certificate: "certificates/own".into(),
            authorities: "PEM".into(),
        }),
        ..Default::default()
    };
    let forwarding = Some(Forwarding::Layer7(layer7.clone()));
    let message = pb::VirtualService { forwarding, ..dicom() };
    let name = "clusters/main/virtualServices/dicom".parse().unwrap();
    let service = virtual_service(&mut Violations::new(), name, &message).unwrap();
    let named: Vec<_> = service.certificates().map(ToString::to_string).collect();
    assert_eq!(named, ["pacs", "ris", "own"]);
    let Some(Forwarding::Layer7(back)) = virtual_service_message(&service).forwarding else {
        panic!("it is a layer 7 service")
    };
    let same = (back.certificate, back.tls, back.reencrypt, back.server_tls);
    assert_eq!(same, (layer7.certificate, layer7.tls, layer7.reencrypt, layer7.server_tls));
}

#[test]
fn reasons_are_called_what_the_api_calls_them() {
    for reason in Termination::ALL {
        let message = termination_message(reason);
        assert_eq!(message.as_str_name(), reason.name());
        assert_eq!(termination(message.into()), Some(reason));
    }
    let beyond = i32::try_from(Termination::ALL.len()).unwrap() + 1;
    assert!(pb::ended::Termination::try_from(beyond).is_err(), "there are no more of them");
    assert_eq!([0, -1, beyond].map(termination), [None; 3]);
}

#[test]
fn connections_come_from_one_address_of_the_appliance() {
    let read = |source: &str| {
        let layer7 = pb::Layer7 { source_address: source.to_owned(), ..Default::default() };
        let message =
            pb::VirtualService { forwarding: Some(Forwarding::Layer7(layer7)), ..dicom() };
        let name = "clusters/main/virtualServices/dicom".parse().unwrap();
        let service = virtual_service(&mut Violations::new(), name, &message);
        let back = service.map(|service| virtual_service_message(&service).forwarding);
        let back = back.map(|forwarding| match forwarding {
            Some(Forwarding::Layer7(layer7)) => layer7.source_address,
            _ => panic!("it is a layer 7 service"),
        });
        (back, violations(&message))
    };
    for good in ["", "10.12.1.9", "fd00::9"] {
        assert_eq!(read(good), (Some(good.to_owned()), Vec::new()));
    }
    for bad in ["pacs.example", "10.12.1.9:104", "10.12.1.0/24", "0.0.0.0", "ff02::1"] {
        let expected = vec!["layer7.source_address INVALID_ADDRESS".to_owned()];
        assert_eq!(read(bad), (None, expected), "{bad}");
    }
}

#[test]
fn a_slow_start_takes_its_time_or_is_absent() {
    let read = |slow_start| {
        let layer7 = pb::Layer7 { slow_start, ..Default::default() };
        violations(&pb::VirtualService { forwarding: Some(Forwarding::Layer7(layer7)), ..dicom() })
    };
    let of = |seconds, nanos| Some(prost_types::Duration { seconds, nanos });
    for good in [None, of(0, 1_000_000), of(30, 0), of(365 * 24 * 3600, 0)] {
        assert_eq!(read(good), [""; 0], "{good:?}");
    }
    for bad in [of(0, 0), of(-30, 0), of(0, 999_999), of(365 * 24 * 3600, 1)] {
        assert_eq!(read(bad), ["layer7.slow_start INVALID_DURATION"], "{bad:?}");
    }
    let layer7 = pb::Layer7 { slow_start: of(30, 5), ..Default::default() };
    let message = pb::VirtualService { forwarding: Some(Forwarding::Layer7(layer7)), ..dicom() };
    let name = "clusters/main/virtualServices/dicom".parse().unwrap();
    let service = virtual_service(&mut Violations::new(), name, &message).unwrap();
    match virtual_service_message(&service).forwarding {
        Some(Forwarding::Layer7(back)) => assert_eq!(back.slow_start, of(30, 5)),
        _ => panic!("it is a layer 7 service"),
    }
}
