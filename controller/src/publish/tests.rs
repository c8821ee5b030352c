use gantry_model::desired::Desired;
use gantry_model::service::{Persistence, PersistenceKey};
use gantry_model::violation::Violations;
use gantry_proto::v1 as pb;

use super::*;
use crate::state::{Cluster, Service};

fn cluster() -> ClusterName {
    "clusters/main".parse().unwrap()
}

fn state(number: u64) -> State {
    let name = cluster();
    let entry = Cluster {
        name: name.clone(),
        label: String::new(),
        number,
        config_number: number,
        create_time: jiff::Timestamp::UNIX_EPOCH,
    };
    let mut state = State { revision: Revision { epoch: 1, number }, ..State::default() };
    state.clusters.insert_mut(name, Arc::new(entry));
    state
}

/// Puts a layer 7 service into the state; `port` is what tells two forms of it apart.
fn put(state: &mut State, id: &str, port: u16) -> ServiceName {
    let name = cluster().service(id.parse().unwrap());
    let message = pb::VirtualService {
        listener: Some(pb::Listener {
            address: "10.0.0.1".into(),
            ports: vec![port.to_string()],
            ..Default::default()
        }),
        forwarding: Some(pb::virtual_service::Forwarding::Layer7(pb::Layer7::default())),
        ..Default::default()
    };
    let config = wire::virtual_service(&mut Violations::new(), name.clone(), &message).unwrap();
    let service = Service {
        mark: None,
        config,
        uid: id.to_owned(),
        number: state.revision.number,
        create_time: jiff::Timestamp::UNIX_EPOCH,
        update_time: jiff::Timestamp::UNIX_EPOCH,
        servers: BTreeMap::new(),
    };
    state.services.insert_mut(name.clone(), Arc::new(service));
    name
}

fn delta(update: &Update<Bytes>) -> (Vec<&str>, Vec<&str>) {
    match &update.change {
        Change::Delta { upserts, removed } => {
            let id = |name: &'_ str| name.len() - 1;
            let upserts = upserts.iter().map(|(name, _)| &name[id(name)..]).collect();
            (upserts, removed.iter().map(|name| &name[id(name)..]).collect())
        }
        other => panic!("not a delta: {other:?}"),
    }
}

#[test]
fn a_change_sends_only_itself_and_skipped_states_add_up() {
    let mut state = state(5);
    for id in ["a", "b", "c"] {
        put(&mut state, id, 80);
    }
    let publisher = Publisher::new(&state);
    let shelf = publisher.shelf(&cluster(), AgentKind::L7).unwrap();
    let mut agent = Desired::default();
    agent.take(shelf.update_from(None)).unwrap();
    assert_eq!(agent.services().len(), 3);
    let sent = shelf.revision();
    assert!(shelf.update_since(sent).is_none());

    state.revision.number = 6;
    let a = put(&mut state, "a", 81);
    publisher.publish(&state, std::slice::from_ref(&a));
    state.revision.number = 7;
    state.services.remove_mut(&cluster().service("b".parse().unwrap()));
    publisher.publish(&state, &[cluster().service("b".parse().unwrap())]);
    state.revision.number = 8;
    let d = put(&mut state, "d", 80);
    put(&mut state, "a", 82);
    publisher.publish(&state, &[d, a]);

    let update = shelf.update_since(sent).unwrap();
    assert_eq!(delta(&update), (vec!["a", "d"], vec!["b"]));
    agent.take(update).unwrap();
    assert_eq!(
        agent.hash(),
        Publisher::new(&state).shelf(&cluster(), AgentKind::L7).unwrap().hash()
    );
}

/// An agent that holds a configuration back asks again with what it has in force; a difference
/// from what it was sent would not fit.
#[test]
fn who_holds_back_what_it_was_sent_gets_all_again_when_it_asks_anew() {
    let mut state = state(5);
    let a = put(&mut state, "a", 80);
    let shelf_of = |publisher: &Publisher| publisher.shelf(&cluster(), AgentKind::L7).unwrap();
    let publisher = Publisher::new(&state);
    let shelf = shelf_of(&publisher);
    let mut held_hash = SetHash::default();
    held_hash.toggle(&ItemHash::of("gone", b"1"));
    for held in [Revision { epoch: 0, number: 9 }, Revision { epoch: 1, number: 4 }] {
        let held = Some((held, held_hash));
        assert!(matches!(shelf.update_from(held).change, Change::Snapshot(_)));
        let sent = shelf.revision();
        state.revision.number += 1;
        let port = u16::try_from(80 + state.revision.number).unwrap();
        put(&mut state, "a", port);
        publisher.publish(&state, std::slice::from_ref(&a));
        assert!(matches!(shelf.update_since(sent).unwrap().change, Change::Delta { .. }));
        assert!(matches!(shelf.update_from(held).change, Change::Snapshot(_)));
    }
    assert!(shelf.is_at(shelf.revision(), shelf.hash()));
    assert!(!shelf.is_at(shelf.revision(), held_hash));
}

#[test]
fn a_cluster_that_was_deleted_has_no_shelf_and_a_new_one_has() {
    let mut state = state(5);
    let publisher = Publisher::new(&state);
    let entry = state.clusters.get(&cluster()).unwrap().clone();
    state.clusters.remove_mut(&cluster());
    publisher.publish_clusters(&state, &[cluster()]);
    assert!(publisher.shelf(&cluster(), AgentKind::L7).is_none());
    state.clusters.insert_mut(cluster(), entry);
    publisher.publish_clusters(&state, &[cluster()]);
    assert!(publisher.shelf(&cluster(), AgentKind::L7).is_some());
}

#[test]
fn what_does_not_concern_an_agent_does_not_move_it() {
    let mut state = state(5);
    let a = put(&mut state, "a", 80);
    let publisher = Publisher::new(&state);
    let l4 = publisher.shelf(&cluster(), AgentKind::L4).unwrap();
    let l7 = publisher.shelf(&cluster(), AgentKind::L7).unwrap();
    state.revision.number = 6;
    publisher.publish(&state, std::slice::from_ref(&a));
    assert_eq!(l7.revision().number, 5, "the same plan again is no news");
    put(&mut state, "a", 81);
    publisher.publish(&state, std::slice::from_ref(&a));
    assert_eq!(l7.revision().number, 6);
    assert_eq!(l4.revision().number, 6, "what it listens on is brought up by agent-l4");
    state.revision.number = 7;
    let mut service = state.services.get(&a).unwrap().as_ref().clone();
    let timeout = std::time::Duration::from_secs(60);
    service.config.persistence =
        Some(Persistence { key: PersistenceKey::SourceIp, timeout, prefix: None });
    state.services.insert_mut(a.clone(), Arc::new(service));
    publisher.publish(&state, &[a]);
    assert_eq!(l7.revision().number, 7);
    assert_eq!(l4.revision().number, 6, "the rest of a layer 7 service is not its own");
}

#[test]
fn who_holds_the_same_is_told_so_and_who_holds_something_strange_gets_all() {
    let mut state = state(5);
    put(&mut state, "a", 80);
    let shelf = Publisher::new(&state).shelf(&cluster(), AgentKind::L7).unwrap();
    let same = shelf.update_from(Some((Revision { epoch: 1, number: 2 }, shelf.hash())));
    assert_eq!(same.change, Change::Current);
    assert_eq!(same.revision.number, 5);
    let strange = shelf.update_from(Some((Revision { epoch: 1, number: 4 }, SetHash::default())));
    assert!(matches!(strange.change, Change::Snapshot(_)));
}
