//! What carries the load, and the real servers behind it.

use std::ffi::OsStr;
use std::net::SocketAddr;
use std::path::Path;

use anyhow::Context;
use gantry_proto::v1 as pb;

use super::super::rig::{Rig, Running, free_address, wait_for};
use super::peers::{self, Ports};
use super::secrets::Secrets;
use super::threads;

/// Something that carries the load.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) name: &'static str,
    /// The process whose work is counted.
    pub(super) running: Running,
    /// One that has to be there as well.
    _beside: Option<Running>,
    pub(super) ports: Ports,
}

const CLUSTER: &str = "bench";

/// Two real servers, each a process.
pub(super) fn start_backends(rig: &Rig) -> anyhow::Result<(Vec<Running>, Vec<SocketAddr>)> {
    let mut running = Vec::new();
    let mut addresses = Vec::new();
    for _ in 0..2 {
        let address = free_address()?;
        running.push(start_backend(rig, address)?);
        addresses.push(address);
    }
    Ok((running, addresses))
}

pub(super) fn start_backend(rig: &Rig, address: SocketAddr) -> anyhow::Result<Running> {
    let listen = address.to_string();
    let command = ["bench", "layer7", "--backend", &listen].map(OsStr::new);
    let xtask = rig.binary("xtask");
    let command: Vec<&OsStr> = [xtask.as_os_str()].into_iter().chain(command).collect();
    let running = Running::start(&command, &rig.log("real-server"))?;
    wait_for(address)?;
    Ok(running)
}

pub(super) async fn start_targets(
    rig: &Rig,
    secrets: &Secrets,
    servers: &[SocketAddr],
) -> anyhow::Result<Vec<Target>> {
    let ports = || {
        let [tcp, tls, http] = [free_address()?, free_address()?, free_address()?];
        anyhow::Ok(Ports { tcp, tls, http })
    };
    let (ours, of_haproxy, of_nginx) = (ports()?, ports()?, ports()?);
    let dir: &Path = rig.dir();
    let [agent, healthd] = start_gantry(rig, ours, secrets, servers).await?;
    let peer = |name, running, ports| Target { name, running, _beside: None, ports };
    let targets = vec![
        Target { name: "Gantry", running: agent, _beside: Some(healthd), ports: ours },
        peer("HAProxy", peers::haproxy(dir, of_haproxy, secrets, servers, threads())?, of_haproxy),
        peer("nginx", peers::nginx(dir, of_nginx, secrets, servers, threads())?, of_nginx),
    ];
    for target in &targets {
        let Ports { tcp, tls, http } = target.ports;
        for port in [tcp, tls, http] {
            wait_for(port).with_context(|| format!("starting {}", target.name))?;
        }
    }
    Ok(targets)
}

/// agent-l7, and healthd beside it, by the controller's word.
async fn start_gantry(
    rig: &Rig,
    ports: Ports,
    secrets: &Secrets,
    servers: &[SocketAddr],
) -> anyhow::Result<[Running; 2]> {
    let [chain, key] = [&secrets.chain, &secrets.key].map(|path| path.display().to_string());
    let import = ["import", "certificate", "bench", "--chain", &chain, "--key", &key];
    rig.gantry(&import).await?;
    let plain = pb::Layer7::default();
    let tls = pb::Layer7 { certificate: "certificates/bench".to_owned(), ..plain.clone() };
    let http = pb::Layer7 { mode: pb::layer7::Mode::HttpMode.into(), ..plain.clone() };
    let services = vec![
        service("tcp", ports.tcp, plain, servers),
        service("tls", ports.tls, tls, servers),
        service("http", ports.http, http, servers),
    ];
    rig.make_cluster_of(CLUSTER, services).await?;
    let identity = rig.enroll(CLUSTER, "lb1").await?;
    let feed = rig.dir().join("health.sock");
    let start =
        |program: &str| rig.start_agent(program, &identity, [&rig.dir().join(program), &feed]);
    let healthd = start("gantry-healthd")?;
    let agent = start("gantry-agent-l7")?;
    rig.settled(CLUSTER, 2).await?;
    Ok([agent, healthd])
}

pub(super) fn service(
    id: &str,
    listen: SocketAddr,
    forwarding: pb::Layer7,
    servers: &[SocketAddr],
) -> pb::config::Service {
    let server = |(at, address): (usize, &SocketAddr)| pb::RealServer {
        name: format!("rs{at}"),
        endpoint: Some(pb::Endpoint {
            address: address.ip().to_string(),
            port: address.port().into(),
        }),
        ..Default::default()
    };
    let service = pb::VirtualService {
        name: id.to_owned(),
        listener: Some(pb::Listener {
            address: listen.ip().to_string(),
            ports: vec![listen.port().to_string()],
            ..Default::default()
        }),
        forwarding: Some(pb::virtual_service::Forwarding::Layer7(forwarding)),
        persistence: Some(pb::Persistence::default()),
        ..Default::default()
    };
    let real_servers = servers.iter().enumerate().map(server).collect();
    pb::config::Service { virtual_service: Some(service), real_servers }
}
