//! The kernel settings that layer 4 depends on (sysctl(8), `ip-sysctl.rst` and `ipvs-sysctl.rst` of
//! the kernel).
//!
//! Names are written as sysctl(8) does: dots between the parts, and a slash for a dot inside a part,
//! as in `net.ipv4.conf.eth0/100.send_redirects` for the interface `eth0.100`.

use std::collections::BTreeSet;
use std::io;
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

/// The settings that follow from the needs, in the order in which they have to be made.
pub fn settings(_needs: &Needs) -> Vec<Setting> {
    Vec::new()
}

/// Makes each setting what it should be, and tells what came of it. One that is right is not written.
pub fn ensure(_settings: &[Setting]) -> Vec<Outcome> {
    Vec::new()
}

/// The value of a setting; absent: it cannot be read.
pub fn read(_name: &str) -> Option<String> {
    None
}

pub fn write(_name: &str, _value: &str) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// The name of a setting of one interface: `of_interface("ipv4", "eth0.100", "send_redirects")`.
pub fn of_interface(family: &str, interface: &str, setting: &str) -> String {
    format!("net.{family}.conf.{}.{setting}", interface.replace('.', "/"))
}
