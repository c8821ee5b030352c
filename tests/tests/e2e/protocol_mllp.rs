//! HL7 over MLLP: engines of python-hl7's making, and what the check finds of them.

use std::net::SocketAddr;
use std::path::Path;

use gantry_proto::v1 as pb;
use gantry_tests::Site;
use gantry_tests::process::{Process, python};
use gantry_tests::services::{check, layer7, server};
use gantry_tests::wait::listens;
use pb::health_check::{Mllp, Probe};
use pb::real_server_status::State;

/// Acknowledges all messages with one code.
const ENGINE: &str = "
import asyncio, sys
from hl7.mllp import start_hl7_server
async def serve(reader, writer):
    try:
        while not writer.is_closing():
            message = await reader.readmessage()
            writer.writemessage(message.create_ack(ack_code=sys.argv[3]))
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    writer.close()
async def main():
    async with await start_hl7_server(serve, host=sys.argv[1], port=int(sys.argv[2])) as server:
        await server.serve_forever()
asyncio.run(main())
";

async fn engine(site: &Site, at: SocketAddr, code: &str) -> Process {
    let (address, port) = (at.ip().to_string(), at.port().to_string());
    let words = ["-c", ENGINE, &address, &port, code];
    let process = Process::start(&format!("engine-{code}"), &python(), words, site.dir());
    listens(at).await;
    process
}

fn checked(listen: SocketAddr, message: &str) -> pb::VirtualService {
    let mllp = Mllp { message: message.to_owned(), ..Default::default() };
    pb::VirtualService { health_check: Some(check(Probe::Mllp(mllp))), ..layer7(listen) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn protocol_mllp_check_reads_the_acknowledgement_and_a_frozen_engine_is_found() {
    let site = Site::start().await;
    let [willing, unwilling, plain] = [20, 21, 22].map(|at| site.block.socket(at, 2575));
    let accepting = engine(&site, willing, "AA").await;
    let _refusing = engine(&site, unwilling, "AE").await;
    // It takes connections, as a TCP check wants it, and speaks something else.
    let _deaf = Process::start(
        "web",
        Path::new("python3"),
        ["-m", "http.server", "--bind", &plain.ip().to_string(), &plain.port().to_string()],
        &site.folder("web"),
    );
    listens(plain).await;
    let servers =
        || vec![server("willing", willing), server("unwilling", unwilling), server("plain", plain)];
    let own = "MSH|^~\\&|GANTRY|CHECK|ENGINE|SITE|{time}||ADT^A08|{id}|P|2.5\nPID|1||TEST";
    site.create("own", checked(site.block.socket(10, 2575), own), servers()).await;
    site.create("query", checked(site.block.socket(11, 2575), ""), servers()).await;
    for (service, name, state, words) in [
        ("own", "willing", State::Serving, "acknowledged with AA"),
        ("own", "unwilling", State::Failed, "acknowledged with AE"),
        ("own", "plain", State::Failed, ""),
        ("query", "willing", State::Serving, "acknowledged with AA"),
        // Somebody has read the query, and does not know it.
        ("query", "unwilling", State::Serving, "acknowledged with AE"),
        ("query", "plain", State::Failed, ""),
    ] {
        let status = site.server_reaches(service, name, state).await;
        assert!(format!("{status:?}").contains(words), "{service} {name}: {status:?}");
    }
    accepting.freeze();
    site.server_reaches("own", "willing", State::Failed).await;
    accepting.thaw();
    site.server_reaches("own", "willing", State::Serving).await;
}

/// Sends so many messages one after the other, as a careful sender does: what is not acknowledged it sends
/// again over a new connection.
const SENDER: &str = "
import socket, sys, time
from hl7.client import MLLPClient
address, port, name, count, timeout = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4]), float(sys.argv[5])
client = None
for at in range(count):
    message = f'MSH|^~\\\\&|{name}|SITE|ENGINE|SITE|20261127||ADT^A08|{name}-{at}|P|2.5\\rPID|1||TEST\\r'
    while True:
        begun = time.monotonic()
        try:
            if client is None:
                client = MLLPClient(address, port)
                client.socket.settimeout(timeout)
            answer = client.send_message(message).decode()
        except OSError as error:
            print('again', f'{name}-{at}', error, flush=True)
            client = None
            time.sleep(0.05)
            continue
        code, of = answer.split('MSA|')[1].split('|')[:2]
        assert of.strip() == f'{name}-{at}', answer
        print('acknowledged', of.strip(), code, round(time.monotonic() - begun, 3), flush=True)
        if code == 'AA':
            break
    time.sleep(0.01)
print('done', flush=True)
";

/// An engine that stores: it says so of each message before it acknowledges it.
const STORE: &str = "
import asyncio, sys
from hl7.mllp import start_hl7_server
async def serve(reader, writer):
    try:
        while not writer.is_closing():
            message = await reader.readmessage()
            print('stored', str(message.segment('MSH')[10]), flush=True)
            writer.writemessage(message.create_ack(ack_code='AA'))
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    writer.close()
async def main():
    async with await start_hl7_server(serve, host=sys.argv[1], port=int(sys.argv[2])) as server:
        await server.serve_forever()
asyncio.run(main())
";

/// Two engines that store, behind one virtual service, and senders in front of it.
struct Ward {
    site: Site,
    engines: Vec<(Process, SocketAddr)>,
    listen: SocketAddr,
}

const SENDERS: [&str; 3] = ["HIS", "LAB", "RIS"];

impl Ward {
    async fn start(mllp: pb::layer7::Mllp) -> Self {
        let site = Site::start().await;
        let listen = site.block.socket(10, 2575);
        let mut engines = Vec::new();
        for at in [20, 21] {
            let address = site.block.socket(at, 2575);
            let (host, port) = (address.ip().to_string(), address.port().to_string());
            let words = ["-c", STORE, &host, &port];
            let name = format!("store-{at}");
            engines.push((Process::start(&name, &python(), words, site.dir()), address));
            listens(address).await;
        }
        let layer7_of = pb::Layer7 {
            mode: pb::layer7::Mode::MllpMode.into(),
            mllp: Some(mllp),
            ..Default::default()
        };
        let service = pb::VirtualService {
            forwarding: Some(pb::virtual_service::Forwarding::Layer7(layer7_of)),
            health_check: Some(check(Probe::Mllp(Mllp::default()))),
            ..layer7(listen)
        };
        let servers = vec![server("one", engines[0].1), server("two", engines[1].1)];
        site.create("hl7", service, servers).await;
        site.up("hl7").await;
        Self { site, engines, listen }
    }

    fn sender(&self, name: &str, count: u32, timeout: f32) -> Process {
        let (host, port) = (self.listen.ip().to_string(), self.listen.port().to_string());
        let words = ["-c", SENDER, &host, &port, name, &count.to_string(), &timeout.to_string()]
            .map(str::to_owned);
        Process::start(name, &python(), words, self.site.dir())
    }

    /// What an engine has stored, the messages of checks left out.
    fn stored(&self, at: usize) -> Vec<String> {
        let own = |id: &&str| SENDERS.iter().any(|name| id.starts_with(name));
        told(&self.engines[at].0, "stored ")
            .iter()
            .map(String::as_str)
            .filter(own)
            .map(str::to_owned)
            .collect()
    }

    /// Every message is stored, those of a sender are in order in each engine, and `twice` says how many are there
    /// more than once.
    fn account(&self, count: u32) -> usize {
        let mut all: Vec<String> = Vec::new();
        for at in 0..self.engines.len() {
            let stored = self.stored(at);
            for name in SENDERS {
                let of = stored
                    .iter()
                    .filter_map(|id| id.strip_prefix(&format!("{name}-"))?.parse().ok());
                let numbers: Vec<u32> = of.collect();
                assert!(numbers.is_sorted(), "the order of {name} in engine {at}: {numbers:?}");
            }
            all.extend(stored);
        }
        let number = all.len();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), SENDERS.len() * count as usize, "no acknowledged message is lost");
        number - all.len()
    }
}

/// What a process has said after this word.
fn told(process: &Process, word: &str) -> Vec<String> {
    let log = process.log();
    log.lines().filter_map(|line| line.strip_prefix(word)).map(str::to_owned).collect()
}

fn reconnects(senders: &[Process]) -> usize {
    senders.iter().map(|sender| told(sender, "again ").len()).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn protocol_mllp_a_drain_and_a_return_are_seen_by_no_sender() {
    const COUNT: u32 = 800;
    let mut ward = Ward::start(pb::layer7::Mllp::default()).await;
    let senders = SENDERS.map(|name| ward.sender(name, COUNT, 5.0));
    for sender in &senders {
        sender.says_times("acknowledged", 40).await;
    }
    let home = if ward.stored(0).is_empty() { 1 } else { 0 };
    ward.site.drain("hl7", ["one", "two"][home], None).await;
    // The drain is in force when idle and busy lanes have left.
    gantry_tests::eventually("no connection is left", async || {
        let status = ward.site.server_status("hl7", ["one", "two"][home]).await;
        let had = status.mllp.is_some_and(|mllp| mllp.messages_total > 0);
        (had && status.active_connections == 0).then_some(())
    })
    .await;
    let drained = ward.stored(home);
    // The controller is not needed for what follows.
    ward.site.controller.kill();
    for sender in &senders {
        let so_far = told(sender, "acknowledged").len();
        sender.says_times("acknowledged", so_far + 60).await;
    }
    assert_eq!(ward.stored(home), drained, "not one further message");
    ward.site.controller.start_again();
    ward.site.agents_report().await;
    ward.site.online("hl7", ["one", "two"][home]).await;
    for sender in &senders {
        sender.says(&["done"]).await;
    }
    assert_eq!(reconnects(&senders), 0, "not one error at a sender");
    assert_eq!(ward.account(COUNT), 0);
    let mllp = ward.site.status("hl7").await.mllp.unwrap();
    assert_eq!((mllp.in_doubt_total, mllp.replayed_total), (0, 0), "{mllp:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn protocol_mllp_engines_that_freeze_and_die_lose_nothing() {
    const COUNT: u32 = 300;
    let timeout = gantry_tests::services::duration(std::time::Duration::from_millis(500));
    let mllp = pb::layer7::Mllp { acknowledgement_timeout: Some(timeout), ..Default::default() };
    let mut ward = Ward::start(mllp).await;
    let senders = SENDERS.map(|name| ward.sender(name, COUNT, 2.0));
    for sender in &senders {
        sender.says_times("acknowledged", 20).await;
    }
    for at in [0, 1] {
        ward.engines[at].0.freeze();
        for sender in &senders {
            let so_far = told(sender, "acknowledged").len();
            sender.says_times("acknowledged", (so_far + 20).min(COUNT as usize)).await;
        }
        ward.engines[at].0.thaw();
        ward.site.server_reaches("hl7", ["one", "two"][at], State::Serving).await;
    }
    for at in [1, 0] {
        ward.engines[at].0.kill();
        for sender in &senders {
            let so_far = told(sender, "acknowledged").len();
            sender.says_times("acknowledged", (so_far + 20).min(COUNT as usize)).await;
        }
        ward.engines[at].0.start_again();
        ward.site.server_reaches("hl7", ["one", "two"][at], State::Serving).await;
    }
    for sender in &senders {
        sender.says(&["done"]).await;
    }
    let twice = ward.account(COUNT);
    let mllp = ward.site.status("hl7").await.mllp.unwrap();
    let in_doubt = usize::try_from(mllp.in_doubt_total).unwrap();
    assert!(twice <= in_doubt, "{twice} are stored twice, and {in_doubt} were in doubt");
    assert!(reconnects(&senders) >= in_doubt, "a sender hears of each");
    let longest = senders.iter().flat_map(|sender| told(sender, "acknowledged "));
    let waits = longest.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
    let longest = waits.fold(0.0, f64::max);
    assert!(longest < 2.0, "no sender had to find out by itself: {longest}");
}
