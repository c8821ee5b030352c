//! A new agent-l7 takes over from the old one, and no client notices.
//!
//! A service manager is not at hand: the tests end and start processes as systemd does for the unit in
//! `deploy`, which ends the main process and leaves its children be.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};

use gantry_proto::v1 as pb;
use gantry_tests::backend::{Backend, Client};
use gantry_tests::openssl::Authority;
use gantry_tests::process::{Process, binary, program};
use gantry_tests::services::{by_source, layer7, server};
use gantry_tests::site::{server_name, service_name};
use gantry_tests::wait::soon;
use gantry_tests::{Site, eventually};
use pb::virtual_service::Forwarding;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::task::JoinSet;

/// Busy connections at the same time.
const BUSY: u64 = 200;
/// Where clients come from that are remembered.
const CLIENTS: std::ops::Range<u8> = 100..110;

/// agent-l7 as the unit runs it: with a process that outlives the one that systemd knows.
fn agent(site: &Site) -> Process {
    agent_with(site, &["--outlive", "60"])
}

fn agent_with(site: &Site, more: &[&str]) -> Process {
    let (identity, state) = (site.identity_of("lb1"), site.dir().join("agent-l7"));
    let feed = site.dir().join("health.sock");
    let path = |path: &Path| path.to_str().unwrap().to_owned();
    let options = [
        ("--controller", site.url.clone()),
        ("--identity", path(&identity)),
        ("--state", path(&state)),
        ("--feed", path(&feed)),
    ];
    let options = options.into_iter().flat_map(|(name, value)| [name.to_owned(), value]);
    let options = options.chain(more.iter().map(|one| (*one).to_owned()));
    Process::start("agent-l7", &binary("gantry-agent-l7"), options, site.dir())
}

/// The process that carries the traffic of `keeper`.
async fn carrier(keeper: &Process) -> u32 {
    let id = keeper.id();
    eventually("the keeper has a child", async || {
        let path = format!("/proc/{id}/task/{id}/children");
        std::fs::read_to_string(path).ok()?.split_whitespace().next()?.parse().ok()
    })
    .await
}

/// Waits until a process that is nobody's child here has ended.
async fn gone(process: u32) {
    eventually(&format!("{process} has ended"), async || {
        let command = std::fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
        command.is_empty().then_some(())
    })
    .await;
}

/// The byte at `at` of the stream of a client.
fn pattern(client: u64, at: u64) -> u8 {
    ((at * 7 + client) % 251) as u8
}

/// Gives back what it gets, in pieces of all sizes, and then the end.
async fn echo(listener: TcpListener) {
    let mut clients = JoinSet::new();
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        clients.spawn(async move {
            let (mut from, mut to) = stream.split();
            tokio::io::copy(&mut from, &mut to).await.unwrap();
            to.shutdown().await.unwrap();
        });
        while let Some(ended) = clients.try_join_next() {
            ended.unwrap();
        }
    }
}

/// What the busy connections have in common.
#[derive(Debug)]
struct Load {
    to: SocketAddr,
    over: AtomicBool,
    carried: Vec<AtomicU64>,
    visits: AtomicU64,
}

impl Load {
    /// Sends a pattern and reads it back, both at once, until the load is over; every byte counts.
    async fn transfer(self: Arc<Self>, client: u64) {
        let mut stream = TcpStream::connect(self.to).await.unwrap();
        let (mut from, mut to) = stream.split();
        let carried = &self.carried[usize::try_from(client).unwrap()];
        // Some send messages, others bulk.
        let piece = if client.is_multiple_of(4) { 150_000 } else { 300 + client * 7 };
        let send = async {
            let mut at = 0;
            while !self.over.load(SeqCst) {
                let bytes: Vec<u8> = (at..at + piece).map(|at| pattern(client, at)).collect();
                to.write_all(&bytes).await.unwrap();
                at += piece;
                // Not far ahead of what has come back, so that all have their turn.
                while at - carried.load(SeqCst) > 4 * piece {
                    tokio::time::sleep(std::time::Duration::from_millis(1)).await;
                }
            }
            to.shutdown().await.unwrap();
            at
        };
        let receive = async {
            let (mut at, mut buffer) = (0, vec![0; 64 << 10]);
            loop {
                let read = from.read(&mut buffer).await.unwrap();
                for byte in &buffer[..read] {
                    assert_eq!(*byte, pattern(client, at), "client {client} at {at}");
                    at += 1;
                }
                carried.store(at, SeqCst);
                if read == 0 {
                    break at;
                }
            }
        };
        let (sent, received) = tokio::join!(send, receive);
        assert_eq!(sent, received, "of client {client}");
    }

    /// Comes and goes, again and again.
    async fn visit(self: Arc<Self>) {
        while !self.over.load(SeqCst) {
            let mut stream = TcpStream::connect(self.to).await.unwrap();
            stream.write_all(b"hello").await.unwrap();
            stream.shutdown().await.unwrap();
            let mut back = Vec::new();
            soon("a newcomer is served", stream.read_to_end(&mut back)).await.unwrap();
            assert_eq!(back, b"hello");
            self.visits.fetch_add(1, SeqCst);
        }
    }

    /// Waits until every connection has carried more, and newcomers were served.
    async fn goes_on(&self) {
        let carried = || self.carried.iter().map(|one| one.load(SeqCst)).collect::<Vec<_>>();
        let (before, visits) = (carried(), self.visits.load(SeqCst));
        eventually("all connections carry more", async || {
            let more = carried().iter().zip(&before).all(|(now, before)| now > before);
            (more && self.visits.load(SeqCst) > visits + 20).then_some(())
        })
        .await;
    }
}

/// `openssl s_client`, which speaks TLS by its own means.
struct Secret {
    child: Child,
    to: ChildStdin,
    from: ChildStdout,
}

impl Secret {
    fn connect(to: SocketAddr) -> Self {
        let mut command = Command::new(program("openssl", "openssl"));
        command.args(["s_client", "-quiet", "-connect", &to.to_string()]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let (to, from) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Self { child, to, from }
    }

    async fn echoes(&mut self, words: &str) {
        self.to.write_all(words.as_bytes()).unwrap();
        self.hears(words).await;
    }

    async fn hears(&mut self, words: &str) {
        let mut back = vec![0; words.len()];
        tokio::task::block_in_place(|| self.from.read_exact(&mut back)).unwrap();
        assert_eq!(back, words.as_bytes());
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A service that ends TLS in the proxy.
async fn secret_service(site: &Site, listen: SocketAddr, backend: SocketAddr) {
    let authority = Authority::make(site.folder("pem")).await;
    authority.issue("pacs", "pacs.example").await;
    let [chain, key] = ["pacs.pem", "pacs-key.pem"].map(|name| authority.file(name));
    site.import("pacs", &chain, &key).await;
    let mut service = layer7(listen);
    let certificate = "certificates/pacs".to_owned();
    service.forwarding = Some(Forwarding::Layer7(pb::Layer7 { certificate, ..Default::default() }));
    site.create("secret", service, vec![server("one", backend)]).await;
    site.up("secret").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn upgrade_cuts_nothing_twice_in_a_row_under_load() {
    let mut site = Site::start().await;
    site.agent_l7.as_mut().unwrap().stop().await;
    site.agent_l7 = Some(agent(&site));
    let listener = TcpListener::bind((site.block.address(40), 0)).await.unwrap();
    let backend = listener.local_addr().unwrap();
    let mut server_task = JoinSet::new();
    server_task.spawn(echo(listener));
    let to = site.block.socket(10, 104);
    site.create("busy", layer7(to), vec![server("one", backend)]).await;
    site.up("busy").await;
    let secret_at = site.block.socket(11, 443);
    secret_service(&site, secret_at, backend).await;
    let remembering = site.block.socket(12, 104);
    let homes = [
        Backend::start("a", site.block.socket(41, 0)).await,
        Backend::start("b", site.block.socket(42, 0)).await,
    ];
    let service = pb::VirtualService { persistence: by_source(), ..layer7(remembering) };
    let servers = vec![server("a", homes[0].address), server("b", homes[1].address)];
    site.create("sticky", service, servers).await;
    site.up("sticky").await;

    let mut served_by = Vec::new();
    for client in CLIENTS {
        let from = site.block.address(client);
        served_by.push(Client::connect_from(from, remembering).await.unwrap().served_by);
    }
    let mut secret = Secret::connect(secret_at);
    secret.echoes("before").await;
    let load = Arc::new(Load {
        to,
        over: AtomicBool::new(false),
        carried: (0..BUSY).map(|_| AtomicU64::new(0)).collect(),
        visits: AtomicU64::new(0),
    });
    let mut clients = JoinSet::new();
    (0..BUSY).for_each(|client| drop(clients.spawn(Arc::clone(&load).transfer(client))));
    (0..4).for_each(|_| drop(clients.spawn(Arc::clone(&load).visit())));
    load.goes_on().await;

    // As systemd restarts: the main process ends first, and then there is a new one.
    let first = carrier(site.agent_l7.as_ref().unwrap()).await;
    site.agent_l7.as_mut().unwrap().let_go().await;
    load.goes_on().await;
    site.agent_l7.as_mut().unwrap().start_again();
    site.agent_l7.as_ref().unwrap().says_times("taking over", 1).await;
    load.goes_on().await;
    secret.echoes("after the first").await;

    // The new one may also come while the old one runs.
    let mut second = site.agent_l7.replace(agent(&site)).unwrap();
    site.agent_l7.as_ref().unwrap().says_times("taking over", 2).await;
    load.goes_on().await;
    secret.echoes("after the second").await;
    site.agents_report().await;
    eventually("all connections are counted, those with TLS as well", async || {
        let busy = site.server_status("busy", "one").await.active_connections;
        let secret = site.server_status("secret", "one").await.active_connections;
        (busy >= BUSY.cast_signed() && secret == 1).then_some(())
    })
    .await;
    for (client, home) in CLIENTS.zip(&served_by) {
        let from = site.block.address(client);
        assert_eq!(Client::connect_from(from, remembering).await.unwrap().served_by, *home);
    }

    load.over.store(true, SeqCst);
    while let Some(ended) = soon("the load ends", clients.join_next()).await {
        ended.unwrap();
    }
    // What has nothing left ends by itself.
    assert!(Path::new(&format!("/proc/{first}")).exists());
    secret.echoes("at the end").await;
    // What is done to a server is done to the connections there, too.
    site.halt("secret", "one").await;
    gone(first).await;
    assert!(second.ended().await.success());
    eventually("nobody is counted any more", async || {
        let secret = site.server_status("secret", "one").await.active_connections;
        (secret == 0 && site.server_status("busy", "one").await.active_connections == 0)
            .then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn upgrade_that_fails_leaves_the_old_one_at_work() {
    let site = Site::start().await;
    let backend = Backend::start("a", site.block.socket(40, 0)).await;
    let to = site.block.socket(10, 104);
    site.create("web", layer7(to), vec![server("one", backend.address)]).await;
    site.up("web").await;
    let mut client = Client::connect(to).await.unwrap();
    let socket = site.dir().join("agent-l7/hand-over.sock");
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&socket).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    let hello = [0, 0, 0, 6, 0, 0, 0, 0, 0x0a, 4, 8, 1, 16, 1];
    let take = [0, 0, 0, 2, 0, 0, 0, 0, 0x22, 0];
    // It dies before it asks for the connections, and then after.
    for words in [hello.to_vec(), [hello.as_slice(), &take].concat()] {
        let mut successor = UnixStream::connect(&socket).await.unwrap();
        successor.write_all(&words).await.unwrap();
        successor.read_u8().await.unwrap();
        drop(successor);
        client.echoes().await.unwrap();
        Client::connect(to).await.unwrap();
    }
    site.agent_l7.as_ref().unwrap().says_times("the successor failed", 2).await;
    // It follows the controller again.
    site.set_weight(&server_name("web", "one"), 7).await;
    site.settled("web").await;
    client.echoes().await.unwrap();
    assert_eq!(site.service("web").await.name, service_name("web"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn upgrade_that_nobody_comes_for_is_an_end() {
    let mut site = Site::start().await;
    site.agent_l7.as_mut().unwrap().stop().await;
    let mut agent = agent_with(&site, &["--outlive", "1"]);
    agent.says_times("following the controller", 2).await;
    let carrier = carrier(&agent).await;
    agent.let_go().await;
    gone(carrier).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn upgrade_gives_connections_with_tls_the_time_that_it_is_told() {
    let mut site = Site::start().await;
    site.agent_l7.as_mut().unwrap().stop().await;
    let mut old = agent_with(&site, &["--finish-within", "1"]);
    let backend = Backend::start("a", site.block.socket(40, 0)).await;
    let listen = site.block.socket(10, 443);
    secret_service(&site, listen, backend.address).await;
    let mut secret = Secret::connect(listen);
    secret.hears("a").await;
    site.agent_l7 = Some(agent_with(&site, &[]));
    old.says(&["the time to finish is over", "active=1"]).await;
    assert!(old.ended().await.success());
    let mut rest = Vec::new();
    tokio::task::block_in_place(|| secret.from.read_to_end(&mut rest)).unwrap();
    Secret::connect(listen).hears("a").await;
}
