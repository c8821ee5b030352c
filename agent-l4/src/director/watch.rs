//! Who has a virtual address, as far as the link is concerned: says that it is here, and looks whether
//! anybody else says the same.
//!
//! Switches and neighbours learn where an address is from what they hear, so after every event that can
//! leave them wrong it is said several times. And on a link with direct routing every real server has
//! the address too: one that answers ARP for it takes clients away from the load balancer.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use gantry_model::name::ServiceName;
use gantry_model::service::Method;
use gantry_runtime::rpc;
use tracing::{debug, warn};

use super::{Director, Moment};
use crate::host::route::{Interface, Neighbour};
use crate::kernel::Kernel;

/// What is to be said, and what was heard.
#[derive(Debug, Default)]
pub(super) struct Watch {
    bursts: BTreeMap<IpAddr, Burst>,
    /// Who else says that he has an address.
    others: BTreeMap<Ipv4Addr, Other>,
    running: HashMap<u32, bool>,
    next_round: Option<Instant>,
    next_probe: Option<Instant>,
    /// The address to be asked for next, when there are too many for one round.
    resume: Option<Ipv4Addr>,
}

#[derive(Clone, Copy, Debug)]
struct Burst {
    left: u32,
    due: Instant,
}

#[derive(Clone, Copy, Debug)]
struct Other {
    index: u32,
    hardware: [u8; 6],
    heard: Instant,
}

/// How often an address is announced, a second apart.
const ANNOUNCEMENTS: u32 = 3;
const APART: Duration = Duration::from_secs(1);
/// Between two rounds of listening.
const ROUND: Duration = Duration::from_secs(1);
/// Between two questions who has an address.
const PROBE: Duration = Duration::from_secs(5);
/// Addresses asked for in one round.
const MOST: usize = 64;
/// Who has not been heard for this long has the address no more.
const MEMORY: Duration = Duration::from_secs(16);

impl Watch {
    pub(super) fn announce(&mut self, address: IpAddr, now: Moment) {
        self.bursts.insert(address, Burst { left: ANNOUNCEMENTS, due: now.at });
        self.next_probe = None;
    }

    pub(super) fn forget(&mut self, address: IpAddr) {
        self.bursts.remove(&address);
        if let IpAddr::V4(address) = address {
            self.others.remove(&address);
        }
    }

    pub(super) fn due(&self) -> Option<Instant> {
        let burst = self.bursts.values().map(|burst| burst.due).min();
        burst.into_iter().chain(self.next_round).min()
    }

    /// There is no address to watch.
    fn rest(&mut self) {
        self.next_round = None;
        self.bursts.clear();
    }

    /// What is due cannot be said now.
    fn postpone(&mut self, now: Moment) {
        for burst in self.bursts.values_mut() {
            burst.due = burst.due.max(now.at + APART);
        }
    }

    /// Notes which links there are now.
    pub(super) fn see(&mut self, interfaces: &[Interface]) {
        for interface in interfaces {
            self.running.insert(interface.index, interface.running);
        }
    }
}

impl<K: Kernel> Director<K> {
    /// Announces what is due, and listens.
    pub(super) fn keep_watch(&mut self, now: Moment) {
        if self.addresses.up().is_empty() {
            self.watch.rest();
            return;
        }
        let round = self.watch.next_round.is_none_or(|next| next <= now.at);
        let burst = self.watch.bursts.values().any(|burst| burst.due <= now.at);
        if !(round || burst) {
            return;
        }
        if round {
            self.watch.next_round = Some(now.at + ROUND);
        }
        let Ok(interfaces) = self.kernel.interfaces() else {
            self.watch.postpone(now);
            return;
        };
        self.greet_links(&interfaces, now);
        self.announce_due(&interfaces, now);
        if round {
            self.probe(&interfaces, now);
            self.listen(&interfaces, now);
            self.tell_conflicts(now);
        }
    }

    /// A link that has come back may have gone to another switch.
    fn greet_links(&mut self, interfaces: &[Interface], now: Moment) {
        let back = interfaces.iter().filter(|interface| {
            interface.running && self.watch.running.get(&interface.index) == Some(&false)
        });
        let back: BTreeSet<u32> = back.map(|interface| interface.index).collect();
        let up = self.addresses.up().iter();
        let there = up.filter(|(_, place)| place.ours && back.contains(&place.index));
        let there: Vec<IpAddr> = there.map(|(address, _)| *address).collect();
        there.into_iter().for_each(|address| self.watch.announce(address, now));
        self.watch.see(interfaces);
    }

    fn announce_due(&mut self, interfaces: &[Interface], now: Moment) {
        for (address, burst) in &mut self.watch.bursts {
            if burst.due > now.at {
                continue;
            }
            let place = self.addresses.up().get(address);
            let interface = interfaces
                .iter()
                .find(|interface| place.is_some_and(|place| place.index == interface.index));
            if let Some(interface) = interface
                && let Err(trouble) = self.kernel.announce(interface, *address)
            {
                debug!(%address, why = rpc::causes(&trouble), "not announced");
            }
            burst.left -= 1;
            burst.due = now.at + APART;
        }
        self.watch.bursts.retain(|_, burst| burst.left > 0);
    }

    /// Asks for some addresses in turn; all of them in as many rounds as that takes.
    fn probe(&mut self, interfaces: &[Interface], now: Moment) {
        if self.watch.next_probe.is_some_and(|next| next > now.at) {
            return;
        }
        let from = self.watch.resume.take().unwrap_or(Ipv4Addr::UNSPECIFIED);
        let mut all = self.addresses.up().range(IpAddr::V4(from)..);
        for _ in 0..MOST {
            let Some((IpAddr::V4(address), place)) = all.next() else {
                self.watch.next_probe = Some(now.at + PROBE);
                return;
            };
            let interface = interfaces.iter().find(|interface| interface.index == place.index);
            if let Some(interface) = interface.filter(|interface| interface.running)
                && let Err(trouble) = self.kernel.probe(interface, *address)
            {
                debug!(%address, why = rpc::causes(&trouble), "not asked for");
            }
        }
        self.watch.resume = all.next().and_then(|(address, _)| match address {
            IpAddr::V4(address) => Some(*address),
            IpAddr::V6(_) => None,
        });
        if self.watch.resume.is_none() {
            self.watch.next_probe = Some(now.at + PROBE);
        }
    }

    fn listen(&mut self, interfaces: &[Interface], now: Moment) {
        let heard = match self.kernel.heard() {
            Ok(heard) => heard,
            Err(trouble) => {
                debug!(why = rpc::causes(&trouble), "nothing is heard");
                return;
            }
        };
        let own: BTreeSet<_> =
            interfaces.iter().filter_map(|interface| interface.hardware).collect();
        for claim in heard {
            let virtual_one = self.addresses.up().contains_key(&IpAddr::V4(claim.address));
            if virtual_one && !own.contains(&claim.hardware) {
                let (index, hardware) = (claim.index, claim.hardware);
                self.watch.others.insert(claim.address, Other { index, hardware, heard: now.at });
            }
        }
        self.watch.others.retain(|_, other| now.at.duration_since(other.heard) < MEMORY);
    }

    fn tell_conflicts(&mut self, now: Moment) {
        let mut found: BTreeMap<ServiceName, String> = BTreeMap::new();
        let others: Vec<_> = self.watch.others.iter().map(|(at, other)| (*at, *other)).collect();
        let neighbours = match others.as_slice() {
            [] => Vec::new(),
            _ => self.kernel.neighbours().unwrap_or_default(),
        };
        for (address, other) in others {
            let users: Vec<_> = self.addresses.users(&IpAddr::V4(address)).cloned().collect();
            for name in users {
                let message = self.conflict(&name, address, other, &neighbours);
                if self.journal.is_new("ADDRESS_CONFLICT", &name) {
                    warn!(service = %name, message, "address conflict");
                    // Neighbours that believed the other one hear it from here again.
                    self.watch
                        .bursts
                        .insert(address.into(), Burst { left: ANNOUNCEMENTS, due: now.at });
                }
                found.insert(name, message);
            }
        }
        self.journal.find("ADDRESS_CONFLICT", found);
    }

    fn conflict(
        &self,
        name: &ServiceName,
        address: Ipv4Addr,
        other: Other,
        neighbours: &[Neighbour],
    ) -> String {
        let hardware: Vec<_> = other.hardware.iter().map(|byte| format!("{byte:02x}")).collect();
        let hardware = hardware.join(":");
        let at = |server: &IpAddr| {
            neighbours.iter().any(|known| {
                known.address == *server
                    && known.index == other.index
                    && known.hardware == Some(other.hardware)
            })
        };
        let deployed = self.services.get(name);
        let servers = deployed.into_iter().flat_map(|deployed| &deployed.plan.servers);
        let server = servers.map(|server| (&server.name.server, server.endpoint.address));
        let server = server.filter(|(_, endpoint)| at(endpoint)).map(|(id, _)| id).next();
        let direct =
            deployed.and_then(|deployed| deployed.form.method) == Some(Method::DirectRouting);
        match server {
            Some(server) if direct => format!(
                "the real server {server} ({hardware}) answers ARP for {address}, so that clients may \
                 pass the load balancer by: solve the ARP problem there, see `gantry arp-help {}`",
                name.service
            ),
            Some(server) => format!(
                "the real server {server} ({hardware}) says that it has {address}: take the address \
                 from it"
            ),
            None => format!(
                "another machine ({hardware}) says that it has {address}: take the address from it, or \
                 give the virtual service another"
            ),
        }
    }
}
