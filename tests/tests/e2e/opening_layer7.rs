//! Clients that agent-l7 gives a real server by what they say first: OpenSSL's, by the host they ask for, and
//! FreeRDP, by its user.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use gantry_proto::v1 as pb;
use gantry_tests::openssl::Authority;
use gantry_tests::process::{Process, run};
use gantry_tests::services::{id, layer7, server};
use gantry_tests::site::{server_name, service_name};
use gantry_tests::wait::listens;
use gantry_tests::{Site, eventually};
use parking_lot::Mutex;
use pb::ended::Termination;
use pb::layer7::{ClientLimits, Route};
use pb::virtual_service::Forwarding;
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

fn of_layer7(listen: SocketAddr, layer7_of: pb::Layer7) -> pb::VirtualService {
    pb::VirtualService { forwarding: Some(Forwarding::Layer7(layer7_of)), ..layer7(listen) }
}

fn route(host: &str, pool: &str) -> Route {
    Route { hosts: vec![host.to_owned()], pool: pool.to_owned(), ..Default::default() }
}

fn in_pool(name: &str, at: SocketAddr) -> pb::RealServer {
    pb::RealServer { pool: name.to_owned(), ..server(name, at) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn opening_of_tls_says_which_pool_and_openssl_meets_the_server_itself() {
    let site = Site::start().await;
    let authority = Authority::make(site.folder("tls")).await;
    let listen = site.block.socket(10, 8443);
    let mut servers = Vec::new();
    let mut running = Vec::new();
    for (at, name) in [(20, "pacs"), (21, "viewer")] {
        let real = site.block.socket(at, 8443);
        authority.issue(name, &format!("{name}.example")).await;
        // Old devices speak old versions, which the proxy itself does not.
        running.push(authority.server(real, name, &["-rev", "-cipher", "ALL:@SECLEVEL=0"]));
        listens(real).await;
        servers.push(in_pool(name, real));
    }
    let layer7 = pb::Layer7 {
        routes: vec![route("pacs.example", "pacs"), route("*.example", "viewer")],
        client_limits: Some(ClientLimits { connections: 1, ..Default::default() }),
        ..Default::default()
    };
    site.create("web", of_layer7(listen, layer7), servers).await;
    site.up("web").await;
    let old = ["-tls1", "-cipher", "ALL:@SECLEVEL=0"];
    for (name, more) in [("pacs", &[][..]), ("viewer", &["-tls1_2"]), ("pacs", &old)] {
        let ran = authority.call(listen, &format!("{name}.example"), more).await;
        let (subject, verified) = (format!("subject=CN = {name}\n"), "Verify return code: 0 (ok)");
        assert!(ran.status.success() && ran.out.contains("olleh\n"), "{ran:?}");
        assert!(ran.out.contains(&subject) && ran.out.contains(verified), "{}", ran.out);
    }
    let unserved = authority.call(listen, "pacs.elsewhere", &[]).await;
    assert!(!unserved.status.success() && !unserved.out.contains("BEGIN CERTIFICATE"));

    let mut held = authority.connect(listen, "pacs.example", &[]);
    assert!(held.is_answered().await);
    let more = authority.call(listen, "pacs.example", &[]).await;
    assert!(!more.status.success() && !more.out.contains("olleh\n"), "one is all it may have");
    assert!(held.is_answered().await, "which goes on");
    eventually("it is told why", async || {
        let status = site.service("web").await.status?;
        let limited = |one: &pb::Ended| one.reason() == Termination::ClientLimited;
        status.ended.iter().any(limited).then_some(())
    })
    .await;
    drop(running);
}

/// A real server that notes, with its name, what clients begin with, and then leaves them.
async fn note(name: &'static str, at: SocketAddr, notes: &Notes) -> JoinSet<()> {
    let listener = TcpListener::bind(at).await.unwrap();
    let (mut tasks, notes) = (JoinSet::new(), Arc::clone(notes));
    tasks.spawn(async move {
        loop {
            let Ok((mut stream, _)) = listener.accept().await else { return };
            let mut heard = vec![0; 512];
            if let Ok(length @ 1..) = stream.read(&mut heard).await {
                heard.truncate(length);
                notes.lock().push((name, String::from_utf8_lossy(&heard).into_owned()));
            }
        }
    });
    tasks
}

type Notes = Arc<Mutex<Vec<(&'static str, String)>>>;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn opening_of_remote_desktop_says_which_user_and_freerdp_comes_back_to_its_server() {
    let site = Site::start().await;
    let listen = site.block.socket(10, 3389);
    let [one, two] = [20, 21].map(|at| site.block.socket(at, 3389));
    let notes = Notes::default();
    let _running = [note("one", one, &notes).await, note("two", two, &notes).await];
    let persistence =
        pb::Persistence { key: pb::persistence::Key::RdpCookie.into(), ..Default::default() };
    let service = pb::VirtualService { persistence: Some(persistence), ..layer7(listen) };
    site.create("desktop", service, vec![server("one", one), server("two", two)]).await;
    site.up("desktop").await;
    let folder = site.folder("freerdp");
    // FreeRDP wants a screen, though it only shows who it is.
    let _screen = Process::start("xvfb", Path::new("Xvfb"), ["-displayfd", "1"], &folder);
    let display = eventually("there is a screen", async || {
        let number = std::fs::read_to_string(folder.join("xvfb.log")).ok()?;
        let number: u32 = number.lines().last()?.trim().parse().ok()?;
        Some(format!("DISPLAY=:{number}"))
    })
    .await;
    let come = async |user: &str| {
        let (at, user) = (format!("/v:{listen}"), format!("/u:{user}"));
        // It ends with an error: no desktop is behind this.
        let words = [&display, "xfreerdp", &at, &user, "/p:secret", "/cert-ignore", "/auth-only"];
        run(Path::new("env"), words, &folder).await;
        notes.lock().last().cloned().unwrap()
    };
    let mut homes = Vec::new();
    for user in ["ann", "bob", "ann", "bob", "ann", "Ann"] {
        let (home, heard) = come(user).await;
        assert!(heard.contains(&format!("Cookie: mstshash={user}\r\n")), "{heard:?}");
        homes.push(home);
    }
    let (ann, bob) = (homes[0], homes[1]);
    assert_eq!(homes, [ann, bob, ann, bob, ann, ann]);
    assert_ne!(ann, bob);

    let parent = service_name("desktop");
    let request = pb::ListPersistenceEntriesRequest { parent, ..Default::default() };
    let entries = site.balancer().list_persistence_entries(request).await.unwrap().into_inner();
    let mut told: Vec<_> =
        entries.entries.iter().map(|it| (it.client.as_str(), id(&it.real_server))).collect();
    told.sort_unstable();
    assert_eq!(told, [("ann", ann), ("bob", bob)]);

    let real_server = server_name("desktop", bob);
    let client = "ann".to_owned();
    let request = pb::SetPersistenceEntryRequest { real_server, client, ..Default::default() };
    site.balancer().set_persistence_entry(request).await.unwrap();
    assert_eq!(come("ann").await.0, bob, "where an operator wants it");
    eventually("it is counted", async || {
        let counted = site.service("desktop").await.status?.persistence?;
        let pb::PersistenceStatus { clients, new_total, kept_total, moved_total } = counted;
        ((clients, new_total, kept_total, moved_total) == (2, 2, 5, 0)).then_some(())
    })
    .await;
}
