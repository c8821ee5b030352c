//! AgentService: desired state down, observed state up.

use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{Stream, stream};
use gantry_model::agent::AgentName;
use gantry_model::desired::{Change, Update};
use gantry_model::revision::{Revision, SetHash};
use gantry_model::wire;
use gantry_proto::agent::v1 as pb;
use gantry_runtime::clock;
use pb::agent_service_server::AgentService;
use tokio::sync::{mpsc, watch};
use tonic::{Request, Response, Status, Streaming};
use tracing::{debug, info, warn};

use self::renewal::Renewal;
use super::caller::{self, Caller};
use super::error::ApiError;
use super::{Calls, Control};
use crate::publish::Shelf;
use crate::state::State;
use crate::store::{NewEvent, Severity};

mod hear;
mod news;
mod renewal;

type Streamed<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl AgentService for Calls {
    type WatchConfigStream = Streamed<pb::WatchConfigResponse>;
    type ReportStream = Streamed<pb::ReportResponse>;

    async fn watch_config(
        &self,
        request: Request<pb::WatchConfigRequest>,
    ) -> Result<Response<Self::WatchConfigStream>, Status> {
        let caller = caller::of(&request);
        let request = request.into_inner();
        let name = admit(&self.control, &caller, request.agent.as_ref())?;
        let shelf = self.control.publisher.shelf(&name.appliance.cluster(), name.kind);
        let shelf = shelf.ok_or_else(|| ApiError::NotFound {
            kind: "cluster",
            name: name.appliance.cluster().to_string(),
        })?;
        let held = held(&request)?;
        debug!(agent = %name, ?held, "agent asks for its desired state");
        let watch = ConfigWatch {
            newest: shelf.watch(),
            fleet: self.control.store.watch_fleet(),
            approvals: self.control.approvals.watch(),
            approved: false,
            control: Arc::clone(&self.control),
            shelf,
            held,
            sent: None,
            name,
            caller,
        };
        let stream = stream::unfold(watch, |mut watch| async {
            let update = watch.next().await?;
            Some((update, watch))
        });
        Ok(Response::new(Box::pin(stream)))
    }

    async fn report(
        &self,
        request: Request<Streaming<pb::ReportRequest>>,
    ) -> Result<Response<Self::ReportStream>, Status> {
        let (caller, shown) = (caller::of(&request), caller::shown(&request));
        let mut reports = request.into_inner();
        let first = reports.message().await?;
        let first = first.ok_or_else(|| Status::from(missing("agent")))?;
        let name = admit(&self.control, &caller, first.agent.as_ref())?;
        let version = first.agent.as_ref().map(|agent| agent.version.clone()).unwrap_or_default();
        let number = self.control.next_stream();
        self.control.observed.connected(&name, number, &version, clock::wall());
        self.control.observed.update(&name, |agent| agent.shown.clone_from(&shown));
        info!(agent = %name, version, "agent reports");
        let mut fleet = self.control.store.watch_fleet();
        // The appliance may have been removed since it was let in.
        fleet.mark_changed();
        let hearing = Hearing {
            control: Arc::clone(&self.control),
            renewal: Renewal::new(self.control.authority.watch(), shown),
            questions: self.control.questions.open(&name, number),
            fleet,
            reports,
            first: Some(first),
            name,
            caller,
            number,
            expected: 1,
            greeted: false,
        };
        let stream = stream::unfold(hearing, |mut hearing| async {
            let answer = hearing.next().await?;
            Some((answer, hearing))
        });
        Ok(Response::new(Box::pin(stream)))
    }
}

/// Which agent this is, if its certificate says so too and its appliance has not been removed.
fn admit(
    control: &Control,
    caller: &Caller,
    agent: Option<&pb::AgentIdentity>,
) -> Result<AgentName, Status> {
    let name = wire::identity(agent)
        .map_err(|error| ApiError::field("agent", "INVALID_AGENT", error.to_string()))?;
    check(&control.state(), caller, &name).map_err(|why| {
        warn!(%caller, claims = %name, why, "agent refused");
        ApiError::Denied { why }
    })?;
    Ok(name)
}

fn check(state: &State, caller: &Caller, name: &AgentName) -> Result<(), String> {
    let Caller::Appliance { name: certified, key_hash, .. } = caller else {
        return Err("only an appliance's certificate is good for its agents".to_owned());
    };
    if *certified != name.appliance {
        return Err(format!("the certificate is for {certified}, not for {}", name.appliance));
    }
    caller::known(state, certified, key_hash)
}

fn held(request: &pb::WatchConfigRequest) -> Result<Option<(Revision, SetHash)>, ApiError> {
    let Some(revision) = request.held else { return Ok(None) };
    let hash = request.held_hash.parse().map_err(|error: gantry_model::revision::HashError| {
        ApiError::field("held_hash", "INVALID_HASH", error.to_string())
    })?;
    Ok(Some((revision.into(), hash)))
}

fn missing(field: &str) -> ApiError {
    ApiError::field(field, "REQUIRED", "is required on the first message")
}

/// One agent's view of its shelf.
struct ConfigWatch {
    control: Arc<Control>,
    shelf: Arc<Shelf>,
    newest: watch::Receiver<Revision>,
    /// Changes with the appliances, not with the configuration.
    fleet: watch::Receiver<u64>,
    approvals: watch::Receiver<u64>,
    /// Something was approved of since this last looked.
    approved: bool,
    held: Option<(Revision, SetHash)>,
    sent: Option<Revision>,
    name: AgentName,
    caller: Caller,
}

impl ConfigWatch {
    /// Waits until there is something new for this agent.
    async fn next(&mut self) -> Option<Result<pb::WatchConfigResponse, Status>> {
        loop {
            self.fleet.mark_unchanged();
            if let Err(why) = check(&self.control.state(), &self.caller, &self.name) {
                warn!(agent = %self.name, why, "ending the agent's stream");
                return Some(Err(ApiError::Denied { why }.into()));
            }
            self.newest.mark_unchanged();
            if let Some(update) = self.update() {
                self.sent = Some(update.revision);
                return Some(Ok(wire::update_message(&update)));
            }
            // All arms are cancel safe, by tokio's documentation of `changed`. The fleet is
            // watched because an appliance may be removed.
            tokio::select! {
                changed = self.newest.changed() => changed.ok()?,
                changed = self.fleet.changed() => changed.ok()?,
                changed = self.approvals.changed() => {
                    changed.ok()?;
                    self.approved = true;
                }
            }
        }
    }

    /// What this agent is to be sent now. What it holds back, and somebody has approved of since,
    /// it is sent once more, whole.
    fn update(&mut self) -> Option<Update<Bytes>> {
        let approved = std::mem::take(&mut self.approved);
        let mut update = match self.sent {
            None => self.shelf.update_from(self.held),
            Some(sent) => match self.shelf.update_since(sent) {
                Some(update) => update,
                None if approved => self.shelf.update_from(None),
                None => return None,
            },
        };
        let approvals = &self.control.approvals;
        let whole = matches!(update.change, Change::Snapshot(_));
        update.removals_approved =
            whole && approvals.cover(&self.name, update.revision, update.hash);
        let again = self.sent == Some(update.revision);
        (!again || update.removals_approved).then_some(update)
    }
}

/// One agent's report stream. Ends with the agent marked as silent, however it ends.
struct Hearing {
    control: Arc<Control>,
    renewal: Renewal,
    fleet: watch::Receiver<u64>,
    questions: mpsc::Receiver<pb::Question>,
    reports: Streaming<pb::ReportRequest>,
    first: Option<pb::ReportRequest>,
    name: AgentName,
    caller: Caller,
    number: u64,
    expected: i64,
    greeted: bool,
}

impl Hearing {
    /// Hears reports until there is something to answer.
    async fn next(&mut self) -> Option<Result<pb::ReportResponse, Status>> {
        if !std::mem::replace(&mut self.greeted, true) {
            let greeting = pb::ReportResponse { sample_changes: true, ..Default::default() };
            return Some(Ok(greeting));
        }
        loop {
            let report = match self.first.take() {
                Some(first) => first,
                // All arms are cancel safe: `message` by tonic's documentation, `changed` and
                // `recv` by tokio's, `wanted` by its own.
                None => tokio::select! {
                    report = self.reports.message() => report.ok()??,
                    () = self.renewal.wanted() => {
                        let renew_certificate = true;
                        return Some(Ok(pb::ReportResponse { renew_certificate, ..Default::default() }));
                    }
                    // None comes when a newer stream of the agent took over.
                    Some(question) = self.questions.recv() => {
                        let questions = vec![question];
                        return Some(Ok(pb::ReportResponse { questions, ..Default::default() }));
                    }
                    changed = self.fleet.changed() => {
                        changed.ok()?;
                        match check(&self.control.state(), &self.caller, &self.name) {
                            Ok(()) => continue,
                            Err(why) => return Some(Err(ApiError::Denied { why }.into())),
                        }
                    }
                },
            };
            let gap = report.sequence != self.expected && !report.full;
            self.expected = report.sequence.saturating_add(1);
            self.control.hear(&self.name, report).await;
            if gap {
                return Some(Ok(pb::ReportResponse { full_report: true, ..Default::default() }));
            }
        }
    }
}

impl Drop for Hearing {
    fn drop(&mut self) {
        self.control.questions.close(&self.name, self.number);
        if self.control.observed.disconnected(&self.name, self.number) {
            info!(agent = %self.name, "agent is silent");
        }
    }
}

fn event(kind: &'static str, severity: Severity, subject: String, message: String) -> NewEvent {
    NewEvent { time: None, severity, kind: kind.into(), subject, message }
}
