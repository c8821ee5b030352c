//! The listening sockets of services: one for each port on each worker.
//!
//! A change opens all new sockets before it touches an old one. Ports that stay keep their very
//! same sockets, with the connections that wait in them.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
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
    next_id: u64,
}

/// What a new form of a service needs.
#[derive(Debug)]
pub(super) struct Opened {
    wanted: HashSet<Spot>,
    /// One socket for each worker.
    new: Vec<(Spot, Vec<OwnedFd>)>,
}

#[derive(Debug)]
struct Open {
    id: ListenerId,
    socket: Arc<OwnedFd>,
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
    let ports = (!service.disabled).then(|| service.listener.ports.iter());
    let wanted: HashSet<Spot> = ports.into_iter().flatten().map(|port| (address, port)).collect();
    let has = |spot: &Spot| before.is_some_and(|before| before.open.contains_key(spot));
    let mut new = Vec::new();
    for spot in wanted.iter().filter(|spot| !has(spot)) {
        let at = SocketAddr::new(spot.0, spot.1.get());
        if let Some(holder) = claims.spots.get(spot) {
            return Err(taken(at, holder));
        }
        let sockets = bind(at, tcp, workers).map_err(|error| cannot_listen(at, error))?;
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
            let hand_over = |(socket, worker): (OwnedFd, &Arc<Mailbox>)| {
                let (id, socket) = (claims.next_id(), Arc::new(socket));
                worker.send(Message::Listen(Listening {
                    id,
                    socket: Arc::clone(&socket),
                    service: Arc::clone(service),
                    port: spot.1,
                }));
                Open { id, socket }
            };
            self.open.insert(spot, sockets.into_iter().zip(workers).map(hand_over).collect());
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
        for open in self.open.values().flatten() {
            if let Err(error) = socket::treat_anew(&open.socket, tcp) {
                warn!(%error, "a listener keeps its former TCP settings");
            }
        }
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
        for (open, worker) in self.open.remove(&spot).into_iter().flatten().zip(workers) {
            socket::stop_listening(&open.socket);
            worker.send(Message::Unlisten(open.id));
        }
    }
}

impl Claims {
    fn next_id(&mut self) -> ListenerId {
        self.next_id += 1;
        ListenerId(self.next_id)
    }
}
