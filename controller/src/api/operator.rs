//! An operator who is here by other means than a client certificate: the System Overview page's.
//!
//! It makes the very calls that gRPC clients make, with the same checks, events and refusals. So
//! the page can do nothing that the API cannot, and shows nothing that the API does not say.

use std::sync::Arc;

use gantry_proto::v1 as pb;
use pb::balancer_service_server::BalancerService;
use pb::observe_service_server::ObserveService;
use tokio::sync::watch;
use tonic::{Request, Status};

use super::error::ApiError;
use super::{Caller, Calls, Connection, Control};
use crate::state::State;

/// Makes calls in the name of a user.
#[derive(Clone, Debug)]
pub struct Operator {
    calls: Calls,
    caller: Caller,
}

impl Operator {
    /// `user` is `users/{user}`, who proved that before; `peer` is the address the user is at.
    pub fn new(control: &Arc<Control>, user: String, peer: String) -> Self {
        let calls = Calls { control: Arc::clone(control) };
        Self { calls, caller: Caller::Operator { name: user, peer } }
    }

    pub async fn overview(&self) -> Result<pb::Overview, Status> {
        let request = self.request(pb::GetOverviewRequest::default());
        Ok(self.calls.get_overview(request).await?.into_inner())
    }

    /// Newest first.
    pub async fn events(&self, count: i32) -> Result<Vec<pb::Event>, Status> {
        let request = pb::ListEventsRequest { page_size: count, ..Default::default() };
        Ok(self.calls.list_events(self.request(request)).await?.into_inner().events)
    }

    pub async fn drain(
        &self,
        request: pb::DrainRealServerRequest,
    ) -> Result<pb::RealServer, Status> {
        Ok(self.calls.drain_real_server(self.request(request)).await?.into_inner())
    }

    pub async fn halt(&self, request: pb::HaltRealServerRequest) -> Result<pb::RealServer, Status> {
        Ok(self.calls.halt_real_server(self.request(request)).await?.into_inner())
    }

    pub async fn online(
        &self,
        request: pb::OnlineRealServerRequest,
    ) -> Result<pb::RealServer, Status> {
        Ok(self.calls.online_real_server(self.request(request)).await?.into_inner())
    }

    /// Tells when the overview or the events may have changed.
    pub fn news(&self) -> News {
        let control = &self.calls.control;
        News {
            state: control.store.watch(),
            observed: control.observed.watch(),
            events: control.store.watch_events(),
        }
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        let connection = Connection { caller: self.caller.clone(), shown: None };
        request.extensions_mut().insert(connection);
        request
    }
}

/// Whatever changes what an overview shows.
#[derive(Clone, Debug)]
pub struct News {
    state: watch::Receiver<Arc<State>>,
    observed: watch::Receiver<u64>,
    events: watch::Receiver<i64>,
}

/// The refusal of a name that no real server has.
pub(crate) fn no_such_server(name: &str) -> Status {
    ApiError::NotFound { kind: "real server", name: name.to_owned() }.into()
}

impl News {
    /// Waits for something new since the last call. Cancel safe.
    pub async fn wait(&mut self) {
        // Every arm is cancel safe, by tokio's documentation of `changed`. The senders live as
        // long as the controller.
        let _ended = tokio::select! {
            changed = self.state.changed() => changed,
            changed = self.observed.changed() => changed,
            changed = self.events.changed() => changed,
        };
        self.take();
    }

    /// Whether there is something new since the last call.
    pub fn take(&mut self) -> bool {
        let seen = |changed: Result<bool, watch::error::RecvError>| changed.unwrap_or(false);
        let new = seen(self.state.has_changed())
            || seen(self.observed.has_changed())
            || seen(self.events.has_changed());
        self.state.mark_unchanged();
        self.observed.mark_unchanged();
        self.events.mark_unchanged();
        new
    }
}
