use super::*;

fn row(id: &str, servers: &[&str], connections: i64) -> pb::overview::Row {
    let name = format!("clusters/main/virtualServices/{id}");
    let real_servers = servers.iter().map(|server| pb::RealServer {
        name: format!("{name}/realServers/{server}"),
        ..Default::default()
    });
    let state = pb::virtual_service_status::State::Up.into();
    let status = Some(pb::VirtualServiceStatus { state, ..Default::default() });
    pb::overview::Row {
        real_servers: real_servers.collect(),
        service: Some(pb::VirtualService { name, status, ..Default::default() }),
        rates: Some(pb::overview::Rates { active_connections: connections, ..Default::default() }),
    }
}

fn overview(rows: Vec<pb::overview::Row>) -> pb::Overview {
    let cluster = pb::Cluster { name: "clusters/main".into(), ..Default::default() };
    pb::Overview { clusters: vec![cluster], rows, ..Default::default() }
}

fn frame(rows: Vec<pb::overview::Row>, before: Option<&Frame>) -> Frame {
    Frame::new(overview(rows), &[], before)
}

/// The ids of the elements that are sent, those inside of others left out.
fn sent(new: &Frame, old: &Frame) -> Vec<String> {
    let parts = new.since(old);
    let mut ids: Vec<String> = Vec::new();
    for (at, _) in parts.match_indices("id=\"") {
        let id = parts[at + 4..].split('"').next().unwrap().to_owned();
        ids.push(id);
    }
    ids
}

#[test]
fn nothing_is_sent_when_nothing_changed() {
    let first = frame(vec![row("a", &["x"], 0), row("b", &["x"], 0)], None);
    let second = frame(vec![row("a", &["x"], 0), row("b", &["x"], 0)], Some(&first));
    assert_eq!(sent(&second, &first), [""; 0]);
    assert_eq!(second.number, first.number + 1);
}

#[test]
fn only_the_part_that_changed_is_rendered_and_sent() {
    let first = frame(vec![row("a", &["x", "y"], 0), row("b", &["x"], 0)], None);
    let mut changed = row("a", &["x", "y"], 0);
    changed.real_servers[1].weight = Some(7);
    let second = frame(vec![changed, row("b", &["x"], 5)], Some(&first));
    assert_eq!(sent(&second, &first), ["server:main/a/y", "row:main/b"]);
    let third = frame(vec![row("a", &["x", "y"], 0), row("b", &["x"], 5)], Some(&second));
    let b = |frame: &Frame| Arc::clone(&frame.clusters[0].services[1]);
    assert!(Arc::ptr_eq(&b(&second), &b(&third)), "what is the same is not rendered again");
}

#[test]
fn a_server_that_comes_brings_its_service_and_a_service_its_cluster() {
    let first = frame(vec![row("a", &["x"], 0), row("b", &["x"], 0)], None);
    let second = frame(vec![row("a", &["x", "y"], 0), row("b", &["x"], 0)], Some(&first));
    assert_eq!(sent(&second, &first)[0], "service:main/a");
    assert!(!second.since(&first).contains("main/b"));
    let third = frame(vec![row("b", &["x"], 0)], Some(&second));
    assert_eq!(sent(&third, &second)[..2], ["counts", "services:main"]);
}

#[test]
fn few_rows_are_open_and_many_closed() {
    let many = |count: usize| (0..count).map(|at| row(&format!("s{at}"), &[], 0)).collect();
    let (few, more) = (frame(many(FEW), None), frame(many(FEW + 1), None));
    assert!(few.whole().contains("<details open>"));
    assert!(!more.whole().contains("<details open>"));
    let rows = || (0..=FEW).map(|at| row(&format!("s{at}"), &["x"], 0)).collect();
    let more = frame(rows(), None);
    assert!(!more.whole().contains("server:main/s0/x"), "real servers come when a row is opened");
    assert!(more.servers("main/s0").unwrap().0.contains("server:main/s0/x"));
    assert!(more.servers("main/none").is_none());
    let filter = Filter { open: "main/s0".into(), ..Filter::default() };
    assert!(more.clusters(&filter).0.contains("server:main/s0/x"), "without a script, too");
}

#[test]
fn a_filter_hides_by_state_and_by_words() {
    let frame = frame(vec![row("pacs", &["one"], 0), row("hl7", &["two"], 0)], None);
    let shown = |state: &str, text: &str| {
        frame.shown(&Filter { state: state.into(), text: text.into(), ..Filter::default() })
    };
    assert_eq!((shown("", ""), shown("good", ""), shown("bad", "")), (2, 2, 0));
    assert_eq!(
        (shown("", "pacs"), shown("", "two"), shown("", "main one"), shown("", "x")),
        (1, 1, 1, 0)
    );
}
