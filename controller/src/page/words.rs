//! How values look on the page: each state a word, a colour and a shape; addresses, paths, rates.
//!
//! Pure. The words are those of `gantry overview`. What rests on old reports is told in the past
//! tense and is never green.

use gantry_proto::v1 as pb;
use pb::real_server_status::State as ServerState;
use pb::virtual_service::Forwarding;
use pb::virtual_service_status::State as ServiceState;
use pb::{layer4, layer7};

/// The colour of something, by the name of its CSS class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Tone {
    /// Green.
    Good,
    /// Amber.
    Warning,
    /// Red.
    Bad,
    /// Grey: nobody expects it to serve.
    Idle,
    /// Grey and dashed: nobody knows.
    Unknown,
}

/// A state as it is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Look {
    pub(super) word: &'static str,
    pub(super) tone: Tone,
    /// The symbol in the page's sprite; each has a shape of its own.
    pub(super) shape: &'static str,
}

impl Tone {
    pub(super) fn class(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Warning => "warning",
            Self::Bad => "bad",
            Self::Idle => "idle",
            Self::Unknown => "unknown",
        }
    }
}

const fn look(word: &'static str, tone: Tone, shape: &'static str) -> Look {
    Look { word, tone, shape }
}

/// The state of a virtual service.
pub(super) fn service(status: &pb::VirtualServiceStatus) -> Look {
    match (status.state(), status.stale) {
        (ServiceState::Up, false) => look("up", Tone::Good, "check"),
        (ServiceState::Degraded, false) => look("degraded", Tone::Warning, "triangle"),
        (ServiceState::Down, false) => look("down", Tone::Bad, "octagon"),
        (ServiceState::Off, _) => look("off", Tone::Idle, "ring"),
        (ServiceState::NotInForce, _) => look("not in force", Tone::Unknown, "diamond"),
        (ServiceState::Unspecified, _) => look("not known yet", Tone::Unknown, "question"),
        // What it was is in its servers' words; the message says why nobody knows.
        (_, true) => look("not known now", Tone::Unknown, "clock"),
    }
}

/// The state of a real server.
pub(super) fn server(status: &pb::RealServerStatus) -> Look {
    match (status.state(), status.stale) {
        (ServerState::Serving, false) => look("serving", Tone::Good, "check"),
        (ServerState::Failed, false) => look("failed", Tone::Bad, "octagon"),
        // What an operator asked for is known in any case.
        (ServerState::Draining, _) => look("draining", Tone::Warning, "drain"),
        (ServerState::Halted, _) => look("halted", Tone::Idle, "pause"),
        (ServerState::Unspecified, _) => look("not checked yet", Tone::Unknown, "question"),
        (ServerState::Serving, true) => look("was serving", Tone::Unknown, "clock"),
        (ServerState::Failed, true) => look("was failed", Tone::Unknown, "clock"),
    }
}

/// The state of an agent.
pub(super) fn agent(agent: &pb::AgentStatus) -> Look {
    match agent {
        pb::AgentStatus { connected: false, .. } => look("silent", Tone::Bad, "octagon"),
        pb::AgentStatus { current: false, .. } => look("behind", Tone::Warning, "triangle"),
        pb::AgentStatus { rejection_count: 1.., .. } => {
            look("rejects part", Tone::Warning, "triangle")
        }
        agent if !agent.findings.is_empty() => {
            look("found something wrong", Tone::Warning, "triangle")
        }
        _ => look("connected", Tone::Good, "check"),
    }
}

/// The shape and word of an event's severity.
pub(super) fn severity(severity: pb::event::Severity) -> Look {
    match severity {
        pb::event::Severity::Critical => look("critical", Tone::Bad, "octagon"),
        pb::event::Severity::Warning => look("warning", Tone::Warning, "triangle"),
        _ => look("info", Tone::Idle, "dot"),
    }
}

/// A resource by its label, else by the last part of its name.
pub(super) fn label<'a>(name: &'a str, label: &'a str) -> &'a str {
    if label.is_empty() { last(name) } else { label }
}

/// The last part of a resource name.
pub(super) fn last(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}

/// The id of the cluster in a resource name.
pub(super) fn cluster_of(name: &str) -> &str {
    name.split('/').nth(1).unwrap_or_default()
}

/// `main/hl7` of `clusters/main/virtualServices/hl7`: unique, and short in every element's id.
pub(super) fn short(name: &str) -> String {
    name.split('/').skip(1).step_by(2).collect::<Vec<_>>().join("/")
}

/// `TCP 104, 11112`
pub(super) fn ports(listener: &pb::Listener) -> String {
    let protocol = match listener.protocol() {
        pb::listener::Protocol::Udp => "UDP",
        _ => "TCP",
    };
    format!("{protocol} {}", listener.ports.join(", "))
}

/// `layer 7, TCP mode`
pub(super) fn path(service: &pb::VirtualService) -> &'static str {
    match &service.forwarding {
        None => "–",
        Some(Forwarding::Layer4(layer4)) => match layer4.method() {
            layer4::Method::Unspecified => "layer 4",
            layer4::Method::Dr => "layer 4, direct routing",
            layer4::Method::Nat => "layer 4, NAT",
            layer4::Method::Snat => "layer 4, SNAT",
            layer4::Method::Tunnel => "layer 4, tunnel",
        },
        Some(Forwarding::Layer7(layer7)) => match layer7.mode() {
            layer7::Mode::Unspecified | layer7::Mode::TcpMode => "layer 7, TCP mode",
            layer7::Mode::HttpMode => "layer 7, HTTP mode",
            layer7::Mode::DicomMode => "layer 7, DICOM mode",
            layer7::Mode::MllpMode => "layer 7, MLLP mode",
        },
    }
}

/// `load balanced` or `failover`
pub(super) fn strategy(service: &pb::VirtualService) -> &'static str {
    match service.strategy() {
        pb::virtual_service::Strategy::Failover => "failover",
        _ => "load balanced",
    }
}

/// `10.2.0.11:11112`; without a port, the one the client connected to is kept.
pub(super) fn endpoint(endpoint: Option<&pb::Endpoint>) -> String {
    match endpoint {
        None => "–".to_owned(),
        Some(endpoint) if endpoint.port == 0 => endpoint.address.clone(),
        Some(endpoint) if endpoint.address.contains(':') => {
            format!("[{}]:{}", endpoint.address, endpoint.port)
        }
        Some(endpoint) => format!("{}:{}", endpoint.address, endpoint.port),
    }
}

/// `1 connection`, `2 connections`
pub(super) fn counted(count: i64, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

/// What the kernel remembers beside open connections, if it does.
pub(super) fn beside(inactive: i64, clients: i64) -> Option<String> {
    let inactive = (inactive > 0)
        .then(|| format!("and {} that ended or fell silent", counted(inactive, "connection")));
    let clients =
        (clients > 0).then(|| format!("{} kept on this server", counted(clients, "client")));
    let parts: Vec<_> = inactive.into_iter().chain(clients).collect();
    (!parts.is_empty()).then(|| parts.join("; "))
}

/// `210 Mb/s`
pub(super) fn bits(rate: f64) -> String {
    let (value, unit) = match rate {
        rate if rate >= 1e9 => (rate / 1e9, "Gb/s"),
        rate if rate >= 1e6 => (rate / 1e6, "Mb/s"),
        rate if rate >= 1e3 => (rate / 1e3, "kb/s"),
        rate => (rate, "b/s"),
    };
    format!("{} {unit}", few_digits(value))
}

/// Two significant digits, or as many as the whole part has.
pub(super) fn few_digits(value: f64) -> String {
    if value == 0.0 || value >= 10.0 { format!("{value:.0}") } else { format!("{value:.1}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service_look(state: ServiceState, stale: bool) -> Look {
        service(&pb::VirtualServiceStatus { state: state.into(), stale, ..Default::default() })
    }

    fn server_look(state: ServerState, stale: bool) -> Look {
        server(&pb::RealServerStatus { state: state.into(), stale, ..Default::default() })
    }

    #[test]
    fn every_state_has_a_word_a_colour_and_a_shape() {
        let table = [
            (service_look(ServiceState::Up, false), "up", Tone::Good, "check"),
            (service_look(ServiceState::Degraded, false), "degraded", Tone::Warning, "triangle"),
            (service_look(ServiceState::Down, false), "down", Tone::Bad, "octagon"),
            (service_look(ServiceState::Off, false), "off", Tone::Idle, "ring"),
            (
                service_look(ServiceState::NotInForce, false),
                "not in force",
                Tone::Unknown,
                "diamond",
            ),
            (
                service_look(ServiceState::Unspecified, false),
                "not known yet",
                Tone::Unknown,
                "question",
            ),
            (server_look(ServerState::Serving, false), "serving", Tone::Good, "check"),
            (server_look(ServerState::Draining, false), "draining", Tone::Warning, "drain"),
            (server_look(ServerState::Halted, false), "halted", Tone::Idle, "pause"),
            (server_look(ServerState::Failed, false), "failed", Tone::Bad, "octagon"),
            (
                server_look(ServerState::Unspecified, false),
                "not checked yet",
                Tone::Unknown,
                "question",
            ),
        ];
        for (found, word, tone, shape) in table {
            assert_eq!(found, Look { word, tone, shape });
        }
    }

    #[test]
    fn what_is_old_is_never_green() {
        for state in 0..6 {
            let state = ServiceState::try_from(state).unwrap();
            assert_ne!(service_look(state, true).tone, Tone::Good, "{state:?}");
        }
        for state in 0..5 {
            let state = ServerState::try_from(state).unwrap();
            assert_ne!(server_look(state, true).tone, Tone::Good, "{state:?}");
        }
        assert_eq!(service_look(ServiceState::Up, true).word, "not known now");
        assert_eq!(server_look(ServerState::Serving, true).word, "was serving");
    }

    #[test]
    fn agents_are_connected_silent_behind_or_reject_something() {
        let table = [
            ((true, true, 0), "connected"),
            ((false, true, 0), "silent"),
            ((true, false, 3), "behind"),
            ((true, true, 3), "rejects part"),
        ];
        for ((connected, current, rejection_count), word) in table {
            let status =
                pb::AgentStatus { connected, current, rejection_count, ..Default::default() };
            assert_eq!(agent(&status).word, word);
        }
        let findings = vec![pb::Finding::default()];
        let found =
            pb::AgentStatus { connected: true, current: true, findings, ..Default::default() };
        assert_eq!(agent(&found).word, "found something wrong");
    }

    #[test]
    fn names_addresses_and_rates_are_short() {
        assert_eq!(short("clusters/main/virtualServices/hl7/realServers/hl71"), "main/hl7/hl71");
        assert_eq!(short("clusters/main"), "main");
        assert_eq!((label("a/b", ""), label("a/b", "B")), ("b", "B"));
        let listener = pb::Listener {
            ports: vec!["104".into(), "8000-8010".into()],
            protocol: pb::listener::Protocol::Udp.into(),
            ..Default::default()
        };
        assert_eq!(ports(&listener), "UDP 104, 8000-8010");
        let at =
            |address: &str, port| endpoint(Some(&pb::Endpoint { address: address.into(), port }));
        assert_eq!(
            [at("10.0.0.1", 0), at("10.0.0.1", 104), at("fd00::1", 104)],
            ["10.0.0.1", "10.0.0.1:104", "[fd00::1]:104"]
        );
        assert_eq!(
            [0.0, 7.0, 3.14e6, 210e6].map(bits),
            ["0 b/s", "7.0 b/s", "3.1 Mb/s", "210 Mb/s"]
        );
        assert_eq!(beside(0, 0), None);
        let beside = beside(120, 1).unwrap();
        let told = "and 120 connections that ended or fell silent; 1 client kept on this server";
        assert_eq!(beside, told);
        assert_eq!(
            (counted(1, "connection"), counted(0, "connection")),
            ("1 connection".into(), "0 connections".into())
        );
    }
}
