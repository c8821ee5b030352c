//! Follows the desired state: stream to ledger to [`Apply`].
//!
//! Level-triggered: only the newest state matters. A service that could not be put in force keeps
//! its last good form and is tried again from time to time, since what stood in its way (a port in
//! use, say) may go away by itself.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use gantry_model::agent::AgentName;
use gantry_model::desired::{Change, Desired, Offer, Prepared, Refusal, Touched, Update};
use gantry_model::name::ServiceName;
use gantry_model::revision::Revision;
use gantry_model::wire;
use gantry_proto::agent::v1 as pb;
use gantry_proto::agent::v1::agent_service_client::AgentServiceClient;
use gantry_proto::v1;
use parking_lot::Mutex;
use pb::applied::Outcome;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};
use tracing::{debug, error, info, warn};

use super::ledger::{Ledger, LedgerError};
use super::way::Way;
use super::{Apply, PATIENCE, Rejection, Told};
use crate::backoff::Backoff;
use crate::{clock, rpc};

/// How often rejected services are tried again.
const RETRY: Duration = Duration::from_secs(5);

/// Snapshots of tens of thousands of services in one message.
const LARGEST_MESSAGE: usize = 256 << 20;

pub(super) struct Follower<A> {
    name: AgentName,
    way: Way,
    agent: pb::AgentIdentity,
    /// Locked only by the one call that writes.
    ledger: Arc<Mutex<Ledger>>,
    desired: Desired<Bytes>,
    /// Why there was no controller last, so that the log says it once.
    absence: String,
    /// Ask for a snapshot next time, whatever is held.
    distrust: bool,
    force: Arc<Mutex<Force<A>>>,
    told: watch::Sender<Told>,
}

/// What is in force and what is not. Locked only by the one call that applies.
struct Force<A> {
    apply: A,
    /// Services of which some form is in force.
    runs: BTreeSet<String>,
    rejected: BTreeMap<String, Rejection>,
}

/// What was done with an update that was not refused.
enum Obeyed {
    Taken,
    HeldBack,
}

/// Why a stream ended.
enum Broken {
    Rpc(Status),
    Ended,
    /// There is a newer certificate to show.
    Moved,
    Refused(Refusal),
    /// What came next changes what is held back here.
    HeldBack,
    Ledger(LedgerError),
    Message(wire::AgentError),
}

impl<A: Apply> Follower<A> {
    pub(super) fn new(
        name: AgentName,
        (way, agent): (Way, pb::AgentIdentity),
        (ledger, desired): (Ledger, Desired<Bytes>),
        apply: A,
        told: watch::Sender<Told>,
    ) -> Self {
        let ledger = Arc::new(Mutex::new(ledger));
        let force = Force { apply, runs: BTreeSet::new(), rejected: BTreeMap::new() };
        let force = Arc::new(Mutex::new(force));
        let absence = String::new();
        Self { name, way, agent, ledger, desired, absence, distrust: false, force, told }
    }

    /// Puts in force what the ledger held.
    pub(super) async fn start_from_ledger(&mut self) {
        let all = self.desired.services().keys().cloned().collect();
        self.put_in_force(Touched { upserted: all, removed: Vec::new() }).await;
        if self.desired.revision() != Revision::default() {
            self.tell_in_force(Duration::ZERO);
        }
    }

    pub(super) async fn run(mut self, mut backoff: Backoff, stop: CancellationToken) {
        // Cancel safe: nothing is half done between two awaits of `follow`, and the ledger comes
        // before what it records.
        let _stopped = stop
            .run_until_cancelled(async {
                loop {
                    let broken = self.follow(&mut backoff).await;
                    self.note(&broken);
                    if self.way.has_moved() {
                        continue;
                    }
                    let wait = backoff.next_wait();
                    debug!(?wait, "asking the controller again");
                    self.retry_rejected_for(wait).await;
                }
            })
            .await;
    }

    /// Follows one stream to its end.
    async fn follow(&mut self, backoff: &mut Backoff) -> Broken {
        let mut stream = match self.open().await {
            Ok(stream) => stream,
            Err(status) => return Broken::Rpc(status),
        };
        info!("following the controller");
        self.absence.clear();
        let mut holding = false;
        loop {
            // All arms are cancel safe: `message` by tonic's documentation, `moved` by its own, and
            // the last sleeps.
            let message = tokio::select! {
                message = stream.message() => message,
                () = self.way.moved() => return Broken::Moved,
                () = tokio::time::sleep(RETRY) => {
                    self.retry_rejected().await;
                    continue;
                }
            };
            let update = match message {
                Ok(Some(message)) => wire::update(message),
                Ok(None) => return Broken::Ended,
                Err(status) => return Broken::Rpc(status),
            };
            let update = match update {
                // A difference from what is held back here: ask for all of it, and judge again.
                Ok(update) if holding && !matches!(update.change, Change::Snapshot(_)) => {
                    return Broken::HeldBack;
                }
                Ok(update) => update,
                Err(error) => return Broken::Message(error),
            };
            match self.obey(update).await {
                Ok(Obeyed::Taken) => {
                    holding = false;
                    backoff.reset();
                }
                Ok(Obeyed::HeldBack) => holding = true,
                Err(broken) => return broken,
            }
        }
    }

    async fn open(&mut self) -> Result<Streaming<pb::WatchConfigResponse>, Status> {
        let held = (!self.distrust).then(|| self.desired.revision().into());
        let request = pb::WatchConfigRequest {
            agent: Some(self.agent.clone()),
            held,
            held_hash: self.desired.hash().to_string(),
        };
        let client = AgentServiceClient::new(self.way.newest());
        let mut client = client.max_decoding_message_size(LARGEST_MESSAGE);
        match tokio::time::timeout(PATIENCE, client.watch_config(request)).await {
            Ok(answer) => Ok(answer?.into_inner()),
            Err(_) => Err(Status::deadline_exceeded("the controller does not answer")),
        }
    }

    /// Checks one update, and takes it, refuses it or holds it back.
    async fn obey(&mut self, update: Update<Bytes>) -> Result<Obeyed, Broken> {
        match self.desired.judge(update.clone()) {
            Ok(Offer::Take(prepared)) => {
                self.take(update, prepared).await.map_err(Broken::Ledger)?;
                Ok(Obeyed::Taken)
            }
            Ok(Offer::Hold { removal_count }) => {
                self.hold_back(&update, removal_count);
                Ok(Obeyed::HeldBack)
            }
            Err(refusal) => {
                self.tell_not_taken(&update, |applied| {
                    applied.outcome = Outcome::Refused.into();
                    refusal.reason().clone_into(&mut applied.refusal);
                });
                Err(Broken::Refused(refusal))
            }
        }
    }

    /// Makes an update durable, puts it in force, tells of it.
    async fn take(
        &mut self,
        update: Update<Bytes>,
        prepared: Prepared<Bytes>,
    ) -> Result<(), LedgerError> {
        let received = clock::monotonic();
        if update.revision != self.desired.revision() {
            let revision = update.revision;
            self.write(move |ledger| ledger.append(&update)).await?;
            info!(%revision, "new desired state");
        }
        let touched = self.desired.commit(prepared);
        self.distrust = false;
        self.put_in_force(touched).await;
        self.tell_in_force(clock::monotonic() - received);
        self.told.send_if_modified(|told| told.not_taken.take().is_some());
        if self.ledger.lock().is_untidy() {
            let desired = self.desired.clone();
            self.write(move |ledger| ledger.tidy(&desired)).await?;
        }
        Ok(())
    }

    fn hold_back(&self, update: &Update<Bytes>, removal_count: usize) {
        let (revision, held) = (update.revision, self.desired.services().len());
        warn!(%revision, removals = removal_count, of = held,
            "holding back a configuration that would take most services away; see `gantry approve`");
        self.tell_not_taken(update, |applied| {
            applied.outcome = Outcome::Held.into();
            applied.removal_count = i32::try_from(removal_count).unwrap_or(i32::MAX);
        });
    }

    /// Writes to the ledger, which may take as long as the disk does.
    async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Ledger) -> T + Send + 'static,
    ) -> T {
        let ledger = Arc::clone(&self.ledger);
        aside(move || work(&mut ledger.lock())).await
    }

    async fn put_in_force(&self, touched: Touched) {
        let plans: Vec<_> = touched
            .upserted
            .into_iter()
            .filter_map(|name| {
                let plan = self.desired.services().get(&name)?.clone();
                Some((name, plan))
            })
            .collect();
        let force = Arc::clone(&self.force);
        aside(move || force.lock().change(&touched.removed, plans)).await;
    }

    async fn retry_rejected_for(&self, wait: Duration) {
        tokio::time::sleep(wait).await;
        self.retry_rejected().await;
    }

    async fn retry_rejected(&self) {
        let force = Arc::clone(&self.force);
        let rejected = aside(move || force.lock().look_again()).await;
        if rejected.is_empty() {
            return;
        }
        self.put_in_force(Touched { upserted: rejected, removed: Vec::new() }).await;
        self.tell_in_force(Duration::ZERO);
    }

    fn tell_in_force(&self, took: Duration) {
        let applied = self.applied(self.desired.revision(), self.desired.hash().to_string());
        let applied = pb::Applied { took: Some(wire::duration_message(took)), ..applied };
        self.told.send_if_modified(|told| {
            let news = told.in_force.as_ref().is_none_or(|before| {
                (&before.revision, &before.hash, &before.rejections)
                    != (&applied.revision, &applied.hash, &applied.rejections)
            });
            if news {
                told.in_force = Some(applied);
            }
            news
        });
    }

    fn tell_not_taken(&self, update: &Update<Bytes>, why: impl FnOnce(&mut pb::Applied)) {
        let mut applied = self.applied(update.revision, update.hash.to_string());
        why(&mut applied);
        self.told.send_modify(|told| told.not_taken = Some(applied));
    }

    fn applied(&self, revision: Revision, hash: String) -> pb::Applied {
        let rejections = self.force.lock().rejections(&self.name);
        wire::applied(revision, hash, rejections, Duration::ZERO)
    }

    fn note(&mut self, broken: &Broken) {
        match broken {
            // A status that was made here, from what the transport met, has a source.
            Broken::Rpc(status) if status.source().is_some() => {
                let why = rpc::why(status);
                if self.absence != why {
                    warn!(why, "no controller; going on with what is held");
                    self.absence = why;
                }
            }
            Broken::Rpc(status) => {
                let (code, why) = (status.code(), status.message());
                warn!(?code, why, "the controller ended the stream");
            }
            Broken::Moved => debug!("opening the stream anew"),
            Broken::Ended => info!("the controller ended the stream"),
            Broken::HeldBack => debug!("asking anew for what is held back"),
            Broken::Refused(refusal) => {
                warn!(%refusal, "refusing what the controller sent");
                self.distrust = matches!(refusal, Refusal::HashMismatch);
            }
            Broken::Ledger(why) => {
                error!(why = rpc::causes(why), "not taking a change that cannot be kept");
            }
            Broken::Message(why) => error!(%why, "the controller sent nonsense"),
        }
    }
}

impl<A: Apply> Force<A> {
    /// Removals first: what is new may need the address of what goes. For the same reason what is
    /// rejected has a second try when the rest is in force.
    fn change(&mut self, removed: &[String], plans: Vec<(String, Bytes)>) {
        for name in removed {
            self.rejected.remove(name);
            self.runs.remove(name);
        }
        let removed: Vec<ServiceName> =
            removed.iter().filter_map(|name| name.parse().ok()).collect();
        let alone = plans.len() == 1;
        let mut refused = self.put(&removed, plans);
        if !alone && !refused.is_empty() {
            let again = refused.into_iter().map(|(name, plan, _)| (name, plan)).collect();
            refused = self.put(&[], again);
        }
        for (name, _, rejection) in refused {
            self.reject(name, rejection);
        }
    }

    /// Gives what was not taken.
    fn put(
        &mut self,
        removed: &[ServiceName],
        plans: Vec<(String, Bytes)>,
    ) -> Vec<(String, Bytes, Rejection)> {
        let (mut refused, mut given, mut readable) = (Vec::new(), Vec::new(), Vec::new());
        for (name, bytes) in plans {
            match wire::decode_plan(&bytes) {
                Ok(plan) => {
                    given.push((name, bytes));
                    readable.push(plan);
                }
                Err(why) => refused.push((name, bytes, unreadable(&why))),
            }
        }
        let outcomes = self.apply.change(removed, readable);
        for ((name, bytes), outcome) in given.into_iter().zip(outcomes) {
            match outcome {
                Ok(()) => self.accept(name),
                Err(rejection) => refused.push((name, bytes, rejection)),
            }
        }
        refused
    }

    /// Asks the agent what is in force no more; gives all that is to be tried again.
    fn look_again(&mut self) -> Vec<String> {
        for (name, rejection) in self.apply.ailing() {
            self.reject(name.to_string(), rejection);
        }
        self.rejected.keys().cloned().collect()
    }

    fn accept(&mut self, service: String) {
        self.rejected.remove(&service);
        self.runs.insert(service);
    }

    fn reject(&mut self, service: String, rejection: Rejection) {
        if self.rejected.get(&service) == Some(&rejection) {
            return;
        }
        let Rejection { reason, field, message } = &rejection;
        warn!(service, reason, field, message, "not in force");
        self.rejected.insert(service, rejection);
    }

    fn rejections(&self, agent: &AgentName) -> Vec<v1::Rejection> {
        let one = |(name, rejection): (&String, &Rejection)| v1::Rejection {
            appliance: agent.appliance.to_string(),
            agent: agent.kind.to_string(),
            reason: rejection.reason.clone(),
            field: rejection.field.clone(),
            message: rejection.message.clone(),
            resource: name.clone(),
            former_in_force: self.runs.contains(name),
        };
        self.rejected.iter().map(one).collect()
    }
}

fn unreadable(why: &wire::PlanError) -> Rejection {
    Rejection {
        reason: "UNREADABLE".to_owned(),
        field: String::new(),
        message: format!("this version of the agent cannot read it ({why}); update it"),
    }
}

/// Does blocking work beside the loop; time stands still meanwhile for a clock that is paused.
async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        // The state in force is unknown now; a restart finds out, from the ledger.
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    }
}
