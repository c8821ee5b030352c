//! The hosts, what befalls them, and what must be true in the end.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use gantry_controller::api::{self, Control};
use gantry_controller::authority::Authority;
use gantry_controller::state::State;
use gantry_controller::store::{Change, Invitation, NewEvent, Store, Write};
use gantry_model::name::ClusterName;
use gantry_model::{plan, wire as model_wire};
use gantry_runtime::agent::ledger::Ledger;
use gantry_runtime::clock;
use tempfile::TempDir;
use tonic::transport::Server;
use turmoil::Sim;

use crate::agent::{self, first_port};
use crate::operator::{Model, Operator};
use crate::shared::{AGENTS, CLUSTER, CONTROLLER, Dice, OPERATOR, Shared, key_hash};
use crate::wire::{Still, incoming, still};

const TICK: Duration = Duration::from_millis(5);

pub(crate) struct World {
    sim: Sim<'static>,
    shared: Arc<Shared>,
    dice: Dice,
    /// The highest epoch that any database had.
    epoch: u64,
    faults: Vec<Fault>,
    backups: Vec<Backup>,
    dir: TempDir,
}

/// Something that is broken, and when it is repaired.
struct Fault {
    kind: Broken,
    until: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Broken {
    Cut(&'static str),
    Held(&'static str),
    Dead(&'static str),
}

/// A database to go back to, and what was acknowledged when it was made.
pub(crate) struct Backup {
    path: PathBuf,
    model: Model,
    epoch: u64,
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        // In memory where there is such a place: every write is synced.
        let memory = Path::new("/dev/shm");
        let dir = if memory.is_dir() { TempDir::new_in(memory) } else { TempDir::new() }.unwrap();
        let shared = Arc::new(Shared::new(seed, dir.path().to_owned()));
        std::fs::create_dir(shared.database()).unwrap();
        let authority = Arc::new(Authority::open(dir.path()).unwrap());
        aside(found(&shared.database()));
        let mut sim = turmoil::Builder::new()
            .rng_seed(seed)
            .tick_duration(TICK)
            .simulation_duration(Duration::from_secs(3600))
            .min_message_latency(Duration::from_millis(1))
            .max_message_latency(Duration::from_millis(40))
            .tcp_capacity(4096)
            .build();
        let parts = Arc::clone(&shared);
        sim.host(CONTROLLER, move || control(Arc::clone(&parts), Arc::clone(&authority)));
        for place in AGENTS {
            let parts = Arc::clone(&shared);
            sim.host(place.host, move || agent::run(place, Arc::clone(&parts)));
        }
        let parts = Arc::clone(&shared);
        sim.host(OPERATOR, move || Operator::new(Arc::clone(&parts)).run());
        let dice = Dice(seed);
        Self { sim, shared, dice, epoch: 1, faults: Vec::new(), backups: Vec::new(), dir }
    }

    pub(crate) fn run_for(&mut self, time: Duration) {
        let end = self.sim.elapsed() + time;
        while self.sim.elapsed() < end {
            self.step();
        }
    }

    fn step(&mut self) {
        self.sim.step().unwrap();
        let found = std::mem::take(&mut *self.shared.violations.lock());
        assert!(found.is_empty(), "after {:?}: {found:#?}", self.sim.elapsed());
        let now = self.sim.elapsed();
        let (over, on): (Vec<_>, _) =
            std::mem::take(&mut self.faults).into_iter().partition(|fault| fault.until <= now);
        self.faults = on;
        over.iter().for_each(|fault| self.repair(fault.kind));
    }

    /// Breaks something for a while, and goes on for a while.
    pub(crate) fn next_fault(&mut self) {
        let agent = self.dice.pick(&AGENTS).host;
        let end = *self.dice.pick(&[agent, agent, agent, OPERATOR]);
        let until = self.sim.elapsed() + self.dice.millis(50, 20_000);
        match self.dice.below(100) {
            0..25 => self.break_down(Broken::Cut(end), until),
            25..40 => self.break_down(Broken::Held(end), until),
            40..60 => self.break_down(Broken::Dead(agent), until),
            60..80 => self.break_down(Broken::Dead(CONTROLLER), until),
            80..88 => {
                let backup = self.backup();
                self.backups.push(backup);
            }
            _ => self.restore(),
        }
        let pause = self.dice.millis(100, 6_000);
        self.run_for(pause);
    }

    fn break_down(&mut self, kind: Broken, until: Duration) {
        let (Broken::Cut(host) | Broken::Held(host) | Broken::Dead(host)) = kind;
        let same = |fault: &Fault| {
            let (Broken::Cut(other) | Broken::Held(other) | Broken::Dead(other)) = fault.kind;
            host == other
        };
        if self.faults.iter().any(same) {
            return;
        }
        match kind {
            Broken::Cut(host) => self.sim.partition(host, CONTROLLER),
            Broken::Held(host) => self.sim.hold(host, CONTROLLER),
            Broken::Dead(host) => self.sim.crash(host),
        }
        self.faults.push(Fault { kind, until });
    }

    fn repair(&mut self, kind: Broken) {
        match kind {
            Broken::Cut(host) => self.sim.repair(host, CONTROLLER),
            Broken::Held(host) => self.sim.release(host, CONTROLLER),
            Broken::Dead(host) => self.sim.bounce(host),
        }
    }

    /// Repairs everything; nothing is written from now on.
    pub(crate) fn heal(&mut self) {
        for fault in std::mem::take(&mut self.faults) {
            self.repair(fault.kind);
        }
        self.stop_writing();
    }

    pub(crate) fn stop_writing(&mut self) {
        self.shared.quiet.store(true, Ordering::Relaxed);
        self.shared.settled.store(false, Ordering::Relaxed);
    }

    /// Waits until every agent says that it runs what it should.
    pub(crate) fn settles_within(&mut self, time: Duration) {
        self.stop_writing();
        let end = self.sim.elapsed() + time;
        // A look that was under way may be about the time before.
        self.run_for(Duration::from_secs(1));
        self.shared.settled.store(false, Ordering::Relaxed);
        while !self.shared.settled.load(Ordering::Relaxed) {
            self.step();
            assert!(self.sim.elapsed() < end, "the agents did not settle: {}", self.standing());
        }
        self.shared.quiet.store(false, Ordering::Relaxed);
    }

    fn standing(&self) -> String {
        let line = |host: &str| {
            let held = Ledger::read(&self.shared.ledger(host));
            held.map_or_else(
                |error| format!("{host}: {error}"),
                |held| format!("{host}: {} with {}", held.revision(), held.services().len()),
            )
        };
        AGENTS.map(|agent| line(agent.host)).join(", ")
    }

    pub(crate) fn approvals(&self) -> u64 {
        self.shared.approvals.load(Ordering::Relaxed)
    }

    pub(crate) fn watch_calls(&self) -> HashMap<String, u64> {
        self.shared.watch_calls.lock().clone()
    }

    /// Kills the controller, keeps what its disk had, and starts it again.
    pub(crate) fn backup(&mut self) -> Backup {
        self.stop_controller();
        let path = self.dir.path().join(format!("backup-{:?}", self.sim.elapsed()));
        copy(&self.shared.database(), &path);
        let backup = Backup { path, model: self.shared.model.lock().clone(), epoch: self.epoch };
        self.sim.bounce(CONTROLLER);
        backup
    }

    fn restore(&mut self) {
        if let Some(backup) = self.backups.pop() {
            let epoch = self.epoch + 1;
            self.replace(&backup, |_| epoch);
        }
    }

    /// Kills the controller and starts it with another database; gives what it had.
    pub(crate) fn replace(&mut self, with: &Backup, epoch: impl FnOnce(u64) -> u64) -> Backup {
        let had = self.backup();
        self.stop_controller();
        let database = self.shared.database();
        std::fs::remove_dir_all(&database).unwrap();
        copy(&with.path, &database);
        let epoch = epoch(with.epoch);
        self.epoch = self.epoch.max(epoch);
        aside(async {
            let store = Store::open(&database.join("gantry.db")).await.unwrap();
            store.begin_epoch(epoch).await.unwrap();
            store.close().await;
        });
        let mut model = self.shared.model.lock();
        let generation = model.generation + 1;
        *model = Model { generation, ..with.model.clone() };
        drop(model);
        self.sim.bounce(CONTROLLER);
        had
    }

    /// Kills the controller, if it is alive, and waits until it has let its files go.
    fn stop_controller(&mut self) {
        self.faults.retain(|fault| fault.kind != Broken::Dead(CONTROLLER));
        self.sim.crash(CONTROLLER);
        let database = self.shared.database();
        let is_open = || {
            let files = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
            let mut files = files.filter_map(|file| std::fs::read_link(file.path()).ok());
            files.any(|file| file.starts_with(&database))
        };
        while is_open() {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// The controller's database has every acknowledged write, and the agents have exactly that.
    pub(crate) fn check_the_end(mut self) {
        self.stop_controller();
        let state = aside(async {
            let store = Store::open(&self.shared.database().join("gantry.db")).await.unwrap();
            let state = store.state();
            store.close().await;
            state
        });
        self.check_writes(&state);
        let cluster: ClusterName = CLUSTER.parse().unwrap();
        for place in AGENTS {
            let plans = state.services_of(&cluster).filter_map(|service| {
                plan::plan(place.kind, &service.config, service.real_servers(), service.mark)
            });
            let plans: BTreeMap<_, _> =
                plans.map(|plan| (plan.service.name.clone(), plan)).collect();
            let encoded: BTreeMap<String, _> = plans
                .iter()
                .map(|(name, plan)| (name.to_string(), model_wire::encode_plan(plan)))
                .collect();
            let held = Ledger::read(&self.shared.ledger(place.host)).unwrap();
            let host = place.host;
            assert_eq!(held.services(), &encoded, "{host} holds what the controller has");
            assert_eq!(held.revision().epoch, state.revision.epoch, "{host} is of its epoch");
            let agents = self.shared.agents.lock();
            assert_eq!(agents[host].in_force, plans, "{host} has it in force");
        }
    }

    fn check_writes(&self, state: &State) {
        let actual: BTreeMap<String, u16> = state
            .services()
            .map(|service| {
                let plan = plan::ServicePlan {
                    service: service.config.clone(),
                    servers: vec![],
                    mark: None,
                    key_pairs: Vec::new(),
                };
                (service.config.name.service.to_string(), first_port(&plan))
            })
            .collect();
        let model = self.shared.model.lock();
        for (id, known) in &model.services {
            let found = actual.get(id).copied();
            let right = found == known.acknowledged || Some(found) == known.perhaps;
            assert!(right, "{id} is {found:?}, and what is known is {known:?}");
        }
        for id in actual.keys() {
            assert!(model.services.contains_key(id), "nobody ever wrote {id}");
        }
    }
}

impl Drop for World {
    #[expect(clippy::print_stderr, reason = "the test has failed: this is how to see it again")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            let seed = self.shared.seed;
            eprintln!(
                "seed {seed}, after {:?}; again: GANTRY_SIM_SEED={seed} cargo test -p \
                 gantry-controller --test simulation",
                self.sim.elapsed()
            );
        }
    }
}

/// The controller's process.
async fn control(shared: Arc<Shared>, authority: Arc<Authority>) -> turmoil::Result {
    let control = still(async {
        let store = Store::open(&shared.database().join("gantry.db")).await?;
        Control::new(store, authority).await
    });
    let routes = api::routes(&Arc::new(control.await?))?;
    let seconds = Some(Duration::from_secs(5));
    Server::builder()
        .http2_keepalive_interval(seconds)
        .http2_keepalive_timeout(seconds)
        .layer(tower::layer::layer_fn(move |inner| Still { inner, shared: Arc::clone(&shared) }))
        .add_routes(routes)
        .serve_with_incoming(incoming().await?)
        .await?;
    Ok(())
}

/// A database with the cluster and its appliances, which have joined.
async fn found(database: &Path) {
    let store = Store::open(&database.join("gantry.db")).await.unwrap();
    let cluster: ClusterName = CLUSTER.parse().unwrap();
    let write = Write::PutCluster { name: cluster.clone(), label: String::new() };
    let change = Change { writes: vec![write], ..Change::default() };
    store.change::<(), ()>(|_| Ok((change, ())), |_, _| {}).await.unwrap();
    for id in ["lb1", "lb2"] {
        let appliance = cluster.appliance(id.parse().unwrap());
        let event = |what: &str| NewEvent::info("SETUP", &CLUSTER, what);
        let secret_hash = id.as_bytes().to_vec();
        let expire_time = clock::wall() + Duration::from_secs(600);
        let invitation = Invitation { appliance, secret_hash, expire_time };
        store.invite(&invitation, String::new(), event("invited")).await.unwrap();
        store.join(id.as_bytes(), &key_hash(id), |_| event("joined")).await.unwrap();
    }
    store.close().await;
}

/// Runs something outside of the simulation.
fn aside<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for file in std::fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
}
