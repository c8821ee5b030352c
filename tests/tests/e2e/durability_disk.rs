//! The disk is full, read-only or damaged: what the controller says, what goes on, what is lost (nothing).

use std::path::{Path, PathBuf};

use agent_pb::watch_config_response::Change;
use gantry_proto::agent::v1 as agent_pb;
use gantry_proto::v1 as pb;
use gantry_runtime::identity::Identity;
use gantry_runtime::{join, rpc};
use gantry_tests::disk::Disk;
use gantry_tests::process::binary;
use gantry_tests::services::{layer7, server};
use gantry_tests::site::service_name;
use gantry_tests::wait::soon;
use gantry_tests::{Block, Process, Site, eventually, sqlite};
use pb::balancer_service_client::BalancerServiceClient;
use pb::config_service_client::ConfigServiceClient;
use pb::fleet_service_client::FleetServiceClient;
use pb::observe_service_client::ObserveServiceClient;
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_types::StatusExt;

/// A controller whose state is on a disk of its own, with the cluster "main".
struct OnDisk {
    controller: Process,
    channel: Channel,
    url: String,
    disk: Disk,
    block: Block,
    dir: tempfile::TempDir,
}

impl OnDisk {
    async fn start(disk: Disk, dir: tempfile::TempDir) -> Self {
        let block = Block::take();
        let listen = block.socket(1, 7443).to_string();
        let state = disk.path().join("state");
        let arguments = ["--listen", &listen, "--state", state.to_str().unwrap()];
        let controller =
            disk.start("controller", &binary("gantry-controller"), &arguments, dir.path());
        controller.says(&["serving"]).await;
        let url = format!("https://{listen}");
        let admin = Identity::load(&disk.seen("state/operators/admin")).unwrap();
        let channel = rpc::connect(&url, &admin).unwrap();
        let site = Self { controller, channel, url, disk, block, dir };
        site.create_cluster("main").await.unwrap();
        site
    }

    async fn start_again(&mut self) {
        let times = self.controller.count("serving") + 1;
        self.controller.start_again();
        self.controller.says_times("serving", times).await;
        let admin = Identity::load(&self.disk.seen("state/operators/admin")).unwrap();
        self.channel = rpc::connect(&self.url, &admin).unwrap();
    }

    fn balancer(&self) -> BalancerServiceClient<Channel> {
        BalancerServiceClient::new(self.channel.clone())
    }

    fn fleet(&self) -> FleetServiceClient<Channel> {
        FleetServiceClient::new(self.channel.clone())
    }

    async fn create_cluster(&self, id: &str) -> Result<(), Status> {
        let cluster_id = id.to_owned();
        let request = pb::CreateClusterRequest { cluster_id, ..Default::default() };
        self.fleet().create_cluster(request).await.map(drop)
    }

    async fn create(&self, number: u16) -> Result<(), Status> {
        let request = pb::CreateVirtualServiceRequest {
            parent: "clusters/main".to_owned(),
            virtual_service_id: format!("s{number}"),
            virtual_service: Some(layer7(self.block.socket(10, 1000 + number))),
            real_servers: vec![server("a", self.block.socket(40, 104))],
            ..Default::default()
        };
        self.balancer().create_virtual_service(request).await.map(drop)
    }

    async fn config(&self) -> pb::Config {
        let request =
            pb::ExportConfigRequest { name: "clusters/main".to_owned(), ..Default::default() };
        let mut client = ConfigServiceClient::new(self.channel.clone());
        client.export_config(request).await.unwrap().into_inner()
    }

    async fn event_count(&self) -> usize {
        let request = pb::ListEventsRequest { page_size: 1000, ..Default::default() };
        let mut client = ObserveServiceClient::new(self.channel.clone());
        client.list_events(request).await.unwrap().into_inner().events.len()
    }

    /// One change of each kind: each is refused, with the reason.
    async fn refuses_every_change(&self, answers: &[(Code, &str)], words: &str) {
        let invite = pb::InviteApplianceRequest {
            parent: "clusters/main".to_owned(),
            appliance_id: "lb9".to_owned(),
            ..Default::default()
        };
        let delete =
            pb::DeleteVirtualServiceRequest { name: service_name("s0"), ..Default::default() };
        let config = pb::Config { name: "clusters/main".to_owned(), ..Default::default() };
        let apply = pb::ApplyConfigRequest { config: Some(config), ..Default::default() };
        let mut documents = ConfigServiceClient::new(self.channel.clone());
        for outcome in [
            self.create(9000).await,
            self.create_cluster("other").await,
            self.fleet().invite_appliance(invite).await.map(drop),
            self.balancer().delete_virtual_service(delete).await.map(drop),
            documents.apply_config(apply).await.map(drop),
        ] {
            let status = outcome.expect_err("a change was taken");
            let reason = status.get_details_error_info().unwrap().reason;
            assert!(answers.contains(&(status.code(), &reason)), "{status:?}");
            let message = status.message();
            assert!(message.starts_with("nothing was changed: the disk"), "{message}");
            assert!(message.contains(words), "{message}");
        }
    }

    /// The stream that an agent of a new appliance follows, its first message taken.
    async fn followed(&self) -> tonic::Streaming<agent_pb::WatchConfigResponse> {
        let request = pb::InviteApplianceRequest {
            parent: "clusters/main".to_owned(),
            appliance_id: "lb1".to_owned(),
            ..Default::default()
        };
        let token = self.fleet().invite_appliance(request).await.unwrap().into_inner().token;
        let dir = self.dir.path().join("identity");
        join::join(&self.url, &token, &dir).await.unwrap();
        let channel = rpc::connect(&self.url, &Identity::load(&dir).unwrap()).unwrap();
        let agent = agent_pb::AgentIdentity {
            appliance: "clusters/main/appliances/lb1".to_owned(),
            kind: agent_pb::agent_identity::Kind::L7.into(),
            ..Default::default()
        };
        let request = agent_pb::WatchConfigRequest { agent: Some(agent), ..Default::default() };
        let mut client = agent_pb::agent_service_client::AgentServiceClient::new(channel);
        let mut stream = client.watch_config(request).await.unwrap().into_inner();
        stream.message().await.unwrap().unwrap();
        stream
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn durability_disk_that_is_full_refuses_changes_and_takes_them_again_without_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Disk::in_memory(4096, dir.path()).await;
    let mut site = OnDisk::start(disk, dir).await;
    for number in 0..20 {
        site.create(number).await.unwrap();
    }
    let mut followed = site.followed().await;
    site.disk.fill();
    // What room there is inside the database's own files may still be used up.
    let mut number = 20;
    while site.create(number).await.is_ok() {
        number += 1;
        assert!(number < 2000, "the disk is never full");
    }
    site.refuses_every_change(&[(Code::ResourceExhausted, "DISK_FULL")], "make room").await;
    site.controller.says(&["the store failed", "database or disk is full"]).await;
    // Everything that was acknowledged is shown, and nothing of what was not.
    let (config, events) = (site.config().await, site.event_count().await);
    assert_eq!(config.services.len(), usize::from(number));
    site.refuses_every_change(&[(Code::ResourceExhausted, "DISK_FULL")], "make room").await;
    assert_eq!(site.config().await, config);
    assert_eq!(site.event_count().await, events);
    // The same process takes changes again, and the same stream tells of them.
    site.disk.make_room();
    site.create(number).await.unwrap();
    let name = service_name(&format!("s{number}"));
    let told = async {
        loop {
            let message = followed.message().await.unwrap().unwrap();
            let Some(Change::Delta(delta)) = message.change else { continue };
            if delta.upserts.iter().any(|plan| plan.name == name) {
                return;
            }
        }
    };
    soon("the agent is told what was changed", told).await;
    let config = site.config().await;
    site.controller.kill();
    site.start_again().await;
    assert_eq!(site.config().await, config);
    assert_eq!(site.event_count().await, events + 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn durability_disk_that_is_full_at_the_start_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Disk::in_memory(4096, dir.path()).await;
    let mut site = OnDisk::start(disk, dir).await;
    site.create(0).await.unwrap();
    let config = site.config().await;
    assert!(site.controller.stop().await.success());
    site.disk.fill();
    site.controller.start_again();
    assert_eq!(site.controller.ended().await.code(), Some(1));
    site.controller.says(&["ERROR", "the disk is full: make room"]).await;
    site.disk.make_room();
    site.start_again().await;
    assert_eq!(site.config().await, config);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn durability_disk_that_turns_read_only_is_named_and_reads_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Disk::with_ext4(16, dir.path()).await;
    let mut site = OnDisk::start(disk, dir).await;
    for number in 0..3 {
        site.create(number).await.unwrap();
    }
    let config = site.config().await;
    // SQLite sees it first as an error of the disk, then as a disk that is read-only.
    let answers =
        [(Code::Unavailable, "DISK_FAILING"), (Code::FailedPrecondition, "DISK_READ_ONLY")];
    site.disk.shell("cd \"$1\"/state && chattr +i gantry.db gantry.db-wal").await;
    site.refuses_every_change(&answers, "read-only").await;
    assert_eq!(site.config().await, config);
    // As soon as it may be written to again, it is: without a restart.
    site.disk.shell("cd \"$1\"/state && chattr -i gantry.db gantry.db-wal").await;
    eventually("changes are taken again", async || site.create(3).await.ok()).await;
    let config = site.config().await;
    assert_eq!(config.services.len(), 4);
    // What the kernel does when it finds an error on the disk.
    site.disk
        .shell(
            "sync; echo 1 > /sys/fs/ext4/$(basename $(findmnt -no SOURCE \"$1\"))/trigger_fs_error",
        )
        .await;
    site.refuses_every_change(&answers, "read-only").await;
    assert_eq!(site.config().await, config);
    // It does not start there, and says why.
    site.controller.kill();
    site.controller.start_again();
    assert_eq!(site.controller.ended().await.code(), Some(1));
    site.controller.says(&["ERROR", "on a disk that is read-only", "dmesg"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn durability_disk_that_is_mounted_read_only_is_named_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Disk::in_memory(4096, dir.path()).await;
    let mut site = OnDisk::start(disk, dir).await;
    site.create(0).await.unwrap();
    let config = site.config().await;
    assert!(site.controller.stop().await.success());
    site.disk.shell("mount -o remount,ro \"$1\"").await;
    site.controller.start_again();
    assert_eq!(site.controller.ended().await.code(), Some(1));
    site.controller.says(&["ERROR", "on a disk that is read-only", "mount it read-write"]).await;
    site.disk.shell("mount -o remount,rw \"$1\"").await;
    site.start_again().await;
    assert_eq!(site.config().await, config);
}

/// A stopped controller's folder, with some configuration in it.
async fn stopped_site() -> (Site, PathBuf) {
    let mut site = Site::controller_only().await;
    for number in 0..40 {
        let service = layer7(site.block.socket(10, 1000 + number));
        let backend = server("a", site.block.socket(40, 104));
        site.create(&format!("s{number}"), service, vec![backend]).await;
    }
    assert!(site.controller.stop().await.success());
    let database = site.dir().join("controller/gantry.db");
    (site, database)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn durability_disk_with_garbage_in_the_database_is_named_with_the_way_out() {
    let (mut site, database) = stopped_site().await;
    let whole = std::fs::read(&database).unwrap();
    let garbage = |from: usize, length: usize| {
        let mut bytes = whole.clone();
        let end = (from + length).min(bytes.len());
        bytes[from..end].fill(0x5a);
        bytes
    };
    let pages = whole.len() / 4096;
    let mut broken =
        vec![garbage(0, whole.len()), garbage(0, 100), whole[..whole.len() / 2].to_vec()];
    broken.extend((0..pages).map(|page| garbage(page * 4096, 4096)));
    broken.extend((0..pages).map(|page| garbage(page * 4096 + 2000, 700)));
    let (mut refused, mut started) = (0, site.controller.count("serving"));
    for (at, bytes) in broken.iter().enumerate() {
        std::fs::write(&database, bytes).unwrap();
        for log in ["gantry.db-wal", "gantry.db-shm"] {
            let _absent_mostly = std::fs::remove_file(database.with_file_name(log));
        }
        site.controller.start_again();
        // Where only history is damaged, the configuration is served.
        let ended = eventually(&format!("damage {at} is told or harmless"), async || {
            if site.controller.count("serving") > started {
                return Some(false);
            }
            (!site.controller.is_running()).then_some(true)
        })
        .await;
        if ended {
            refused += 1;
            assert_eq!(site.controller.ended().await.code(), Some(1), "damage {at}");
            let way_out = "gantry-controller restore FILE --force";
            assert_eq!(site.controller.count(way_out), refused, "damage {at}");
        } else {
            started += 1;
            site.controller.kill();
        }
        assert_eq!(site.controller.count("panicked"), 0, "damage {at}");
    }
    assert!(refused > 5, "{refused} of {}", broken.len());
    std::fs::write(&database, &whole).unwrap();
    site.controller.start_again();
    site.controller.says_times("serving", started + 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn durability_disk_with_a_newer_database_is_refused_with_advice() {
    let (mut site, database) = stopped_site().await;
    let newer = "INSERT INTO _sqlx_migrations
        (version, description, success, checksum, execution_time) VALUES (9999, 'later', 1, x'00', 0)";
    sqlite::execute(&database, newer);
    let before = std::fs::read(&database).unwrap();
    site.controller.start_again();
    assert_eq!(site.controller.ended().await.code(), Some(1));
    let line = site.controller.says(&["ERROR", "newer version", "9999"]).await;
    assert!(line.contains("start that version, or restore a backup from before"), "{line}");
    assert_eq!(std::fs::read(&database).unwrap(), before, "it is left as it is");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn durability_disk_is_held_by_one_controller() {
    let mut site = Site::controller_only().await;
    let second = async |dir: &Path, listen: &str| {
        let state = dir.join("controller");
        let arguments = ["--listen", listen, "--state", state.to_str().unwrap()];
        gantry_tests::process::run(&binary("gantry-controller"), arguments, dir).await
    };
    let other = site.block.socket(2, 7443).to_string();
    let ran = second(site.dir(), &other).await;
    assert_eq!(ran.status.code(), Some(1));
    let words = format!("(process {}): stop it first", site.controller.id());
    assert!(ran.err.contains("a controller runs on"), "{}", ran.err);
    assert!(ran.err.contains(&words), "{}", ran.err);
    // The first goes on as if nothing had been; and a dead one holds nothing.
    site.create("web", layer7(site.block.socket(10, 80)), Vec::new()).await;
    site.controller.kill();
    site.controller.start_again();
    site.controller.says_times("serving", 2).await;
    assert_eq!(site.service("web").await.name, service_name("web"));
}
