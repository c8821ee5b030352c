//! Many clients at a time, and many after one another: the proxy holds them, and keeps nothing of them.

use std::net::SocketAddr;
use std::path::Path;

use gantry_proto::v1 as pb;
use gantry_tests::backend::{Backend, Client};
use gantry_tests::openssl::Authority;
use gantry_tests::process::Process;
use gantry_tests::services::{by_source, layer7, server};
use gantry_tests::wait::listens;
use gantry_tests::{Site, eventually};
use pb::virtual_service::Forwarding;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::sync::Mutex;
use tokio::task::JoinSet;

/// Clients at the same time: those that are served, and those that wait.
const SERVED: usize = 9000;
const WAITING: usize = 1000;
/// That connect at the same time.
const GATE: usize = 200;
/// What the proxy opens for them, and some for all else.
const DESCRIPTORS: u64 = 2 * SERVED as u64 + WAITING as u64 + 500;
/// The crowd takes most of what this process may open.
static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

/// A real server as [`Backend`], in a process of its own: this one has the clients' ends.
const SERVER: &str = "
import asyncio, sys
async def serve(reader, writer):
    try:
        writer.write(b'python          ')
        while words := await reader.read(4096):
            writer.write(words)
            await writer.drain()
        writer.close()
    except ConnectionError:
        pass
async def main():
    await (await asyncio.start_server(serve, sys.argv[1], int(sys.argv[2]), backlog=4096)).serve_forever()
asyncio.run(main())
";

/// Has this process and those that it starts open as many files as they may.
fn raise_limit() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let is_enough = maximum.is_none_or(|most| most >= DESCRIPTORS);
    assert!(is_enough, "this needs {DESCRIPTORS} open files: type `ulimit -Hn {DESCRIPTORS}`");
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
}

/// So many clients, `gate` of which may be on their way in at a time.
async fn crowd(listen: SocketAddr, count: usize, gate: usize) -> Vec<Client> {
    let mut clients = Vec::with_capacity(count);
    let mut coming = JoinSet::new();
    for at in 0..count {
        // From many addresses, as persistence sees many clients.
        let source = [127, 77, u8::try_from(at % 50).unwrap(), 1];
        coming.spawn(async move { Client::connect_from(source, listen).await.unwrap() });
        if coming.len() == gate {
            clients.extend(coming.join_next().await.map(Result::unwrap));
        }
    }
    clients.extend(coming.join_all().await);
    clients
}

async fn active(site: &Site, count: i64) {
    eventually(&format!("{count} connections are open"), async || {
        (site.status("web").await.active_connections == count).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn crowd_of_ten_thousand_is_held_and_each_is_answered() {
    let _alone = ONE_AT_A_TIME.lock().await;
    raise_limit();
    let site = Site::start().await;
    let real = site.block.socket(20, 80);
    let (address, port) = (real.ip().to_string(), real.port().to_string());
    let words = ["-c", SERVER, &address, &port];
    let _server = Process::start("python", Path::new("python3"), words, &site.folder("python"));
    listens(real).await;
    let listen = site.block.socket(10, 80);
    let service = pb::VirtualService { persistence: by_source(), ..layer7(listen) };
    let max_connections = i32::try_from(SERVED).unwrap();
    let one = pb::RealServer { max_connections, ..server("one", real) };
    site.create("web", service, vec![one]).await;
    site.up("web").await;
    let agent = site.agent_l7.as_ref().unwrap();
    drop(crowd(listen, 500, GATE).await);
    active(&site, 0).await;
    let before = agent.resident_bytes();
    let mut clients = crowd(listen, SERVED, GATE).await;
    active(&site, SERVED.try_into().unwrap()).await;
    let each = agent.resident_bytes().saturating_sub(before) / SERVED as u64;
    assert!(each < 2048, "{each} bytes for each");
    let mut waiting = JoinSet::new();
    waiting.spawn(crowd(listen, WAITING, WAITING));
    active(&site, (SERVED + WAITING).try_into().unwrap()).await;
    eventually("those who came last wait", async || {
        let queue = site.status("web").await.queue?;
        (queue.queued == i64::try_from(WAITING).unwrap()).then_some(())
    })
    .await;
    for client in &mut clients {
        client.echoes().await.unwrap();
    }
    drop(clients.split_off(SERVED - WAITING));
    for client in waiting.join_all().await.iter_mut().flatten() {
        client.echoes().await.unwrap();
    }
    drop(clients);
    active(&site, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn crowd_that_comes_and_goes_leaves_no_memory_behind() {
    let _alone = ONE_AT_A_TIME.lock().await;
    raise_limit();
    let site = Site::start().await;
    let authority = Authority::make(site.folder("tls")).await;
    authority.issue("pacs", "pacs.example").await;
    let [chain, key] = ["pacs.pem", "pacs-key.pem"].map(|file| authority.file(file));
    site.import("pacs", &chain, &key).await;
    let backend = Backend::start("one", site.block.socket(20, 80)).await;
    let [plain, secret] = [10, 11].map(|at| site.block.socket(at, 80));
    let service = pb::VirtualService { persistence: by_source(), ..layer7(plain) };
    site.create("web", service, vec![server("one", backend.address)]).await;
    let with_tls = pb::Layer7 { certificate: "certificates/pacs".to_owned(), ..Default::default() };
    let service =
        pb::VirtualService { forwarding: Some(Forwarding::Layer7(with_tls)), ..layer7(secret) };
    site.create("secret", service, vec![server("one", backend.address)]).await;
    site.up("web").await;
    site.up("secret").await;
    let agent = site.agent_l7.as_ref().unwrap();
    let mut sizes = Vec::new();
    for _ in 0..6 {
        for client in &mut crowd(plain, 1500, GATE).await {
            client.echoes().await.unwrap();
        }
        // These begin no handshake that could end, and go.
        let mut strangers = JoinSet::new();
        for _ in 0..300 {
            strangers.spawn(async move {
                let mut stream = tokio::net::TcpStream::connect(secret).await.unwrap();
                tokio::io::AsyncWriteExt::write_all(&mut stream, b"\x16\x03\x01\0\x05hello").await
            });
        }
        strangers.join_all().await;
        active(&site, 0).await;
        sizes.push(agent.resident_bytes() >> 10);
    }
    let (first, last) = (sizes[2], sizes[5]);
    assert!(last <= first + first / 20, "KiB after each round: {sizes:?}");
}
