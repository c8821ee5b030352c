//! The kernel's table, as a process in some network namespace sees it.
//!
//! To read all of a long table takes the kernel long, and what is measured would wait for it. So while
//! time counts, only the beginning is read, where the real server stands whose weight is changed.

use std::fs::File;
use std::io::Read;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::PathBuf;

use anyhow::Context;

/// The table of the network namespace of one process.
#[derive(Debug)]
pub(super) struct Table(PathBuf);

/// One real server in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) service: SocketAddrV4,
    pub(super) server: SocketAddrV4,
    pub(super) weight: u32,
}

/// So much of it, to see the first real server.
const BEGINNING: usize = 512;

impl Table {
    pub(super) fn of(process: u32) -> Self {
        Self(PathBuf::from(format!("/proc/{process}/net/ip_vs")))
    }

    /// How many real servers there are, over all services.
    pub(super) fn size(&self) -> anyhow::Result<usize> {
        Ok(self.all()?.len())
    }

    pub(super) fn all(&self) -> anyhow::Result<Vec<Entry>> {
        Ok(entries(&std::fs::read_to_string(&self.0)?))
    }

    /// The first real server of the first service.
    pub(super) fn first(&self) -> anyhow::Result<Entry> {
        let mut beginning = [0; BEGINNING];
        let length = File::open(&self.0)?.read(&mut beginning)?;
        let text = String::from_utf8_lossy(&beginning[..length]);
        entries(&text).first().copied().context("the kernel's table is empty")
    }
}

/// Lines of a service begin with its protocol, those of its real servers with an arrow.
pub(super) fn entries(text: &str) -> Vec<Entry> {
    let mut service = None;
    let mut entries = Vec::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["TCP", address, ..] => service = socket(address),
            ["->", address, _, weight, ..] => {
                let entry = service.zip(socket(address)).zip(weight.parse().ok());
                entries.extend(entry.map(|((service, server), weight)| Entry {
                    service,
                    server,
                    weight,
                }));
            }
            _ => {}
        }
    }
    entries
}

/// "0A640001:2710"
fn socket(text: &str) -> Option<SocketAddrV4> {
    let (address, port) = text.split_once(':')?;
    let address = Ipv4Addr::from(u32::from_str_radix(address, 16).ok()?);
    Some(SocketAddrV4::new(address, u16::from_str_radix(port, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_read() {
        let text = "\
IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port Forward Weight ActiveConn InActConn
TCP  0A640001:2710 wlc  \n  -> 0A090001:1F41      Masq    1      0          0         \n";
        let entry = Entry {
            service: "10.100.0.1:10000".parse().unwrap(),
            server: "10.9.0.1:8001".parse().unwrap(),
            weight: 1,
        };
        assert_eq!(entries(text), [entry]);
    }
}
