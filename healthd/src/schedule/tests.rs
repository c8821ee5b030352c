//! The schedule in paused time, over servers that are told how to answer.

use std::collections::HashMap;

use gantry_model::check::{HealthCheck, Probe};
use gantry_model::port::{Port, PortRange, PortSet};
use gantry_model::server::{AdminState, Weight};
use gantry_model::service::*;
use gantry_model::verdict::{CheckResult, Layer, Verdict};
use gantry_runtime::clock;
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::sleep;

use super::round::URGENT;
use super::*;
use crate::probe::{Held, OwnFault};

/// Answers for the servers, by port, and notes each check's time.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Answers>>);

#[derive(Default)]
struct Answers {
    down: HashMap<u16, bool>,
    takes: Duration,
    hindered: bool,
    asked: Vec<(u16, Instant)>,
    under_way: HashMap<u16, usize>,
    /// Connections that are held: a server closes one by letting go of it.
    held: HashMap<u16, oneshot::Sender<()>>,
}

/// Counts a check as under way for as long as it lives.
struct UnderWay(Told, u16);

impl Drop for UnderWay {
    fn drop(&mut self) {
        *self.0.0.lock().under_way.entry(self.1).or_default() -= 1;
    }
}

impl Ask for Told {
    async fn ask(
        &self,
        _probe: &Probe,
        target: &Target,
        _timeout: Duration,
    ) -> Result<CheckResult, OwnFault> {
        let (port, takes) = (target.address.port(), self.0.lock().takes);
        self.0.lock().asked.push((port, Instant::now()));
        let under_way = *self.0.lock().under_way.entry(port).and_modify(|n| *n += 1).or_insert(1);
        assert_eq!(under_way, 1, "one check of a server at a time");
        let _under_way = UnderWay(self.clone(), port);
        sleep(takes).await;
        if self.0.lock().hindered {
            return Err(OwnFault::new("too many open connections on this appliance"));
        }
        let healthy = !self.0.lock().down.get(&port).copied().unwrap_or(false);
        let (layer, cause) = (Layer::Application, String::new());
        Ok(CheckResult { healthy, layer, cause, at: clock::wall(), took: takes })
    }

    async fn hold(&self, target: &Target, _timeout: Duration) -> Option<Held> {
        let (server, held) = oneshot::channel();
        self.0.lock().held.insert(target.address.port(), server);
        Some(Box::pin(async { drop(held.await) }))
    }
}

impl Told {
    fn down(&self, port: u16, down: bool) {
        self.0.lock().down.insert(port, down);
    }

    /// The server closes the connection that is held, if one is.
    fn close(&self, port: u16) {
        self.0.lock().held.remove(&port).expect("a connection is held");
    }

    fn is_held(&self, port: u16) -> bool {
        self.0.lock().held.get(&port).is_some_and(|server| !server.is_closed())
    }

    fn times(&self, port: u16) -> Vec<Instant> {
        let asked = &self.0.lock().asked;
        asked.iter().filter(|(at, _)| *at == port).map(|(_, time)| *time).collect()
    }
}

const SECOND: Duration = Duration::from_secs(1);

fn port(number: u16) -> Port {
    Port::new(number).unwrap()
}

fn service(check: HealthCheck) -> VirtualService {
    VirtualService {
        name: "clusters/main/virtualServices/dicom".parse().unwrap(),
        label: String::new(),
        listener: Listener {
            address: "192.0.2.1".parse().unwrap(),
            ports: PortSet::new(vec![PortRange::from(port(104))]).unwrap(),
            protocol: Protocol::Tcp,
            interface: None,
        },
        forwarding: Forwarding::Layer4(Layer4::new(Method::Nat)),
        strategy: Strategy::Balance,
        persistence: None,
        check,
        fallback: None,
        disabled: false,
    }
}

fn server(number: u16) -> RealServer {
    let id = format!("s{number}").parse().unwrap();
    RealServer {
        name: service(check()).name.server(id),
        label: String::new(),
        endpoint: Endpoint { address: "192.0.2.2".parse().unwrap(), port: Some(port(number)) },
        weight: Weight::DEFAULT,
        priority: 0,
        min_connections: 0,
        max_connections: 0,
        admin_state: AdminState::Halt,
        pool: None,
    }
}

/// Every 4 s, 2 up, 2 down.
fn check() -> HealthCheck {
    HealthCheck::connect()
}

fn new(told: &Told) -> (Schedule<Told>, Arc<Board>) {
    let board = Board::new([]);
    (Schedule::asking(told.clone(), Arc::clone(&board)), board)
}

fn healthy(board: &Board, number: u16) -> Option<bool> {
    board.verdict(&server(number).name).map(|verdict| verdict.healthy)
}

#[test]
fn the_checks_own_port_comes_first() {
    let (mut service, mut server) = (service(check()), server(11112));
    assert_eq!(target(&service, &server).address.to_string(), "192.0.2.2:11112");
    server.endpoint.port = None;
    assert_eq!(target(&service, &server).address.to_string(), "192.0.2.2:104");
    service.check.port = Some(port(8042));
    assert_eq!(target(&service, &server).address.to_string(), "192.0.2.2:8042");
    service.check.port = None;
    let version = Some(ProxyVersion::V2);
    service.forwarding =
        Forwarding::Layer7(Box::new(Layer7 { send_proxy_protocol: version, ..Layer7::plain() }));
    assert_eq!(target(&service, &server).introduce, version);
    service.check.port = Some(port(8042));
    assert_eq!(target(&service, &server).introduce, None);
    service.check.through_virtual_address = true;
    let through = target(&service, &server);
    assert_eq!(through.address.to_string(), "192.0.2.1:104");
    assert_eq!(through.through, Some(server.name));
}

#[tokio::test(start_paused = true)]
async fn the_first_answer_decides_and_later_ones_must_repeat() {
    let told = Told::default();
    let (mut schedule, board) = new(&told);
    schedule.put(&service(check()), &[server(1)]);
    let mut changes = board.subscribe();
    changes.changed().await.unwrap();
    assert_eq!(healthy(&board, 1), Some(true));
    told.down(1, true);
    changes.changed().await.unwrap();
    assert_eq!(healthy(&board, 1), Some(false));
    assert_eq!(told.times(1).len(), 3);
    told.down(1, false);
    changes.changed().await.unwrap();
    assert_eq!((healthy(&board, 1), told.times(1).len()), (Some(true), 5));
}

#[tokio::test(start_paused = true)]
async fn checks_go_from_start_to_start_and_never_overlap() {
    let told = Told::default();
    told.0.lock().takes = SECOND;
    let (mut schedule, _board) = new(&told);
    schedule.put(&service(check()), &[server(1)]);
    sleep(10 * SECOND).await;
    let times = told.times(1);
    assert_eq!((times.len(), times[2] - times[0]), (3, 8 * SECOND));
    told.0.lock().takes = 7 * SECOND;
    sleep(30 * SECOND).await;
    let times = told.times(1);
    assert_eq!(times[5] - times[4], 7 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn many_servers_start_apart_and_within_one_interval() {
    let told = Told::default();
    let (mut schedule, board) = new(&told);
    let servers: Vec<_> = (1..=10_000).map(server).collect();
    let begin = Instant::now();
    schedule.put(&service(check()), &servers);
    sleep(4 * SECOND).await;
    assert_eq!(board.take_results(usize::MAX).len(), 10_000);
    let mut per_millisecond: HashMap<_, usize> = HashMap::new();
    for (_, time) in &told.0.lock().asked {
        *per_millisecond.entry((*time - begin).as_millis() % 4000).or_default() += 1;
    }
    assert!(per_millisecond.values().all(|count| *count <= 4), "{per_millisecond:?}");
    assert!(told.times(1)[0] - begin < SECOND / 100, "the first does not wait for the last");
}

#[tokio::test(start_paused = true)]
async fn another_address_or_probe_is_judged_anew_while_the_old_verdict_stands() {
    let told = Told::default();
    let (mut schedule, board) = new(&told);
    schedule.put(&service(check()), &[server(1)]);
    board.subscribe().changed().await.unwrap();
    told.0.lock().takes = SECOND;
    told.down(2, true);
    let mut moved = server(1);
    moved.endpoint.port = Some(port(2));
    schedule.put(&service(check()), &[moved]);
    sleep(SECOND / 2).await;
    assert_eq!((told.times(2).len(), healthy(&board, 1)), (1, Some(true)), "asked at once");
    sleep(SECOND).await;
    assert_eq!(healthy(&board, 1), Some(false), "the first answer from there decides");
}

fn holding() -> HealthCheck {
    HealthCheck { hold_connection: true, ..check() }
}

#[tokio::test(start_paused = true)]
async fn a_held_connection_that_is_closed_has_the_server_asked_until_it_is_settled() {
    let told = Told::default();
    let (mut schedule, board) = new(&told);
    schedule.put(&service(HealthCheck { fall: 3, ..holding() }), &[server(1)]);
    sleep(5 * SECOND).await;
    assert_eq!(told.times(1).len(), 2);
    told.down(1, true);
    told.close(1);
    let closed = Instant::now();
    board.subscribe().changed().await.unwrap();
    assert_eq!(healthy(&board, 1), Some(false));
    assert_eq!((told.times(1).len(), closed.elapsed()), (5, 2 * URGENT), "at once, and twice more");
    told.down(1, false);
    sleep(9 * SECOND).await;
    assert_eq!((told.times(1).len(), healthy(&board, 1)), (7, Some(true)), "then as ever");
    assert!(told.is_held(1), "and there is a connection again");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_closes_what_is_idle_is_asked_once_more_for_it() {
    let told = Told::default();
    let (mut schedule, board) = new(&told);
    schedule.put(&service(holding()), &[server(1)]);
    sleep(SECOND).await;
    told.close(1);
    sleep(SECOND).await;
    assert_eq!((told.times(1).len(), told.is_held(1)), (2, false));
    sleep(4 * SECOND).await;
    assert_eq!((told.times(1).len(), told.is_held(1)), (3, true), "after the next check");
    assert_eq!(healthy(&board, 1), Some(true));
}

#[tokio::test(start_paused = true)]
async fn no_connection_is_held_of_whom_it_is_not_asked() {
    let told = Told::default();
    let (mut schedule, _board) = new(&told);
    told.down(2, true);
    schedule.put(&service(holding()), &[server(1), server(2)]);
    sleep(5 * SECOND).await;
    assert!(told.is_held(1) && !told.is_held(2), "a server that fails is spared");
    schedule.put(&service(check()), &[server(1), server(2)]);
    sleep(SPACING).await;
    assert!(!told.is_held(1));
    schedule.put(&service(holding()), &[server(1)]);
    sleep(5 * SECOND).await;
    schedule.remove(&service(check()).name);
    sleep(SPACING).await;
    assert!(!told.is_held(1));
}

#[tokio::test(start_paused = true)]
async fn other_numbers_keep_the_opinion_and_count_at_once() {
    let told = Told::default();
    let (mut schedule, board) = new(&told);
    schedule.put(&service(HealthCheck { interval: 3600 * SECOND, ..check() }), &[server(1)]);
    board.subscribe().changed().await.unwrap();
    told.down(1, true);
    schedule.put(&service(HealthCheck { interval: SECOND, fall: 3, ..check() }), &[server(1)]);
    sleep(SECOND * 5 / 2).await;
    assert_eq!((told.times(1).len(), healthy(&board, 1)), (3, Some(true)), "two failures");
    sleep(SECOND).await;
    assert_eq!(healthy(&board, 1), Some(false), "the third");
}

#[tokio::test(start_paused = true)]
async fn who_is_not_configured_is_not_checked() {
    let told = Told::default();
    let (mut schedule, board) = new(&told);
    schedule.put(&service(check()), &[server(1), server(2)]);
    sleep(SECOND).await;
    let seen = board.changes_since(0).version;
    schedule.put(&service(check()), &[server(2)]);
    assert_eq!(board.changes_since(seen).gone, [server(1).name]);
    schedule.remove(&service(check()).name);
    assert!(board.changes_since(0).verdicts.is_empty());
    let asked = told.0.lock().asked.len();
    sleep(100 * SECOND).await;
    assert_eq!(told.0.lock().asked.len(), asked);
    assert_eq!(schedule.tasks.len(), 2);
    schedule.reap();
    assert!(schedule.tasks.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_check_that_is_dropped_is_not_heard() {
    let told = Told::default();
    told.0.lock().takes = SECOND;
    let (mut schedule, board) = new(&told);
    schedule.put(&service(check()), &[server(1)]);
    sleep(SECOND / 2).await;
    schedule.remove(&service(check()).name);
    told.down(1, true);
    sleep(SPACING).await;
    schedule.put(&service(check()), &[server(1)]);
    sleep(SECOND * 3 / 4).await;
    assert_eq!(healthy(&board, 1), None);
    sleep(SECOND).await;
    assert_eq!(healthy(&board, 1), Some(false));
}

#[tokio::test(start_paused = true)]
async fn the_appliances_own_faults_are_held_against_nobody() {
    let told = Told::default();
    let (mut schedule, board) = new(&told);
    schedule.put(&service(check()), &[server(1)]);
    board.subscribe().changed().await.unwrap();
    let before = board.verdict(&server(1).name);
    told.0.lock().hindered = true;
    sleep(100 * SECOND).await;
    assert!(told.times(1).len() > 20);
    assert_eq!(board.verdict(&server(1).name), before);
    told.0.lock().hindered = false;
    told.down(1, true);
    sleep(10 * SECOND).await;
    assert_eq!(healthy(&board, 1), Some(false));
}

#[tokio::test(start_paused = true)]
async fn a_restart_changes_nobodys_state() {
    let told = Told::default();
    told.down(1, true);
    let at = Target { address: "192.0.2.2:9".parse().unwrap(), through: None, introduce: None };
    let last = told.ask(&Probe::None, &at, SECOND).await.unwrap();
    let before = Verdict { server: server(1).name, healthy: true, since: last.at, last };
    let board = Board::new([before]);
    let mut schedule = Schedule::asking(told.clone(), Arc::clone(&board));
    schedule.put(&service(check()), &[server(1)]);
    sleep(SECOND).await;
    assert_eq!((told.times(1).len(), healthy(&board, 1)), (1, Some(true)));
    sleep(4 * SECOND).await;
    assert_eq!(healthy(&board, 1), Some(false));
}

#[tokio::test]
async fn without_a_check_a_server_is_healthy_at_once() {
    let last = CheckResult {
        healthy: false,
        layer: Layer::Connection,
        cause: "connection refused".into(),
        at: clock::wall(),
        took: SECOND,
    };
    let before = Verdict { server: server(1).name, healthy: false, since: last.at, last };
    let board = Board::new([before]);
    let mut changes = board.subscribe();
    let mut schedule = Schedule::new(Arc::clone(&board), Path::new("nowhere.sock").into());
    schedule.put(&service(HealthCheck { probe: Probe::None, ..check() }), &[server(1)]);
    changes.changed().await.unwrap();
    let verdict = board.verdict(&server(1).name).unwrap();
    assert!(verdict.healthy);
    assert_eq!((verdict.last.layer, verdict.last.cause.as_str()), (Layer::None, "not checked"));
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "a probe's bug")]
async fn a_panic_in_a_check_is_the_owners_panic() {
    #[derive(Clone)]
    struct Broken;
    impl Ask for Broken {
        async fn ask(&self, _: &Probe, _: &Target, _: Duration) -> Result<CheckResult, OwnFault> {
            panic!("a probe's bug")
        }

        async fn hold(&self, _: &Target, _: Duration) -> Option<Held> {
            None
        }
    }
    let mut schedule = Schedule::asking(Broken, Board::new([]));
    schedule.put(&service(check()), &[server(1)]);
    schedule.guard().await
}
