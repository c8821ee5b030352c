//! Bodies on their way: of requests to real servers, and of responses to clients.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use gantry_model::termination::Termination;
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};

use crate::stats::Traffic;

use super::guest::Busy;
use super::leash::{Cut, Held, Rope};
use super::upstream::Lent;

/// The body of a request.
#[derive(Debug)]
pub(super) struct Upload {
    inner: Option<Incoming>,
    /// Absent until it is known who gets it.
    way: Option<Way>,
}

/// Where a request's body goes, and who is told of it.
#[derive(Debug)]
struct Way {
    rope: Rope,
    patience: Duration,
    traffic: Arc<Traffic>,
    carried: Rc<Carried>,
}

/// What is known of a request's body.
#[derive(Debug, Default)]
pub(super) struct Carried {
    pub(super) bytes: Cell<u64>,
    /// The client has sent all of it.
    pub(super) is_whole: Cell<bool>,
}

/// The body of a response.
#[derive(Debug)]
pub(super) enum Answer {
    Own { body: Option<Bytes>, busy: Option<Busy> },
    Relayed(Box<Relayed>),
}

/// A response's body from a real server.
#[derive(Debug)]
pub(super) struct Relayed {
    pub(super) inner: Incoming,
    pub(super) held: Option<Held>,
    pub(super) patience: Duration,
    /// The connection that it comes on.
    pub(super) lent: Option<Lent>,
    pub(super) traffic: Arc<Traffic>,
    pub(super) busy: Busy,
}

/// Why a body broke off.
#[derive(Debug, thiserror::Error)]
pub(super) enum BrokenOff {
    #[error("its real server was taken out")]
    Taken,
    #[error("nothing was heard for too long")]
    Silent,
    #[error(transparent)]
    Peer(#[from] hyper::Error),
}

impl Upload {
    pub(super) fn new(inner: Incoming) -> Self {
        let has_some = !inner.is_end_stream();
        Self { inner: has_some.then_some(inner), way: None }
    }

    /// A body of no bytes.
    pub(super) fn none() -> Self {
        Self { inner: None, way: None }
    }

    pub(super) fn is_none(&self) -> bool {
        self.inner.is_none()
    }

    /// Sends it this way; gives what will be known of it, if there is one.
    pub(super) fn send_by(
        &mut self,
        held: &Held,
        patience: Duration,
        traffic: &Arc<Traffic>,
    ) -> Option<Rc<Carried>> {
        if self.is_none() {
            return None;
        }
        let carried = Rc::<Carried>::default();
        let (rope, traffic) = (held.rope().clone(), Arc::clone(traffic));
        self.way = Some(Way { rope, patience, traffic, carried: Rc::clone(&carried) });
        Some(carried)
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Self { inner, way } = self.get_mut();
        let Some(body) = inner else { return Poll::Ready(None) };
        let frame = ready!(Pin::new(&mut *body).poll_frame(context));
        if let Some(way) = way {
            way.note(frame.as_ref(), body.is_end_stream());
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

impl Way {
    fn note(&self, frame: Option<&Result<Frame<Bytes>, hyper::Error>>, is_end: bool) {
        self.rope.heard(self.patience);
        self.carried.is_whole.set(is_end || frame.is_none());
        let data = frame.and_then(|frame| frame.as_ref().ok()).and_then(Frame::data_ref);
        let bytes = data.map_or(0, |data| data.len() as u64);
        self.traffic.from_clients.add(bytes);
        self.carried.bytes.set(self.carried.bytes.get() + bytes);
    }
}

impl Answer {
    pub(super) fn own(body: Bytes) -> Self {
        Self::Own { body: (!body.is_empty()).then_some(body), busy: None }
    }

    /// Counts as under way for as long as it is.
    pub(super) fn keep_busy(&mut self, with: Busy) {
        if let Self::Own { busy, .. } = self {
            *busy = Some(with);
        }
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        match self.get_mut() {
            Self::Own { body, .. } => Poll::Ready(body.take().map(|all| Ok(Frame::data(all)))),
            Self::Relayed(relayed) => relayed.poll(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Own { body, .. } => body.is_none(),
            Self::Relayed(relayed) => relayed.inner.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Own { body, .. } => {
                SizeHint::with_exact(body.as_ref().map_or(0, |all| all.len() as u64))
            }
            Self::Relayed(relayed) => relayed.inner.size_hint(),
        }
    }
}

impl Relayed {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        if let Some(held) = &self.held
            && let Poll::Ready(cut) = held.poll_cut(context)
        {
            self.busy.fails(match cut {
                Cut::Taken => held.taken(),
                Cut::Silent => Termination::ServerTimeout,
            });
            return Poll::Ready(Some(Err(cut.into())));
        }
        let frame = Pin::new(&mut self.inner).poll_frame(context);
        self.busy.awaits_server(frame.is_pending());
        let frame = ready!(frame);
        match &frame {
            Some(Ok(frame)) => {
                let bytes = frame.data_ref().map_or(0, |data| data.len() as u64);
                self.traffic.to_clients.add(bytes);
                self.busy.carried(bytes);
                if let Some(held) = &self.held {
                    held.rope().heard(self.patience);
                }
                if self.inner.is_end_stream() {
                    self.finish();
                }
            }
            Some(Err(error)) => {
                self.busy.fails(Termination::ServerReset);
                self.busy.broke_off(&error.to_string());
            }
            None => self.finish(),
        }
        Poll::Ready(frame.map(|frame| frame.map_err(BrokenOff::Peer)))
    }

    /// All of it has come: the connection is good for the next request, and the seat for the next in line.
    fn finish(&mut self) {
        if let Some(lent) = self.lent.take() {
            lent.give_back();
        }
        self.held = None;
    }
}

impl Drop for Relayed {
    fn drop(&mut self) {
        // A body of no bytes is never asked for.
        if self.inner.is_end_stream() {
            self.finish();
        }
    }
}

impl From<Cut> for BrokenOff {
    fn from(cut: Cut) -> Self {
        match cut {
            Cut::Taken => Self::Taken,
            Cut::Silent => Self::Silent,
        }
    }
}
