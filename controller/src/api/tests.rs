use gantry_model::agent::AgentKind;
use gantry_model::desired::Desired;
use gantry_model::name::ClusterName;
use gantry_model::service::VirtualService;
use gantry_model::violation::Violations;
use gantry_model::wire;
use gantry_proto::v1 as pb;
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
            protocol: 0,
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
