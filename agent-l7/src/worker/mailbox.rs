//! How other threads speak to a worker: messages in order, and a bell that its poller hears.

use std::os::fd::OwnedFd;
use std::sync::{Arc, mpsc};

use gantry_model::port::Port;
use parking_lot::Mutex;
use rustix::event::{EventfdFlags, eventfd};
use rustix::io;
use tokio::sync::Notify;

use crate::http::Client;
use crate::seat::Seat;
use crate::service::Service;
use crate::slab::Key;

use super::{Arrival, Frozen};

#[derive(Debug)]
pub(crate) struct Mailbox {
    /// Nothing once the worker has stopped.
    letters: Mutex<Option<Vec<Message>>>,
    bell: Bell,
}

#[derive(Debug)]
enum Bell {
    /// For a poller.
    Event(OwnedFd),
    /// For a task.
    Task(Notify),
}

#[derive(Debug)]
pub(crate) enum Message {
    Listen(Listening),
    Unlisten(ListenerId),
    /// A seat for a connection that waited in line.
    Seat(Key, Seat),
    /// A connection was taken out of the line, since nobody will ever serve it there.
    Recall(Key),
    /// The configuration of a service has changed in a way that may end connections.
    Review(Arc<Service>),
    /// A client that speaks HTTP.
    Client(Box<Client>),
    /// Clients of HTTP are to go to the process that has taken over.
    Retire,
    /// Listen no more, and give away all connections that may move.
    Freeze(mpsc::Sender<Vec<Frozen>>),
    /// Go on with those.
    Thaw(Vec<Frozen>),
    /// A connection from another process.
    Arrive(Box<Arrival>),
    Stop,
}

/// A socket to accept from.
#[derive(Debug)]
pub(crate) struct Listening {
    pub(crate) id: ListenerId,
    pub(crate) socket: Arc<OwnedFd>,
    pub(crate) service: Arc<Service>,
    pub(crate) port: Port,
}

/// Unique among all listening sockets that this plane ever had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ListenerId(pub(crate) u64);

impl Mailbox {
    pub(crate) fn new() -> io::Result<Self> {
        let bell = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?;
        Ok(Self::with(Bell::Event(bell)))
    }

    /// For a thread that runs tasks: see [`Mailbox::rings`].
    pub(crate) fn of_tasks() -> Self {
        Self::with(Bell::Task(Notify::new()))
    }

    fn with(bell: Bell) -> Self {
        Self { letters: Mutex::new(Some(Vec::new())), bell }
    }

    pub(crate) fn send(&self, message: Message) {
        let mut letters = self.letters.lock();
        let Some(waiting) = letters.as_mut() else {
            // A seat in the message goes to somebody else, who must find the mailbox free.
            drop(letters);
            return drop(message);
        };
        let was_empty = waiting.is_empty();
        waiting.push(message);
        drop(letters);
        if was_empty {
            match &self.bell {
                Bell::Event(bell) => {
                    io::write(bell, &1_u64.to_ne_bytes()).expect("the bell takes 2^64 strokes");
                }
                Bell::Task(bell) => bell.notify_one(),
            }
        }
    }

    /// What a poller hears; tasks have no such thing.
    pub(super) fn bell(&self) -> Option<&OwnedFd> {
        match &self.bell {
            Bell::Event(bell) => Some(bell),
            Bell::Task(_) => None,
        }
    }

    /// Waits until there is mail.
    pub(crate) async fn rings(&self) {
        match &self.bell {
            Bell::Event(_) => std::future::pending().await,
            Bell::Task(bell) => bell.notified().await,
        }
    }

    pub(crate) fn take(&self) -> Vec<Message> {
        // Nothing to read means that the bell was heard already.
        if let Bell::Event(bell) = &self.bell {
            let _ = io::read(bell, &mut [0; 8]);
        }
        self.letters.lock().as_mut().map(std::mem::take).unwrap_or_default()
    }

    pub(crate) fn close(&self) {
        let letters = self.letters.lock().take();
        drop(letters);
    }
}
