use gantry_model::violation::Violations;
use gantry_model::wire;
use gantry_proto::v1 as pb;

use super::*;

async fn open(dir: &tempfile::TempDir) -> Store {
    Store::open(&dir.path().join("gantry.db")).await.unwrap()
}

fn cluster() -> ClusterName {
    "clusters/main".parse().unwrap()
}

fn service(id: &str, port: u16) -> VirtualService {
    let name = cluster().service(id.parse().unwrap());
    let message = pb::VirtualService {
        display_name: format!("the {id}"),
        listener: Some(pb::Listener {
            address: "10.0.0.1".into(),
            ports: vec![port.to_string()],
            ..Default::default()
        }),
        forwarding: Some(pb::virtual_service::Forwarding::Layer7(pb::Layer7::default())),
        ..Default::default()
    };
    wire::virtual_service(&mut Violations::new(), name, &message).unwrap()
}

fn server(service: &str, id: &str) -> RealServer {
    let name = cluster().service(service.parse().unwrap()).server(id.parse().unwrap());
    let endpoint = Some(pb::Endpoint { address: "10.0.0.9".into(), port: 104 });
    let message = pb::RealServer { endpoint, ..Default::default() };
    wire::real_server(&mut Violations::new(), name, &message).unwrap()
}

/// At layer 4, on two ports, which persistence holds together if there is any.
fn marked(id: &str, port: u16, persistence: bool) -> VirtualService {
    let name = cluster().service(id.parse().unwrap());
    let layer4 = pb::Layer4 { method: pb::layer4::Method::Nat.into(), ..Default::default() };
    let message = pb::VirtualService {
        listener: Some(pb::Listener {
            address: "10.0.0.4".into(),
            ports: vec![port.to_string(), (port + 1).to_string()],
            ..Default::default()
        }),
        forwarding: Some(pb::virtual_service::Forwarding::Layer4(layer4)),
        persistence: persistence.then(pb::Persistence::default),
        ..Default::default()
    };
    wire::virtual_service(&mut Violations::new(), name, &message).unwrap()
}

fn put_marked(id: &str, port: u16) -> Write {
    Write::PutService(Box::new(marked(id, port, true)))
}

/// The services that have marks, with those.
fn marks(store: &Store) -> Vec<(String, u32)> {
    let state = store.state();
    let marked = state.services().filter_map(|service| {
        Some((service.config.name.service.to_string(), service.mark?.get() - 0x4700_0000))
    });
    marked.collect()
}

fn put_service(id: &str, port: u16) -> Write {
    Write::PutService(Box::new(service(id, port)))
}

async fn write(store: &Store, writes: Vec<Write>) -> Result<Arc<State>, StoreError> {
    let event = NewEvent {
        time: None,
        severity: Severity::Info,
        kind: "TESTED".into(),
        subject: "clusters/main/virtualServices/a".to_owned(),
        message: "tested".to_owned(),
    };
    let change = Change {
        actor: "users/test".to_owned(),
        comment: "because".to_owned(),
        writes,
        events: vec![event],
        request: None,
    };
    match store.change::<_, std::convert::Infallible>(|_| Ok((change, ())), |_, _| {}).await {
        Ok(((), state)) => Ok(state),
        Err(ChangeError::Store(error)) => Err(error),
        Err(ChangeError::Decided(never)) => match never {},
    }
}

/// What a state is made of, for comparing.
fn shape(state: &State) -> Vec<String> {
    let services = state.services().map(|service| {
        let servers: Vec<_> = service.servers.values().collect();
        format!("{:?} {} {} {servers:?}", service.config, service.uid, service.number)
    });
    let clusters = state.clusters().map(|cluster| format!("{cluster:?}"));
    clusters.chain(services).chain([state.revision.to_string()]).collect()
}

#[tokio::test]
async fn what_was_committed_is_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir).await;
    let made = Write::PutCluster { name: cluster(), label: "Radiology".to_owned() };
    write(&store, vec![made, put_service("a", 104), put_service("b", 105)]).await.unwrap();
    let a = Write::PutServer(Box::new(server("a", "pacs-1")));
    write(&store, vec![a, Write::PutServer(Box::new(server("b", "pacs-1")))]).await.unwrap();
    let before = write(&store, vec![Write::DeleteService(service("b", 105).name)]).await.unwrap();
    assert_eq!(before.revision, Revision { epoch: 1, number: 3 });
    drop(store);
    let again = open(&dir).await;
    assert_eq!(shape(&again.state()), shape(&before));
    assert_eq!(again.state().service(&service("a", 104).name).unwrap().newest_number(), 2);
}

#[tokio::test]
async fn a_mark_is_given_where_one_is_needed_and_stays_with_the_service() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir).await;
    let made = Write::PutCluster { name: cluster(), label: String::new() };
    let plain = Write::PutService(Box::new(marked("c", 300, false)));
    let writes = vec![made, put_service("a", 104), put_marked("b", 200), plain];
    write(&store, writes).await.unwrap();
    assert_eq!(marks(&store), [("b".to_owned(), 1)], "the others need none");
    write(&store, vec![put_marked("c", 300), put_marked("d", 400)]).await.unwrap();
    let given = [("b".to_owned(), 1), ("c".to_owned(), 2), ("d".to_owned(), 3)];
    assert_eq!(marks(&store), given);
    let needless = Write::PutService(Box::new(marked("c", 300, false)));
    write(&store, vec![needless, put_marked("b", 210)]).await.unwrap();
    assert_eq!(marks(&store), given, "a change takes none away");
    drop(store);
    let store = open(&dir).await;
    assert_eq!(marks(&store), given, "nor does a restart");
    write(&store, vec![put_marked("c", 300)]).await.unwrap();
    assert_eq!(marks(&store), given);
}

#[tokio::test]
async fn a_mark_goes_with_its_service_and_one_is_given_when_it_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir).await;
    let made = Write::PutCluster { name: cluster(), label: String::new() };
    write(&store, vec![made, put_marked("a", 200), put_marked("b", 300)]).await.unwrap();
    write(&store, vec![Write::DeleteService(marked("a", 200, true).name)]).await.unwrap();
    assert_eq!(marks(&store), [("b".to_owned(), 2)]);
    write(&store, vec![put_marked("a", 200)]).await.unwrap();
    assert_eq!(marks(&store), [("a".to_owned(), 3), ("b".to_owned(), 2)], "a fresh one");
    let swap = vec![Write::DeleteService(marked("a", 200, true).name), put_marked("c", 200)];
    write(&store, swap).await.unwrap();
    assert_eq!(marks(&store).len(), 2, "also within one change");
}

#[tokio::test]
async fn services_from_before_there_were_marks_get_theirs_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir).await;
    let made = Write::PutCluster { name: cluster(), label: String::new() };
    let writes = vec![made, put_service("a", 104), put_marked("b", 200), put_marked("c", 300)];
    write(&store, writes).await.unwrap();
    let forget = sqlx::query("UPDATE virtual_services SET mark = NULL");
    forget.execute(&*store.writer.lock().await).await.unwrap();
    drop(store);
    assert_eq!(marks(&open(&dir).await), [("b".to_owned(), 1), ("c".to_owned(), 2)]);
}

#[tokio::test]
async fn marks_that_ran_out_at_the_top_are_found_below() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir).await;
    let made = Write::PutCluster { name: cluster(), label: String::new() };
    write(&store, vec![made, put_marked("a", 200), put_marked("b", 300)]).await.unwrap();
    let move_up = "UPDATE virtual_services SET mark = 1207959551 WHERE id = 'b'";
    sqlx::query(move_up).execute(&*store.writer.lock().await).await.unwrap();
    drop(store);
    let store = open(&dir).await;
    assert_eq!(marks(&store), [("a".to_owned(), 1), ("b".to_owned(), 0x00ff_ffff)]);
    write(&store, vec![put_marked("c", 400)]).await.unwrap();
    assert_eq!(marks(&store)[2], ("c".to_owned(), 2), "after the first");
    write(&store, vec![Write::DeleteService(marked("a", 200, true).name)]).await.unwrap();
    write(&store, vec![put_marked("d", 500)]).await.unwrap();
    let given: std::collections::BTreeSet<_> =
        marks(&store).into_iter().map(|(_, mark)| mark).collect();
    assert_eq!(given.len(), 3, "{given:?}");
}

#[tokio::test]
async fn an_epoch_begins_and_stays() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir).await;
    let made = Write::PutCluster { name: cluster(), label: String::new() };
    write(&store, vec![made, put_service("a", 104)]).await.unwrap();
    store.begin_epoch(7).await.unwrap();
    assert_eq!(store.state().revision, Revision { epoch: 7, number: 1 });
    let after = write(&store, vec![put_service("a", 105)]).await.unwrap();
    assert_eq!(after.revision, Revision { epoch: 7, number: 2 });
    drop(store);
    assert_eq!(open(&dir).await.state().revision, after.revision);
}

#[tokio::test]
async fn the_fleet_moves_with_appliances_and_not_with_the_configuration() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir).await;
    let mut fleet = store.watch_fleet();
    let made = Write::PutCluster { name: cluster(), label: String::new() };
    write(&store, vec![made, put_service("a", 104)]).await.unwrap();
    assert!(!fleet.has_changed().unwrap());
    let appliance = cluster().appliance("lb1".parse().unwrap());
    let event = || NewEvent::info("TEST", &appliance, "moved");
    let invitation = Invitation {
        appliance: appliance.clone(),
        secret_hash: vec![1],
        expire_time: clock::wall() + Duration::from_secs(60),
    };
    store.invite(&invitation, String::new(), event()).await.unwrap();
    assert!(fleet.has_changed().unwrap());
    fleet.mark_unchanged();
    store.join(&[1], &[2], |_| event()).await.unwrap();
    assert!(fleet.has_changed().unwrap());
    fleet.mark_unchanged();
    store.remove_appliance(&appliance, String::new(), event()).await.unwrap();
    assert!(fleet.has_changed().unwrap());
}

#[tokio::test]
async fn a_change_that_fails_in_the_middle_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir).await;
    let made = Write::PutCluster { name: cluster(), label: String::new() };
    let before = write(&store, vec![made]).await.unwrap();
    let orphan = Write::PutServer(Box::new(server("nowhere", "pacs-1")));
    write(&store, vec![put_service("a", 104), orphan]).await.unwrap_err();
    assert_eq!(shape(&store.state()), shape(&before));
    assert_eq!(store.events(&all()).await.unwrap().len(), 1);
    drop(store);
    assert_eq!(shape(&open(&dir).await.state()), shape(&before));
}

#[tokio::test]
async fn one_label_names_one_service() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir).await;
    let made = Write::PutCluster { name: cluster(), label: String::new() };
    write(&store, vec![made, put_service("a", 104)]).await.unwrap();
    let twin = VirtualService { label: "the a".to_owned(), ..service("b", 105) };
    write(&store, vec![Write::PutService(Box::new(twin))]).await.unwrap_err();
    assert_eq!(store.state().services().count(), 1);
}

fn all() -> EventFilter {
    EventFilter { limit: 100, ..EventFilter::default() }
}

#[tokio::test]
async fn events_say_who_what_and_why_and_are_found_by_subject() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir).await;
    let made = Write::PutCluster { name: cluster(), label: String::new() };
    write(&store, vec![made]).await.unwrap();
    store.record("agent".to_owned(), Vec::new()).await.unwrap();
    let events = store.events(&all()).await.unwrap();
    assert_eq!(events.len(), 1);
    let event = &events[0];
    assert_eq!((event.actor.as_str(), event.comment.as_str()), ("users/test", "because"));
    assert_eq!(event.revision, Some(Revision { epoch: 1, number: 1 }));
    for (subject, count) in [
        ("clusters/main", 1),
        ("clusters/main/virtualServices/a", 1),
        ("clusters/main/virtualServices/ab", 0),
        ("clusters/mai", 0),
        ("clusters/%", 0),
    ] {
        let filter = EventFilter { subject: subject.to_owned(), ..all() };
        assert_eq!(store.events(&filter).await.unwrap().len(), count, "{subject}");
    }
}

#[tokio::test]
async fn an_invitation_is_spent_once_and_not_after_its_time() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir).await;
    write(&store, vec![Write::PutCluster { name: cluster(), label: String::new() }]).await.unwrap();
    let appliance = cluster().appliance("lb1".parse().unwrap());
    let event = || NewEvent {
        time: None,
        severity: Severity::Info,
        kind: "TESTED".into(),
        subject: appliance.to_string(),
        message: String::new(),
    };
    for (secret, hours) in [(b"good", 1), (b"late", -1)] {
        let invitation = Invitation {
            appliance: appliance.clone(),
            secret_hash: secret.to_vec(),
            expire_time: clock::wall() + jiff::SignedDuration::from_hours(hours),
        };
        store.invite(&invitation, "users/test".to_owned(), event()).await.unwrap();
    }
    let join = async |secret: &[u8]| store.join(secret, b"key", |_| event()).await.unwrap();
    assert_eq!(join(b"guess").await, Joined::Unknown);
    assert!(matches!(join(b"late").await, Joined::Expired(name, _) if name == appliance));
    assert_eq!(join(b"good").await, Joined::Yes(appliance.clone()));
    assert!(matches!(join(b"good").await, Joined::Spent(name, _) if name == appliance));
    let known = store.state().appliance(&appliance).cloned().unwrap();
    assert_eq!(known.key_hash.as_deref(), Some(b"key".as_slice()));
    assert_eq!(store.state().revision.number, 1, "the fleet is not configuration");
    assert!(store.remove_appliance(&appliance, "users/test".to_owned(), event()).await.unwrap());
    assert_eq!(join(b"late").await, Joined::Unknown);
}

#[tokio::test]
async fn a_database_of_a_newer_version_is_refused_with_advice() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir).await;
    let newer = "INSERT INTO _sqlx_migrations
        (version, description, success, checksum, execution_time) VALUES (9999, 'later', 1, x'00', 0)";
    sqlx::query(newer).execute(&*store.writer.lock().await).await.unwrap();
    drop(store);
    let error = Store::open(&dir.path().join("gantry.db")).await.unwrap_err();
    assert!(matches!(error, StoreError::Newer { version: 9999, .. }), "{error:?}");
    assert!(error.to_string().contains("newer version"), "{error}");
}

/// A caller may go away at any moment of its change; the others must not notice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_goes_away_leaves_database_and_memory_alike() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir).await;
    let made = Write::PutCluster { name: cluster(), label: String::new() };
    write(&store, vec![made]).await.unwrap();
    for patience in 0..60 {
        let impatient = async {
            for _ in 0..patience {
                tokio::task::yield_now().await;
                std::thread::yield_now();
            }
        };
        // Dropping the change in the middle is what is tested.
        tokio::select! {
            written = write(&store, vec![put_service("a", 100 + patience)]) => drop(written.unwrap()),
            () = impatient => {}
        }
        write(&store, vec![put_service("b", 100 + patience)]).await.unwrap();
    }
    let before = shape(&store.state());
    store.close().await;
    drop(store);
    assert_eq!(shape(&open(&dir).await.state()), before);
}
