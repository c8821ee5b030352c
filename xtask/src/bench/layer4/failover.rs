//! A real server is killed while clients keep coming: when does the last one meet it?
//!
//! One network with two load balancers, this namespace with agent-l4 and healthd, and another with
//! keepalived. Both send clients to the same two real servers by direct routing, in turn, and both check
//! them by TCP connects once a second; one failure takes out. Gantry does so for two virtual addresses,
//! and for one of them it also holds a connection to each server. So every kill meets all at once, under
//! the same clients: a connection to each address 20 times a second.

use std::ffi::OsStr;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::anyhow;
use gantry_model::wire;
use gantry_proto::v1 as pb;
use gantry_runtime::clock;
use pb::layer4::{Method, Scheduler};

use super::super::net::{Net, ip};
use super::peers::Keepalived;
use super::stage::{APPLIANCE, Agent, Stage, until};
use super::table::Table;
use crate::bench::figures::{Durations, ratio};
use crate::bench::rig::Running;
use crate::say;

const PORT: u16 = 8080;
const OURS: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 100);
const OURS_HELD: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 102);
const THEIRS: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 101);
const ALL: [Ipv4Addr; 3] = [OURS, OURS_HELD, THEIRS];
/// The one that is killed comes first.
const SERVERS: [(&str, Ipv4Addr); 2] =
    [("rs1", Ipv4Addr::new(10, 77, 0, 21)), ("rs2", Ipv4Addr::new(10, 77, 0, 22))];
const CLUSTER: &str = "failover";

/// From one connection of the client's to the next.
const PACE: Duration = Duration::from_millis(50);
const INTERVAL: Duration = Duration::from_secs(1);
/// Between two looks at the kernel's tables.
const LOOK: Duration = Duration::from_millis(10);
/// The client's time before a kill, and after both have reacted.
const CALM: Duration = Duration::from_millis(1500);

pub(super) async fn measure(stage: &Stage, kills: usize) -> anyhow::Result<()> {
    say(format_args!("\na real server is killed, checks by TCP connect once a second"));
    let lab = Lab::build()?;
    let mut server = Some(lab.serve(stage, 0)?);
    let _other = lab.serve(stage, 1)?;
    let keepalived = Keepalived::start(&lab.balancer, stage.rig.dir(), &keepalived_config())?;
    let agents = start_gantry(stage).await?;
    let [agent, keepalived] = [agents[1].id(), keepalived.id()];
    let mut sides = [
        Side::new("Gantry", OURS, agent),
        Side::new("Gantry, a connection held", OURS_HELD, agent),
        Side::new("keepalived", THEIRS, keepalived),
    ];
    for kill in 0..kills {
        server = server.map_or_else(|| lab.serve(stage, 0), Ok).map(Some)?;
        for side in &sides {
            until("both servers are in service", LOOK, || side.has(2)).await?;
        }
        // Any moment of the checks' second, and each as often as any other.
        tokio::time::sleep(INTERVAL * u32::try_from(kill)? / u32::try_from(kills)?).await;
        let clients: Vec<_> = ALL.into_iter().map(|at| lab.client(at)).collect::<Result<_, _>>()?;
        tokio::time::sleep(CALM).await;
        let killed = clock::monotonic();
        drop(server.take());
        watch(&mut sides, killed).await?;
        tokio::time::sleep(CALM).await;
        for (side, client) in sides.iter_mut().zip(clients) {
            side.count(client.stop()?, killed);
        }
    }
    sides.iter_mut().for_each(Side::tell);
    let [checks, held, theirs] = &sides;
    for (with, side) in [("checks alone", checks), ("a connection held", held)] {
        say(format_args!(
            "  with {with}: ratio of the medians until the last failure {:.2} (promise: at most 1), of the \
             failed connections {:.2}",
            ratio(&side.last_failure, &theirs.last_failure),
            side.failed_in_all() / theirs.failed_in_all()
        ));
    }
    Ok(())
}

/// Notes when each side's kernel sends no clients to the dead server any more.
async fn watch(sides: &mut [Side], killed: Instant) -> anyhow::Result<()> {
    let mut left: Vec<_> = sides.iter_mut().collect();
    while !left.is_empty() {
        anyhow::ensure!(clock::monotonic() - killed < INTERVAL * 60, "the dead server stays");
        let mut still = Vec::new();
        for side in left {
            if side.has(1)? {
                side.out.push(clock::monotonic() - killed);
            } else {
                still.push(side);
            }
        }
        left = still;
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}

/// A virtual service of one load balancer.
#[derive(Debug)]
struct Side {
    name: &'static str,
    address: Ipv4Addr,
    table: Table,
    out: Durations,
    last_failure: Durations,
    failed: Vec<usize>,
    tried: usize,
}

impl Side {
    fn new(name: &'static str, address: Ipv4Addr, process: u32) -> Self {
        let (out, last_failure) = (Durations::default(), Durations::default());
        let (table, failed) = (Table::of(process), Vec::new());
        Self { name, address, table, out, last_failure, failed, tried: 0 }
    }

    /// Whether so many servers get clients.
    fn has(&self, servers: usize) -> anyhow::Result<bool> {
        let all = self.table.all()?.into_iter();
        let serve = all.filter(|entry| *entry.service.ip() == self.address && entry.weight > 0);
        Ok(serve.count() == servers)
    }

    fn count(&mut self, attempts: Vec<Attempt>, killed: Instant) {
        self.tried += attempts.len();
        let failed: Vec<_> = attempts.iter().filter(|attempt| !attempt.succeeded).collect();
        let last = failed.iter().map(|attempt| attempt.ended).max();
        self.last_failure.push(last.map_or(Duration::ZERO, |last| last.duration_since(killed)));
        self.failed.push(failed.len());
    }

    fn failed_in_all(&self) -> f64 {
        self.failed.iter().map(|failed| *failed as f64).sum()
    }

    fn tell(&mut self) {
        let name = self.name;
        self.failed.sort_unstable();
        let (all, count) = (self.failed.iter().sum::<usize>(), self.failed.len());
        let [least, median, most] = [0, count / 2, count.saturating_sub(1)]
            .map(|at| self.failed.get(at).copied().unwrap_or_default());
        say(format_args!("  {name}, kill to out of the kernel:   {}", self.out.spread()));
        say(format_args!("  {name}, kill to the last failure:    {}", self.last_failure.spread()));
        say(format_args!(
            "  {name}, failed connections of a kill: median {median}, {least} to {most}; {all} in all \
             of {}",
            self.tried
        ));
    }
}

#[derive(Debug)]
struct Lab {
    client: Net,
    balancer: Net,
    servers: Vec<Net>,
    _switch: Net,
}

impl Lab {
    /// The bridge and the hosts; this namespace is one of them, as eth0.
    fn build() -> anyhow::Result<Self> {
        let switch = Net::add("switch")?;
        switch.ip(&["link add br0 type bridge forward_delay 0 stp_state 0", "link set br0 up"]
            .map(str::to_owned))?;
        let own = std::process::id().to_string();
        plug(&switch, "own", &own)?;
        ip(None, &up(Ipv4Addr::new(10, 77, 0, 11)))?;
        let host = |name: &str, address: Ipv4Addr| {
            let net = Net::add(name)?;
            plug(&switch, name, name)?;
            net.ip(&up(address))?;
            anyhow::Ok(net)
        };
        let client = host("client", Ipv4Addr::new(10, 77, 0, 201))?;
        let balancer = host("balancer", Ipv4Addr::new(10, 77, 0, 12))?;
        balancer.ip(&[format!("addr add {THEIRS}/32 dev eth0")])?;
        let servers = SERVERS.iter().map(|(name, address)| {
            let net = host(name, *address)?;
            quiet(&net)?;
            net.ip(&ALL.map(|address| format!("addr add {address}/32 dev lo")))?;
            Ok(net)
        });
        let servers = servers.collect::<anyhow::Result<_>>()?;
        Ok(Self { client, balancer, servers, _switch: switch })
    }

    /// Starts a real server.
    fn serve(&self, stage: &Stage, at: usize) -> anyhow::Result<Running> {
        let ((name, _), xtask) = (SERVERS[at], stage.rig.binary("xtask"));
        let mut command: Vec<&OsStr> =
            self.servers[at].within().iter().map(|word| OsStr::new(*word)).collect();
        command.push(xtask.as_os_str());
        let listen = format!("0.0.0.0:{PORT}");
        command.extend(["sample", "mllp", "--name", name, "--listen", &listen].map(OsStr::new));
        Running::start(&command, &stage.rig.log(name))
    }

    /// Starts a client of a virtual address.
    fn client(&self, address: Ipv4Addr) -> anyhow::Result<Client> {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, to) = (Arc::clone(&stop), SocketAddrV4::new(address, PORT));
        let thread = self.client.start(move || keep_connecting(to.into(), &stopped))?;
        Ok(Client { stop, thread })
    }
}

/// A cable from the switch to `namespace`, its name or the number of a process that is in it.
fn plug(switch: &Net, port: &str, namespace: &str) -> anyhow::Result<()> {
    switch.ip(&[
        format!("link add {port} type veth peer name eth0 netns {namespace}"),
        format!("link set {port} master br0 up"),
    ])
}

fn up(address: Ipv4Addr) -> [String; 2] {
    [format!("addr add {address}/24 dev eth0"), "link set eth0 up".to_owned()]
}

/// Leaves the answering of ARP for the virtual addresses to the load balancers.
fn quiet(net: &Net) -> anyhow::Result<()> {
    let set = || {
        std::fs::write("/proc/sys/net/ipv4/conf/all/arp_ignore", "1")?;
        std::fs::write("/proc/sys/net/ipv4/conf/all/arp_announce", "2")
    };
    let done = net.start(set)?.join().map_err(|_| anyhow!("a thread panicked"))?;
    Ok(done??)
}

#[derive(Debug)]
struct Client {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<anyhow::Result<Vec<Attempt>>>,
}

#[derive(Clone, Copy, Debug)]
struct Attempt {
    ended: Instant,
    succeeded: bool,
}

impl Client {
    fn stop(self) -> anyhow::Result<Vec<Attempt>> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow!("a client panicked"))?
    }
}

fn keep_connecting(to: SocketAddr, stop: &AtomicBool) -> Vec<Attempt> {
    let mut attempts = Vec::new();
    let mut next = clock::monotonic();
    while !stop.load(Ordering::Relaxed) {
        let succeeded = TcpStream::connect_timeout(&to, INTERVAL).is_ok();
        attempts.push(Attempt { ended: clock::monotonic(), succeeded });
        next += PACE;
        std::thread::sleep(next.saturating_duration_since(clock::monotonic()));
    }
    attempts
}

/// Makes the services, and starts healthd and agent-l4.
async fn start_gantry(stage: &Stage) -> anyhow::Result<[Agent; 2]> {
    let services = vec![service("checked", OURS, false), service("held", OURS_HELD, true)];
    stage.rig.make_cluster_of(CLUSTER, services).await?;
    let identity = stage.rig.enroll(CLUSTER, APPLIANCE).await?;
    let start = |program: &str, state: &str| {
        stage.start(program, None, (&stage.rig.url(), &identity, &identity.with_file_name(state)))
    };
    let agents = [start("gantry-healthd", "healthd")?, start("gantry-agent-l4", "agent-l4")?];
    stage.rig.settled(CLUSTER, 2).await?;
    Ok(agents)
}

fn service(id: &str, address: Ipv4Addr, hold_connection: bool) -> pb::config::Service {
    let server = |(name, address): &(&str, Ipv4Addr)| pb::RealServer {
        name: (*name).to_owned(),
        endpoint: Some(pb::Endpoint { address: address.to_string(), port: PORT.into() }),
        ..Default::default()
    };
    let connect = pb::health_check::Probe::TcpConnect(pb::health_check::TcpConnect {});
    let check = pb::HealthCheck {
        interval: Some(wire::duration_message(INTERVAL)),
        timeout: Some(wire::duration_message(INTERVAL)),
        fall: 1,
        rise: 1,
        hold_connection,
        probe: Some(connect),
        ..Default::default()
    };
    let layer4 = pb::Layer4 {
        method: Method::Dr.into(),
        scheduler: Scheduler::RoundRobin.into(),
        ..Default::default()
    };
    let service = pb::VirtualService {
        name: id.to_owned(),
        listener: Some(pb::Listener {
            address: address.to_string(),
            ports: vec![PORT.to_string()],
            ..Default::default()
        }),
        forwarding: Some(pb::virtual_service::Forwarding::Layer4(layer4)),
        health_check: Some(check),
        ..Default::default()
    };
    let real_servers = SERVERS.iter().map(server).collect();
    pb::config::Service { virtual_service: Some(service), real_servers }
}

/// The same for keepalived.
fn keepalived_config() -> String {
    let servers = SERVERS.map(|(_, address)| {
        format!(
            " real_server {address} {PORT} {{\n  weight 1\n  TCP_CHECK {{\n   connect_timeout 1\n   \
             retry 0\n  }}\n }}\n"
        )
    });
    format!(
        "global_defs {{\n router_id bench\n}}\nvirtual_server {THEIRS} {PORT} {{\n delay_loop 1\n \
         lvs_sched rr\n lvs_method DR\n protocol TCP\n{}}}\n",
        servers.concat()
    )
}
