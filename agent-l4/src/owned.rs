//! What on this machine is Gantry's: the kernel keeps no note of who made a service or an address.
//!
//! A file of lines, each what came to be owned or ceased to be. It is written and synced before a
//! thing is made, and after it is gone, so that nothing is ever made that a restart would take for
//! another's. What it says is no more than a claim: what the kernel has not got is not owned.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use gantry_model::service::Protocol;
use serde::{Deserialize, Serialize};

use crate::ipvs::{Family, ServiceKey};

/// The things owned, each with the resource name of the virtual service that it is for. A service of
/// IPVS that only carries checks is for none.
#[derive(Debug)]
pub struct Owned {
    path: PathBuf,
    file: File,
    things: BTreeMap<Thing, String>,
    /// Lines beyond those that are needed.
    surplus: usize,
}

/// Something that can be owned.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Thing {
    Ipvs(ServiceKey),
    Address { address: IpAddr, interface: String },
}

/// The file cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{}: {what}", path.display())]
pub struct OwnedError {
    path: PathBuf,
    what: &'static str,
    #[source]
    source: io::Error,
}

/// A file with this many lines too many is written anew when the agent starts.
const SURPLUS: usize = 1000;

impl Owned {
    /// Opens the file in the folder `state`. A last line that was cut short was never acted upon.
    pub fn open(state: &Path) -> Result<Self, OwnedError> {
        let path = state.join("owned.jsonl");
        let failed = |what| {
            let path = path.clone();
            move |source| OwnedError { path, what, source }
        };
        fs::create_dir_all(state).map_err(failed("making its folder"))?;
        let mut options = OpenOptions::new();
        options.create(true).append(true).read(true);
        let mut file = options.open(&path).map_err(failed("opening it"))?;
        let (things, lines) = read(&mut file).map_err(failed("reading it"))?;
        let surplus = lines.saturating_sub(things.len());
        let mut owned = Self { path: path.clone(), file, things, surplus };
        if owned.surplus > SURPLUS {
            owned.tidy().map_err(failed("writing it anew"))?;
        }
        Ok(owned)
    }

    pub fn has(&self, thing: &Thing) -> bool {
        self.things.contains_key(thing)
    }

    pub fn things(&self) -> &BTreeMap<Thing, String> {
        &self.things
    }

    /// Notes what is about to be made, durably.
    pub fn add(&mut self, things: Vec<(Thing, String)>) -> Result<(), OwnedError> {
        let fresh: Vec<_> = things
            .into_iter()
            .filter(|(thing, service)| self.things.get(thing) != Some(service))
            .collect();
        let lines = fresh.iter().map(|(thing, service)| Line::new(thing, Some(service)));
        self.write(lines.collect())?;
        self.things.extend(fresh);
        Ok(())
    }

    /// Notes what is gone.
    pub fn remove(&mut self, things: Vec<Thing>) -> Result<(), OwnedError> {
        let gone: Vec<_> = things.into_iter().filter(|thing| self.has(thing)).collect();
        self.write(gone.iter().map(|thing| Line::new(thing, None)).collect())?;
        self.surplus += 2 * gone.len();
        gone.iter().for_each(|thing| drop(self.things.remove(thing)));
        Ok(())
    }

    fn write(&mut self, lines: Vec<Line>) -> Result<(), OwnedError> {
        if lines.is_empty() {
            return Ok(());
        }
        let write = |file: &mut File| {
            file.write_all(&text(&lines)?)?;
            file.sync_data()
        };
        write(&mut self.file).map_err(|source| OwnedError {
            path: self.path.clone(),
            what: "writing to it",
            source,
        })
    }

    fn tidy(&mut self) -> io::Result<()> {
        let lines: Vec<_> =
            self.things.iter().map(|(thing, service)| Line::new(thing, Some(service))).collect();
        let new = self.path.with_extension("new");
        let mut file = File::create(&new)?;
        file.write_all(&text(&lines)?)?;
        file.sync_all()?;
        fs::rename(&new, &self.path)?;
        self.file = OpenOptions::new().append(true).open(&self.path)?;
        self.surplus = 0;
        Ok(())
    }
}

fn text(lines: &[Line]) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    for line in lines {
        serde_json::to_writer(&mut text, line)?;
        text.push(b'\n');
    }
    Ok(text)
}

fn read(file: &mut File) -> io::Result<(BTreeMap<Thing, String>, usize)> {
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    if !text.is_empty() && !text.ends_with('\n') {
        // So that the next line is not lost with this one.
        file.write_all(b"\n")?;
    }
    let (mut things, mut count) = (BTreeMap::new(), 0);
    for line in text.lines() {
        // What cannot be read is a line that was not finished, or of a newer version.
        let Ok(line) = serde_json::from_str::<Line>(line) else { continue };
        count += 1;
        let Some(thing) = line.thing() else { continue };
        match line.service {
            Some(service) => drop(things.insert(thing, service)),
            None => drop(things.remove(&thing)),
        }
    }
    Ok((things, count))
}

/// One line of the file. Without a service: it is owned no more.
#[derive(Debug, Serialize, Deserialize)]
struct Line {
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    interface: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    protocol: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    port: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mark: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    family: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    service: Option<String>,
}

impl Line {
    fn new(thing: &Thing, service: Option<&String>) -> Self {
        let mut line = Self {
            address: None,
            interface: None,
            protocol: None,
            port: None,
            mark: None,
            family: None,
            service: service.cloned(),
        };
        match thing {
            Thing::Address { address, interface } => {
                line.address = Some(*address);
                line.interface = Some(interface.clone());
            }
            Thing::Ipvs(ServiceKey::Address { protocol, address, port }) => {
                line.address = Some(*address);
                line.protocol = Some(protocol_name(*protocol).to_owned());
                line.port = Some(*port);
            }
            Thing::Ipvs(ServiceKey::Mark { family, mark }) => {
                line.mark = Some(*mark);
                line.family = Some(family.to_string());
            }
        }
        line
    }

    fn thing(&self) -> Option<Thing> {
        if let (Some(address), Some(interface)) = (self.address, &self.interface) {
            return Some(Thing::Address { address, interface: interface.clone() });
        }
        if let Some(mark) = self.mark {
            let named = |family: &Family| Some(family.to_string()) == self.family;
            let family = [Family::V4, Family::V6].into_iter().find(named)?;
            return Some(Thing::Ipvs(ServiceKey::Mark { family, mark }));
        }
        let named =
            |protocol: &Protocol| Some(protocol_name(*protocol)) == self.protocol.as_deref();
        let protocol = [Protocol::Tcp, Protocol::Udp].into_iter().find(named)?;
        let (address, port) = (self.address?, self.port?);
        Some(Thing::Ipvs(ServiceKey::Address { protocol, address, port }))
    }
}

fn protocol_name(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
    }
}

#[cfg(test)]
mod tests;
