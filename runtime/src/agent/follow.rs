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
use gantry_model::desired::{Desired, Refusal, Touched, Update};
use gantry_model::name::ServiceName;
use gantry_model::wire;
use gantry_proto::agent::v1 as pb;
use gantry_proto::agent::v1::agent_service_client::AgentServiceClient;
use gantry_proto::v1;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use tonic::{Status, Streaming};
use tracing::{debug, error, info, warn};

use super::ledger::{Ledger, LedgerError};
use super::{Apply, PATIENCE, Rejection};
use crate::backoff::Backoff;
use crate::{clock, rpc};

/// How often rejected services are tried again.
const RETRY: Duration = Duration::from_secs(5);

/// Snapshots of tens of thousands of services in one message.
const LARGEST_MESSAGE: usize = 256 << 20;

pub(super) struct Follower<A> {
    client: AgentServiceClient<Channel>,
    agent: pb::AgentIdentity,
    ledger: Ledger,
    desired: Desired<Bytes>,
    /// Why there was no controller last, so that the log says it once.
    absence: String,
    /// Ask for a snapshot next time, whatever is held.
    distrust: bool,
    force: Arc<Mutex<Force<A>>>,
    told: watch::Sender<Option<pb::Applied>>,
}

/// What is in force and what is not. Locked only by the one call that applies.
struct Force<A> {
    apply: A,
    /// Services of which some form is in force.
    runs: BTreeSet<String>,
    rejected: BTreeMap<String, Rejection>,
}

/// Why a stream ended.
enum Broken {
    Rpc(Status),
    Ended,
    Refused(Refusal),
    Ledger(LedgerError),
    Message(wire::AgentError),
}

impl<A: Apply> Follower<A> {
    pub(super) fn new(
        channel: Channel,
        agent: pb::AgentIdentity,
        ledger: Ledger,
        desired: Desired<Bytes>,
        apply: A,
        told: watch::Sender<Option<pb::Applied>>,
    ) -> Self {
        let client = AgentServiceClient::new(channel).max_decoding_message_size(LARGEST_MESSAGE);
        let force =
            Arc::new(Mutex::new(Force { apply, runs: BTreeSet::new(), rejected: BTreeMap::new() }));
        let absence = String::new();
        Self { client, agent, ledger, desired, absence, distrust: false, force, told }
    }

    /// Puts in force what the ledger held.
    pub(super) async fn start_from_ledger(&mut self) {
        let all = self.desired.services().keys().cloned().collect();
        self.put_in_force(Touched { upserted: all, removed: Vec::new() }).await;
    }

    pub(super) async fn run(mut self, stop: CancellationToken) {
        let mut backoff = Backoff::for_controller();
        // Cancel safe: nothing is half done between two awaits of `follow`, and the ledger comes
        // before what it records.
        let _stopped = stop
            .run_until_cancelled(async {
                loop {
                    let broken = self.follow(&mut backoff).await;
                    self.note(&broken);
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
        loop {
            // Both arms are cancel safe: `message` by tonic's documentation, the other sleeps.
            let message = tokio::select! {
                message = stream.message() => message,
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
            let taken = match update {
                Ok(update) => self.take(update).await,
                Err(error) => Err(Broken::Message(error)),
            };
            match taken {
                Ok(()) => backoff.reset(),
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
        match tokio::time::timeout(PATIENCE, self.client.watch_config(request)).await {
            Ok(answer) => Ok(answer?.into_inner()),
            Err(_) => Err(Status::deadline_exceeded("the controller does not answer")),
        }
    }

    /// Takes one update: checks it, makes it durable, puts it in force, tells of it.
    async fn take(&mut self, update: Update<Bytes>) -> Result<(), Broken> {
        let received = clock::monotonic();
        let prepared = self.desired.prepare(update.clone()).map_err(|refusal| {
            self.tell_refusal(&update, refusal);
            Broken::Refused(refusal)
        })?;
        if update.revision != self.desired.revision() {
            tokio::task::block_in_place(|| self.ledger.append(&update)).map_err(Broken::Ledger)?;
            info!(revision = %update.revision, "new desired state");
        }
        let touched = self.desired.commit(prepared);
        self.distrust = false;
        self.put_in_force(touched).await;
        self.tell(clock::monotonic() - received);
        tokio::task::block_in_place(|| self.ledger.tidy(&self.desired)).map_err(Broken::Ledger)
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
        let work = move || force.lock().change(&touched.removed, plans);
        if let Err(panic) = tokio::task::spawn_blocking(work).await {
            // The state in force is unknown now; a restart finds out, from the ledger.
            std::panic::resume_unwind(panic.into_panic());
        }
    }

    async fn retry_rejected_for(&self, wait: Duration) {
        tokio::time::sleep(wait).await;
        self.retry_rejected().await;
    }

    async fn retry_rejected(&self) {
        let rejected: Vec<String> = self.force.lock().rejected.keys().cloned().collect();
        if rejected.is_empty() {
            return;
        }
        self.put_in_force(Touched { upserted: rejected, removed: Vec::new() }).await;
        self.tell(Duration::ZERO);
    }

    fn tell(&self, took: Duration) {
        let rejections = self.force.lock().rejections(&self.agent);
        let hash = self.desired.hash().to_string();
        let applied = wire::applied(self.desired.revision(), hash, rejections, took);
        self.told.send_if_modified(|told| {
            let news = told.as_ref().is_none_or(|before| {
                (&before.revision, &before.hash, &before.rejections)
                    != (&applied.revision, &applied.hash, &applied.rejections)
            });
            if news {
                *told = Some(applied);
            }
            news
        });
    }

    fn tell_refusal(&self, update: &Update<Bytes>, refusal: Refusal) {
        let hash = update.hash.to_string();
        let applied = wire::applied(update.revision, hash, Vec::new(), Duration::ZERO);
        self.told.send_replace(Some(pb::Applied {
            outcome: pb::applied::Outcome::Refused.into(),
            refusal: refusal.reason().to_owned(),
            ..applied
        }));
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
            Broken::Ended => info!("the controller ended the stream"),
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
            if let Ok(name) = name.parse::<ServiceName>() {
                self.apply.remove(&name);
            }
        }
        let mut again = Vec::new();
        let alone = plans.len() == 1;
        for (name, plan) in plans {
            match self.put(&plan) {
                Ok(()) => self.accept(name),
                Err(rejection) if alone => self.reject(name, rejection),
                Err(_) => again.push((name, plan)),
            }
        }
        for (name, plan) in again {
            match self.put(&plan) {
                Ok(()) => self.accept(name),
                Err(rejection) => self.reject(name, rejection),
            }
        }
    }

    fn put(&mut self, plan: &[u8]) -> Result<(), Rejection> {
        let plan = wire::decode_plan(plan).map_err(|why| Rejection {
            reason: "UNREADABLE".to_owned(),
            field: String::new(),
            message: format!("this version of the agent cannot read it ({why}); update it"),
        })?;
        self.apply.put(plan)
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

    fn rejections(&self, agent: &pb::AgentIdentity) -> Vec<v1::Rejection> {
        let kind = match agent.kind() {
            pb::agent_identity::Kind::L4 => "agent-l4",
            pb::agent_identity::Kind::L7 => "agent-l7",
            _ => "healthd",
        };
        let one = |(name, rejection): (&String, &Rejection)| v1::Rejection {
            appliance: agent.appliance.clone(),
            agent: kind.to_owned(),
            reason: rejection.reason.clone(),
            field: rejection.field.clone(),
            message: rejection.message.clone(),
            resource: name.clone(),
            former_in_force: self.runs.contains(name),
        };
        self.rejected.iter().map(one).collect()
    }
}
