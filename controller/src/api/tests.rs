use gantry_model::agent::AgentKind;
use gantry_model::desired::Desired;
use gantry_model::name::ClusterName;
use gantry_model::service::VirtualService;
use gantry_model::violation::Violations;
use gantry_model::wire;
use gantry_proto::v1 as pb;
use pb::config_service_server::ConfigService;
use tokio::task::JoinSet;

use super::*;

fn cluster() -> ClusterName {
    "clusters/main".parse().unwrap()
}

fn service(id: usize, port: usize) -> VirtualService {
    let name = cluster().service(format!("s{id}").parse().unwrap());
    let message = pb::VirtualService {
        listener: Some(pb::Listener {
            address: format!("10.0.0.{}", id + 1),
            ports: vec![port.to_string()],
            ..Default::default()
        }),
        forwarding: Some(pb::virtual_service::Forwarding::Layer7(pb::Layer7::default())),
        ..Default::default()
    };
    wire::virtual_service(&mut Violations::new(), name, &message).unwrap()
}

async fn write(control: &Control, write: Write) {
    let change = Change { writes: vec![write], ..Change::default() };
    control.change(|_| Ok((change, ()))).await.unwrap();
}

/// Who follows the shelf while changes come from everywhere misses none of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn changes_are_published_in_the_order_of_their_revisions() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("gantry.db")).await.unwrap();
    let authority = Arc::new(Authority::open(dir.path()).unwrap());
    let control = Arc::new(Control::new(store, authority).await.unwrap());
    write(&control, Write::PutCluster { name: cluster(), label: String::new() }).await;
    let shelf = control.publisher.shelf(&cluster(), AgentKind::L7).unwrap();

    let mut writers = JoinSet::new();
    for id in 0..8 {
        let control = Arc::clone(&control);
        writers.spawn(async move {
            for port in 1..40 {
                write(&control, Write::PutService(Box::new(service(id, port)))).await;
            }
        });
    }
    let mut agent = Desired::default();
    agent.take(shelf.update_from(None)).unwrap();
    let mut newest = shelf.watch();
    while !writers.is_empty() {
        // Both arms are cancel safe, by tokio's documentation.
        tokio::select! {
            written = writers.join_next() => written.unwrap().unwrap(),
            changed = newest.changed() => changed.unwrap(),
        }
        while let Some(update) = shelf.update_since(agent.revision()) {
            agent.take(update).unwrap();
        }
    }
    assert_eq!(agent.hash(), shelf.hash());
    assert_eq!(agent.revision(), control.state().revision);
}

/// A service that was deleted needs a mark again when a rollback brings it back.
#[tokio::test]
async fn a_service_that_is_rolled_back_to_has_a_mark_again() {
    let (api, _dir) = testing::api().await;
    testing::create_cluster(&api).await;
    let name = cluster().service("pacs".parse().unwrap());
    let layer4 = pb::Layer4 { method: pb::layer4::Method::Nat.into(), ..Default::default() };
    let message = pb::VirtualService {
        listener: Some(pb::Listener {
            address: "10.0.0.4".into(),
            ports: vec!["104".into(), "11112".into()],
            ..Default::default()
        }),
        forwarding: Some(pb::virtual_service::Forwarding::Layer4(layer4)),
        persistence: Some(pb::Persistence::default()),
        ..Default::default()
    };
    let service = wire::virtual_service(&mut Violations::new(), name.clone(), &message).unwrap();
    write(&api.control, Write::PutService(Box::new(service))).await;
    let mark = || api.control.state().service(&name).and_then(|service| service.mark);
    assert!(mark().is_some());
    let before = api.control.state().revision.to_string();
    write(&api.control, Write::DeleteService(name.clone())).await;
    assert_eq!(mark(), None);
    let request = pb::RollbackConfigRequest { revision: before, ..Default::default() };
    ConfigService::rollback_config(&api, tonic::Request::new(request)).await.unwrap();
    assert!(mark().is_some());
    let shelf = api.control.publisher.shelf(&cluster(), AgentKind::L4).unwrap();
    let mut agent = Desired::default();
    agent.take(shelf.update_from(None)).unwrap();
    let plans = agent.services().values().map(|plan| wire::decode_plan(plan).unwrap());
    let plans: Vec<_> = plans.collect();
    assert_eq!(plans[0].mark, mark(), "and the agents are told");
}
