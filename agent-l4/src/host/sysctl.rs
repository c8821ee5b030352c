//! The kernel settings that layer 4 depends on (sysctl(8), `ip-sysctl.rst` and `ipvs-sysctl.rst` of
//! the kernel).
//!
//! Names are written as sysctl(8) does: dots between the parts, and a slash for a dot inside a part,
//! as in `net.ipv4.conf.eth0/100.send_redirects` for the interface `eth0.100`.

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A kernel setting and the reason for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    pub name: String,
    pub value: Value,
    /// What goes wrong otherwise, for people.
    pub why: &'static str,
}

/// What a setting should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value {
    Exactly(u32),
    /// More is right as well, and is left.
    AtLeast(u32),
}

/// What the services of this machine need, from which the settings follow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// There is an IPv4 service by NAT or SNAT.
    pub forwards_ipv4: bool,
    /// There is an IPv6 service by NAT or SNAT.
    pub forwards_ipv6: bool,
    /// The interfaces with the addresses of services by NAT or SNAT.
    pub forwarding: BTreeSet<String>,
    /// The longest idle timeout of a service by SNAT; absent: there is none.
    pub snat: Option<Duration>,
    /// The interfaces with virtual addresses through which this machine checks.
    pub checked: BTreeSet<String>,
}

/// What became of a [`Setting`].
#[derive(Debug)]
pub struct Outcome {
    pub name: String,
    pub wanted: Value,
    /// Absent: it could not be read.
    pub before: Option<String>,
    pub now: Option<String>,
    pub error: Option<io::Error>,
}

const ROOT: &str = "/proc/sys";

/// The settings that follow from the needs, in the order in which they have to be made.
///
/// Those of `net.ipv4.vs` are there once IPVS is loaded, those of `net.netfilter` once connection
/// tracking is: make them after the first service and the first [`super::nft`] change.
pub fn settings(needs: &Needs) -> Vec<Setting> {
    let mut settings = vec![
        exactly("net.ipv4.vs.expire_nodest_conn", 1, NODEST),
        exactly("net.ipv4.vs.expire_quiescent_template", 1, QUIESCENT),
        exactly("net.ipv4.vs.conn_reuse_mode", 1, REUSE),
    ];
    // These first: to switch forwarding resets other settings of the interfaces.
    if needs.forwards_ipv4 {
        settings.push(exactly("net.ipv4.ip_forward", 1, FORWARD));
    }
    if needs.forwards_ipv6 {
        settings.push(exactly("net.ipv6.conf.all.forwarding", 1, FORWARD));
    }
    if needs.forwards_ipv4 {
        let interfaces = needs.forwarding.iter().map(String::as_str);
        settings.extend(["all"].into_iter().chain(interfaces).map(|interface| {
            exactly(of_interface("ipv4", interface, "send_redirects"), 0, REDIRECTS)
        }));
    }
    if let Some(idle) = needs.snat {
        let idle = u32::try_from(idle.as_secs()).unwrap_or(u32::MAX);
        let name = "net.netfilter.nf_conntrack_tcp_timeout_established".to_owned();
        settings.push(exactly("net.ipv4.vs.conntrack", 1, CONNTRACK));
        settings.push(Setting { name, value: Value::AtLeast(idle), why: ESTABLISHED });
    }
    settings.extend(needs.checked.iter().map(|interface| {
        exactly(of_interface("ipv4", interface, "accept_local"), 1, ACCEPT_LOCAL)
    }));
    settings
}

/// Makes each setting what it should be, and tells what came of it. One that is right is not written.
pub fn ensure(settings: &[Setting]) -> Vec<Outcome> {
    settings.iter().map(|setting| make(Path::new(ROOT), setting)).collect()
}

/// The value of a setting; absent: it cannot be read.
pub fn read(name: &str) -> Option<String> {
    read_in(Path::new(ROOT), name).ok()
}

pub fn write(name: &str, value: &str) -> io::Result<()> {
    write_in(Path::new(ROOT), name, value)
}

/// The name of a setting of one interface: `of_interface("ipv4", "eth0.100", "send_redirects")`.
pub fn of_interface(family: &str, interface: &str, setting: &str) -> String {
    format!("net.{family}.conf.{}.{setting}", interface.replace('.', "/"))
}

impl Value {
    /// Whether a setting that reads so is right.
    pub fn is_met(self, found: &str) -> bool {
        let Ok(found) = found.trim().parse::<u64>() else { return false };
        match self {
            Self::Exactly(value) => found == u64::from(value),
            Self::AtLeast(value) => found >= u64::from(value),
        }
    }

    fn number(self) -> u32 {
        match self {
            Self::Exactly(value) | Self::AtLeast(value) => value,
        }
    }
}

impl Outcome {
    /// Whether the setting is what it should be.
    pub fn is_right(&self) -> bool {
        self.now.as_deref().is_some_and(|now| self.wanted.is_met(now))
    }
}

const NODEST: &str = "otherwise connections to a server that was taken out hang in silence instead \
                      of being reset";
const QUIESCENT: &str = "otherwise persistent clients keep coming to a server that drains";
const REUSE: &str = "otherwise a client that takes an old port again may be sent to a server that is \
                     gone";
const FORWARD: &str = "otherwise replies of the real servers do not get back to the clients";
const REDIRECTS: &str = "otherwise real servers and clients are told of a shorter way, past the load \
                         balancer";
const CONNTRACK: &str = "otherwise the source address of the service's packets is not translated";
const ESTABLISHED: &str = "otherwise the translation is forgotten before the connection, which then \
                           breaks";
const ACCEPT_LOCAL: &str = "otherwise the answers to checks through a virtual address are dropped";

fn exactly(name: impl Into<String>, value: u32, why: &'static str) -> Setting {
    Setting { name: name.into(), value: Value::Exactly(value), why }
}

fn make(root: &Path, setting: &Setting) -> Outcome {
    let wanted = setting.value;
    let mut outcome =
        Outcome { name: setting.name.clone(), wanted, before: None, now: None, error: None };
    let before = match read_in(root, &setting.name) {
        Ok(before) => before,
        Err(error) => return Outcome { error: Some(error), ..outcome },
    };
    if !wanted.is_met(&before) {
        outcome.error = write_in(root, &setting.name, &wanted.number().to_string()).err();
    }
    outcome.before = Some(before);
    outcome.now = read_in(root, &setting.name).ok();
    outcome
}

fn read_in(root: &Path, name: &str) -> io::Result<String> {
    Ok(fs::read_to_string(path(root, name)?)?.trim_end().to_owned())
}

fn write_in(root: &Path, name: &str, value: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).truncate(true).open(path(root, name)?)?;
    // The kernel takes a value in one piece.
    file.write_all(format!("{value}\n").as_bytes())
}

/// The file of a setting: dots part, and a slash is a dot. No name leads out of `root`.
fn path(root: &Path, name: &str) -> io::Result<PathBuf> {
    let mut path = root.to_owned();
    for part in name.split('.') {
        if part.is_empty() || part.chars().all(|sign| sign == '/') || part.contains('\0') {
            let text = format!("{name:?} is not the name of a setting");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        path.push(part.replace('/', "."));
    }
    Ok(path)
}

#[cfg(test)]
mod tests;
