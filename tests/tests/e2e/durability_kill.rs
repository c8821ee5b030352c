//! The controller is killed in the middle of writing, hundreds of times, and comes back with every
//! acknowledged change and with no half of another.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use gantry_model::revision::Revision;
use gantry_proto::agent::v1 as agent_pb;
use gantry_proto::v1 as pb;
use gantry_runtime::identity::Identity;
use gantry_runtime::{join, rpc};
use gantry_tests::process::binary;
use gantry_tests::services::{id, layer7, server};
use gantry_tests::wait::soon;
use gantry_tests::{Block, Process, Site, eventually, sqlite};
use parking_lot::Mutex;
use pb::balancer_service_client::BalancerServiceClient;
use pb::config_service_client::ConfigServiceClient;
use pb::observe_service_client::ObserveServiceClient;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tonic::transport::Channel;
use tonic::{Code, Status};

const KILLS: usize = 210;
const WRITERS: u8 = 4;

/// What a cluster is to look like: of each service its label and the weights of its servers.
type Shape = BTreeMap<String, (String, Vec<i32>)>;

/// A change that was acknowledged.
#[derive(Debug)]
struct Acknowledged {
    comment: String,
    /// The number of its revision.
    number: u64,
}

/// A change that was under way when the controller died.
#[derive(Debug)]
struct Underway {
    comment: String,
    /// What the cluster looks like if it was carried out.
    after: Shape,
    /// The call, if it may be repeated.
    repeat: Option<pb::CreateVirtualServiceRequest>,
}

/// Changes a cluster of its own, one change after the other.
#[derive(Debug)]
struct Writer {
    index: u8,
    block: Arc<Block>,
    step: u16,
    /// As it was acknowledged.
    shape: Shape,
    acknowledged: Vec<Acknowledged>,
    underway: Option<Underway>,
    /// The newest creation that was acknowledged, and the uid of what it made.
    created: Option<(pb::CreateVirtualServiceRequest, String)>,
}

impl Writer {
    fn new(index: u8, block: &Arc<Block>) -> Self {
        Self {
            index,
            block: Arc::clone(block),
            step: 0,
            shape: Shape::new(),
            acknowledged: Vec::new(),
            underway: None,
            created: None,
        }
    }

    fn cluster(&self) -> String {
        format!("clusters/w{}", self.index)
    }

    /// Where nobody listens: no agent runs here.
    fn backend(&self, port: u16) -> SocketAddr {
        self.block.socket(40, port)
    }

    /// Makes changes until the controller dies; counts those acknowledged in `progress`.
    async fn write(mut self, channel: Channel, progress: watch::Sender<usize>) -> Self {
        loop {
            self.step += 1;
            let outcome = match self.step % 3 {
                1 => self.create(&channel).await,
                2 => self.update(&channel).await,
                _ => self.apply(&channel).await,
            };
            match outcome {
                Ok(number) => {
                    let done = self.underway.take().unwrap();
                    self.shape = done.after;
                    self.acknowledged.push(Acknowledged { comment: done.comment, number });
                    progress.send_modify(|count| *count += 1);
                }
                Err(status) => {
                    let died = [Code::Unavailable, Code::Unknown, Code::Cancelled, Code::Internal];
                    assert!(died.contains(&status.code()), "{status:?}");
                    assert!(!status.message().contains("nothing was changed"), "{status:?}");
                    return self;
                }
            }
        }
    }

    fn begin(&mut self, after: Shape, repeat: Option<pb::CreateVirtualServiceRequest>) -> String {
        let comment = format!("w{}-{}", self.index, self.step);
        self.underway = Some(Underway { comment: comment.clone(), after, repeat });
        comment
    }

    async fn create(&mut self, channel: &Channel) -> Result<u64, Status> {
        let service = format!("s{}", self.step);
        let listen = self.block.socket(20 + self.index, 1000 + self.step);
        let mut after = self.shape.clone();
        after.insert(service.clone(), (String::new(), vec![100, 100]));
        let request = pb::CreateVirtualServiceRequest {
            parent: self.cluster(),
            virtual_service_id: service,
            virtual_service: Some(layer7(listen)),
            real_servers: vec![server("a", self.backend(104)), server("b", self.backend(105))],
            request_id: uuid::Uuid::new_v4().to_string(),
            comment: format!("w{}-{}", self.index, self.step),
            ..Default::default()
        };
        self.begin(after, Some(request.clone()));
        let mut client = BalancerServiceClient::new(channel.clone());
        let made = client.create_virtual_service(request.clone()).await?.into_inner();
        self.created = Some((request, made.uid));
        Ok(made.etag.parse().unwrap())
    }

    /// Labels the newest service.
    async fn update(&mut self, channel: &Channel) -> Result<u64, Status> {
        let Some(service) = self.shape.keys().next_back().cloned() else {
            return self.create(channel).await;
        };
        let label = format!("{service} at {}", self.step);
        let mut after = self.shape.clone();
        after.get_mut(&service).unwrap().0.clone_from(&label);
        let comment = self.begin(after, None);
        let name = format!("{}/virtualServices/{service}", self.cluster());
        let update_mask = Some(prost_types::FieldMask { paths: vec!["display_name".to_owned()] });
        let request = pb::UpdateVirtualServiceRequest {
            virtual_service: Some(pb::VirtualService {
                name,
                display_name: label,
                ..Default::default()
            }),
            update_mask,
            comment,
            ..Default::default()
        };
        let mut client = BalancerServiceClient::new(channel.clone());
        let made = client.update_virtual_service(request).await?.into_inner();
        Ok(made.etag.parse().unwrap())
    }

    /// Changes every service and every server of the cluster in one transaction, and removes what is
    /// too many.
    async fn apply(&mut self, channel: &Channel) -> Result<u64, Status> {
        let weight = i32::from(self.step % 200);
        let mut after = Shape::new();
        for service in self.shape.keys().rev().take(4) {
            let label = format!("{service} in {}", self.step);
            after.insert(service.clone(), (label, vec![weight, weight]));
        }
        let comment = self.begin(after.clone(), None);
        let services = after.iter().map(|(service, (label, weights))| {
            let listen = self.block.socket(20 + self.index, 1000 + number_of(service));
            let servers = [("a", 104), ("b", 105)].into_iter().zip(weights);
            let real_servers = servers.map(|((name, port), weight)| pb::RealServer {
                weight: Some(*weight),
                ..server(name, self.backend(port))
            });
            pb::config::Service {
                virtual_service: Some(pb::VirtualService {
                    name: service.clone(),
                    display_name: label.clone(),
                    ..layer7(listen)
                }),
                real_servers: real_servers.collect(),
            }
        });
        let config =
            pb::Config { name: self.cluster(), services: services.collect(), ..Default::default() };
        let request =
            pb::ApplyConfigRequest { config: Some(config), comment, ..Default::default() };
        let mut client = ConfigServiceClient::new(channel.clone());
        let made = client.apply_config(request).await?.into_inner();
        Ok(revision(&made.revision).number)
    }

    /// After a restart: what was acknowledged is there, and what was under way is whole or absent.
    async fn check(&mut self, channel: &Channel, events: &mut Events) {
        for Acknowledged { comment, number } in self.acknowledged.drain(..) {
            let found = events.take(&comment);
            assert_eq!(found, Some(Revision { epoch: 1, number }), "the event of {comment}");
        }
        let shape = shape_of(channel, &self.cluster()).await;
        let Some(underway) = self.underway.take() else {
            assert_eq!(shape, self.shape, "{}", self.cluster());
            return;
        };
        let mut carried_out = events.take(&underway.comment).is_some();
        if let Some(request) = underway.repeat {
            if carried_out {
                assert_eq!(shape, underway.after, "{}", underway.comment);
            } else {
                assert_eq!(shape, self.shape, "{}", underway.comment);
            }
            // The client does what a client does that had no answer: it asks once more.
            let mut client = BalancerServiceClient::new(channel.clone());
            let made = client.create_virtual_service(request.clone()).await.unwrap().into_inner();
            self.created = Some((request, made.uid));
            if !carried_out {
                events.expect_one_more();
            }
            carried_out = true;
            assert_eq!(shape_of(channel, &self.cluster()).await, underway.after);
        }
        self.shape = if carried_out { underway.after } else { self.shape.clone() };
        assert_eq!(shape_of(channel, &self.cluster()).await, self.shape, "{}", underway.comment);
    }

    /// Asks once more for what was created: it is answered, and nothing is done.
    async fn repeat(&self, channel: &Channel) {
        let Some((request, uid)) = &self.created else { return };
        if !self.shape.contains_key(&request.virtual_service_id) {
            return;
        }
        let mut client = BalancerServiceClient::new(channel.clone());
        let answer = client.create_virtual_service(request.clone()).await.unwrap().into_inner();
        assert_eq!(answer.uid, *uid);
    }
}

fn number_of(service: &str) -> u16 {
    service[1..].parse().unwrap()
}

fn revision(text: &str) -> Revision {
    let (epoch, number) = text.split_once('.').unwrap();
    Revision { epoch: epoch.parse().unwrap(), number: number.parse().unwrap() }
}

async fn shape_of(channel: &Channel, cluster: &str) -> Shape {
    let request = pb::ExportConfigRequest { name: cluster.to_owned(), ..Default::default() };
    let mut client = ConfigServiceClient::new(channel.clone());
    let config = client.export_config(request).await.unwrap().into_inner();
    let shape = config.services.into_iter().map(|entry| {
        let service = entry.virtual_service.unwrap();
        let weights = entry.real_servers.iter().map(|server| server.weight.unwrap_or(100));
        (id(&service.name).to_owned(), (service.display_name, weights.collect()))
    });
    shape.collect()
}

/// The events since the last look, by their comments, and how many revisions there are in all.
#[derive(Debug, Default)]
struct Events {
    last: String,
    fresh: HashMap<String, Revision>,
    committed: u64,
}

impl Events {
    async fn read(&mut self, channel: &Channel) {
        let mut client = ObserveServiceClient::new(channel.clone());
        let (known, mut page_token) = (std::mem::take(&mut self.last), String::new());
        loop {
            let request = pb::ListEventsRequest { page_size: 50, page_token, ..Default::default() };
            let page = client.list_events(request).await.unwrap().into_inner();
            if self.last.is_empty() {
                self.last = page.events.first().map(|event| event.name.clone()).unwrap_or_default();
            }
            let fresh = page.events.iter().take_while(|event| event.name != known);
            for event in fresh.clone().filter(|event| !event.comment.is_empty()) {
                let twin = self.fresh.insert(event.comment.clone(), revision(&event.revision));
                assert_eq!(twin, None, "{} happened twice", event.comment);
                self.committed += 1;
            }
            if fresh.count() < page.events.len() || page.next_page_token.is_empty() {
                return;
            }
            page_token = page.next_page_token;
        }
    }

    fn take(&mut self, comment: &str) -> Option<Revision> {
        self.fresh.remove(comment)
    }

    fn expect_one_more(&mut self) {
        self.committed += 1;
    }
}

/// Numbers that look like chance and are the same in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

/// An agent that writes down the highest revision it was told, and is never told a lower one.
async fn follow(url: String, identity: Identity, highest: Arc<Mutex<Revision>>) {
    let channel = rpc::connect(&url, &identity).unwrap();
    let mut client = agent_pb::agent_service_client::AgentServiceClient::new(channel);
    loop {
        let agent = agent_pb::AgentIdentity {
            appliance: identity.name().to_owned(),
            kind: agent_pb::agent_identity::Kind::L7.into(),
            ..Default::default()
        };
        let request = agent_pb::WatchConfigRequest { agent: Some(agent), ..Default::default() };
        if let Ok(stream) = client.watch_config(request).await {
            let mut stream = stream.into_inner();
            while let Ok(Some(told)) = stream.message().await {
                let told = Revision::from(told.revision.unwrap());
                let mut highest = highest.lock();
                assert!(told >= *highest, "told {told} after {highest}");
                *highest = told;
            }
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn durability_kill_hundreds_of_times_loses_nothing_acknowledged_and_keeps_no_half() {
    let mut site = Site::controller_only().await;
    let admin = Identity::load(&site.operator()).unwrap();
    for index in 0..WRITERS {
        let cluster_id = format!("w{index}");
        let request = pb::CreateClusterRequest { cluster_id, ..Default::default() };
        site.fleet().create_cluster(request).await.unwrap();
    }
    let (highest, mut agent) = (Arc::new(Mutex::new(Revision::default())), JoinSet::new());
    agent.spawn(follow(site.url.clone(), appliance_of(&site, "w0").await, Arc::clone(&highest)));
    let mut writers: Vec<_> = (0..WRITERS).map(|index| Writer::new(index, &site.block)).collect();
    let clusters = u64::from(WRITERS) + 1;
    let (mut events, mut dice) = (Events::default(), Dice(7));
    let mut starts = 1;
    for kill in 0..KILLS {
        let channel = rpc::connect(&site.url, &admin).unwrap();
        writers = write_until_killed(&mut site, writers, &channel, &mut dice).await;
        if kill % 4 == 0 {
            // Killed again while it starts.
            site.controller.start_again();
            tokio::time::sleep(Duration::from_micros(dice.below(15_000))).await;
            site.controller.kill();
            starts = site.controller.count("serving");
        }
        site.controller.start_again();
        starts += 1;
        site.controller.says_times("serving", starts).await;
        let channel = rpc::connect(&site.url, &admin).unwrap();
        events.read(&channel).await;
        for writer in &mut writers {
            writer.check(&channel, &mut events).await;
        }
        assert!(events.fresh.is_empty(), "nobody made these changes: {:?}", events.fresh);
        writers[kill % writers.len()].repeat(&channel).await;
        let now = revision_now(&channel).await;
        assert_eq!(now, Revision { epoch: 1, number: clusters + events.committed });
        assert!(now >= *highest.lock(), "an agent was told of {}", *highest.lock());
        assert!(agent.try_join_next().is_none(), "the agent was told something older");
        skip_repeated(&mut events, &channel).await;
    }
    assert!(events.committed > KILLS as u64, "{} changes", events.committed);
    let told = *highest.lock();
    assert!(told.number > clusters + events.committed / 8, "the agent saw {told} only");
    site.controller.stop().await;
    assert_whole(&site.dir().join("controller/gantry.db"), clusters + events.committed);
}

/// What was repeated by the check is known: it is no news at the next look.
async fn skip_repeated(events: &mut Events, channel: &Channel) {
    let committed = events.committed;
    events.read(channel).await;
    events.fresh.clear();
    events.committed = committed;
}

/// Lets everybody write, and kills the controller somewhere in the middle.
async fn write_until_killed(
    site: &mut Site,
    writers: Vec<Writer>,
    channel: &Channel,
    dice: &mut Dice,
) -> Vec<Writer> {
    let (progress, mut written) = watch::channel(0);
    let mut running = JoinSet::new();
    for writer in writers {
        running.spawn(writer.write(channel.clone(), progress.clone()));
    }
    let enough = usize::try_from(dice.below(12)).unwrap();
    let written = written.wait_for(|count| *count >= enough);
    soon("the controller takes changes", written).await.unwrap();
    // At another moment of a change each time.
    tokio::time::sleep(Duration::from_micros(dice.below(4000))).await;
    site.controller.kill();
    let mut writers = running.join_all().await;
    writers.sort_by_key(|writer| writer.index);
    writers
}

async fn revision_now(channel: &Channel) -> Revision {
    let mut client = ObserveServiceClient::new(channel.clone());
    let request = pb::GetOverviewRequest { parent: "clusters/main".to_owned() };
    revision(&client.get_overview(request).await.unwrap().into_inner().revision)
}

/// The identity of an appliance in `cluster`.
async fn appliance_of(site: &Site, cluster: &str) -> Identity {
    let request = pb::InviteApplianceRequest {
        parent: format!("clusters/{cluster}"),
        appliance_id: "lb1".to_owned(),
        ..Default::default()
    };
    let token = site.fleet().invite_appliance(request).await.unwrap().into_inner().token;
    join::join(&site.url, &token, &site.identity_of("lb1")).await.unwrap();
    Identity::load(&site.identity_of("lb1")).unwrap()
}

/// The file itself, read without the controller: every revision has its history and its event, and
/// the last word of the history on each resource is what the resource is.
fn assert_whole(database: &Path, revisions: u64) {
    let one = |sql: &str| sqlite::query(database, sql)[0]["n"].clone();
    assert_eq!(sqlite::query(database, "PRAGMA integrity_check")[0]["integrity_check"], "ok");
    assert!(sqlite::query(database, "PRAGMA foreign_key_check").is_empty());
    assert_eq!(one("SELECT number AS n FROM head"), revisions);
    for table in ["revisions", "revision_changes", "events"] {
        let sql = format!(
            "SELECT count(DISTINCT number) AS n FROM {table} WHERE number BETWEEN 1 AND {revisions}"
        );
        assert_eq!(one(&sql), revisions, "{table}");
    }
    let differing = "
        WITH last AS (
            SELECT name, after FROM (SELECT name, after,
                row_number() OVER (PARTITION BY name ORDER BY epoch DESC, number DESC) AS at
                FROM revision_changes) WHERE at = 1 AND after IS NOT NULL),
        present AS (
            SELECT 'clusters/' || cluster || '/virtualServices/' || id AS name, config
            FROM virtual_services
            UNION ALL
            SELECT 'clusters/' || cluster || '/virtualServices/' || virtual_service
                || '/realServers/' || id, config FROM real_servers)
        SELECT name FROM last WHERE name LIKE '%/virtualServices/%'
            AND NOT EXISTS (SELECT 1 FROM present WHERE present.name = last.name AND config = after)
        UNION ALL
        SELECT name FROM present WHERE name NOT IN (SELECT name FROM last)";
    assert!(sqlite::query(database, differing).is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn durability_kill_at_the_first_start_leaves_a_folder_that_starts() {
    let block = Block::take();
    let mut dice = Dice(3);
    let listen = block.socket(1, 7443).to_string();
    for round in 0..30 {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        let arguments = ["--listen", &listen, "--state", state.to_str().unwrap()];
        let program = binary("gantry-controller");
        let mut controller = Process::start("controller", &program, arguments, dir.path());
        tokio::time::sleep(Duration::from_micros(2000 + dice.below(25_000))).await;
        controller.kill();
        let before = controller.count("serving");
        controller.start_again();
        controller.says_times("serving", before + 1).await;
        let admin = Identity::load(&state.join("operators/admin")).unwrap();
        let channel = rpc::connect(&format!("https://{listen}"), &admin).unwrap();
        eventually(&format!("round {round} is served"), async || {
            let mut client = ObserveServiceClient::new(channel.clone());
            client.get_overview(pb::GetOverviewRequest::default()).await.ok()
        })
        .await;
        controller.kill();
    }
}
