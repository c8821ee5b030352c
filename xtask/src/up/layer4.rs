//! Layer 4 on this machine: whether its kernel and this user can, what is shown of it, and how it is
//! taken out of the kernel afterwards, where agent-l4 leaves everything when it ends.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};
use rustix::thread::{CapabilitySet, capabilities};
use serde::Deserialize;

use crate::workspace::find_program;

/// The service that is shown, to be put at the end of `examples/loopback.yaml`: the archives of the
/// layer 7 service once more, at another address.
pub(super) const SERVICE: &str = include_str!("layer4/service.yaml");
/// Where it is.
pub(super) const ADDRESS: &str = "127.12.1.200";

/// What is there when the kernel's load balancer is.
const IPVS: &str = "/proc/net/ip_vs";

/// Why agent-l4 cannot work here, to go on after "layer 4 is left out: "; nothing: it can.
pub(super) fn left_out() -> Option<&'static str> {
    let needed = CapabilitySet::NET_ADMIN | CapabilitySet::NET_RAW;
    let held = capabilities(None).map_or(CapabilitySet::empty(), |held| held.effective);
    if !held.contains(needed) {
        return Some("it needs root, or the capabilities CAP_NET_ADMIN and CAP_NET_RAW");
    }
    (!has_ipvs()).then_some("this machine's kernel has no IPVS")
}

fn has_ipvs() -> bool {
    if !Path::new(IPVS).exists()
        && let Some(modprobe) = find_program("modprobe")
    {
        let mut load = Command::new(modprobe);
        load.args(["-q", "ip_vs"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        // Whether it has worked is seen below.
        let _ = load.status();
    }
    Path::new(IPVS).exists()
}

/// Takes out of the kernel what agent-l4 has noted as its own in `state`; gives what is left.
pub(super) fn take_away(state: &Path) -> Vec<String> {
    // No file: agent-l4 has never made anything.
    let notes = fs::read_to_string(state.join("owned.jsonl")).unwrap_or_default();
    let commands = removals(&notes);
    let left = commands.iter().filter_map(|command| {
        let why = run(command).err()?;
        Some(format!("left in the kernel ({why:#}): {} takes it out", command.join(" ")))
    });
    left.collect()
}

fn run(command: &[String]) -> anyhow::Result<()> {
    let (program, arguments) = command.split_first().context("a program is needed")?;
    let path = find_program(program).with_context(|| format!("{program} is not installed"))?;
    let output = Command::new(path).args(arguments).stdin(Stdio::null()).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    let gone = ["No such", "Cannot assign"].iter().any(|word| said.contains(word));
    ensure!(output.status.success() || gone, "{}", said.trim());
    Ok(())
}

/// The commands that remove what is noted.
fn removals(notes: &str) -> Vec<Vec<String>> {
    let mut things = BTreeMap::new();
    for line in notes.lines() {
        // One that was not finished was never acted upon.
        let Ok(note) = serde_json::from_str::<Note>(line) else { continue };
        let Some(command) = note.removal() else { continue };
        things.insert(command, note.service.is_some());
    }
    things.into_iter().filter(|(_, owned)| *owned).map(|(command, _)| command).collect()
}

/// A line of agent-l4's notes. Without a service: it is gone.
#[derive(Debug, Deserialize)]
struct Note {
    address: Option<std::net::IpAddr>,
    interface: Option<String>,
    protocol: Option<String>,
    port: Option<u16>,
    mark: Option<u32>,
    family: Option<String>,
    service: Option<String>,
}

impl Note {
    fn removal(&self) -> Option<Vec<String>> {
        let words = |words: &[&str]| Some(words.iter().map(|word| (*word).to_owned()).collect());
        if let (Some(address), Some(interface)) = (self.address, &self.interface) {
            return words(&["ip", "address", "del", &address.to_string(), "dev", interface]);
        }
        if let Some(mark) = self.mark {
            let six = self.family.as_deref() == Some("IPv6");
            let family: &[&str] = if six { &["-6"] } else { &[] };
            return words(&[&["ipvsadm", "-D", "-f", &mark.to_string()], family].concat());
        }
        let listens = std::net::SocketAddr::new(self.address?, self.port?).to_string();
        let protocol = if self.protocol.as_deref() == Some("udp") { "-u" } else { "-t" };
        words(&["ipvsadm", "-D", protocol, &listens])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_noted_and_not_gone_is_removed() {
        let notes = concat!(
            r#"{"address":"10.0.0.9","interface":"eth0","service":"a"}"#,
            "\n",
            r#"{"protocol":"tcp","address":"10.0.0.9","port":104,"service":"a"}"#,
            "\n",
            r#"{"protocol":"udp","address":"fd00::9","port":53,"service":"b"}"#,
            "\n",
            r#"{"mark":1191182337,"family":"IPv6","service":"c"}"#,
            "\n",
            r#"{"protocol":"tcp","address":"10.0.0.9","port":104}"#,
            "\n",
            r#"{"protocol":"tcp","addr"#,
        );
        let commands: Vec<_> = removals(notes).iter().map(|words| words.join(" ")).collect();
        assert_eq!(
            commands,
            [
                "ip address del 10.0.0.9 dev eth0",
                "ipvsadm -D -f 1191182337 -6",
                "ipvsadm -D -u [fd00::9]:53",
            ]
        );
    }

    #[test]
    fn the_service_fits_the_end_of_the_example() {
        let example = include_str!("../../../examples/loopback.yaml");
        let last_key = example.lines().rfind(|line| line.starts_with(char::is_alphabetic));
        assert_eq!(last_key, Some("services:"));
        assert!(example.ends_with('\n') && SERVICE.contains("\n  - virtualService:\n"));
        assert!(SERVICE.contains(&format!("address: {ADDRESS}\n")) && !example.contains(ADDRESS));
    }
}
