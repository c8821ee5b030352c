//! HTTP mode: clients' requests, each to a server of its own choice.
//!
//! A worker accepts a client, and hands it over as soon as it is known to be one of HTTP. From there it
//! lives on one of these threads, each with a runtime that has nobody else. What a connection is to the
//! relay a request is here: it gets a seat on a real server, waits in line for one where all are full,
//! and goes to another server when the first does not take it. Connections to real servers are kept for
//! the next request.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use gantry_model::port::Port;
use tokio::task::LocalSet;
use tracing::error;

use crate::limits::Pass;
use crate::proxy_header::Header;
use crate::worker::{Guest, Mailbox, Message};

use desk::Desk;

mod answer;
mod body;
mod desk;
mod ended;
mod guest;
mod head;
mod leash;
mod page;
mod tunnel;
mod upstream;

/// A client that a worker has accepted.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) socket: OwnedFd,
    pub(crate) peer: SocketAddr,
    /// What a proxy in front has told of it.
    pub(crate) greeting: Option<Header>,
    pub(crate) guest: Guest,
    pub(crate) pass: Option<Box<Pass>>,
    /// The port that it connected to.
    pub(crate) port: Port,
}

/// The threads, which are started when the first service needs them.
#[derive(Debug)]
pub(crate) struct Threads {
    /// One for each.
    mailboxes: Vec<Arc<Mailbox>>,
    running: Vec<JoinHandle<()>>,
}

impl Threads {
    pub(crate) fn new(mailboxes: Vec<Arc<Mailbox>>) -> Self {
        Self { mailboxes, running: Vec::new() }
    }

    /// The mailboxes of those that run.
    pub(crate) fn mailboxes(&self) -> &[Arc<Mailbox>] {
        &self.mailboxes[..self.running.len()]
    }

    /// Starts those that do not run yet.
    pub(crate) fn start(&mut self) -> io::Result<()> {
        for at in self.running.len()..self.mailboxes.len() {
            let mailbox = Arc::clone(&self.mailboxes[at]);
            let number = self.mailboxes.len() + at;
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
            let serve = move || {
                let desk = Rc::new(Desk::new(number, at));
                LocalSet::new().block_on(&runtime, serve(&desk, mailbox));
            };
            self.running.push(thread::Builder::new().name(format!("http-{at}")).spawn(serve)?);
        }
        Ok(())
    }

    /// Ends all connections, and waits for the threads.
    pub(crate) fn stop(&mut self) {
        for mailbox in self.mailboxes() {
            mailbox.send(Message::Stop);
        }
        for thread in self.running.drain(..) {
            if thread.join().is_err() {
                error!("a thread of HTTP panicked");
            }
        }
    }
}

/// Reads the mail until it is told to stop.
async fn serve(desk: &Rc<Desk>, mailbox: Arc<Mailbox>) {
    let leashes = Rc::clone(&desk.leashes);
    tokio::task::spawn_local(async move { leashes.watch().await });
    let sweeping = Rc::clone(desk);
    tokio::task::spawn_local(async move { sweeping.idle.sweep().await });
    loop {
        mailbox.rings().await;
        for message in mailbox.take() {
            match message {
                Message::Client(client) => guest::welcome(desk, *client),
                Message::Seat(key, seat) => desk.summon(key, Some(seat)),
                Message::Recall(key) => desk.summon(key, None),
                Message::Review(service) => desk.review(&service),
                Message::Stop => return mailbox.close(),
                Message::Retire => desk.retire(),
                // For workers.
                Message::Listen(_)
                | Message::Unlisten(_)
                | Message::Freeze(_)
                | Message::Thaw(_)
                | Message::Arrive(_) => {}
            }
        }
    }
}
