//! Short ways to say what a virtual service is.

use std::net::SocketAddr;
use std::time::Duration;

use gantry_proto::v1 as pb;
use pb::health_check::Probe;
use pb::virtual_service::Forwarding;

/// A layer 7 service at `listen` whose servers always count as healthy.
pub fn layer7(listen: SocketAddr) -> pb::VirtualService {
    pb::VirtualService {
        listener: Some(listener(listen)),
        forwarding: Some(Forwarding::Layer7(pb::Layer7::default())),
        health_check: Some(check(Probe::None(pb::health_check::None {}))),
        ..Default::default()
    }
}

pub fn listener(listen: SocketAddr) -> pb::Listener {
    pb::Listener {
        address: listen.ip().to_string(),
        ports: vec![listen.port().to_string()],
        ..Default::default()
    }
}

/// A quick check: five a second, two failures take out, two successes put back.
pub fn check(probe: Probe) -> pb::HealthCheck {
    pb::HealthCheck {
        interval: Some(duration(Duration::from_millis(200))),
        timeout: Some(duration(Duration::from_secs(2))),
        fall: 2,
        rise: 2,
        probe: Some(probe),
        ..Default::default()
    }
}

pub fn connect_check() -> pb::HealthCheck {
    check(Probe::TcpConnect(pb::health_check::TcpConnect {}))
}

/// A check that a backend answers as `names` says: a regular expression.
pub fn greeting_check(names: &str) -> pb::HealthCheck {
    let expect = names.to_owned();
    check(Probe::Exchange(pb::health_check::Exchange { expect, ..Default::default() }))
}

pub fn echo_check() -> pb::HealthCheck {
    check(Probe::DicomEcho(pb::health_check::DicomEcho::default()))
}

pub fn by_source() -> Option<pb::Persistence> {
    let timeout = Some(duration(Duration::from_secs(3600)));
    Some(pb::Persistence { timeout, ..Default::default() })
}

pub fn server(name: &str, at: SocketAddr) -> pb::RealServer {
    let endpoint = pb::Endpoint { address: at.ip().to_string(), port: at.port().into() };
    pb::RealServer { name: name.to_owned(), endpoint: Some(endpoint), ..Default::default() }
}

pub fn duration(given: Duration) -> prost_types::Duration {
    given.try_into().unwrap()
}

/// The last part of a resource name.
pub fn id(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}
