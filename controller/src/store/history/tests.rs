use std::sync::Arc;

use gantry_model::server::RealServer;
use gantry_model::service::VirtualService;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use super::*;
use crate::difference::{Resources, resources_of, undone};
use crate::state::State;
use crate::store::{Change, ChangeError, Write};

const CLUSTERS: [&str; 2] = ["clusters/a", "clusters/a-b"];

/// One thing that an operator may do; what makes no sense at its time does nothing.
#[derive(Clone, Debug)]
enum Act {
    Label(usize, u8),
    Service(usize, u8, u8),
    NoService(usize, u8),
    Server(usize, u8, u8, i32),
    NoServer(usize, u8, u8),
}

fn cluster(at: usize) -> ClusterName {
    CLUSTERS[at].parse().unwrap()
}

fn service(at: usize, id: u8, label: u8) -> VirtualService {
    let name = cluster(at).service(format!("s{id}").parse().unwrap());
    let message = pb::VirtualService {
        display_name: format!("label {label}"),
        listener: Some(pb::Listener {
            address: format!("10.0.0.{}", id + 1),
            ports: vec!["104".into()],
            ..Default::default()
        }),
        forwarding: Some(pb::virtual_service::Forwarding::Layer7(pb::Layer7::default())),
        ..Default::default()
    };
    wire::virtual_service(&mut Violations::new(), name, &message).unwrap()
}

fn server(at: usize, service: u8, id: u8, weight: i32) -> RealServer {
    let name = cluster(at).service(format!("s{service}").parse().unwrap());
    let name = name.server(format!("r{id}").parse().unwrap());
    let endpoint = Some(pb::Endpoint { address: "10.0.0.9".into(), port: 104 });
    let message = pb::RealServer { endpoint, weight: Some(weight), ..Default::default() };
    wire::real_server(&mut Violations::new(), name, &message).unwrap()
}

impl Act {
    /// The write, if it makes sense in `state`. Each service has its own labels: an act takes over
    /// nobody's.
    fn write(&self, state: &State) -> Option<Write> {
        match *self {
            Self::Label(at, label) => {
                Some(Write::PutCluster { name: cluster(at), label: format!("{label}") })
            }
            Self::Service(at, id, label) => {
                let service = service(at, id, id * 10 + label);
                state.cluster(&cluster(at)).map(|_| Write::PutService(Box::new(service)))
            }
            Self::NoService(at, id) => {
                let name = service(at, id, 0).name;
                state.service(&name).map(|_| Write::DeleteService(name))
            }
            Self::Server(at, of, id, weight) => {
                let server = server(at, of, id, weight);
                let is_there = state.service(&server.name.service).is_some();
                is_there.then(|| Write::PutServer(Box::new(server)))
            }
            Self::NoServer(at, of, id) => {
                let name = server(at, of, id, 0).name;
                state.server(&name).map(|_| Write::DeleteServer(name))
            }
        }
    }
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let (at, id) = (|| 0..CLUSTERS.len(), || 0_u8..3);
    let act = prop_oneof![
        1 => (at(), id()).prop_map(|(at, label)| Act::Label(at, label)),
        4 => (at(), id(), id()).prop_map(|(at, id, label)| Act::Service(at, id, label)),
        2 => (at(), id()).prop_map(|(at, id)| Act::NoService(at, id)),
        6 => (at(), id(), id(), 0..4).prop_map(|(at, of, id, weight)| Act::Server(at, of, id, weight)),
        2 => (at(), id(), id()).prop_map(|(at, of, id)| Act::NoServer(at, of, id)),
    ];
    prop::collection::vec(act, 0..5)
}

/// Carries out what makes sense of `acts`, in one transaction.
async fn commit(store: &Store, acts: &[Act]) -> Arc<State> {
    let mut writes: Vec<Write> = Vec::new();
    let state = store.state();
    for act in acts {
        // Later acts may rest on what earlier ones take away, which the database would refuse.
        let touches = |write: &Write| matches!(write, Write::DeleteService(_));
        if let Some(write) = act.write(&state).filter(|_| !writes.iter().any(touches)) {
            writes.push(write);
        }
    }
    let (actor, comment) = ("users/test".to_owned(), "because".to_owned());
    let change = Change { actor, comment, writes, ..Change::default() };
    match store.change::<_, std::convert::Infallible>(|_| Ok((change, ())), |_, _| {}).await {
        Ok(((), state)) => state,
        Err(ChangeError::Store(error)) => panic!("{error:?}"),
        Err(ChangeError::Decided(never)) => match never {},
    }
}

fn everything(state: &State) -> Resources {
    let clusters: Vec<_> = state.clusters().map(|cluster| cluster.name.clone()).collect();
    clusters.iter().flat_map(|name| resources_of(state, name)).collect()
}

async fn open() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("gantry.db")).await.unwrap();
    for at in 0..CLUSTERS.len() {
        commit(&store, &[Act::Label(at, 0)]).await;
    }
    (dir, store)
}

/// Random changes, of which each state was remembered when it was committed.
#[tokio::test]
async fn the_state_at_every_revision_is_the_one_that_was_committed() {
    let mut runner = TestRunner::deterministic();
    for _ in 0..6 {
        let revisions = prop::collection::vec(acts(), 25).new_tree(&mut runner).unwrap().current();
        let (_dir, store) = open().await;
        let mut states = vec![store.state()];
        for acts in &revisions {
            states.push(commit(&store, acts).await);
        }
        for (at, from) in states.iter().enumerate() {
            for to in &states[at..] {
                check_way(&store, from, to).await;
            }
        }
    }
}

async fn check_way(store: &Store, from: &State, to: &State) {
    let span = Span { after: from.revision, upto: to.revision };
    let passages = store.passages(span, None).await.unwrap();
    assert_eq!(undone(everything(to), &passages), everything(from), "{span:?}");
    let mut walked = everything(from);
    for Difference { name, before, after } in passages.differences() {
        assert_eq!(walked.get(&name), before.as_ref(), "{span:?}");
        match after {
            Some(after) => walked.insert(name, after),
            None => walked.remove(&name),
        };
    }
    assert_eq!(walked, everything(to), "{span:?}");
    for at in 0..CLUSTERS.len() {
        let name = cluster(at);
        let own = store.passages(span, Some(&name)).await.unwrap();
        let back = undone(resources_of(to, &name), &own);
        assert_eq!(back, resources_of(from, &name), "{name} {span:?}");
    }
}

#[tokio::test]
async fn revisions_are_listed_for_the_cluster_they_changed() {
    let (_dir, store) = open().await;
    commit(&store, &[Act::Service(0, 0, 0), Act::Service(1, 0, 0)]).await;
    commit(&store, &[Act::Server(1, 0, 0, 7)]).await;
    commit(&store, &[Act::NoService(1, 0)]).await;
    let numbers = async |before: u64, cluster: Option<&ClusterName>, limit| -> Vec<u64> {
        let before = Revision { epoch: 1, number: before };
        let found = store.revisions(before, cluster, limit).await.unwrap();
        found.iter().map(|found| found.revision.number).collect()
    };
    assert_eq!(numbers(99, None, 99).await, [5, 4, 3, 2, 1]);
    assert_eq!(numbers(5, None, 2).await, [4, 3]);
    assert_eq!(numbers(99, Some(&cluster(0)), 99).await, [3, 1]);
    assert_eq!(numbers(99, Some(&cluster(1)), 99).await, [5, 4, 3, 2]);
    let last = store.revision(Revision { epoch: 1, number: 5 }).await.unwrap().unwrap();
    assert_eq!((last.actor.as_str(), last.comment.as_str()), ("users/test", "because"));
    assert_eq!(last.changes, 2, "the service and its server");
    assert_eq!(store.revision(Revision { epoch: 1, number: 6 }).await.unwrap(), None);
    assert_eq!(store.revision(Revision { epoch: 2, number: 1 }).await.unwrap(), None);
}

/// A controller that takes over begins another epoch, whose numbers go on or begin anew.
#[tokio::test]
async fn the_way_back_leads_through_epochs() {
    let (_dir, store) = open().await;
    let first = commit(&store, &[Act::Service(0, 0, 0)]).await;
    commit(&store, &[Act::Service(0, 0, 1)]).await;
    let path = _dir.path().join("gantry.db");
    store.close().await;
    drop(store);
    let raw = sqlx::SqlitePool::connect(&format!("sqlite:{}", path.display())).await.unwrap();
    sqlx::query("UPDATE head SET epoch = 2, number = 0").execute(&raw).await.unwrap();
    raw.close().await;
    let store = Store::open(&path).await.unwrap();
    let last = commit(&store, &[Act::Service(0, 0, 2), Act::Server(0, 0, 0, 1)]).await;
    assert_eq!(last.revision, Revision { epoch: 2, number: 1 });
    check_way(&store, &first, &last).await;
    let order: Vec<_> = store
        .revisions(Revision { epoch: 9, number: 0 }, None, 2)
        .await
        .unwrap()
        .iter()
        .map(|found| found.revision.to_string())
        .collect();
    assert_eq!(order, ["2.1", "1.4"]);
}

#[tokio::test]
async fn labels_may_be_swapped_in_one_change() {
    let (_dir, store) = open().await;
    commit(&store, &[Act::Service(0, 0, 0), Act::Service(0, 1, 0)]).await;
    let (mut one, mut other) = (service(0, 0, 0), service(0, 1, 10));
    std::mem::swap(&mut one.label, &mut other.label);
    let writes = [&one, &other].map(|service| Write::PutService(Box::new(service.clone())));
    let change = Change { writes: writes.into(), ..Change::default() };
    let changed =
        store.change::<_, std::convert::Infallible>(|_| Ok((change, ())), |_, _| {}).await;
    let (_, state) = changed.unwrap();
    assert_eq!(state.service(&one.name).unwrap().config, one);
    assert_eq!(state.service(&other.name).unwrap().config, other);
}
