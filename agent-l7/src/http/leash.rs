//! What may have to end although nothing happened to it: connections of a service that is closed,
//! requests at a server that is taken out, and whoever is silent for too long.
//!
//! One timer watches all of a thread's leashes. To move a deadline, which every byte does, is to write
//! down a time.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use gantry_model::termination::Termination;
use gantry_runtime::clock;
use tokio::sync::Notify;
use tokio::time::timeout_at;

use crate::deadline::after;
use crate::seat::Seat;
use crate::server::{Server, Tenure};
use crate::service::Service;
use crate::slab::{Key, Slab};

/// How long nobody looks when there is nothing to watch.
const REST: Duration = Duration::from_secs(3600);

/// All leashes of a thread.
#[derive(Debug)]
pub(super) struct Leashes {
    all: RefCell<Slab<Rc<Leash>>>,
    /// When it has to be looked whether somebody's time is over.
    next: Cell<Instant>,
    /// That is earlier than it was.
    earlier: Notify,
}

#[derive(Debug)]
struct Leash {
    service: Arc<Service>,
    /// Where a request is served.
    server: Option<Arc<Server>>,
    deadline: Cell<Instant>,
    cut: Cell<Option<Cut>>,
    waker: RefCell<Option<Waker>>,
    /// Who has to end with it when it is silent.
    led: RefCell<Option<Rope>>,
}

/// Why something has to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    /// Its server, or its whole service, was taken out.
    Taken,
    /// Nothing was heard for too long.
    Silent,
}

/// A leash, from the side of what is on it. It is let go when dropped, and its seat with it.
#[derive(Debug)]
pub(super) struct Held {
    rope: Rope,
    leashes: Rc<Leashes>,
    key: Key,
    seat: Option<Seat>,
}

/// Tells a leash that something was heard.
#[derive(Clone, Debug)]
pub(super) struct Rope(Rc<Leash>);

impl Default for Leashes {
    fn default() -> Self {
        Self {
            all: RefCell::new(Slab::new()),
            next: Cell::new(clock::monotonic() + REST),
            earlier: Notify::new(),
        }
    }
}

impl Leashes {
    /// Takes something on a leash: it must be heard of within `patience`.
    pub(super) fn hold(
        self: &Rc<Self>,
        service: &Arc<Service>,
        seat: Option<Seat>,
        patience: Duration,
    ) -> Held {
        let deadline = after(clock::monotonic(), patience);
        let leash = Rc::new(Leash {
            service: Arc::clone(service),
            server: seat.as_ref().map(|seat| Arc::clone(&seat.server)),
            deadline: Cell::new(deadline),
            cut: Cell::new(None),
            waker: RefCell::new(None),
            led: RefCell::new(None),
        });
        let key = self.all.borrow_mut().insert(Rc::clone(&leash));
        self.look_at(deadline);
        Held { rope: Rope(leash), leashes: Rc::clone(self), key, seat }
    }

    /// Cuts what may not stay.
    pub(super) fn review(&self, service: &Service) {
        for leash in self.all.borrow().iter() {
            if leash.service.serial == service.serial {
                self.look_at(leash.review(clock::monotonic()));
            }
        }
    }

    /// Cuts what was silent for too long, for ever.
    pub(super) async fn watch(&self) {
        loop {
            let now = clock::monotonic();
            if self.next.get() <= now {
                let all = self.all.borrow();
                let next = all.iter().map(|leash| leash.review(now)).min();
                self.next.set(next.unwrap_or(now + REST));
            }
            // Early or in time: either way it is looked again.
            let _ = timeout_at(self.next.get().into(), self.earlier.notified()).await;
        }
    }

    fn look_at(&self, at: Instant) {
        if at < self.next.get() {
            self.next.set(at);
            self.earlier.notify_one();
        }
    }
}

impl Leash {
    /// Cuts it if it may not stay; gives the instant at which it may not any more.
    fn review(&self, now: Instant) -> Instant {
        let deadline = self.deadline.get();
        let end = match self.tenure() {
            Tenure::Stay => deadline,
            Tenure::Until(end) => end.min(deadline),
            Tenure::Over => now,
        };
        if end > now {
            return end;
        }
        if self.cut.get().is_none() {
            let why = if deadline <= now { Cut::Silent } else { Cut::Taken };
            self.end(why);
            if let (Cut::Silent, Some(led)) = (why, self.led.take()) {
                led.0.end(why);
            }
        }
        // What is cut ends by itself.
        now + REST
    }

    fn end(&self, why: Cut) {
        self.cut.set(Some(why));
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    fn tenure(&self) -> Tenure {
        match &self.server {
            _ if self.service.is_closed() => Tenure::Over,
            Some(server) => self.service.tenure(server),
            None => Tenure::Stay,
        }
    }
}

impl Rope {
    /// Something was heard; it must be again within `patience`.
    pub(super) fn heard(&self, patience: Duration) {
        self.0.deadline.set(after(clock::monotonic(), patience));
    }
}

impl Held {
    pub(super) fn seat(&self) -> Option<&Seat> {
        self.seat.as_ref()
    }

    /// Why it was cut, where that was not for silence.
    pub(super) fn taken(&self) -> Termination {
        match &self.seat {
            Some(seat) if !self.service().is_closed() => seat.taken().termination(),
            _ => Termination::ServiceClosed,
        }
    }

    pub(super) fn rope(&self) -> &Rope {
        &self.rope
    }

    pub(super) fn service(&self) -> &Service {
        &self.rope.0.service
    }

    /// Has another end with this when it is silent.
    pub(super) fn leads(&self, other: &Rope) {
        *self.rope.0.led.borrow_mut() = Some(other.clone());
    }

    /// The same as [`Rope::heard`], where that may be sooner than before.
    pub(super) fn expect(&self, patience: Duration) {
        self.rope.heard(patience);
        self.leashes.look_at(self.rope.0.deadline.get());
    }

    /// Ready once it has been cut.
    pub(super) fn poll_cut(&self, context: &mut Context<'_>) -> Poll<Cut> {
        let leash = &self.rope.0;
        if let Some(cut) = leash.cut.get() {
            return Poll::Ready(cut);
        }
        let mut waker = leash.waker.borrow_mut();
        match &mut *waker {
            Some(waker) => waker.clone_from(context.waker()),
            none => *none = Some(context.waker().clone()),
        }
        Poll::Pending
    }

    pub(super) async fn cut(&self) -> Cut {
        std::future::poll_fn(|context| self.poll_cut(context)).await
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // The seat goes after this, when nothing is borrowed: it may go to another request of this thread.
        self.leashes.all.borrow_mut().remove(self.key);
    }
}
