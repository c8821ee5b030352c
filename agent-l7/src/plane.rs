//! The data plane as a whole: workers that carry the traffic, and the services in force.
//!
//! A [`Plane`] is driven by one control thread. Putting a service in force costs in proportion to
//! that service, whatever else runs, and no call waits for a worker. What is refused changes
//! nothing; what is put again keeps its sockets, its counts and its connections, as far as the new
//! form has them.

use std::collections::HashMap;
use std::io;
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use gantry_model::key_pair::KeyPair;
use gantry_model::name::{ServerName, ServiceName};
use gantry_model::server::RealServer;
use gantry_model::service::{Layer7, Mode, VirtualService};
use tracing::error;

use crate::dicom::Titles;
use crate::http;
use crate::memory::Memory;
use crate::server::Server;
use crate::service::{Entry, Routing, Service};
use crate::socket;
use crate::stats::{Sample, ServerSample, TrafficSample};
use crate::tls::Secrecy;
use crate::worker::{Mailbox, Message, Worker};

use listeners::{Claims, Listeners};
use moving::Elsewhere;

pub use refusal::Refusal;

pub(crate) use moving::{Still, Told};

mod listeners;
mod moving;
mod refusal;

/// How a plane is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Threads that carry traffic.
    pub workers: NonZeroUsize,
}

/// The data plane. Dropping it ends all connections.
#[derive(Debug)]
pub struct Plane {
    services: HashMap<ServiceName, Deployed>,
    /// What the health checks said last, also of servers that are yet to come.
    verdicts: HashMap<ServerName, bool>,
    claims: Claims,
    next_serial: u64,
    mailboxes: Arc<[Arc<Mailbox>]>,
    /// Whom a service may speak to: the workers, and behind them the threads of HTTP.
    places: Arc<[Arc<Mailbox>]>,
    threads: Vec<JoinHandle<()>>,
    http: http::Threads,
    /// Workers that have not begun yet.
    waiting: Vec<Worker>,
}

/// Why a plane did not start.
#[derive(Debug, thiserror::Error)]
pub enum PlaneError {
    #[error("open the descriptors of a worker")]
    OpenWorker(#[source] io::Error),
    #[error("start the thread of a worker")]
    StartThread(#[source] io::Error),
}

/// One service in force.
#[derive(Debug)]
struct Deployed {
    service: Arc<Service>,
    listeners: Listeners,
    /// Servers that the service no longer has, but whose last connections may still be ending.
    leaving: Vec<Arc<Server>>,
    /// The traffic of those that have left.
    left: TrafficSample,
    elsewhere: Elsewhere,
}

impl Settings {
    /// One worker for each processor that this process may use.
    pub fn for_this_machine() -> Self {
        Self { workers: thread::available_parallelism().unwrap_or(NonZeroUsize::MIN) }
    }
}

impl Plane {
    pub fn start(settings: Settings) -> Result<Self, PlaneError> {
        let mut plane = Self::prepare(settings)?;
        plane.begin()?;
        Ok(plane)
    }

    /// A plane whose workers wait for [`Self::begin`]: services can be put in force, and nobody is
    /// accepted.
    pub(crate) fn prepare(settings: Settings) -> Result<Self, PlaneError> {
        let count = settings.workers.get();
        let mailboxes: Result<Arc<[_]>, _> =
            (0..count).map(|_| Mailbox::new().map(Arc::new)).collect();
        let mailboxes = mailboxes.map_err(|error| PlaneError::OpenWorker(error.into()))?;
        let of_http: Vec<_> = (0..count).map(|_| Arc::new(Mailbox::of_tasks())).collect();
        let mut plane = Self {
            services: HashMap::new(),
            verdicts: HashMap::new(),
            claims: Claims::default(),
            next_serial: 0,
            mailboxes: Arc::clone(&mailboxes),
            places: mailboxes.iter().chain(&of_http).cloned().collect(),
            threads: Vec::with_capacity(count),
            http: http::Threads::new(of_http.clone()),
            waiting: Vec::with_capacity(count),
        };
        for (at, (mailbox, http)) in mailboxes.iter().zip(of_http).enumerate() {
            let worker = Worker::new(at, Arc::clone(mailbox), http)
                .map_err(|error| PlaneError::OpenWorker(error.into()))?;
            plane.waiting.push(worker);
        }
        Ok(plane)
    }

    /// Lets the workers begin.
    pub(crate) fn begin(&mut self) -> Result<(), PlaneError> {
        for (at, worker) in std::mem::take(&mut self.waiting).into_iter().enumerate() {
            self.threads.push(start_thread(at, worker).map_err(PlaneError::StartThread)?);
        }
        Ok(())
    }

    /// Puts one virtual service in force, new or changed, with all of its real servers and the
    /// certificates that it names. If it is refused, what was in force before stays so.
    pub fn put(
        &mut self,
        service: Arc<VirtualService>,
        servers: Vec<Arc<RealServer>>,
        key_pairs: Vec<KeyPair>,
    ) -> Result<(), Refusal> {
        let layer7 = refusal::check(&service)?;
        if layer7.transparent_source {
            socket::can_be_transparent().map_err(refusal::cannot_be_transparent)?;
        }
        let before = self.services.get(&service.name);
        if self.claims.are_retired() && before.is_none() {
            return Ok(());
        }
        let secrecy = before.map(|deployed| deployed.service.routing().secrecy.clone());
        let secrecy = Secrecy::new(layer7, key_pairs, &secrecy.unwrap_or_default());
        let secrecy = secrecy.map_err(refusal::unfit)?;
        let before = before.map(|deployed| &deployed.listeners);
        let opened =
            listeners::open(&service, &layer7.tcp, before, &self.claims, self.mailboxes.len())?;
        if layer7.mode == Mode::Http {
            self.http.start().map_err(|error| refusal::no_threads(&error))?;
        }

        let mut deployed = match self.services.remove(&service.name) {
            Some(deployed) => deployed,
            None => self.deploy(&service, layer7),
        };
        let unsettled = self.route(&mut deployed, (layer7, secrecy), &service, &servers);
        deployed.service.set_closed(service.disabled);
        deployed.listeners.change(opened, &deployed.service, &mut self.claims, &self.mailboxes);
        // A lane leaves a server that drains at its next boundary, and one that is idle is at one.
        if unsettled || service.disabled || layer7.mode == Mode::Mllp {
            self.review(&deployed.service);
        }
        deployed.service.reconsider();
        self.services.insert(service.name.clone(), deployed);
        Ok(())
    }

    /// Takes a service out of force: it listens no more, and its connections are reset.
    pub fn remove(&mut self, name: &ServiceName) {
        let Some(mut deployed) = self.services.remove(name) else { return };
        deployed.service.set_closed(true);
        deployed.listeners.close(&mut self.claims, &self.mailboxes);
        for entry in &deployed.service.routing().servers {
            self.verdicts.remove(&entry.live.name);
        }
        self.review(&deployed.service);
    }

    /// Takes in what the health checks say of a server; `None`: nothing is known.
    pub fn verdict(&mut self, server: &ServerName, healthy: Option<bool>) {
        match healthy {
            Some(healthy) => self.verdicts.insert(server.clone(), healthy),
            None => self.verdicts.remove(server),
        };
        let Some(deployed) = self.services.get(&server.service) else { return };
        let routing = deployed.service.routing();
        if let Some(live) = routing.live(&server.server) {
            live.judge(healthy);
            deployed.service.reconsider();
            if healthy == Some(false) && routing.layer7.close_on_failure {
                self.review(&deployed.service);
            }
        }
    }

    /// The figures of every service in force, in no order.
    pub fn samples(&self) -> Vec<Sample> {
        self.services.values().map(Deployed::sample).collect()
    }

    /// Whom a service remembers, if it is in force.
    pub fn memory(&self, service: &ServiceName) -> Option<Memory> {
        self.services.get(service).map(|deployed| Memory::new(deployed.service.routing()))
    }

    /// Ends all connections and waits for the workers.
    pub fn shutdown(self) {
        drop(self);
    }

    fn deploy(&mut self, config: &VirtualService, layer7: &Layer7) -> Deployed {
        let serial = self.next_serial;
        self.next_serial += 1;
        let routing = Routing::new(layer7, config, Vec::new(), None);
        let workers = Arc::clone(&self.places);
        Deployed {
            service: Arc::new(Service::new(config.name.clone(), serial, routing, workers)),
            listeners: Listeners::default(),
            leaving: Vec::new(),
            left: TrafficSample::default(),
            elsewhere: Elsewhere::default(),
        }
    }

    /// Swaps the routing; true if connections that exist may have to end for it.
    fn route(
        &mut self,
        deployed: &mut Deployed,
        (layer7, secrecy): (&Layer7, Secrecy),
        config: &VirtualService,
        servers: &[Arc<RealServer>],
    ) -> bool {
        let before = deployed.service.routing();
        let entries: Vec<Entry> = servers
            .iter()
            .map(|server| {
                let live = before.live(&server.name.server).cloned().unwrap_or_else(|| {
                    let health = self.verdicts.get(&server.name).copied();
                    let live = Server::new(server.name.clone(), health);
                    if !before.servers.is_empty() {
                        live.join();
                    }
                    Arc::new(live)
                });
                live.configure(server);
                Entry::new(Arc::clone(server), live)
            })
            .collect();
        let mut unsettled = entries.iter().any(|entry| !entry.live.is_settled());
        let mut routing = Routing::new(layer7, config, entries, Some(&before));
        routing.secrecy = secrecy;
        for entry in &before.servers {
            if routing.live(&entry.live.name.server).is_none() {
                self.verdicts.remove(&entry.live.name);
                entry.live.dismiss();
                deployed.leaving.push(Arc::clone(&entry.live));
                unsettled = true;
            }
        }
        deployed.service.route(routing);
        drop(before);
        deployed.see_off();
        unsettled
    }

    fn review(&self, service: &Arc<Service>) {
        for mailbox in self.mailboxes.iter().chain(self.http.mailboxes()) {
            mailbox.send(Message::Review(Arc::clone(service)));
        }
    }
}

impl Drop for Plane {
    fn drop(&mut self) {
        for mailbox in self.mailboxes.iter() {
            mailbox.send(Message::Stop);
        }
        self.http.stop();
        for thread in self.threads.drain(..) {
            thread.join().expect("a worker that panics ends the process");
        }
    }
}

impl Deployed {
    /// Adds up those of the leaving servers that nobody uses any more.
    fn see_off(&mut self) {
        let left = &mut self.left;
        self.leaving.retain(|server| {
            let in_use = Arc::strong_count(server) > 1;
            if !in_use {
                *left += server.traffic.sample();
            }
            in_use
        });
    }

    fn sample(&self) -> Sample {
        let counts = &self.service.counts;
        let mut servers = Vec::new();
        let mut traffic = self.left;
        traffic += self.service.fallback.sample();
        self.leaving.iter().for_each(|server| traffic += server.traffic.sample());
        let routing = self.service.routing();
        let remembered =
            routing.sticky().map_or(0, |(kept, table)| table.count(kept.timeout) as u64);
        for entry in &routing.servers {
            let of_server = entry.live.traffic.sample();
            traffic += of_server;
            servers.push(ServerSample {
                server: entry.live.name.clone(),
                active: entry.live.slots.active(),
                traffic: of_server,
                mllp: entry.live.mllp_sample(),
            });
        }
        Sample {
            service: self.service.name.clone(),
            active: counts.active.get(),
            queued: self.service.waiting() as u64,
            accepted: counts.accepted.get(),
            traffic,
            queue_timeouts: counts.queue_timeouts.get(),
            unserved: counts.unserved.get(),
            malformed: counts.malformed.get(),
            unshaken: counts.unshaken.get(),
            idle_timeouts: counts.idle_timeouts.get(),
            panics: counts.panics.get(),
            http: counts.http.sample(),
            waits: self.service.waits(),
            persistence: counts.persistence.sample(remembered),
            dicom: counts.dicom.sample(),
            mllp: counts.mllp.sample(),
            titles: self.service.titles().map(Titles::samples).unwrap_or_default(),
            ended: counts.ended.sample(),
            servers,
        }
    }
}

fn start_thread(at: usize, worker: Worker) -> io::Result<JoinHandle<()>> {
    thread::Builder::new().name(format!("worker-{at}")).spawn(move || {
        if catch_unwind(AssertUnwindSafe(|| worker.run())).is_err() {
            error!(worker = at, "a worker panicked, ending the process");
            std::process::abort();
        }
    })
}
