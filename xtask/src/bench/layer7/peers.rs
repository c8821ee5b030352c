//! HAProxy and nginx, told the same as Gantry.
//!
//! HAProxy has what the appliance of old has: persistence by source address, checks, counters; and with
//! that the settings by which it leaves a dead server soonest, which are not its defaults. nginx
//! of Debian has no checks but passive ones and no persistence table.

use std::ffi::OsStr;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};

use super::super::rig::Running;
use super::secrets::Secrets;

/// Where each kind of traffic is taken.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ports {
    pub(super) tcp: SocketAddr,
    /// TLS, which ends at the proxy.
    pub(super) tls: SocketAddr,
    /// Requests of HTTP.
    pub(super) http: SocketAddr,
}

/// HAProxy with two threads in a folder of its own.
pub(super) fn haproxy(
    dir: &Path,
    ports: Ports,
    secrets: &Secrets,
    servers: &[SocketAddr],
    threads: usize,
) -> anyhow::Result<Running> {
    let server = |(at, address): (usize, &SocketAddr)| format!("    server rs{at} {address}\n");
    let servers: String = servers.iter().enumerate().map(server).collect();
    let persistence = "stick-table type ip size 100k expire 1h\n    stick on src";
    let config = format!(
        "global\n    maxconn 9200\n    maxpipes 200\n    nbthread {threads}\n\
         defaults\n    mode tcp\n    option splice-auto\n    timeout connect 4s\n    \
         timeout client 1h\n    timeout server 1h\n    balance leastconn\n    \
         option redispatch\n    retries 3\n    default-server check inter 1s fall 2 observe layer4 \
         error-limit 1 on-error mark-down\n\
         listen tcp\n    bind {tcp}\n    {persistence}\n{servers}\
         listen tls\n    bind {tls} ssl crt {certificate}\n    {persistence}\n{servers}\
         listen http\n    mode http\n    option forwardfor\n    bind {http}\n    {persistence}\n{servers}",
        tcp = ports.tcp,
        tls = ports.tls,
        http = ports.http,
        certificate = secrets.both.display(),
    );
    let path = dir.join("haproxy.cfg");
    std::fs::write(&path, config)?;
    start(dir, "haproxy", &["-db".as_ref(), "-f".as_ref(), path.as_os_str()])
}

/// nginx with two workers in a folder of its own.
pub(super) fn nginx(
    dir: &Path,
    ports: Ports,
    secrets: &Secrets,
    servers: &[SocketAddr],
    threads: usize,
) -> anyhow::Result<Running> {
    let servers: String = servers.iter().map(|at| format!("  server {at};\n")).collect();
    let home = dir.join("nginx");
    std::fs::create_dir_all(&home)?;
    let config = format!(
        "load_module /usr/lib/nginx/modules/ngx_stream_module.so;\n\
         worker_processes {threads};\nworker_rlimit_nofile 20000;\ndaemon off;\npid {home}/pid;\n\
         error_log {home}/error.log;\nevents {{ worker_connections 20000; }}\n\
         stream {{\n upstream real {{\n  least_conn;\n{servers} }}\n \
         proxy_connect_timeout 4s;\n proxy_timeout 1h;\n tcp_nodelay on;\n \
         ssl_certificate {chain};\n ssl_certificate_key {key};\n \
         server {{\n  listen {tcp} reuseport backlog=16384;\n  proxy_pass real;\n }}\n \
         server {{\n  listen {tls} ssl reuseport backlog=16384;\n  proxy_pass real;\n }}\n}}\n\
         http {{\n access_log off;\n keepalive_requests 1000000000;\n \
         upstream web {{\n  least_conn;\n{servers}  keepalive 256;\n  \
         keepalive_requests 1000000000;\n }}\n server {{\n  \
         listen {http} reuseport backlog=16384;\n  location / {{\n   proxy_pass http://web;\n   \
         proxy_http_version 1.1;\n   proxy_set_header Connection \"\";\n   \
         proxy_set_header X-Forwarded-For $remote_addr;\n  }}\n }}\n}}\n",
        tcp = ports.tcp,
        tls = ports.tls,
        http = ports.http,
        chain = secrets.chain.display(),
        key = secrets.key.display(),
        home = home.display(),
    );
    let path = dir.join("nginx.conf");
    std::fs::write(&path, config)?;
    start(dir, "nginx", &["-c".as_ref(), path.as_os_str(), "-p".as_ref(), home.as_os_str()])
}

fn start(dir: &Path, program: &str, arguments: &[&OsStr]) -> anyhow::Result<Running> {
    let command: Vec<&OsStr> = [OsStr::new(program)].iter().chain(arguments).copied().collect();
    Running::start(&command, &log(dir, program))
}

fn log(dir: &Path, program: &str) -> PathBuf {
    dir.join(format!("{program}.log"))
}

/// What each calls itself.
pub(super) fn version(program: &str) -> anyhow::Result<String> {
    let missing =
        || format!("starting {program} (apt-get install haproxy nginx libnginx-mod-stream)");
    let output = Command::new(program).arg("-v").output().with_context(missing)?;
    ensure!(output.status.success(), missing());
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    Ok(text.lines().next().unwrap_or_default().to_owned())
}
