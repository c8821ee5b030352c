//! Equal services in three languages: Gantry's, ipvsadm's and keepalived's.
//!
//! Thousands of virtual services are on few addresses, 50 ports on each; every one has four real
//! servers without checks, by NAT, and the scheduler wlc.

use std::ffi::OsStr;
use std::fmt::Write;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;
use gantry_proto::v1 as pb;
use pb::layer4::{Method, Scheduler};

use super::super::net::Net;
use crate::bench::rig::Running;

/// Virtual services on one address.
const PER_ADDRESS: usize = 50;
const SERVERS: usize = 4;

/// The machine's own address in the network of the virtual ones.
const OWN: &str = "10.100.255.254/16";

/// What makes an interface on which virtual addresses can be brought up.
pub(super) fn interface() -> [String; 3] {
    [
        "link add front type dummy".to_owned(),
        format!("addr add {OWN} dev front"),
        "link set front up".to_owned(),
    ]
}

/// Where the virtual service with this number listens.
pub(super) fn listens(service: usize) -> SocketAddrV4 {
    let number = service / PER_ADDRESS + 1;
    socket([10, 100], number, 10_000 + service % PER_ADDRESS)
}

/// One of its real servers.
fn server(service: usize, at: usize) -> SocketAddrV4 {
    socket([10, 9], service + 1, 8001 + at)
}

fn socket([one, two]: [u8; 2], number: usize, port: usize) -> SocketAddrV4 {
    let byte = |number: usize| u8::try_from(number % 256).expect("less than 256");
    let address = Ipv4Addr::new(one, two, byte(number / 256), byte(number));
    SocketAddrV4::new(address, u16::try_from(port).expect("of few"))
}

/// Which services and which of their real servers these addresses are.
pub(super) fn number_of(
    services: usize,
    listen: SocketAddrV4,
    endpoint: SocketAddrV4,
) -> anyhow::Result<(usize, usize)> {
    let service = (0..services).find(|service| listens(*service) == listen);
    let service = service.with_context(|| format!("{listen} is in the kernel"))?;
    let at = (0..SERVERS).find(|at| server(service, *at) == endpoint);
    Ok((service, at.with_context(|| format!("{endpoint} is in the kernel"))?))
}

/// Real servers of so many services.
pub(super) fn servers(services: usize) -> usize {
    services * SERVERS
}

/// A service for the controller.
pub(super) fn gantry(number: usize) -> pb::config::Service {
    let server = |at: usize| {
        let found = server(number, at);
        let endpoint = pb::Endpoint { address: found.ip().to_string(), port: found.port().into() };
        pb::RealServer {
            name: format!("rs{at}"),
            endpoint: Some(endpoint),
            weight: Some(1),
            ..Default::default()
        }
    };
    let none = pb::health_check::Probe::None(pb::health_check::None {});
    let layer4 = pb::Layer4 {
        method: Method::Nat.into(),
        scheduler: Scheduler::WeightedLeastConnection.into(),
        ..Default::default()
    };
    let service = pb::VirtualService {
        name: format!("service-{number:05}"),
        listener: Some(pb::Listener {
            address: listens(number).ip().to_string(),
            ports: vec![listens(number).port().to_string()],
            ..Default::default()
        }),
        forwarding: Some(pb::virtual_service::Forwarding::Layer4(layer4)),
        health_check: Some(pb::HealthCheck { probe: Some(none), ..Default::default() }),
        ..Default::default()
    };
    pb::config::Service {
        virtual_service: Some(service),
        real_servers: (0..SERVERS).map(server).collect(),
    }
}

/// The same for `ipvsadm --restore`.
pub(super) fn ipvsadm(services: usize) -> String {
    let mut rules = String::new();
    for number in 0..services {
        let listen = listens(number);
        // To write to a string does not fail.
        let _ = writeln!(rules, "-A -t {listen} -s wlc");
        for at in 0..SERVERS {
            let _ = writeln!(rules, "-a -t {listen} -r {} -m -w 1", server(number, at));
        }
    }
    rules
}

/// The same for keepalived; one real server, `(service, server)`, has another weight.
pub(super) fn keepalived(services: usize, other: (usize, usize), weight: u32) -> String {
    let mut config = "global_defs {\n router_id bench\n}\n".to_owned();
    for number in 0..services {
        let listen = listens(number);
        let (address, port) = (listen.ip(), listen.port());
        let _ = writeln!(config, "virtual_server {address} {port} {{\n lvs_sched wlc");
        config += " lvs_method NAT\n protocol TCP\n";
        for at in 0..SERVERS {
            let found = server(number, at);
            let weight = if (number, at) == other { weight } else { 1 };
            let (address, port) = (found.ip(), found.port());
            let _ = writeln!(config, " real_server {address} {port} {{\n  weight {weight}\n }}");
        }
        config += "}\n";
    }
    config
}

/// keepalived in a namespace, with what it was told in a file.
#[derive(Debug)]
pub(super) struct Keepalived {
    running: Running,
    pub(super) config: PathBuf,
}

impl Keepalived {
    pub(super) fn start(net: &Net, dir: &Path, config: &str) -> anyhow::Result<Self> {
        // One that was killed may have left its files.
        let file = |name: &str| dir.join(format!("{}-{name}", net.name()));
        let path = file("keepalived.conf");
        std::fs::write(&path, config)?;
        let (process, checkers) = (file("keepalived.pid"), file("checkers.pid"));
        let mut command: Vec<&OsStr> = net.within().into_iter().map(OsStr::new).collect();
        command.extend(["keepalived", "--dont-fork", "--log-console", "--check"].map(OsStr::new));
        for (option, value) in
            [("--use-file", &path), ("--pid", &process), ("--checkers_pid", &checkers)]
        {
            command.extend([OsStr::new(option), value.as_os_str()]);
        }
        let running = Running::start(&command, &file("keepalived.log"))?;
        Ok(Self { running, config: path })
    }

    pub(super) fn id(&self) -> u32 {
        self.running.id()
    }
}

pub(super) fn keepalived_version() -> anyhow::Result<String> {
    let output = Command::new("keepalived").arg("--version").output();
    let output = output.context("starting keepalived (apt-get install keepalived ipvsadm)")?;
    let text = String::from_utf8_lossy(&output.stderr);
    Ok(text.lines().next().unwrap_or_default().to_owned())
}
