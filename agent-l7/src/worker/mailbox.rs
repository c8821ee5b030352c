//! How other threads speak to a worker: messages in order, and a bell that its poller hears.

use std::os::fd::OwnedFd;
use std::sync::{Arc, mpsc};

use gantry_model::port::Port;
use parking_lot::Mutex;
use rustix::event::{EventfdFlags, eventfd};
use rustix::io;

use crate::seat::Seat;
use crate::service::Service;
use crate::slab::Key;

use super::{Arrival, Frozen};

#[derive(Debug)]
pub(crate) struct Mailbox {
    /// Nothing once the worker has stopped.
    letters: Mutex<Option<Vec<Message>>>,
    bell: OwnedFd,
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
        Ok(Self { letters: Mutex::new(Some(Vec::new())), bell })
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
            io::write(&self.bell, &1_u64.to_ne_bytes()).expect("the bell takes 2^64 strokes");
        }
    }

    pub(super) fn bell(&self) -> &OwnedFd {
        &self.bell
    }

    pub(super) fn take(&self) -> Vec<Message> {
        // Nothing to read means that the bell was heard already.
        let _ = io::read(&self.bell, &mut [0; 8]);
        self.letters.lock().as_mut().map(std::mem::take).unwrap_or_default()
    }

    pub(super) fn close(&self) {
        let letters = self.letters.lock().take();
        drop(letters);
    }
}
