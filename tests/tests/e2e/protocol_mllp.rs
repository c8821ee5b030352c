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
