use std::collections::BTreeMap;

use gantry_model::verdict::{CheckResult, Layer};
use gantry_model::violation::Violations;
use gantry_model::wire;
use gantry_proto::agent::v1 as agent_pb;

use pb::ended::Termination;

use super::*;
use crate::observed::{Counters, Observed};
use crate::state::Server;

/// A service with servers a and b, and the agents that see it, all of whom are well at first.
struct Scene {
    service: Service,
    agents: BTreeMap<AgentName, Agent>,
}

/// Every agent is to have nothing.
#[derive(Debug)]
struct Nothing;

impl Desired for Nothing {
    fn hash(&self, _cluster: &ClusterName, _kind: AgentKind) -> Option<SetHash> {
        Some(SetHash::default())
    }
}

/// Every agent is to have something else.
#[derive(Debug)]
struct Something;

impl Desired for Something {
    fn hash(&self, _cluster: &ClusterName, _kind: AgentKind) -> Option<SetHash> {
        let mut hash = SetHash::default();
        hash.toggle(&gantry_model::revision::ItemHash::of("a", b"1"));
        Some(hash)
    }
}

impl Scene {
    fn new() -> Self {
        let name: gantry_model::name::ServiceName =
            "clusters/main/virtualServices/dicom".parse().unwrap();
        let message = pb::VirtualService {
            listener: Some(pb::Listener {
                address: "10.0.0.1".into(),
                ports: vec!["104".into()],
                ..Default::default()
            }),
            forwarding: Some(pb::virtual_service::Forwarding::Layer7(pb::Layer7::default())),
            ..Default::default()
        };
        let config = wire::virtual_service(&mut Violations::new(), name.clone(), &message).unwrap();
        let servers = ["a", "b"].map(|id| {
            let endpoint = Some(pb::Endpoint { address: "10.0.0.9".into(), port: 104 });
            let message = pb::RealServer { endpoint, ..Default::default() };
            let name = name.server(id.parse().unwrap());
            let config = wire::real_server(&mut Violations::new(), name, &message).unwrap();
            (id.parse().unwrap(), Server { config, number: 1 })
        });
        let service = Service {
            config,
            uid: String::new(),
            mark: None,
            number: 1,
            create_time: Timestamp::UNIX_EPOCH,
            update_time: Timestamp::UNIX_EPOCH,
            servers: servers.into(),
        };
        let mut scene = Self { service, agents: BTreeMap::new() };
        scene.agent(AgentKind::L7).samples.insert(name.to_string(), Counters::default());
        scene.judge("a", true);
        scene.judge("b", true);
        scene
    }

    fn agent(&mut self, kind: AgentKind) -> &mut Agent {
        let name = AgentName { appliance: "clusters/main/appliances/lb1".parse().unwrap(), kind };
        self.agents.entry(name.clone()).or_insert_with(|| {
            let observed = Observed::new();
            observed.connected(&name, 1, "0.1.0", Timestamp::UNIX_EPOCH);
            let mut agent = observed.read(|agents| agents[&name].clone());
            agent.applied = Some(agent_pb::Applied {
                hash: SetHash::default().to_string(),
                ..Default::default()
            });
            agent
        })
    }

    fn hold_back(&mut self, kind: AgentKind) {
        let agent = self.agent(kind);
        agent.applied.as_mut().unwrap().hash = "01".into();
        agent.take_applied(agent_pb::Applied {
            outcome: agent_pb::applied::Outcome::Held.into(),
            revision: Some(agent_pb::Revision { epoch: 2, number: 7 }),
            hash: SetHash::default().to_string(),
            removal_count: 35,
            ..Default::default()
        });
    }

    fn judge(&mut self, id: &str, healthy: bool) {
        let server = self.service.config.name.server(id.parse().unwrap());
        let last = CheckResult {
            healthy,
            layer: Layer::Connection,
            cause: if healthy { "connected" } else { "connection refused" }.into(),
            at: Timestamp::UNIX_EPOCH,
            took: std::time::Duration::from_millis(4),
        };
        let since = Timestamp::UNIX_EPOCH;
        let verdict = Verdict { server: server.clone(), healthy, since, last };
        self.agent(AgentKind::Health).verdicts.insert(server, verdict);
    }

    fn intend(&mut self, id: &str, state: AdminState) {
        let id = id.parse().unwrap();
        self.service.servers.get_mut(&id).unwrap().config.admin_state = state;
    }

    fn reject(&mut self, kind: AgentKind) {
        let resource = self.service.config.name.to_string();
        let rejection = pb::Rejection {
            agent: kind.to_string(),
            resource,
            field: "listener.address".into(),
            message: "in use".into(),
            ..Default::default()
        };
        self.agent(kind).applied.as_mut().unwrap().rejections.push(rejection);
    }

    fn status(&self) -> pb::VirtualServiceStatus {
        let now = Timestamp::from_second(1000).unwrap();
        service(&self.service, Facts { agents: &self.agents, desired: &Nothing, now })
    }

    fn told(&self) -> (ServiceState, String) {
        let status = self.status();
        (status.state(), status.message)
    }
}

fn told(change: impl FnOnce(&mut Scene)) -> (ServiceState, String) {
    let mut scene = Scene::new();
    change(&mut scene);
    scene.told()
}

fn said(state: ServiceState, message: &str) -> (ServiceState, String) {
    (state, message.to_owned())
}

#[test]
fn by_its_servers() {
    use AdminState::{Drain, Halt};
    assert_eq!(Scene::new().told(), said(ServiceState::Up, ""));
    assert_eq!(
        told(|scene| scene.judge("b", false)),
        said(ServiceState::Degraded, "1 of 2 real servers serve: 1 failed")
    );
    let both = |scene: &mut Scene| {
        scene.judge("a", false);
        scene.intend("b", Drain { halt_at: None });
    };
    assert_eq!(told(both), said(ServiceState::Down, "no real server serves: 1 failed, 1 draining"));
    let with_fallback = |scene: &mut Scene| {
        both(scene);
        let endpoint = scene.service.servers.values().next().unwrap().config.endpoint;
        scene.service.config.fallback = Some(endpoint);
    };
    assert_eq!(
        told(with_fallback),
        said(ServiceState::Degraded, "the fallback serves: 1 failed, 1 draining")
    );
    let past = Timestamp::from_second(999).unwrap();
    assert_eq!(
        told(|scene| scene.intend("b", Drain { halt_at: Some(past) })),
        told(|scene| scene.intend("b", Halt)),
        "a drain past its deadline is a halt"
    );
    assert_eq!(
        told(|scene| scene.service.servers.clear()),
        said(ServiceState::Down, "it has no real servers")
    );
    assert_eq!(
        told(|scene| scene.service.config.disabled = true),
        said(ServiceState::Off, "disabled by an operator")
    );
}

#[test]
fn what_nobody_carries_out_is_not_in_force() {
    let message =
        "not in force: no agent-l7 of cluster main has reported since the controller started";
    let nobody = told(|scene| scene.agents.retain(|name, _| name.kind != AgentKind::L7));
    assert_eq!(nobody, said(ServiceState::NotInForce, message));
    let rejected = told(|scene| {
        scene.agent(AgentKind::L7).samples.clear();
        scene.reject(AgentKind::L7);
    });
    let message = "not in force: listener.address: in use";
    assert_eq!(rejected, said(ServiceState::NotInForce, message));
    let older_form = told(|scene| {
        scene.agent(AgentKind::L7).samples.clear();
        scene.reject(AgentKind::L7);
        let applied = scene.agent(AgentKind::L7).applied.as_mut().unwrap();
        applied.rejections[0].former_in_force = true;
    });
    let message = "not in force as configured: listener.address: in use";
    assert_eq!(older_form, said(ServiceState::Degraded, message));
}

#[test]
fn what_is_held_back_is_not_called_in_force() {
    let mut scene = Scene::new();
    scene.hold_back(AgentKind::L7);
    let message = "perhaps not in force as configured: lb1's agent-l7 holds back revision 2.7, \
                   which would take 35 virtual services from it; look at what is gone, then \
                   `gantry approve lb1`";
    assert_eq!(scene.told(), said(ServiceState::Degraded, message));
    scene.agent(AgentKind::L7).samples.clear();
    let (state, message) = scene.told();
    assert_eq!(state, ServiceState::NotInForce);
    assert!(message.starts_with("not in force: lb1's agent-l7 holds back"), "{message}");
    let by_checks = told(|scene| scene.hold_back(AgentKind::Health));
    assert_eq!(by_checks.0, ServiceState::Degraded);
    let appliance = "clusters/main/appliances/lb1".parse().unwrap();
    let facts = Facts { agents: &scene.agents, desired: &Nothing, now: Timestamp::UNIX_EPOCH };
    let agent = agents(&appliance, facts).into_iter().find(|a| a.agent == "agent-l7").unwrap();
    assert_eq!((agent.held_removal_count, agent.held_revision.as_str()), (35, "2.7"));
    assert!(!agent.current, "it does not run what it holds back");
    assert!(service(&scene.service, facts).reconciling);
    let outdated = agents(&appliance, Facts { desired: &Something, ..facts });
    assert!(outdated.iter().all(|agent| agent.held_removal_count == 0), "it is not of the present");
}

#[test]
fn old_news_are_never_green() {
    for kind in [AgentKind::L7, AgentKind::Health] {
        let mut scene = Scene::new();
        scene.agent(kind).stream = None;
        let status = scene.status();
        assert!(status.stale);
        assert_eq!(status.state(), ServiceState::Degraded, "{kind}");
    }
    let unchecked = told(|scene| scene.agent(AgentKind::Health).verdicts.clear());
    assert_eq!(unchecked, said(ServiceState::Unspecified, "no health check has answered yet"));
}

/// lb1's agent-l4 says what it sees.
fn find(scene: &mut Scene, resource: &str, reason: &str) {
    let finding = pb::Finding {
        resource: resource.into(),
        reason: reason.into(),
        message: "another machine answers for 10.0.0.1".into(),
        ..Default::default()
    };
    let said = agent_pb::Condition { findings: vec![finding], ..Default::default() };
    let name = AgentName {
        appliance: "clusters/main/appliances/lb1".parse().unwrap(),
        kind: AgentKind::L4,
    };
    scene.agent(AgentKind::L4).condition = crate::condition::Condition::read(&name, said);
}

#[test]
fn what_is_found_wrong_is_never_green() {
    let dicom = Scene::new().service.config.name.to_string();
    let server = format!("{dicom}/realServers/a");
    let message = "another machine answers for 10.0.0.1";
    for resource in [&dicom, &server] {
        let mut scene = Scene::new();
        find(&mut scene, resource, "ADDRESS_CONFLICT");
        assert_eq!(scene.told(), said(ServiceState::Degraded, message), "{resource}");
        let finding = &scene.status().findings[0];
        assert_eq!((&finding.resource, finding.agent.as_str()), (resource, "agent-l4"));
        assert_eq!(finding.appliance, "clusters/main/appliances/lb1");
    }
    let worse = told(|scene| {
        find(scene, &dicom, "ADDRESS_CONFLICT");
        scene.judge("a", false);
    });
    assert_eq!(worse, said(ServiceState::Degraded, "1 of 2 real servers serve: 1 failed"));
    let of_appliance = told(|scene| find(scene, "", "FOREIGN_MARK"));
    assert_eq!(of_appliance, said(ServiceState::Up, ""), "it is told at the appliance");
}

#[test]
fn what_an_agent_sees_of_its_machine_is_told_at_the_appliance() {
    let mut scene = Scene::new();
    find(&mut scene, "", "FOREIGN_MARK");
    let setting = pb::KernelSetting { name: "net.ipv4.vs.conntrack".into(), ..Default::default() };
    scene.agent(AgentKind::L4).condition.settings.push(setting.clone());
    let appliance = "clusters/main/appliances/lb1".parse().unwrap();
    let facts = Facts { agents: &scene.agents, desired: &Nothing, now: Timestamp::UNIX_EPOCH };
    let l4 = agents(&appliance, facts).into_iter().find(|one| one.agent == "agent-l4").unwrap();
    assert_eq!(l4.settings, [setting]);
    assert_eq!(l4.findings[0].reason, "FOREIGN_MARK");
}

#[test]
fn whoever_brings_the_address_up_has_a_part_in_a_layer_7_service() {
    assert_eq!(Scene::new().told().0, ServiceState::Up, "many run without");
    let mut scene = Scene::new();
    scene.agent(AgentKind::L4);
    assert_eq!(scene.told(), said(ServiceState::Up, ""));
    scene.agent(AgentKind::L4).applied.as_mut().unwrap().hash = "01".into();
    assert!(scene.status().reconciling, "it is behind");
    let rejected = told(|scene| scene.reject(AgentKind::L4));
    let message = "not in force: listener.address: in use";
    assert_eq!(rejected, said(ServiceState::NotInForce, message), "nobody can reach it");
    let former = told(|scene| {
        scene.reject(AgentKind::L4);
        let applied = scene.agent(AgentKind::L4).applied.as_mut().unwrap();
        applied.rejections[0].former_in_force = true;
    });
    let message = "not in force as configured: listener.address: in use";
    assert_eq!(former, said(ServiceState::Degraded, message));
    let elsewhere = told(|scene| {
        scene.reject(AgentKind::L4);
        let other = AgentName {
            appliance: "clusters/main/appliances/lb2".parse().unwrap(),
            kind: AgentKind::L7,
        };
        let agent = scene.agent(AgentKind::L7).clone();
        scene.agents.insert(other, agent);
    });
    assert_eq!(elsewhere, said(ServiceState::Degraded, message), "lb2 serves");
    let mut scene = Scene::new();
    scene.agent(AgentKind::L4).stream = None;
    assert!(scene.status().stale);
    let held = told(|scene| scene.hold_back(AgentKind::L4));
    assert_eq!(held.0, ServiceState::Degraded);
}

#[test]
fn the_kernel_counts_more_of_a_layer_4_service() {
    use gantry_model::service::{Layer4, Method};
    let mut scene = Scene::new();
    let name = scene.service.config.name.to_string();
    scene.service.config.forwarding = Forwarding::Layer4(Layer4::new(Method::Nat));
    let port = |port: &str, connections_total, packets| pb::PortStatus {
        port: port.into(),
        connections_total,
        received_packets_total: packets,
        received_bytes_total: 100 * packets,
    };
    let sample = |name: &str, ports| agent_pb::Sample {
        name: name.into(),
        active_connections: 3,
        inactive_connections: 40,
        persistent_clients: 5,
        ports,
        ..Default::default()
    };
    for (lb, ports) in [
        ("lb1", vec![port("104", Some(2), 10), port("8000-8010", Some(1), 1)]),
        ("lb2", vec![port("104", Some(3), 20), port("8000-8010", None, 2), port("9", None, 3)]),
    ] {
        let mut agent = scene.agent(AgentKind::L4).clone();
        let server = format!("{name}/realServers/a");
        for sample in [sample(&name, ports), sample(&server, Vec::new())] {
            let counters = Counters { sample, ..Counters::default() };
            agent.samples.insert(counters.sample.name.clone(), counters);
        }
        let appliance = format!("clusters/main/appliances/{lb}").parse().unwrap();
        scene.agents.insert(AgentName { appliance, kind: AgentKind::L4 }, agent);
    }
    let status = scene.status();
    assert_eq!((status.active_connections, status.inactive_connections), (6, 80));
    let ports = [port("104", Some(5), 30), port("8000-8010", None, 3), port("9", None, 3)];
    assert_eq!(status.ports, ports);
    assert_eq!(status.state(), ServiceState::Up);
    let facts = Facts { agents: &scene.agents, desired: &Nothing, now: Timestamp::UNIX_EPOCH };
    let server = &scene.service.servers.values().next().unwrap().config;
    let status = real_server(server, facts);
    assert_eq!((status.inactive_connections, status.persistent_clients), (80, 10));
}

#[test]
fn reasons_are_added_up_over_appliances_and_the_most_frequent_comes_first() {
    let mut scene = Scene::new();
    let name = scene.service.config.name.to_string();
    let ended = |reason: Termination, connections_total| pb::Ended {
        reason: reason.into(),
        connections_total,
    };
    let (done, reset) = (Termination::Completed, Termination::ServerReset);
    for (lb, of_lb) in [
        ("lb1", vec![ended(done, 5), ended(Termination::QueueTimeout, 9)]),
        (
            "lb2",
            vec![ended(done, 6), ended(reset, 1), pb::Ended { reason: 999, connections_total: 2 }],
        ),
    ] {
        let mut agent = scene.agent(AgentKind::L7).clone();
        let sample = agent_pb::Sample { name: name.clone(), ended: of_lb, ..Default::default() };
        agent.samples.insert(name.clone(), Counters { sample, ..Counters::default() });
        let appliance = format!("clusters/main/appliances/{lb}").parse().unwrap();
        scene.agents.insert(AgentName { appliance, kind: AgentKind::L7 }, agent);
    }
    let newer = pb::Ended { reason: 999, connections_total: 2 };
    let all = [ended(done, 11), ended(Termination::QueueTimeout, 9), newer, ended(reset, 1)];
    assert_eq!(scene.status().ended, all);
}

#[test]
fn waits_are_put_together_over_appliances() {
    let mut scene = Scene::new();
    assert_eq!(scene.status().queue, None);
    let name = scene.service.config.name.to_string();
    let seconds = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
    for (lb, queued, served_total, wait_total, longest_now) in [
        ("lb1", 2, 3, seconds(9), seconds(4)),
        ("lb2", 1, 1, seconds(1), seconds(7)),
        ("lb3", 0, 0, None, None),
    ] {
        let mut agent = scene.agent(AgentKind::L7).clone();
        let queue_wait = Some(agent_pb::QueueWait { served_total, wait_total, longest_now });
        let sample =
            agent_pb::Sample { name: name.clone(), queued, queue_wait, ..Default::default() };
        agent.samples.insert(name.clone(), Counters { sample, ..Counters::default() });
        let appliance = format!("clusters/main/appliances/{lb}").parse().unwrap();
        scene.agents.insert(AgentName { appliance, kind: AgentKind::L7 }, agent);
    }
    let mean_wait = Some(prost_types::Duration { seconds: 2, nanos: 500_000_000 });
    let longest_wait = seconds(7);
    let all = pb::QueueStatus { queued: 3, longest_wait, served_total: 4, mean_wait };
    assert_eq!(scene.status().queue, Some(all));
}

#[test]
fn it_is_reconciling_until_every_agent_has_taken_it() {
    let mut scene = Scene::new();
    assert!(!scene.status().reconciling);
    scene.agent(AgentKind::Health).applied.as_mut().unwrap().hash = "01".into();
    assert!(scene.status().reconciling);
}

#[test]
fn where_appliances_differ_the_one_that_reaches_the_server_counts() {
    let mut scene = Scene::new();
    let name = AgentName {
        appliance: "clusters/main/appliances/lb2".parse().unwrap(),
        kind: AgentKind::Health,
    };
    let mut other = scene.agent(AgentKind::Health).clone();
    other.verdicts.values_mut().for_each(|verdict| verdict.healthy = false);
    scene.agents.insert(name, other);
    assert_eq!(scene.told(), said(ServiceState::Up, ""));
}
