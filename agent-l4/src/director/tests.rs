use std::sync::LazyLock;

use gantry_model::mark::Mark;
use gantry_model::violation::Violations;
use gantry_model::wire;
use gantry_proto::v1 as pb;
use gantry_runtime::clock;
use pb::virtual_service::Forwarding;
use tempfile::TempDir;

use super::*;
use crate::host::packet::Claim;
use crate::host::route::{Neighbour, PolicyRule};
use crate::ipvs::{self, DestinationKey, Operation};
use crate::kernel::fake::Fake;

/// A director on a machine with two arms.
struct Stand {
    kernel: Fake,
    director: Director<Fake>,
    state: TempDir,
    passed: Duration,
}

static START: LazyLock<Moment> =
    LazyLock::new(|| Moment { at: clock::monotonic(), wall: clock::wall() });

impl Stand {
    fn new() -> Self {
        Self::on(Fake::with(&[("10.77.0.11", 24), ("10.78.0.11", 24)]))
    }

    fn on(kernel: Fake) -> Self {
        let state = tempfile::tempdir().unwrap();
        let director = direct(&kernel, &state, false);
        Self { kernel, director, state, passed: Duration::ZERO }
    }

    /// The agent dies and starts again.
    fn restart(&mut self) {
        self.director = direct(&self.kernel, &self.state, false);
    }

    fn now(&self) -> Moment {
        Moment { at: START.at + self.passed, wall: START.wall + self.passed }
    }

    fn pass(&mut self, passed: Duration) {
        self.passed += passed;
        let now = self.now();
        self.director.tick(now);
    }

    fn put(&mut self, plan: ServicePlan) -> Result<(), Rejection> {
        let now = self.now();
        self.director.change(&[], vec![plan], now).pop().unwrap()
    }

    fn remove(&mut self, id: &str) {
        let now = self.now();
        self.director.change(&[service_name(id)], Vec::new(), now);
    }

    fn verdict(&mut self, server: &str, healthy: bool) {
        let now = self.now();
        self.director.verdict(&server_name(server), Some(healthy), now);
    }

    /// A whole look at the kernel.
    fn look(&mut self) {
        self.pass(Duration::from_secs(6));
        while !self.director.walk(self.now()) {}
    }

    fn weights(&self, key: ServiceKey) -> Vec<(u8, u32)> {
        self.kernel.change(|state| {
            let Some(held) = state.table.get(&key) else { return Vec::new() };
            let last = |at: &DestinationKey| match at.address {
                std::net::IpAddr::V4(v4) => v4.octets()[3],
                std::net::IpAddr::V6(_) => 0,
            };
            held.destinations.values().map(|held| (last(&held.key), held.weight)).collect()
        })
    }

    fn notices(&mut self) -> Vec<String> {
        self.director.take_notices().into_iter().map(|notice| notice.message).collect()
    }
}

fn direct(kernel: &Fake, state: &TempDir, adopt: bool) -> Director<Fake> {
    let settings = Settings { adopt, pass: Duration::from_secs(1) };
    Director::new(kernel.clone(), Owned::open(state.path()).unwrap(), settings)
}

fn service_name(id: &str) -> ServiceName {
    format!("clusters/main/virtualServices/{id}").parse().unwrap()
}

/// `dicom/a`
fn server_name(path: &str) -> ServerName {
    let (service, server) = path.split_once('/').unwrap();
    service_name(service).server(server.parse().unwrap())
}

fn key(address: &str, port: u16) -> ServiceKey {
    let protocol = gantry_model::service::Protocol::Tcp;
    ServiceKey::Address { protocol, address: address.parse().unwrap(), port }
}

const MARK: ServiceKey = ServiceKey::Mark { family: ipvs::Family::V4, mark: 0x4700_0001 };
const DICOM: &str = "10.78.0.100";

/// A service at 10.78.0.100, port 104, by NAT, with the servers a and b at 10.77.0.21 and .22.
fn plan(
    id: &str,
    edit: impl FnOnce(&mut pb::VirtualService, &mut Vec<pb::RealServer>),
) -> ServicePlan {
    let layer4 = pb::Layer4 { method: pb::layer4::Method::Nat.into(), ..Default::default() };
    let mut service = pb::VirtualService {
        listener: Some(pb::Listener {
            address: DICOM.to_owned(),
            ports: vec!["104".to_owned()],
            ..Default::default()
        }),
        forwarding: Some(Forwarding::Layer4(layer4)),
        ..Default::default()
    };
    let mut servers: Vec<_> = ["a", "b"].into_iter().zip(21..).map(server).collect();
    edit(&mut service, &mut servers);
    let mut violations = Violations::new();
    let service = wire::virtual_service(&mut violations, service_name(id), &service);
    let service = service.unwrap_or_else(|| panic!("{violations:?}"));
    let servers = servers.iter().map(|server| {
        let name = service.name.server(server.name.parse().unwrap());
        wire::real_server(&mut violations, name, server).unwrap()
    });
    let servers = servers.collect();
    let mark = service.needs_mark().then_some(Mark::FIRST);
    ServicePlan { service, servers, mark, key_pairs: Vec::new() }
}

fn server((id, host): (&str, u8)) -> pb::RealServer {
    let endpoint = pb::Endpoint { address: format!("10.77.0.{host}"), port: 0 };
    pb::RealServer { name: id.to_owned(), endpoint: Some(endpoint), ..Default::default() }
}

fn method(service: &mut pb::VirtualService, method: pb::layer4::Method) {
    let layer4 = pb::Layer4 { method: method.into(), ..Default::default() };
    service.forwarding = Some(Forwarding::Layer4(layer4));
}

fn listen(service: &mut pb::VirtualService, address: &str, ports: &[&str]) {
    let listener = service.listener.as_mut().unwrap();
    listener.address = address.to_owned();
    listener.ports = ports.iter().map(|port| (*port).to_owned()).collect();
}

fn same(_: &mut pb::VirtualService, _: &mut Vec<pb::RealServer>) {}

#[test]
fn a_service_is_made_with_its_servers_and_its_address() {
    let mut stand = Stand::new();
    stand.put(plan("dicom", same)).unwrap();
    assert_eq!(stand.weights(key(DICOM, 104)), [(21, 100), (22, 100)]);
    assert!(stand.kernel.addresses("eth1").contains(&DICOM.parse().unwrap()));
    stand.pass(Duration::ZERO);
    assert_eq!(
        stand.kernel.change(|state| state.announced.clone()),
        [DICOM.parse::<std::net::IpAddr>().unwrap()]
    );
    stand.remove("dicom");
    assert!(stand.kernel.change(|state| state.table.is_empty()));
    assert!(!stand.kernel.addresses("eth1").contains(&DICOM.parse().unwrap()));
}

#[test]
fn a_change_edits_what_differs_and_nothing_else() {
    let mut stand = Stand::new();
    stand.put(plan("dicom", same)).unwrap();
    stand.put(plan("other", |service, _| listen(service, "10.78.0.101", &["104"]))).unwrap();
    stand.kernel.take_done();
    stand.put(plan("dicom", |_, servers| servers[1].weight = Some(7))).unwrap();
    let done = stand.kernel.take_done();
    assert!(
        matches!(done[..], [Operation::SetDestination(at, held)]
        if at == key(DICOM, 104) && held.weight == 7),
        "{done:?}"
    );
}

#[test]
fn a_server_that_replaces_another_is_there_before_the_other_goes() {
    let mut stand = Stand::new();
    stand.put(plan("dicom", same)).unwrap();
    stand.kernel.take_done();
    stand.put(plan("dicom", |_, servers| *servers = vec![server(("c", 23))])).unwrap();
    let done = stand.kernel.take_done();
    assert!(
        matches!(
            done[..],
            [
                Operation::AddDestination(..),
                Operation::DeleteDestination(..),
                Operation::DeleteDestination(..)
            ]
        ),
        "{done:?}"
    );
}

#[test]
fn a_failed_server_gets_no_clients_and_loses_its_connections_after_the_grace() {
    let mut stand = Stand::new();
    stand.put(plan("dicom", same)).unwrap();
    stand.verdict("dicom/a", false);
    assert_eq!(stand.weights(key(DICOM, 104)), [(21, 0), (22, 100)]);
    stand.pass(Duration::from_secs(59));
    assert_eq!(stand.weights(key(DICOM, 104)), [(21, 0), (22, 100)]);
    stand.pass(Duration::from_secs(1));
    assert_eq!(stand.weights(key(DICOM, 104)), [(22, 100)]);
    stand.verdict("dicom/a", true);
    assert_eq!(stand.weights(key(DICOM, 104)), [(21, 100), (22, 100)]);
}

#[test]
fn a_failed_server_of_a_udp_service_goes_at_once() {
    let mut stand = Stand::new();
    stand
        .put(plan("syslog", |service, _| {
            service.listener.as_mut().unwrap().protocol = pb::listener::Protocol::Udp.into();
        }))
        .unwrap();
    stand.verdict("syslog/a", false);
    let protocol = gantry_model::service::Protocol::Udp;
    let key = ServiceKey::Address { protocol, address: DICOM.parse().unwrap(), port: 104 };
    assert_eq!(stand.weights(key), [(22, 100)]);
}

#[test]
fn a_drain_ends_at_its_deadline_and_a_halt_at_once() {
    let mut stand = Stand::new();
    let halt_at = START.wall + Duration::from_secs(30);
    let drained = move |servers: &mut Vec<pb::RealServer>| {
        servers[0].admin_state = pb::real_server::AdminState::Drain.into();
        servers[0].halt_time = Some(wire::timestamp_message(halt_at));
        servers[1].admin_state = pb::real_server::AdminState::Halt.into();
    };
    stand.put(plan("dicom", |_, servers| drained(servers))).unwrap();
    assert_eq!(stand.weights(key(DICOM, 104)), [(21, 0)]);
    stand.pass(Duration::from_secs(29));
    assert_eq!(stand.weights(key(DICOM, 104)), [(21, 0)]);
    assert!(stand.director.next(stand.now()) <= START.at + Duration::from_secs(30));
    stand.pass(Duration::from_secs(1));
    assert_eq!(stand.weights(key(DICOM, 104)), []);
}

#[test]
fn the_fallback_serves_only_when_no_other_does() {
    let mut stand = Stand::new();
    stand
        .put(plan("dicom", |service, _| {
            let endpoint = pb::Endpoint { address: "10.77.0.29".to_owned(), port: 0 };
            service.fallback = Some(endpoint);
        }))
        .unwrap();
    assert_eq!(stand.weights(key(DICOM, 104)), [(21, 100), (22, 100), (29, 0)]);
    stand.verdict("dicom/a", false);
    stand.verdict("dicom/b", false);
    assert_eq!(stand.weights(key(DICOM, 104)), [(21, 0), (22, 0), (29, 1)]);
    stand.verdict("dicom/b", true);
    assert_eq!(stand.weights(key(DICOM, 104)), [(21, 0), (22, 100), (29, 0)]);
}

#[test]
fn several_ports_with_persistence_are_one_service_by_mark() {
    let mut stand = Stand::new();
    let two_ports = |service: &mut pb::VirtualService| {
        listen(service, DICOM, &["104", "11112"]);
        service.persistence = Some(pb::Persistence::default());
    };
    stand.put(plan("dicom", |service, _| two_ports(service))).unwrap();
    assert_eq!(stand.weights(MARK), [(21, 100), (22, 100)]);
    let rules = stand.kernel.change(|state| state.rules.clone()).unwrap();
    let ports: Vec<_> = rules.marks.iter().map(|(key, mark)| (key.first, *mark)).collect();
    assert_eq!(ports, [(104, 0x4700_0001), (11112, 0x4700_0001)]);
    stand.put(plan("dicom", |service, _| listen(service, DICOM, &["104", "11112"]))).unwrap();
    assert_eq!(stand.weights(key(DICOM, 11112)), [(21, 100), (22, 100)]);
    assert_eq!(stand.weights(MARK), []);
    assert!(stand.kernel.change(|state| state.rules.clone()).unwrap().marks.is_empty());
}

#[test]
fn a_restart_changes_nothing() {
    let mut stand = Stand::new();
    let drained = || {
        plan("dicom", |_, servers| {
            servers[0].admin_state = pb::real_server::AdminState::Drain.into();
        })
    };
    stand.put(drained()).unwrap();
    stand.verdict("dicom/b", false);
    stand.kernel.take_done();
    stand.restart();
    stand.put(drained()).unwrap();
    assert_eq!(stand.kernel.take_done(), [], "also before healthd has said that b is down");
    stand.pass(Duration::from_secs(3600));
    assert_eq!(stand.kernel.take_done(), []);
    stand.verdict("dicom/b", true);
    assert_eq!(stand.weights(key(DICOM, 104)), [(21, 0), (22, 100)]);
}

#[test]
fn a_restart_takes_out_what_is_wanted_no_more_and_nothing_else() {
    let mut stand = Stand::new();
    stand.put(plan("dicom", same)).unwrap();
    stand.put(plan("other", |service, _| listen(service, "10.78.0.101", &["104"]))).unwrap();
    let foreign = stand.kernel.change(|state| {
        let mut foreign = state.table[&key(DICOM, 104)].clone();
        foreign.service.key = key("10.78.0.102", 104);
        state.table.insert(foreign.service.key, foreign);
        foreign_count(state)
    });
    stand.restart();
    let now = stand.now();
    stand.director.change(&[], Vec::new(), now);
    assert_eq!(stand.kernel.change(|state| foreign_count(state)), foreign, "nothing was planned");
    stand.put(plan("dicom", same)).unwrap();
    let left: Vec<_> = stand.kernel.change(|state| state.table.keys().copied().collect());
    assert_eq!(left, [key(DICOM, 104), key("10.78.0.102", 104)]);
    assert!(!stand.kernel.addresses("eth1").contains(&"10.78.0.101".parse().unwrap()));
}

fn foreign_count(state: &crate::kernel::fake::State) -> usize {
    state.table.len()
}

#[test]
fn a_foreign_service_is_left_alone_until_it_is_to_be_adopted() {
    let mut stand = Stand::new();
    stand.put(plan("dicom", same)).unwrap();
    stand.state = tempfile::tempdir().unwrap();
    stand.restart();
    stand.kernel.take_done();
    let rejection = stand.put(plan("dicom", same)).unwrap_err();
    assert_eq!(
        (rejection.reason.as_str(), rejection.field.as_str()),
        ("FOREIGN_SERVICE", "listener")
    );
    assert!(rejection.message.contains("--adopt"), "{}", rejection.message);
    stand.director = direct(&stand.kernel, &stand.state, true);
    stand.put(plan("dicom", |_, servers| servers[0].weight = Some(1))).unwrap();
    let done = stand.kernel.take_done();
    assert!(matches!(done[..], [Operation::SetDestination(..)]), "{done:?}");
    assert_eq!(stand.notices().len(), 1);
}

#[test]
fn what_somebody_else_changes_is_put_right_and_told() {
    let mut stand = Stand::new();
    stand.put(plan("dicom", same)).unwrap();
    stand.look();
    stand.kernel.change(|state| {
        let held = state.table.get_mut(&key(DICOM, 104)).unwrap();
        held.destinations.values_mut().next().unwrap().weight = 3;
    });
    stand.look();
    assert_eq!(stand.weights(key(DICOM, 104)), [(21, 100), (22, 100)]);
    let told = stand.notices();
    assert!(told[0].contains("10.77.0.21:104 has the weight 100 again"), "{told:?}");
    stand.kernel.change(|state| state.table.clear());
    stand.look();
    assert_eq!(stand.weights(key(DICOM, 104)), [(21, 100), (22, 100)]);
    stand.kernel.change(|state| state.interfaces[1].addresses.truncate(1));
    stand.look();
    assert!(stand.kernel.addresses("eth1").contains(&DICOM.parse().unwrap()));
    assert_eq!(stand.notices().len(), 2);
}

#[test]
fn one_bad_service_blocks_no_other() {
    let mut stand = Stand::new();
    stand.kernel.change(|state| state.missing.extend([ipvs::Scheduler::MaglevHash]));
    let bad = plan("bad", |service, _| {
        listen(service, "10.78.0.101", &["104"]);
        let layer4 = pb::Layer4 {
            method: pb::layer4::Method::Nat.into(),
            scheduler: pb::layer4::Scheduler::MaglevHash.into(),
            ..Default::default()
        };
        service.forwarding = Some(Forwarding::Layer4(layer4));
    });
    let now = stand.now();
    let outcomes = stand.director.change(&[], vec![bad, plan("dicom", same)], now);
    assert_eq!(outcomes[1], Ok(()));
    let rejection = outcomes[0].clone().unwrap_err();
    assert_eq!(rejection.reason, "NO_SCHEDULER");
    assert_eq!(stand.weights(key(DICOM, 104)), [(21, 100), (22, 100)]);
    assert_eq!(stand.kernel.change(|state| state.table.len()), 1);
    assert!(!stand.kernel.addresses("eth1").contains(&"10.78.0.101".parse().unwrap()));
}

#[test]
fn a_service_that_changes_for_the_worse_keeps_its_last_good_form() {
    let mut stand = Stand::new();
    stand.put(plan("dicom", same)).unwrap();
    let worse = plan("dicom", |service, _| listen(service, "192.0.2.1", &["104"]));
    let rejection = stand.put(worse).unwrap_err();
    assert_eq!(rejection.reason, "NO_INTERFACE");
    assert_eq!(stand.weights(key(DICOM, 104)), [(21, 100), (22, 100)]);
    stand.verdict("dicom/a", false);
    assert_eq!(stand.weights(key(DICOM, 104)), [(21, 0), (22, 100)]);
}

#[test]
fn conflicts_are_told_with_the_way_out() {
    type Edit = fn(&mut crate::kernel::fake::State);
    let two_ports = || {
        plan("dicom", |service, _| {
            listen(service, DICOM, &["104", "11112"]);
            service.persistence = Some(pb::Persistence::default());
        })
    };
    let cases: [(&str, &str, Edit, ServicePlan); 7] = [
        ("NO_IPVS", "linux-image", |state| state.no_ipvs = true, plan("dicom", same)),
        ("NO_NFT", "nftables", |state| state.no_nft = true, two_ports()),
        (
            "MARK_IN_USE",
            "take that rule away",
            |state| state.foreign_marks.push("table ip mangle, chain x".to_owned()),
            two_ports(),
        ),
        (
            "MARK_IN_USE",
            "change the rule's mask",
            |state| {
                state.mark_rules.push(PolicyRule {
                    family: ipvs::Family::V4,
                    priority: 100,
                    mark: 1,
                    mask: 0xf,
                });
            },
            two_ports(),
        ),
        (
            "ONE_ARM_NAT",
            "Use method SNAT or DR",
            |state| state.interfaces.truncate(1),
            plan("dicom", |service, _| listen(service, "10.77.0.100", &["104"])),
        ),
        (
            "NO_INTERFACE",
            "no interface eth7: it has eth1",
            |state| state.interfaces[0].up = false,
            plan("dicom", |service, _| {
                service.listener.as_mut().unwrap().interface = "eth7".to_owned();
            }),
        ),
        ("NO_MARK", "update the controller", |_| {}, ServicePlan { mark: None, ..two_ports() }),
    ];
    for (reason, way_out, edit, plan) in cases {
        let mut stand = Stand::new();
        stand.kernel.change(edit);
        let rejection = stand.put(plan).unwrap_err();
        assert_eq!(rejection.reason, reason);
        assert!(rejection.message.contains(way_out), "{}", rejection.message);
    }
}

#[test]
fn addresses_of_layer_7_services_come_and_go_and_those_of_others_stay() {
    let layer7 = |address: &'static str| {
        plan("hl7", move |service, servers| {
            listen(service, address, &["2575"]);
            service.forwarding = Some(Forwarding::Layer7(pb::Layer7::default()));
            servers.clear();
        })
    };
    let mut stand = Stand::new();
    stand.kernel.change(|state| state.no_ipvs = true);
    stand.put(layer7("10.77.0.120")).unwrap();
    assert!(stand.kernel.addresses("eth0").contains(&"10.77.0.120".parse().unwrap()));
    stand.put(layer7("10.77.0.11")).unwrap();
    assert_eq!(stand.kernel.addresses("eth0"), ["10.77.0.11".parse::<std::net::IpAddr>().unwrap()]);
    stand.remove("hl7");
    assert_eq!(stand.kernel.addresses("eth0"), ["10.77.0.11".parse::<std::net::IpAddr>().unwrap()]);
    stand.put(layer7("127.12.1.100")).unwrap();
    let rejection = stand.put(layer7("192.0.2.7")).unwrap_err();
    assert_eq!(
        (rejection.reason.as_str(), rejection.field.as_str()),
        ("NO_INTERFACE", "listener.address")
    );
}

#[test]
fn services_may_swap_addresses_in_one_change() {
    let mut stand = Stand::new();
    let at = |id: &'static str, address: &'static str, host: u8| {
        plan(id, move |service, servers| {
            listen(service, address, &["104"]);
            *servers = vec![server(("a", host))];
        })
    };
    let now = stand.now();
    let (one, other) = ("10.78.0.100", "10.78.0.101");
    stand.director.change(&[], vec![at("x", one, 21), at("y", other, 22)], now);
    stand.kernel.take_done();
    let outcomes = stand.director.change(&[], vec![at("x", other, 21), at("y", one, 22)], now);
    assert_eq!(outcomes, [Ok(()), Ok(())]);
    assert_eq!(stand.weights(key(one, 104)), [(22, 100)]);
    let done = stand.kernel.take_done();
    assert!(!done.iter().any(|step| matches!(step, Operation::DeleteService(_))), "{done:?}");
}

#[test]
fn who_else_answers_for_a_virtual_address_is_found() {
    let mut stand = Stand::new();
    stand
        .put(plan("dicom", |service, _| {
            method(service, pb::layer4::Method::Dr);
            listen(service, "10.77.0.100", &["104"]);
        }))
        .unwrap();
    let hardware = [2, 0, 0, 0, 9, 21];
    let claim = Claim { index: 1, address: "10.77.0.100".parse().unwrap(), hardware };
    stand.kernel.change(|state| {
        state.heard.push(claim);
        let address = "10.77.0.21".parse().unwrap();
        state.neighbours.push(Neighbour { index: 1, address, hardware: Some(hardware) });
    });
    stand.pass(Duration::from_secs(2));
    let findings = stand.director.view().condition.findings;
    assert_eq!(findings[0].reason, "ADDRESS_CONFLICT");
    assert!(findings[0].message.contains("the real server a (02:00:00:00:09:15) answers ARP"));
    assert!(findings[0].message.contains("gantry arp-help dicom"));
    stand.pass(Duration::from_secs(20));
    assert_eq!(stand.director.view().condition.findings, []);
}

#[test]
fn with_no_address_to_watch_the_director_rests() {
    let mut stand = Stand::new();
    stand.put(plan("dicom", same)).unwrap();
    stand.pass(Duration::from_secs(2));
    stand.remove("dicom");
    stand.look();
    stand.pass(Duration::from_millis(1));
    assert!(stand.director.next(stand.now()) > stand.now().at, "there is nothing to do now");
}

#[test]
fn checks_reach_the_virtual_address_through_one_server() {
    let mut stand = Stand::new();
    let through = |service: &mut pb::VirtualService| {
        method(service, pb::layer4::Method::Dr);
        listen(service, "10.77.0.100", &["104"]);
        service.health_check =
            Some(pb::HealthCheck { through_virtual_address: true, ..Default::default() });
    };
    stand.put(plan("dicom", |service, _| through(service))).unwrap();
    let way = stand.director.way_to(&server_name("dicom/b")).unwrap();
    assert_eq!(way.source, "10.77.0.11".parse::<std::net::IpAddr>().unwrap());
    let key = ServiceKey::Mark { family: ipvs::Family::V4, mark: way.mark };
    assert_eq!(stand.weights(key), [(22, 1)]);
    assert_eq!(stand.director.way_to(&server_name("dicom/b")), Ok(way));
    let other = stand.director.way_to(&server_name("dicom/a")).unwrap();
    assert_ne!(other.mark, way.mark);
    stand.remove("dicom");
    stand.look();
    assert!(stand.kernel.change(|state| state.table.is_empty()));
    let gone = stand.director.way_to(&server_name("dicom/a")).unwrap_err();
    assert_eq!(gone.reason, "NOT_IN_FORCE");
}

#[test]
fn the_longest_idle_timeout_holds() {
    let mut stand = Stand::new();
    stand.put(plan("dicom", same)).unwrap();
    assert_eq!(stand.kernel.change(|state| state.timeouts.0), 3600);
    let long = plan("hl7", |service, _| {
        listen(service, "10.78.0.101", &["2575"]);
        let idle_timeout = Some(wire::duration_message(Duration::from_secs(86400)));
        let method = pb::layer4::Method::Nat.into();
        let layer4 = pb::Layer4 { method, idle_timeout, ..Default::default() };
        service.forwarding = Some(Forwarding::Layer4(layer4));
    });
    stand.put(long).unwrap();
    assert_eq!(stand.kernel.change(|state| state.timeouts.0), 86400);
    stand.remove("hl7");
    assert_eq!(stand.kernel.change(|state| state.timeouts.0), 3600);
}

#[test]
fn counters_are_told_by_service_port_and_server() {
    let mut stand = Stand::new();
    stand.put(plan("web", |service, _| listen(service, DICOM, &["80", "443"]))).unwrap();
    stand.look();
    let samples = stand.director.view().samples;
    let whole = samples.iter().find(|sample| sample.name.ends_with("/web")).unwrap();
    assert_eq!((whole.active_connections, whole.inactive_connections), (8, 4));
    assert_eq!((whole.connections_total, whole.ports.len()), (14, 2));
    let server = samples.iter().find(|sample| sample.name.ends_with("/web/realServers/a")).unwrap();
    assert_eq!((server.active_connections, server.connections_total), (4, 6));
}
