use std::collections::BTreeMap;

use gantry_model::agent::AgentName;
use gantry_model::name::ClusterName;
use gantry_model::revision::SetHash;
use gantry_model::server::Weight;
use gantry_model::service::{
    Forwarding, Layer4, Method, Mode, Persistence, PersistenceKey, Protocol, Scheduler,
};
use gantry_model::violation::Violations;
use gantry_model::wire;
use gantry_proto::agent::v1 as agent_pb;

use super::*;
use crate::observed::{Agent, Observed};
use crate::status::Desired;

/// A service and its servers, to be changed.
#[derive(Clone)]
struct Site {
    service: VirtualService,
    servers: Vec<RealServer>,
}

const DICOM: &str = "clusters/main/virtualServices/dicom";

impl Site {
    fn layer7() -> Self {
        let name: gantry_model::name::ServiceName = DICOM.parse().unwrap();
        let message = pb::VirtualService {
            listener: Some(pb::Listener {
                address: "10.0.0.1".into(),
                ports: vec!["104".into(), "8000-8010".into()],
                ..Default::default()
            }),
            forwarding: Some(pb::virtual_service::Forwarding::Layer7(pb::Layer7::default())),
            ..Default::default()
        };
        let service = wire::virtual_service(&mut Violations::new(), name.clone(), &message);
        let server = |id: &str| {
            let endpoint = Some(pb::Endpoint { address: "10.0.0.9".into(), port: 0 });
            let message = pb::RealServer { endpoint, ..Default::default() };
            let name = name.server(id.parse().unwrap());
            wire::real_server(&mut Violations::new(), name, &message).unwrap()
        };
        Self { service: service.unwrap(), servers: ["a", "b"].map(server).into() }
    }

    fn layer4() -> Self {
        let mut site = Self::layer7();
        site.service.forwarding = Forwarding::Layer4(Layer4::new(Method::Nat));
        site
    }

    fn now() -> Timestamp {
        Timestamp::UNIX_EPOCH
    }

    fn drained(&mut self, seconds: i64) {
        let halt_at = Some(Timestamp::from_second(seconds).unwrap());
        self.servers[0].admin_state = AdminState::Drain { halt_at };
    }

    /// Whose connections end on the way to `after`, in short, and why.
    fn ends(&self, after: Option<&Self>) -> Vec<(String, String)> {
        let (old, new): (Vec<_>, Vec<_>) = (
            self.servers.iter().collect(),
            after.iter().flat_map(|after| &after.servers).collect(),
        );
        let before = Whole { service: &self.service, servers: &old };
        let after = after.map(|after| Whole { service: &after.service, servers: &new });
        let short = |effect: Effect| (effect.name.replace(DICOM, "."), effect.reason);
        effects(before, after, Self::now()).into_iter().map(short).collect()
    }

    fn ends_after(&self, change: impl FnOnce(&mut Self)) -> Vec<(String, String)> {
        let mut after = self.clone();
        change(&mut after);
        self.ends(Some(&after))
    }
}

fn layer7(site: &mut Site) -> &mut gantry_model::service::Layer7 {
    match &mut site.service.forwarding {
        Forwarding::Layer7(layer7) => layer7,
        Forwarding::Layer4(_) => panic!("it is at layer 4"),
    }
}

fn layer4(site: &mut Site) -> &mut Layer4 {
    match &mut site.service.forwarding {
        Forwarding::Layer4(layer4) => layer4,
        Forwarding::Layer7(_) => panic!("it is at layer 7"),
    }
}

type Change = fn(&mut Site);

#[test]
fn what_only_concerns_new_clients_ends_nothing() {
    let at_layer7: [(&str, Change); 9] = [
        ("nothing", |_| {}),
        ("address", |site| site.service.listener.address = "10.0.0.2".parse().unwrap()),
        ("ports", |site| site.service.listener.ports = one("105".parse().unwrap())),
        ("mode", |site| layer7(site).mode = Mode::Dicom),
        ("timeouts", |site| layer7(site).timeouts.client = std::time::Duration::from_secs(1)),
        ("endpoint", |site| site.servers[0].endpoint.address = "10.0.0.8".parse().unwrap()),
        ("weight", |site| site.servers[0].weight = Weight::new(0).unwrap()),
        ("limits", |site| site.servers[0].max_connections = 1),
        ("drain", |site| site.servers[0].admin_state = AdminState::Drain { halt_at: None }),
    ];
    for (what, change) in at_layer7 {
        assert_eq!(Site::layer7().ends_after(change), [], "{what}");
    }
    let at_layer4: [(&str, Change); 10] = [
        ("method", |site| layer4(site).method = Method::Snat),
        ("another method", |site| layer4(site).method = Method::DirectRouting),
        ("translated to", |site| {
            layer4(site).method = Method::Snat;
            layer4(site).snat_address = Some("10.0.0.5".parse().unwrap());
        }),
        ("scheduler", |site| {
            layer4(site).scheduler = Scheduler::MaglevHash;
            layer4(site).hash_ports = true;
        }),
        ("remembered", |site| layer4(site).idle_timeout = std::time::Duration::from_secs(1)),
        ("grace", |site| layer4(site).failure_grace = std::time::Duration::ZERO),
        ("datagrams", |site| layer4(site).one_packet = true),
        ("label", |site| site.service.label = "other".into()),
        ("weight", |site| site.servers[0].weight = Weight::new(0).unwrap()),
        ("more ports", |site| {
            let ranges = site.service.listener.ports.ranges().iter().copied();
            let ranges = ranges.chain(["9000".parse().unwrap()]).collect();
            site.service.listener.ports = gantry_model::port::PortSet::new(ranges).unwrap();
        }),
    ];
    for (what, change) in at_layer4 {
        assert_eq!(Site::layer4().ends_after(change), [], "{what}");
    }
}

fn one(range: gantry_model::port::PortRange) -> gantry_model::port::PortSet {
    gantry_model::port::PortSet::new(vec![range]).unwrap()
}

#[test]
fn what_ends_is_named_once_with_its_reason() {
    let both: [(&str, &str, &str, Change); 6] = [
        ("disabled", ".", "the virtual service is disabled", |site| {
            site.service.disabled = true;
            site.servers.clear();
        }),
        ("removed", "./realServers/b", "the real server is removed", |site| {
            site.servers.truncate(1);
        }),
        ("halted", "./realServers/a", "the real server is halted", |site| {
            site.servers[0].admin_state = AdminState::Halt;
        }),
        ("drained, too late", "./realServers/a", "the real server is halted", |site| {
            site.drained(-1);
        }),
        (
            "drained, with a deadline",
            "./realServers/a",
            "the real server is drained, and what is left then is halted at 1970-01-01T00:01:00Z",
            |site| site.drained(60),
        ),
        ("replaced", "./realServers/a", "the real server is removed", |site| {
            site.servers[0].name.server = "c".parse().unwrap();
        }),
    ];
    for (what, name, reason, change) in both {
        for site in [Site::layer7(), Site::layer4()] {
            let expected = [(name.to_owned(), reason.to_owned())];
            assert_eq!(site.ends_after(change), expected, "{what}");
        }
    }
    let removed = [(".".to_owned(), "the virtual service is removed".to_owned())];
    assert_eq!(Site::layer7().ends(None), removed);
    assert_eq!(Site::layer4().ends(None), removed);
}

#[test]
fn a_change_of_layer_hands_no_connection_over() {
    let (four, seven) = (Site::layer4(), Site::layer7());
    assert_eq!(seven.ends(Some(&four))[0].1, "the virtual service moves to layer 4");
    assert_eq!(four.ends(Some(&seven))[0].1, "the virtual service moves to layer 7");
}

#[test]
fn the_kernel_knows_a_service_and_a_destination_by_their_addresses() {
    let changes: [(&str, &str, Change); 4] = [
        (".", "a layer 4 service gives up its address or protocol", |site| {
            site.service.listener.protocol = Protocol::Udp;
        }),
        (".", "a layer 4 service gives up port 104: those connected there end, of these", |site| {
            site.service.listener.ports = one("8000-8010".parse().unwrap())
        }),
        (".", "a layer 4 service gives up 11 ports: those connected there end, of these", |site| {
            site.service.listener.ports = one("104".parse().unwrap())
        }),
        (
            "./realServers/a",
            "to layer 4 a real server with another address or port is another one",
            |site| site.servers[0].endpoint.address = "10.0.0.8".parse().unwrap(),
        ),
    ];
    for (name, reason, change) in changes {
        let expected = [(name.to_owned(), reason.to_owned())];
        assert_eq!(Site::layer4().ends_after(change), expected);
    }
}

/// Clients of one port keep their server with persistence as it is; over several it needs a mark.
#[test]
fn a_service_that_gets_a_mark_or_gives_it_back_is_another_one() {
    let persist = |site: &mut Site| {
        let timeout = std::time::Duration::from_secs(60);
        let key = PersistenceKey::SourceIp;
        site.service.persistence = Some(Persistence { key, timeout, prefix: None });
    };
    let ending = |known: &str| {
        let reason = format!(
            "with these ports and this persistence the kernel knows a layer 4 service {known}: \
             that is another one to it"
        );
        [(".".to_owned(), reason)]
    };
    let mut marked = Site::layer4();
    persist(&mut marked);
    let gets = ending("by one mark and no longer by its ports");
    assert_eq!(Site::layer4().ends(Some(&marked)), gets);
    let gives = ending("by its ports and no longer by one mark");
    assert_eq!(marked.ends(Some(&Site::layer4())), gives);
    let longer = |site: &mut Site| {
        site.service.persistence.as_mut().unwrap().timeout = std::time::Duration::from_secs(90);
    };
    assert_eq!(marked.ends_after(longer), [], "it has the mark all along");
    let many = |site: &mut Site| site.service.listener.ports = one("8000-8010".parse().unwrap());
    let mut few = Site::layer4();
    many(&mut few);
    let more = |site: &mut Site| site.service.listener.ports = one("8000-8100".parse().unwrap());
    assert_eq!(few.ends_after(more), ending("by one mark and no longer by its ports"));
    let mut one_port = Site::layer4();
    one_port.service.listener.ports = one("104".parse().unwrap());
    assert_eq!(one_port.ends_after(persist), []);
    assert_eq!(Site::layer7().ends_after(persist), [], "a proxy has no marks");
}

#[test]
fn what_has_ended_before_does_not_end_again() {
    let mut off = Site::layer7();
    off.service.disabled = true;
    assert_eq!(off.ends_after(|site| site.servers.clear()), []);
    let mut halted = Site::layer7();
    halted.drained(-1);
    assert_eq!(halted.ends_after(|site| site.servers[0].admin_state = AdminState::Halt), []);
    let mut draining = Site::layer7();
    draining.drained(60);
    assert_eq!(draining.ends_after(|site| site.servers[0].weight = Weight::DEFAULT), []);
}

/// No desired state: what is counted does not depend on it.
#[derive(Debug)]
struct Nothing;

impl Desired for Nothing {
    fn hash(&self, _cluster: &ClusterName, _kind: AgentKind) -> Option<SetHash> {
        None
    }
}

fn agent(appliance: &str, kind: AgentKind, open: i64) -> (AgentName, Agent) {
    let appliance = format!("clusters/main/appliances/{appliance}").parse().unwrap();
    let (name, observed) = (AgentName { appliance, kind }, Observed::new());
    observed.connected(&name, 1, "0.1.0", Site::now());
    observed.update(&name, |agent| {
        let sample =
            agent_pb::Sample { name: DICOM.into(), active_connections: open, ..Default::default() };
        let samples = agent_pb::Samples { samples: vec![sample], ..Default::default() };
        agent.take_samples(samples, gantry_runtime::clock::monotonic());
    });
    let agent = observed.read(|agents| agents[&name].clone());
    (name, agent)
}

#[test]
fn connections_are_counted_where_they_are_carried() {
    let mut agents =
        BTreeMap::from([agent("lb1", AgentKind::L7, 3), agent("lb2", AgentKind::L7, 1)]);
    let count = |agents: &BTreeMap<AgentName, Agent>, carrier| {
        let (name, reason) = (DICOM.to_owned(), String::new());
        let facts = Facts { agents, desired: &Nothing, now: Site::now() };
        let cut = Effect { name, carrier, reason }.counted(facts);
        (cut.connections, cut.stale)
    };
    assert_eq!(count(&agents, AgentKind::L7), (4, false));
    assert_eq!(count(&agents, AgentKind::L4), (0, true), "nobody would know");
    let (_, silent) = agents.iter_mut().next_back().unwrap();
    silent.stream = None;
    assert_eq!(count(&agents, AgentKind::L7), (4, true), "one word of the two is old");
}
