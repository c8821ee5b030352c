//! The listening sockets of services: one for each port on each worker.
//!
//! A change opens all new sockets before it touches an old one. Ports that stay keep their very
//! same sockets, with the connections that wait in them.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use gantry_model::name::ServiceName;
use gantry_model::port::Port;
use gantry_model::service::{Tcp, VirtualService};
use rustix::io::Errno;
use tracing::warn;

use crate::service::Service;
use crate::socket;
use crate::worker::{ListenerId, Listening, Mailbox, Message};

use super::refusal::{Refusal, cannot_listen, cannot_use, taken};

/// Where somebody listens.
type Spot = (IpAddr, Port);

/// The sockets of one service, by where they listen.
#[derive(Debug, Default)]
pub(super) struct Listeners {
    open: HashMap<Spot, Vec<Open>>,
    /// How they are treated.
    tcp: Tcp,
}

/// Which service of this plane has which spot, and the number of the last socket.
#[derive(Debug, Default)]
pub(super) struct Claims {
    spots: HashMap<Spot, ServiceName>,
    /// Sockets from the process before, for whoever is put there.
    inherited: HashMap<Spot, Vec<OwnedFd>>,
    /// Another process listens now, for all services.
    retired: bool,
    next_id: u64,
}

/// What a new form of a service needs.
#[derive(Debug)]
pub(super) struct Opened {
    wanted: HashSet<Spot>,
    /// One socket for each worker; none where some were inherited.
    new: Vec<(Spot, Vec<OwnedFd>)>,
}

#[derive(Debug)]
struct Open {
    id: ListenerId,
    socket: Arc<OwnedFd>,
    worker: usize,
}

/// Opens what `service` needs beyond what it has.
pub(super) fn open(
    service: &VirtualService,
    tcp: &Tcp,
    before: Option<&Listeners>,
    claims: &Claims,
    workers: usize,
) -> Result<Opened, Refusal> {
    if let Some(name) = &tcp.congestion_control {
        socket::can_use(name).map_err(|error| cannot_use(name, error))?;
    }
    let address = service.listener.address;
    let listens = !service.disabled && !claims.retired;
    let ports = listens.then(|| service.listener.ports.iter());
    let wanted: HashSet<Spot> = ports.into_iter().flatten().map(|port| (address, port)).collect();
    let has = |spot: &Spot| before.is_some_and(|before| before.open.contains_key(spot));
    let mut new = Vec::new();
    for spot in wanted.iter().filter(|spot| !has(spot)) {
        let at = SocketAddr::new(spot.0, spot.1.get());
        if let Some(holder) = claims.spots.get(spot) {
            return Err(taken(at, holder));
        }
        let sockets = if claims.inherited.contains_key(spot) {
            // No socket joins those: until it is certain who has them, one that came and went would
            // take its clients along.
            Vec::new()
        } else {
            bind(at, tcp, workers).map_err(|error| cannot_listen(at, error))?
        };
        new.push((*spot, sockets));
    }
    for (spot, sockets) in &new {
        let at = SocketAddr::new(spot.0, spot.1.get());
        sockets.iter().try_for_each(socket::listen).map_err(|error| cannot_listen(at, error))?;
    }
    Ok(Opened { wanted, new })
}

fn bind(at: SocketAddr, tcp: &Tcp, workers: usize) -> Result<Vec<OwnedFd>, Errno> {
    socket::claim(at)?;
    let bound = || {
        let socket = socket::bound(at)?;
        socket::treat(&socket, tcp)?;
        Ok(socket)
    };
    (0..workers).map(|_| bound()).collect()
}

impl Listeners {
    /// Hands the new sockets to the workers, and closes those that are not wanted any more.
    pub(super) fn change(
        &mut self,
        opened: Opened,
        service: &Arc<Service>,
        claims: &mut Claims,
        workers: &[Arc<Mailbox>],
    ) {
        self.treat(&service.routing().layer7.tcp);
        for (spot, sockets) in opened.new {
            claims.spots.insert(spot, service.name.clone());
            let inherited = claims.inherited.remove(&spot).unwrap_or_default();
            treat(&inherited, &self.tcp);
            let sockets: Vec<_> = inherited.into_iter().chain(sockets).map(Arc::new).collect();
            // Where there are more workers than sockets, some share one.
            let all = sockets.iter().cycle().take(sockets.len().max(workers.len())).enumerate();
            let open = all.map(|(at, socket)| Open {
                id: claims.next_id(),
                socket: Arc::clone(socket),
                worker: at % workers.len(),
            });
            let open: Vec<Open> = open.collect();
            open.iter().for_each(|one| one.listen(spot.1, service, workers));
            self.open.insert(spot, open);
        }
        let unwanted = |spot: &&Spot| !opened.wanted.contains(spot);
        for spot in self.open.keys().filter(unwanted).copied().collect::<Vec<_>>() {
            self.close_spot(spot, claims, workers);
        }
    }

    /// Those that stay: new ones are made as they should be.
    fn treat(&mut self, tcp: &Tcp) {
        if *tcp == self.tcp {
            return;
        }
        treat(self.open.values().flatten().map(|open| &*open.socket), tcp);
        self.tcp = tcp.clone();
    }

    pub(super) fn close(&mut self, claims: &mut Claims, workers: &[Arc<Mailbox>]) {
        for spot in self.open.keys().copied().collect::<Vec<_>>() {
            self.close_spot(spot, claims, workers);
        }
    }

    /// Closes at once, so that the spot is free for the next service, and tells the workers.
    fn close_spot(&mut self, spot: Spot, claims: &mut Claims, workers: &[Arc<Mailbox>]) {
        claims.spots.remove(&spot);
        for open in self.open.remove(&spot).into_iter().flatten() {
            socket::stop_listening(&open.socket);
            workers[open.worker].send(Message::Unlisten(open.id));
        }
    }

    /// Where this listens, with all the sockets of each place.
    pub(super) fn sockets(&self) -> impl Iterator<Item = (SocketAddr, Vec<BorrowedFd<'_>>)> {
        self.open.iter().map(|((address, port), open)| {
            let first = |at: usize, one: &Open| {
                !open[..at].iter().any(|before| Arc::ptr_eq(&before.socket, &one.socket))
            };
            let sockets = open.iter().enumerate().filter(|(at, one)| first(*at, one));
            let sockets = sockets.map(|(_, one)| one.socket.as_fd()).collect();
            (SocketAddr::new(*address, port.get()), sockets)
        })
    }

    /// The workers have stopped listening, and begin again.
    pub(super) fn listen_again(&self, service: &Arc<Service>, workers: &[Arc<Mailbox>]) {
        for ((_, port), open) in &self.open {
            open.iter().for_each(|open| open.listen(*port, service, workers));
        }
    }

    /// Another process listens now, with these same sockets.
    pub(super) fn leave(&mut self) {
        self.open.clear();
    }
}

impl Open {
    fn listen(&self, port: Port, service: &Arc<Service>, workers: &[Arc<Mailbox>]) {
        workers[self.worker].send(Message::Listen(Listening {
            id: self.id,
            socket: Arc::clone(&self.socket),
            service: Arc::clone(service),
            port,
        }));
    }
}

/// Those that were treated in another way before.
fn treat<'a>(sockets: impl IntoIterator<Item = &'a OwnedFd>, tcp: &Tcp) {
    for socket in sockets {
        if let Err(error) = socket::treat_anew(socket, tcp) {
            warn!(%error, "a listener keeps its former TCP settings");
        }
    }
}

impl Claims {
    pub(super) fn inherit(&mut self, at: SocketAddr, sockets: Vec<OwnedFd>) {
        if let Some(port) = Port::new(at.port()) {
            self.inherited.insert((at.ip(), port), sockets);
        }
    }

    pub(super) fn retire(&mut self) {
        self.retired = true;
    }

    pub(super) fn are_retired(&self) -> bool {
        self.retired
    }

    /// Nobody was put there.
    pub(super) fn forget_inherited(&mut self) {
        self.inherited.clear();
    }

    fn next_id(&mut self) -> ListenerId {
        self.next_id += 1;
        ListenerId(self.next_id)
    }
}
