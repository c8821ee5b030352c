//! A backup is made beside a running controller and brought back elsewhere: what was acknowledged is
//! there, and the agents follow what was restored and nobody else.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use gantry_proto::v1 as pb;
use gantry_runtime::identity::Identity;
use gantry_tests::backend::{Backend, Client};
use gantry_tests::process::{Ran, binary, run};
use gantry_tests::services::{layer7, server};
use gantry_tests::site::service_name;
use gantry_tests::{Process, Site, eventually, sqlite};
use pb::real_server::AdminState;
use tokio::sync::watch;
use tokio::task::JoinSet;

async fn controller(site: &Site, arguments: &[&str]) -> Ran {
    run(&binary("gantry-controller"), arguments, site.dir()).await
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

async fn back_up(site: &Site, name: &str) -> PathBuf {
    let file = site.dir().join(name);
    let state = site.dir().join("controller");
    controller(site, &["backup", text(&file), "--state", text(&state)]).await.output();
    file
}

/// Starts the site's controller on another folder.
async fn start_on(site: &mut Site, state: &Path, name: &str) {
    let listen = site.url.strip_prefix("https://").unwrap().to_owned();
    let host = listen.split(':').next().unwrap().to_owned();
    let arguments = ["--listen", &listen, "--state", text(state), "--name", &host];
    site.controller.kill();
    site.controller = Process::start(name, &binary("gantry-controller"), arguments, site.dir());
    site.controller.says(&["serving"]).await;
    eventually("the controller answers", async || {
        site.observe().get_overview(pb::GetOverviewRequest::default()).await.ok()
    })
    .await;
}

async fn revision(site: &Site) -> (u64, u64) {
    let request = pb::GetOverviewRequest::default();
    let overview = site.observe().get_overview(request).await.unwrap().into_inner();
    let (epoch, number) = overview.revision.split_once('.').unwrap();
    (epoch.parse().unwrap(), number.parse().unwrap())
}

/// Creates services without end; tells how many were acknowledged.
async fn create_without_end(
    mut client: pb::balancer_service_client::BalancerServiceClient<tonic::transport::Channel>,
    listen: std::net::IpAddr,
    acknowledged: watch::Sender<u16>,
) {
    for number in 0..5000 {
        let request = pb::CreateVirtualServiceRequest {
            virtual_service_id: format!("s{number}"),
            virtual_service: Some(pb::VirtualService {
                disabled: true,
                ..layer7((listen, 10_000 + number).into())
            }),
            ..Default::default()
        };
        client.create_virtual_service(request).await.unwrap();
        acknowledged.send_replace(number + 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn durability_backup_under_writes_is_restored_elsewhere_and_the_agents_follow_it() {
    let mut site = Site::start().await;
    let backend = Backend::start("one", site.block.socket(20, 80)).await;
    let web = site.block.socket(10, 80);
    site.create("web", layer7(web), vec![server("one", backend.address)]).await;
    site.up("web").await;
    // The backup is made while changes go on.
    let (acknowledged, mut count) = watch::channel(0);
    let mut writing = JoinSet::new();
    let listen = site.block.address(11).into();
    writing.spawn(create_without_end(site.balancer(), listen, acknowledged));
    count.wait_for(|count| *count >= 20).await.unwrap();
    let before = *count.borrow();
    let backup = back_up(&site, "backup.db").await;
    let during = *count.borrow();
    count.wait_for(|count| *count > during).await.unwrap();
    writing.shutdown().await;
    // And after it, one more service begins to serve.
    let late = site.block.socket(12, 80);
    site.create("late", layer7(late), vec![server("one", backend.address)]).await;
    eventually("the late service serves", async || Client::connect(late).await.ok()).await;
    let mut held = Client::connect(web).await.unwrap();
    let (old_epoch, _) = revision(&site).await;

    let elsewhere = site.dir().join("new-machine");
    site.controller.kill();
    let restored =
        controller(&site, &["restore", text(&backup), "--state", text(&elsewhere)]).await.output();
    assert!(restored.contains("restored revision 1."), "{restored}");
    start_on(&mut site, &elsewhere, "controller-2").await;
    site.agents_report().await;
    let (epoch, _) = revision(&site).await;
    assert!(epoch > old_epoch);
    for number in 0..before {
        site.service(&format!("s{number}")).await;
    }
    site.up("web").await;
    eventually("the late service is gone", async || Client::connect(late).await.err()).await;
    held.echoes().await.unwrap();
    let event = site.event("", "RESTORED").await;
    assert!(event.message.contains("backup.db: revision 1."), "{event:?}");
    assert!(event.actor.contains('@'), "{event:?}");
    assert!(event.revision.starts_with(&format!("{epoch}.")), "{event:?}");
    assert!(Identity::load(&elsewhere.join("operators/admin")).is_ok());

    // The old database comes back to life: nobody obeys it.
    let old = site.dir().join("controller");
    start_on(&mut site, &old, "controller-3").await;
    let late = pb::GetVirtualServiceRequest { name: service_name("late") };
    site.balancer().get_virtual_service(late).await.unwrap();
    let refused = site.event("", "CONFIG_REFUSED").await;
    assert!(refused.message.contains("OLDER_EPOCH"), "{refused:?}");
    let late = site.block.socket(12, 80);
    assert!(Client::connect(late).await.is_err(), "the agents obeyed the old controller");
    held.echoes().await.unwrap();
    // Until the restored one is there again.
    start_on(&mut site, &elsewhere, "controller-4").await;
    site.agents_report().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn durability_backup_is_one_private_file_that_is_never_written_over_unasked() {
    let site = Site::controller_only().await;
    let backup = back_up(&site, "backup.db").await;
    assert_eq!(backup.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(sqlite::query(&backup, "PRAGMA integrity_check")[0]["integrity_check"], "ok");
    let files = sqlite::query(&backup, "SELECT path FROM backup_files ORDER BY path");
    let files: Vec<_> = files.iter().map(|row| row["path"].as_str().unwrap()).collect();
    for file in ["ca.pem", "ca-key.pem", "operators/admin/key.pem"] {
        assert!(files.contains(&file), "{files:?}");
    }
    let state = site.dir().join("controller");
    let before = std::fs::read(&backup).unwrap();
    let again = ["backup", text(&backup), "--state", text(&state)];
    let refused = controller(&site, &again).await;
    assert_eq!(refused.status.code(), Some(1));
    assert!(refused.err.contains("exists already"), "{}", refused.err);
    assert_eq!(std::fs::read(&backup).unwrap(), before);
    site.create("web", layer7(site.block.socket(10, 80)), Vec::new()).await;
    controller(&site, &[&again[..], &["--force"]].concat()).await.output();
    let services = sqlite::query(&backup, "SELECT id FROM virtual_services");
    assert_eq!(services[0]["id"], "web");
    let nowhere = site.dir().join("nowhere");
    let refused = controller(&site, &["backup", "other.db", "--state", text(&nowhere)]).await;
    assert!(refused.err.contains("there is no database in"), "{}", refused.err);
    // Nothing is left behind beside the backup.
    let left = std::fs::read_dir(site.dir()).unwrap().map(|entry| entry.unwrap().file_name());
    let left: Vec<_> = left.filter(|name| name.to_string_lossy().contains("partial")).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn durability_backup_is_restored_over_nothing_unasked_and_the_old_state_is_kept() {
    let mut site = Site::controller_only().await;
    let backend = server("one", site.block.socket(20, 80));
    site.create("web", layer7(site.block.socket(10, 80)), vec![backend]).await;
    let backup = back_up(&site, "backup.db").await;
    site.halt("web", "one").await;
    let state = site.dir().join("controller");
    let restore = ["restore", text(&backup), "--state", text(&state)];
    let force = [&restore[..], &["--force"]].concat();
    // Not beside a running controller, not even by force.
    let refused = controller(&site, &force).await;
    assert!(refused.err.contains("a controller runs on"), "{}", refused.err);
    site.controller.kill();
    let refused = controller(&site, &restore).await;
    assert_eq!(refused.status.code(), Some(1));
    assert!(refused.err.contains("--force replaces it and keeps it aside"), "{}", refused.err);
    let (mut epochs, mut numbers) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        let done = controller(&site, &force).await.output();
        assert!(done.contains("what was there is kept in"), "{done}");
        let head = sqlite::query(&state.join("gantry.db"), "SELECT * FROM head");
        epochs.push(head[0]["epoch"].as_u64().unwrap());
        numbers.push(head[0]["number"].as_u64().unwrap());
    }
    assert!(epochs[0] > 1 && epochs.is_sorted_by(|one, next| one < next), "{epochs:?}");
    assert_eq!(numbers, [4, 5, 6], "no etag of a state that was replaced is good again");
    let kept = std::fs::read_dir(&state).unwrap().map(|entry| entry.unwrap().path());
    let mut kept: Vec<_> = kept.filter(|path| text(path).contains("replaced-")).collect();
    kept.sort();
    assert_eq!(kept.len(), 3);
    let halted =
        sqlite::query(&kept[0].join("gantry.db"), "SELECT max(number) AS n FROM revisions");
    assert_eq!(halted[0]["n"], 3, "with the halt");
    assert!(kept[0].join("ca-key.pem").exists());
    start_on(&mut site, &state, "controller-2").await;
    let name = gantry_tests::site::server_name("web", "one");
    let request = pb::GetRealServerRequest { name };
    let found = site.balancer().get_real_server(request).await.unwrap().into_inner();
    assert_ne!(found.admin_state(), AdminState::Halt);
    // A restore that was cut short is not taken for a state.
    site.controller.kill();
    std::fs::create_dir(state.join("restoring")).unwrap();
    site.controller.start_again();
    assert_eq!(site.controller.ended().await.code(), Some(1));
    site.controller.says(&["did not come to its end: repeat it, with --force"]).await;
    controller(&site, &force).await.output();
    start_on(&mut site, &state, "controller-3").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn durability_backup_that_is_none_or_damaged_changes_nothing() {
    let mut site = Site::controller_only().await;
    let backup = back_up(&site, "backup.db").await;
    assert!(site.controller.stop().await.success());
    let state = site.dir().join("controller");
    let before = std::fs::read(state.join("gantry.db")).unwrap();
    let whole = std::fs::read(&backup).unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let path = site.dir().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    let mut torn = whole.clone();
    torn[whole.len() / 2..].fill(0x5a);
    let newer = file("newer.db", &whole);
    sqlite::execute(
        &newer,
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
         VALUES (9999, 'later', 1, x'00', 0)",
    );
    let outside = file("outside.db", &whole);
    sqlite::execute(&outside, "INSERT INTO backup_files VALUES ('../escaped', x'00')");
    for (bad, words) in [
        (site.dir().join("missing.db"), "there is no backup"),
        (file("garbage.db", &[0x5a; 5000]), "is not a backup made by"),
        (file("empty.db", b""), "is not a backup made by"),
        (file("database.db", &before), "is not a backup made by"),
        (file("torn.db", &torn), "is damaged"),
        (file("half.db", &whole[..whole.len() / 2]), "is damaged"),
        (newer, "newer version of the controller (migration 9999)"),
        (outside, "names a file outside"),
    ] {
        let arguments = ["restore", text(&bad), "--state", text(&state), "--force"];
        let refused = controller(&site, &arguments).await;
        assert_eq!(refused.status.code(), Some(1), "{}: {}", bad.display(), refused.out);
        assert!(refused.err.contains(words), "{words:?}: {}", refused.err);
        assert_eq!(std::fs::read(state.join("gantry.db")).unwrap(), before, "{}", bad.display());
    }
    assert!(!site.dir().join("escaped").exists());
    site.controller.start_again();
    site.controller.says_times("serving", 2).await;
}
