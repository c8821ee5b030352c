//! What all requests of a thread share.

use std::cell::{Cell, RefCell};
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use hyper::header::HeaderValue;
use tokio::sync::{Notify, oneshot};
use tokio::time::timeout_at;

use crate::queue::{Place, Ticket};
use crate::seat::{Seat, Visitor};
use crate::service::{Admission, Service};
use crate::slab::{Key, Slab};

use super::leash::Leashes;
use super::upstream::Idle;

#[derive(Debug)]
pub(super) struct Desk {
    /// The thread's number among all that have a mailbox.
    number: usize,
    /// Requests in line, and how they are told.
    waiting: RefCell<Slab<oneshot::Sender<Option<Seat>>>>,
    pub(super) leashes: Rc<Leashes>,
    pub(super) idle: Idle,
    /// Another process has taken over.
    is_retired: Cell<bool>,
    retirement: Notify,
    /// Of request ids: the first digits, and room for the others.
    prefix: [u8; PREFIX + NUMBER],
    next_id: Cell<u64>,
}

/// Digits of a request id that its thread has alone, and those that count.
const PREFIX: usize = 18;
const NUMBER: usize = 10;
const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// Why a request has no seat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unseated {
    /// No real server is in service for it.
    Nobody,
    /// Its time in line is over.
    QueueTimeout,
}

impl Desk {
    pub(super) fn new(number: usize, thread: usize) -> Self {
        // Keys of hash maps are random; that is random enough to tell processes apart.
        let digits = format!("{:016x}{thread:02x}", RandomState::new().hash_one(thread));
        let mut prefix = [b'0'; PREFIX + NUMBER];
        prefix[..PREFIX].copy_from_slice(&digits.as_bytes()[..PREFIX]);
        Self {
            number,
            waiting: RefCell::new(Slab::new()),
            leashes: Rc::default(),
            idle: Idle::default(),
            is_retired: Cell::new(false),
            retirement: Notify::new(),
            prefix,
            next_id: Cell::new(0),
        }
    }

    /// An id that no other request has, wherever it comes in.
    pub(super) fn request_id(&self) -> HeaderValue {
        let number = self.next_id.replace(self.next_id.get() + 1);
        let mut id = self.prefix;
        for (at, digit) in id[PREFIX..].iter_mut().rev().enumerate() {
            *digit = DIGITS[(number >> (4 * at) & 0xf) as usize];
        }
        HeaderValue::from_bytes(&id).expect("it is hexadecimal")
    }

    /// A seat for `visitor`, in line if need be, until `until`.
    pub(super) async fn seat(
        &self,
        service: &Arc<Service>,
        visitor: &Visitor,
        until: impl FnOnce() -> Instant,
    ) -> Result<Seat, Unseated> {
        match service.admit_now(visitor) {
            Some(Admission::Seat(seat)) => Ok(seat),
            Some(Admission::Nobody | Admission::Wait(_)) => Err(Unseated::Nobody),
            // Who does not wait is not to have room for it.
            None => Box::pin(self.wait(service, visitor, until)).await,
        }
    }

    async fn wait(
        &self,
        service: &Arc<Service>,
        visitor: &Visitor,
        until: impl FnOnce() -> Instant,
    ) -> Result<Seat, Unseated> {
        let (summons, summoned) = oneshot::channel();
        let key = self.waiting.borrow_mut().insert(summons);
        let place = Place { worker: self.number, key };
        let mut in_line = InLine { desk: self, service, key, ticket: None };
        match service.admit(visitor, place) {
            Admission::Seat(seat) => Ok(seat),
            Admission::Nobody => Err(Unseated::Nobody),
            Admission::Wait(ticket) => {
                in_line.ticket = Some(ticket);
                match timeout_at(until().into(), summoned).await {
                    Ok(Ok(Some(seat))) => Ok(seat),
                    Ok(_) => Err(Unseated::Nobody),
                    Err(_) => Err(Unseated::QueueTimeout),
                }
            }
        }
    }

    /// Tells a request in line that its turn has come, or never will. A seat of one that has gone is
    /// given back.
    pub(super) fn summon(&self, key: Key, seat: Option<Seat>) {
        let summons = self.waiting.borrow_mut().remove(key);
        let unheard = summons.map(|summons| summons.send(seat));
        drop(unheard);
    }

    /// Has clients come to the process that has taken over.
    pub(super) fn retire(&self) {
        self.is_retired.set(true);
        self.retirement.notify_waiters();
    }

    /// Waits until another process has taken over.
    pub(super) async fn retired(&self) {
        let told = self.retirement.notified();
        if !self.is_retired.get() {
            told.await;
        }
    }

    /// Ends what the configuration does not let stay.
    pub(super) fn review(&self, service: &Service) {
        self.idle.forget(&service.name);
        self.leashes.review(service);
    }
}

/// A place in line; left when dropped.
struct InLine<'a> {
    desk: &'a Desk,
    service: &'a Service,
    key: Key,
    ticket: Option<Ticket>,
}

impl Drop for InLine<'_> {
    fn drop(&mut self) {
        let summons = self.desk.waiting.borrow_mut().remove(self.key);
        if let (Some(_), Some(ticket)) = (summons, self.ticket) {
            self.service.leave(ticket);
        }
    }
}
