//! Forwarding through the proxy.

mod dicom;
mod http;
mod limits;
mod mllp;
mod passive;
mod tls;

use std::net::IpAddr;
use std::time::Duration;

use gantry_proto::v1 as pb;

pub(super) use self::http::pool;
use super::{address, choice, duration, duration_message};
use crate::dicom::Dicom;
use crate::http::Http;
use crate::mllp::Mllp;
use crate::service::{Algorithm, CongestionControl, Layer7, Mode, ProxyVersion, Tcp, Timeouts};
use crate::violation::Violations;

const SHORTEST: Duration = Duration::from_millis(1);
/// A quarter of it is a second, in which the kernel counts.
const SHORTEST_KEEPALIVE: Duration = Duration::from_secs(4);
/// The kernel's own limit is 32767 s (`MAX_TCP_KEEPIDLE` in `include/net/tcp.h`).
const LONGEST_KEEPALIVE: Duration = Duration::from_secs(9 * 3600);

pub(super) fn layer7(violations: &mut Violations, message: &pb::Layer7) -> Option<Layer7> {
    let mode = match choice::<pb::layer7::Mode>(violations, "mode", message.mode)? {
        pb::layer7::Mode::Unspecified | pb::layer7::Mode::TcpMode => Mode::Tcp,
        pb::layer7::Mode::HttpMode => Mode::Http,
        pb::layer7::Mode::DicomMode => Mode::Dicom,
        pb::layer7::Mode::MllpMode => Mode::Mllp,
    };
    let algorithm =
        match choice::<pb::layer7::Algorithm>(violations, "algorithm", message.algorithm)? {
            pb::layer7::Algorithm::Unspecified | pb::layer7::Algorithm::WeightedLeastConnection => {
                Algorithm::WeightedLeastConnection
            }
            pb::layer7::Algorithm::WeightedRoundRobin => Algorithm::WeightedRoundRobin,
            pb::layer7::Algorithm::SourceHash => Algorithm::SourceHash,
        };
    Some(Layer7 {
        mode,
        algorithm,
        tls: tls::tls(violations, message)?,
        server_tls: tls::server_tls(violations, message)?,
        send_proxy_protocol: proxy_version(violations, message)?,
        accept_proxy_protocol: message.accept_proxy_protocol,
        tcp: violations
            .within("tcp", |violations| tcp(violations, message.tcp.as_ref()))
            .unwrap_or_default(),
        close_on_failure: message.close_on_failure,
        log_connections: message.log_connections,
        timeouts: timeouts(violations, message),
        routes: http::routes(violations, &message.routes)?,
        http: match &message.http {
            None => Http::default(),
            Some(given) => violations.within("http", |violations| http::http(violations, given))?,
        },
        dicom: match &message.dicom {
            None => Dicom::default(),
            Some(given) => {
                violations.within("dicom", |violations| dicom::dicom(violations, given))?
            }
        },
        mllp: match &message.mllp {
            None => Mllp::default(),
            Some(given) => violations.within("mllp", |violations| mllp::mllp(violations, given))?,
        },
        source_address: source_address(violations, &message.source_address)?,
        transparent_source: message.transparent_source,
        slow_start: duration(violations, "slow_start", message.slow_start, SHORTEST),
        passive_health: passive::passive_health(violations, message.passive_health.as_ref()),
        client_limits: limits::client_limits(violations, message.client_limits.as_ref()),
    })
}

fn is_dns_name(name: &str) -> bool {
    let label = |label: &str| {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        (1..=63).contains(&label.len()) && label.bytes().all(fits) && !label.starts_with('-')
    };
    name.len() <= 253 && name.split('.').all(label)
}

fn proxy_version(
    violations: &mut Violations,
    message: &pb::Layer7,
) -> Option<Option<ProxyVersion>> {
    use pb::layer7::ProxyProtocol;
    let field = "proxy_protocol_version";
    let given = choice::<ProxyProtocol>(violations, field, message.proxy_protocol_version)?;
    if !message.send_proxy_protocol && given != ProxyProtocol::Unspecified {
        let what =
            "is of the header that is sent, and none is: set send_proxy_protocol, or leave it out";
        violations.add(field, "NEEDS_SEND_PROXY_PROTOCOL", what);
    }
    let version = match given {
        ProxyProtocol::V1 => ProxyVersion::V1,
        ProxyProtocol::Unspecified | ProxyProtocol::V2 => ProxyVersion::V2,
    };
    Some(message.send_proxy_protocol.then_some(version))
}

/// The outer option: whether the field is right; the inner one: whether it is set.
fn source_address(violations: &mut Violations, text: &str) -> Option<Option<IpAddr>> {
    match text {
        "" => Some(None),
        given => address(violations, "source_address", given).map(Some),
    }
}

fn tcp(violations: &mut Violations, message: Option<&pb::layer7::Tcp>) -> Option<Tcp> {
    let message = message?;
    let congestion_control = match message.congestion_control.as_str() {
        "" => None,
        name => {
            let found = CongestionControl::new(name);
            if found.is_none() {
                let what = "is no name of a congestion control: use one such as cubic or bbr";
                violations.add("congestion_control", "INVALID_NAME", what);
            }
            found
        }
    };
    let keepalive = duration(violations, "keepalive", message.keepalive, SHORTEST_KEEPALIVE);
    if keepalive.is_some_and(|given| given > LONGEST_KEEPALIVE || given.subsec_nanos() != 0) {
        violations.add("keepalive", "INVALID_DURATION", "use whole seconds, 4s to 32400s");
    }
    let second = Duration::from_secs(1);
    let user_timeout = duration(violations, "user_timeout", message.user_timeout, second);
    Some(Tcp { congestion_control, keepalive, user_timeout })
}

fn tcp_message(tcp: &Tcp) -> Option<pb::layer7::Tcp> {
    let name = tcp.congestion_control.as_ref().map(CongestionControl::as_str);
    (*tcp != Tcp::default()).then(|| pb::layer7::Tcp {
        congestion_control: name.unwrap_or_default().to_owned(),
        keepalive: tcp.keepalive.map(duration_message),
        user_timeout: tcp.user_timeout.map(duration_message),
    })
}

fn timeouts(violations: &mut Violations, message: &pb::Layer7) -> Timeouts {
    let default = Timeouts::DEFAULT;
    let mut read =
        |field, given, default| duration(violations, field, given, SHORTEST).unwrap_or(default);
    Timeouts {
        connect: read("connect_timeout", message.connect_timeout, default.connect),
        client: read("client_timeout", message.client_timeout, default.client),
        server: read("server_timeout", message.server_timeout, default.server),
        queue: read("queue_timeout", message.queue_timeout, default.queue),
    }
}

pub(super) fn layer7_message(layer7: &Layer7) -> pb::Layer7 {
    let mode = match layer7.mode {
        Mode::Tcp => pb::layer7::Mode::TcpMode,
        Mode::Http => pb::layer7::Mode::HttpMode,
        Mode::Dicom => pb::layer7::Mode::DicomMode,
        Mode::Mllp => pb::layer7::Mode::MllpMode,
    };
    let algorithm = match layer7.algorithm {
        Algorithm::WeightedLeastConnection => pb::layer7::Algorithm::WeightedLeastConnection,
        Algorithm::WeightedRoundRobin => pb::layer7::Algorithm::WeightedRoundRobin,
        Algorithm::SourceHash => pb::layer7::Algorithm::SourceHash,
    };
    let version = match layer7.send_proxy_protocol {
        None => pb::layer7::ProxyProtocol::Unspecified,
        Some(ProxyVersion::V1) => pb::layer7::ProxyProtocol::V1,
        Some(ProxyVersion::V2) => pb::layer7::ProxyProtocol::V2,
    };
    let tls = layer7.tls.as_ref();
    pb::Layer7 {
        mode: mode.into(),
        certificate: tls.map(|tls| tls::certificate_name(&tls.certificate)).unwrap_or_default(),
        tls: tls.and_then(tls::tls_message),
        reencrypt: layer7.server_tls.is_some(),
        server_tls: layer7.server_tls.as_ref().and_then(tls::server_tls_message),
        client_timeout: Some(duration_message(layer7.timeouts.client)),
        server_timeout: Some(duration_message(layer7.timeouts.server)),
        send_proxy_protocol: layer7.send_proxy_protocol.is_some(),
        proxy_protocol_version: version.into(),
        accept_proxy_protocol: layer7.accept_proxy_protocol,
        tcp: tcp_message(&layer7.tcp),
        close_on_failure: layer7.close_on_failure,
        log_connections: layer7.log_connections,
        algorithm: algorithm.into(),
        connect_timeout: Some(duration_message(layer7.timeouts.connect)),
        queue_timeout: Some(duration_message(layer7.timeouts.queue)),
        routes: layer7.routes.iter().map(http::route_message).collect(),
        http: http::http_message(&layer7.http),
        dicom: dicom::dicom_message(&layer7.dicom),
        mllp: mllp::mllp_message(&layer7.mllp),
        source_address: layer7.source_address.map(|it| it.to_string()).unwrap_or_default(),
        transparent_source: layer7.transparent_source,
        slow_start: layer7.slow_start.map(duration_message),
        passive_health: passive::passive_health_message(&layer7.passive_health),
        client_limits: layer7.client_limits.as_ref().map(limits::client_limits_message),
    }
}
