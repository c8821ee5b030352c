//! The PROXY protocol between Gantry and a proxy from another house, HAProxy: in front and behind.

use std::net::SocketAddr;
use std::path::Path;

use gantry_proto::v1 as pb;
use gantry_tests::process::Process;
use gantry_tests::services::{connect_check, layer7, server};
use gantry_tests::wait::listens;
use gantry_tests::{Site, eventually};
use pb::ended::Termination;
use pb::layer7::ProxyProtocol;
use pb::virtual_service::Forwarding;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket};
use tokio::task::JoinSet;

/// HAProxy from `bind` to `server`, each with more words of its configuration.
fn haproxy(site: &Site, name: &str, bind: &str, server: &str) -> Process {
    let folder = site.folder(name);
    let config = folder.join("haproxy.cfg");
    let text = format!(
        "global\n    maxconn 100\ndefaults\n    mode tcp\n    timeout connect 4s\n    \
         timeout client 1m\n    timeout server 1m\nlisten {name}\n    bind {bind}\n    \
         server next {server}\n"
    );
    std::fs::write(&config, text).unwrap();
    let arguments = ["-db", "-f", config.to_str().unwrap()];
    Process::start(name, Path::new("haproxy"), arguments, &folder)
}

/// A real server that gives back the first line that it is sent, and says who it is.
async fn first_line(at: SocketAddr) -> JoinSet<()> {
    let listener = TcpListener::bind(at).await.unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        loop {
            let Ok((mut stream, _)) = listener.accept().await else { return };
            let mut heard = [0; 256];
            if let Ok(length @ 1..) = stream.read(&mut heard).await {
                let _ = stream.write_all(&heard[..length]).await;
            }
        }
    });
    tasks
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn proxy_header_tells_real_servers_of_the_client_through_three_proxies() {
    let site = Site::start().await;
    let [front, listen, behind, real] = [9, 10, 20, 21].map(|at| site.block.socket(at, 8000));
    // Behind is a proxy that takes what Gantry says, and tells it in the words of version 1.
    let _behind =
        haproxy(&site, "behind", &format!("{behind} accept-proxy"), &format!("{real} send-proxy"));
    let _real = first_line(real).await;
    listens(behind).await;
    let client = site.block.socket(7, 0);
    for (sends, version) in [
        ("send-proxy", ProxyProtocol::V1),
        ("send-proxy", ProxyProtocol::V2),
        ("send-proxy-v2", ProxyProtocol::V1),
        ("send-proxy-v2", ProxyProtocol::V2),
    ] {
        let id = format!("{sends}-to-{}", version.as_str_name()).to_lowercase();
        let forwarding = pb::Layer7 {
            accept_proxy_protocol: true,
            send_proxy_protocol: true,
            proxy_protocol_version: version.into(),
            log_connections: true,
            ..Default::default()
        };
        let service = pb::VirtualService {
            forwarding: Some(Forwarding::Layer7(forwarding)),
            health_check: Some(connect_check()),
            ..layer7(listen)
        };
        site.create(&id, service, vec![server("behind", behind)]).await;
        site.up(&id).await;
        let _front = haproxy(&site, &id, &front.to_string(), &format!("{listen} {sends}"));
        listens(front).await;
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(client).unwrap();
        let mut stream = socket.connect(front).await.unwrap();
        let port = stream.local_addr().unwrap().port();
        stream.write_all(b"hello").await.unwrap();
        let mut heard = String::new();
        stream.read_to_string(&mut heard).await.unwrap();
        let told = format!("PROXY TCP4 {} {} {port} 8000\r\n", client.ip(), front.ip());
        assert!(heard.starts_with(&told), "{id}: {heard}");
        drop(stream);
        let agent = site.agent_l7.as_ref().unwrap();
        let line =
            agent.says(&["connection ended", &id, "both sides had ended", "COMPLETED"]).await;
        assert!(line.contains("server=\"behind\"") && line.contains("from_client="), "{line}");
        eventually("it is counted", async || {
            let ended = site.status(&id).await.ended;
            ended.iter().any(|one| one.reason() == Termination::Completed).then_some(())
        })
        .await;
        let name = gantry_tests::site::service_name(&id);
        let request = pb::DeleteVirtualServiceRequest { name, ..Default::default() };
        site.balancer().delete_virtual_service(request).await.unwrap();
        site.agents_report().await;
    }
}
