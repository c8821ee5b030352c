//! What one agent is told of a virtual service: its own part, and no more.
//!
//! An agent that is told nothing of a field is not disturbed when it changes: a new weight means
//! nothing to healthd, and the health check nothing to the proxy.

use crate::agent::AgentKind;
use crate::check::{HealthCheck, Probe};
use crate::key_pair::KeyPair;
use crate::mark::Mark;
use crate::server::{AdminState, RealServer, Weight};
use crate::service::{Forwarding, Layer4, Layer7, Method, Strategy, VirtualService};

/// One virtual service as an agent needs it, with its real servers ordered by name.
#[derive(Clone, Debug, PartialEq)]
pub struct ServicePlan {
    pub service: VirtualService,
    pub servers: Vec<RealServer>,
    /// By what the kernel knows its packets, where [`VirtualService::needs_mark`] says so.
    pub mark: Option<Mark>,
    /// The certificates that agent-l7 shows, each once.
    pub key_pairs: Vec<KeyPair>,
}

/// The part of `service` that concerns agents of `kind`; none if it is not theirs. Which keys go with
/// it is for the one to say who has them: those of [`VirtualService::certificates`] of the plan.
pub fn plan<'a>(
    kind: AgentKind,
    service: &VirtualService,
    servers: impl IntoIterator<Item = &'a RealServer>,
    mark: Option<Mark>,
) -> Option<ServicePlan> {
    let servers = servers.into_iter().cloned();
    match (kind, &service.forwarding) {
        (AgentKind::Health, _) => Some(for_healthd(service, servers)),
        (AgentKind::L4, Forwarding::Layer4(_)) => {
            let mark = mark.filter(|_| service.needs_mark());
            Some(ServicePlan { mark, ..for_data_path(service, servers) })
        }
        (AgentKind::L7, Forwarding::Layer7(_)) => Some(for_data_path(service, servers)),
        (AgentKind::L4, Forwarding::Layer7(layer7)) => Some(for_its_address(service, layer7)),
        (AgentKind::L7, Forwarding::Layer4(_)) => None,
    }
}

fn for_data_path(
    service: &VirtualService,
    servers: impl Iterator<Item = RealServer>,
) -> ServicePlan {
    // How checks come is agent-l4's business, what they ask is not.
    let through_virtual_address = service.check.through_virtual_address;
    let check = HealthCheck { through_virtual_address, ..no_check() };
    let service = VirtualService { check, label: String::new(), ..service.clone() };
    let servers = servers.map(|server| RealServer { label: String::new(), ..server }).collect();
    ServicePlan { service, servers, mark: None, key_pairs: Vec::new() }
}

/// Of a layer 7 service agent-l4 needs the address, which it brings up, and whether it has to see to it that
/// answers come back; a change of the rest is no news to it.
fn for_its_address(service: &VirtualService, layer7: &Layer7) -> ServicePlan {
    let layer7 = Layer7 { transparent_source: layer7.transparent_source, ..Layer7::plain() };
    let service = VirtualService {
        label: String::new(),
        forwarding: Forwarding::Layer7(Box::new(layer7)),
        strategy: Strategy::Balance,
        persistence: None,
        check: no_check(),
        fallback: None,
        ..service.clone()
    };
    ServicePlan { service, servers: Vec::new(), mark: None, key_pairs: Vec::new() }
}

/// Of the listener healthd needs the first port, which is the one to check by default.
fn for_healthd(service: &VirtualService, servers: impl Iterator<Item = RealServer>) -> ServicePlan {
    // The layer stays: at layer 4 there are listeners that layer 7 cannot have.
    let forwarding = match &service.forwarding {
        Forwarding::Layer4(_) => Forwarding::Layer4(Layer4::new(Method::DirectRouting)),
        // Servers that want to be told who comes want that of checks, too.
        Forwarding::Layer7(layer7) => Forwarding::Layer7(Box::new(Layer7 {
            send_proxy_protocol: layer7.send_proxy_protocol,
            ..Layer7::plain()
        })),
    };
    let service = VirtualService {
        label: String::new(),
        forwarding,
        strategy: Strategy::Balance,
        persistence: None,
        fallback: None,
        disabled: false,
        ..service.clone()
    };
    let servers = servers
        .map(|server| RealServer {
            label: String::new(),
            weight: Weight::DEFAULT,
            priority: 0,
            min_connections: 0,
            max_connections: 0,
            admin_state: AdminState::Online,
            pool: None,
            ..server
        })
        .collect();
    ServicePlan { service, servers, mark: None, key_pairs: Vec::new() }
}

fn no_check() -> HealthCheck {
    HealthCheck { probe: Probe::None, ..HealthCheck::connect() }
}

#[cfg(test)]
mod tests {
    use gantry_proto::v1 as pb;
    use pb::virtual_service::Forwarding as Wire;

    use super::*;
    use crate::violation::Violations;
    use crate::wire;

    fn service(layer: Wire, ports: &str, protocol: pb::listener::Protocol) -> VirtualService {
        let listener = pb::Listener {
            address: "10.12.1.100".to_owned(),
            ports: ports.split(',').map(str::to_owned).collect(),
            protocol: protocol.into(),
            ..Default::default()
        };
        let message = pb::VirtualService {
            listener: Some(listener),
            forwarding: Some(layer),
            persistence: Some(pb::Persistence::default()),
            ..Default::default()
        };
        let name = "clusters/main/virtualServices/x".parse().unwrap();
        wire::virtual_service(&mut Violations::new(), name, &message).unwrap()
    }

    #[test]
    fn agent_l4_knows_how_checks_come_and_not_what_they_ask() {
        let layer4 = pb::Layer4 { method: pb::layer4::Method::Dr.into(), ..Default::default() };
        let mut service = service(Wire::Layer4(layer4), "104", pb::listener::Protocol::Tcp);
        service.check.through_virtual_address = true;
        let told = plan(AgentKind::L4, &service, [], None).unwrap().service.check;
        assert!(told.through_virtual_address && told.probe == Probe::None);
    }

    /// Whatever a service is, each agent can read its part of it.
    #[test]
    fn every_part_can_be_read_by_its_agent() {
        use pb::listener::Protocol::{Tcp, Udp};
        let layer4 = || {
            Wire::Layer4(pb::Layer4 {
                method: pb::layer4::Method::Nat.into(),
                ..Default::default()
            })
        };
        let layer7 = || Wire::Layer7(pb::Layer7::default());
        for (service, marked, kinds) in [
            (service(layer4(), "104", Tcp), false, "agent-l4 healthd"),
            (service(layer4(), "104,11112", Tcp), true, "agent-l4 healthd"),
            (service(layer4(), "1-60000", Tcp), true, "agent-l4 healthd"),
            (service(layer4(), "514", Udp), false, "agent-l4 healthd"),
            (service(layer7(), "104,11112", Tcp), false, "agent-l4 agent-l7 healthd"),
        ] {
            let mut planned = Vec::new();
            for kind in AgentKind::ALL {
                let Some(plan) = plan(kind, &service, [], Some(Mark::FIRST)) else { continue };
                assert_eq!(wire::decode_plan(&wire::encode_plan(&plan)).unwrap(), plan);
                assert_eq!(plan.mark.is_some(), marked && kind == AgentKind::L4);
                planned.push(kind.to_string());
            }
            assert_eq!(planned.join(" "), kinds);
        }
    }
}
