//! A plane that is handed on to another process, and the plane that takes over.
//!
//! What is handed on stands still until it is certain who has it: then either the successor goes on
//! with it, or it is put back and goes on here.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use gantry_model::name::{Id, ServerName, ServiceName};
use gantry_model::termination::Termination;
use gantry_runtime::clock;

use crate::handover::{format, milliseconds};
use crate::seat::Seat;
use crate::service::Service;
use crate::stats::{Count, Traffic, TrafficSample};
use crate::worker::{Arrival, Frozen, Guest, Message};

use super::{Deployed, Plane};

/// The connections of a plane that stand still, by worker.
#[derive(Debug, Default)]
pub(crate) struct Still(Vec<(usize, Frozen)>);

/// What a service has in the process before: as good as here, as far as limits go.
#[derive(Debug, Default)]
pub(super) struct Elsewhere {
    guests: Vec<Guest>,
    seats: HashMap<Id, Vec<Seat>>,
}

/// What a successor was told of each service, with how many clients it still has once that was told: so
/// that only what is new is told next.
pub(crate) type Told = HashMap<ServiceName, (Option<u64>, format::Service)>;

impl Still {
    pub(crate) fn all(&self) -> impl Iterator<Item = &Frozen> {
        self.0.iter().map(|(_, one)| one)
    }
}

/// The plane that hands on.
impl Plane {
    /// Where this plane listens, with all the sockets of each place.
    pub(crate) fn listening(&self) -> Vec<(SocketAddr, Vec<BorrowedFd<'_>>)> {
        self.services.values().flat_map(|deployed| deployed.listeners.sockets()).collect()
    }

    pub(crate) fn verdicts(&self) -> Vec<format::Verdict> {
        let verdict = |(server, healthy): (&ServerName, &bool)| format::Verdict {
            server: server.to_string(),
            healthy: *healthy,
        };
        self.verdicts.iter().map(verdict).collect()
    }

    /// Stops accepting, and takes all connections that may move from the workers.
    pub(crate) fn freeze(&mut self) -> Still {
        let mut still = Vec::new();
        for (worker, mailbox) in self.mailboxes.iter().enumerate() {
            let (to, from) = mpsc::channel();
            mailbox.send(Message::Freeze(to));
            let frozen = from.recv().expect("a worker that panics ends the process");
            still.extend(frozen.into_iter().map(|one| (worker, one)));
        }
        Still(still)
    }

    /// Goes on as if nothing had been.
    pub(crate) fn thaw(&mut self, still: Still) {
        for deployed in self.services.values() {
            deployed.listeners.listen_again(&deployed.service, &self.mailboxes);
        }
        self.put_back(still);
    }

    /// Leaves listeners and connections to a successor, but for those that it refused. From here on nobody
    /// is accepted, and what is put in force is for the connections that are left.
    pub(crate) fn retire(&mut self, still: Still, refused: &[u32]) {
        self.claims.retire();
        for deployed in self.services.values_mut() {
            deployed.listeners.leave();
        }
        let mut kept = Still::default();
        for (at, (worker, one)) in still.0.into_iter().enumerate() {
            if u32::try_from(at).is_ok_and(|at| refused.contains(&at)) {
                kept.0.push((worker, one));
            } else {
                one.leave();
            }
        }
        self.put_back(kept);
        for mailbox in self.http.mailboxes() {
            mailbox.send(Message::Retire);
        }
    }

    fn put_back(&self, still: Still) {
        let mut by_worker: HashMap<usize, Vec<Frozen>> = HashMap::new();
        for (worker, one) in still.0 {
            by_worker.entry(worker).or_default().push(one);
        }
        for (worker, frozen) in by_worker {
            self.mailboxes[worker].send(Message::Thaw(frozen));
        }
    }

    /// Everything counted, and everybody remembered.
    pub(crate) fn ledger(&self) -> impl Iterator<Item = (ServiceName, format::Service)> {
        self.services.iter().map(|(name, deployed)| (name.clone(), deployed.describe(true)))
    }

    /// What this plane still has, and what it has counted since `told`, which is brought up to date: of
    /// services of which there is news.
    pub(crate) fn remaining(&self, told: &mut Told) -> format::Remaining {
        let services = self.services.iter().filter_map(|(name, deployed)| {
            let now = Some(deployed.service.counts.active.get());
            let now = (now, deployed.describe(false));
            let before = told.insert(name.clone(), now.clone()).unwrap_or_default();
            let active = now.0.filter(|_| now != before)?;
            Some(format::Kept { active, service: Some(now.1.since(&before.1)) })
        });
        format::Remaining { services: services.collect() }
    }

    /// Clients that are connected.
    pub fn active(&self) -> u64 {
        self.services.values().map(|deployed| deployed.service.counts.active.get()).sum()
    }
}

/// The plane that takes over.
impl Plane {
    /// Uses these sockets where services listen, instead of new ones.
    pub(crate) fn inherit(&mut self, listener: &format::Listener, sockets: Vec<OwnedFd>) {
        if let Ok(address) = listener.address.parse::<SocketAddr>() {
            self.claims.inherit(address, sockets);
        }
    }

    /// Takes the verdicts that the process before has heard.
    pub(crate) fn believe(&mut self, verdicts: &[format::Verdict]) {
        for verdict in verdicts {
            if let Ok(server) = verdict.server.parse() {
                self.verdict(&server, Some(verdict.healthy));
            }
        }
    }

    /// Reads a connection that another process hands on. It stands still; none if it cannot be carried.
    pub(crate) fn read(
        &self,
        said: format::Connection,
        descriptors: Vec<OwnedFd>,
    ) -> Option<Arrival> {
        let name: ServiceName = said.service.parse().ok()?;
        let service = &self.services.get(&name)?.service;
        Arrival::read(service, said, descriptors, clock::monotonic())
    }

    /// Counts on from what a service has counted in another process, and remembers whom that did.
    pub(crate) fn resume(&mut self, said: &format::Service) {
        let Ok(name) = said.name.parse::<ServiceName>() else { return };
        let Some(deployed) = self.services.get_mut(&name) else { return };
        deployed.count_on(said);
        let routing = deployed.service.routing();
        let Some((persistence, table)) = routing.sticky() else { return };
        for one in &said.remembered {
            if let (Some(client), Ok(server)) = (table.read(&one.client), one.server.parse()) {
                let left = Duration::from_millis(one.left_ms);
                table.put_back(&client, server, left, persistence.timeout);
            }
        }
    }

    /// Goes on with what was handed on.
    pub(crate) fn take_in(&mut self, arrivals: Vec<Arrival>) {
        for (arrival, mailbox) in arrivals.into_iter().zip(self.mailboxes.iter().cycle()) {
            mailbox.send(Message::Arrive(Box::new(arrival)));
        }
        self.claims.forget_inherited();
    }

    /// Counts what the process before still has as if it were here.
    pub(crate) fn reckon_with(&mut self, remaining: &format::Remaining) {
        for kept in &remaining.services {
            let Some(said) = &kept.service else { continue };
            let Ok(name) = said.name.parse::<ServiceName>() else { continue };
            if let Some(deployed) = self.services.get_mut(&name) {
                deployed.count_on(said);
                deployed.elsewhere.become_like(kept.active, &said.servers, &deployed.service);
            }
        }
    }

    /// The process before has gone.
    pub(crate) fn reckon_with_nobody(&mut self) {
        self.services.values_mut().for_each(|deployed| deployed.elsewhere = Elsewhere::default());
    }
}

impl Deployed {
    fn describe(&self, with_clients: bool) -> format::Service {
        let service = &self.service;
        let routing = service.routing();
        let mut other = self.left;
        other += service.fallback.sample();
        self.leaving.iter().for_each(|server| other += server.traffic.sample());
        let servers = routing.servers.iter().map(|entry| format::Server {
            id: entry.live.name.server.to_string(),
            traffic: Some(entry.live.traffic.sample().into()),
            active: u32::try_from(
                u64::from(entry.live.slots.active()).saturating_sub(entry.live.left.get()),
            )
            .unwrap_or(u32::MAX),
        });
        let sticky = routing.sticky().filter(|_| with_clients);
        let remembered = sticky
            .map(|(persistence, table)| table.remembered(None, persistence.timeout))
            .unwrap_or_default();
        let remembered = remembered.into_iter().map(|one| format::Remembered {
            client: one.client.to_string(),
            server: one.server.to_string(),
            left_ms: milliseconds(one.left),
        });
        format::Service {
            name: service.name.to_string(),
            counts: service.counts.all().into_iter().map(Count::get).collect(),
            other: Some(other.into()),
            servers: servers.collect(),
            remembered: remembered.collect(),
            ended: service.counts.ended.sample().into_iter().map(ended).collect(),
        }
    }

    /// Adds what was counted elsewhere.
    fn count_on(&mut self, said: &format::Service) {
        let counts = &self.service.counts;
        for (count, more) in counts.all().into_iter().zip(&said.counts) {
            count.add(*more);
        }
        for ended in &said.ended {
            // A newer release may have more reasons.
            if let Some(reason) = Termination::from_number(ended.reason as usize) {
                counts.ended.count(reason).add(ended.connections);
            }
        }
        self.service.fallback.count_on(said.other.unwrap_or_default());
        let routing = self.service.routing();
        for server in &said.servers {
            let live = server.id.parse().ok().and_then(|id: Id| routing.live(&id).cloned());
            let traffic =
                live.map_or(Arc::clone(&self.service.fallback), |live| Arc::clone(&live.traffic));
            traffic.count_on(server.traffic.unwrap_or_default());
        }
    }
}

impl Elsewhere {
    fn become_like(&mut self, active: u64, servers: &[format::Server], service: &Arc<Service>) {
        let active = usize::try_from(active).unwrap_or(usize::MAX);
        self.guests.truncate(active);
        while self.guests.len() < active {
            self.guests.push(Guest::once_more(Arc::clone(service)));
        }
        for server in servers {
            let Ok(id) = server.id.parse::<Id>() else { continue };
            let wanted = usize::try_from(server.active).unwrap_or(usize::MAX);
            let seats = self.seats.entry(id.clone()).or_default();
            seats.truncate(wanted);
            while seats.len() < wanted {
                let Some(seat) = service.occupy(&id, None) else { break };
                seats.push(seat);
            }
        }
    }
}

impl Traffic {
    fn count_on(&self, more: format::Traffic) {
        self.connections.add(more.connections);
        self.connect_failures.add(more.connect_failures);
        self.from_clients.add(more.from_clients);
        self.to_clients.add(more.to_clients);
    }
}

impl From<TrafficSample> for format::Traffic {
    fn from(sample: TrafficSample) -> Self {
        Self {
            connections: sample.connections,
            connect_failures: sample.connect_failures,
            from_clients: sample.bytes_from_clients,
            to_clients: sample.bytes_to_clients,
        }
    }
}

fn ended((reason, connections): (Termination, u64)) -> format::Ended {
    format::Ended { reason: u32::try_from(reason.number()).unwrap_or_default(), connections }
}
