//! Reports up: what was applied, verdicts as they change, counters at an interval.
//!
//! Everything is sent whole at the start of a stream; after that only what changed. Nothing is kept
//! for a controller that does not listen: the next one asks anew.

use std::sync::Arc;
use std::time::Duration;

use gantry_proto::agent::v1 as pb;
use gantry_proto::agent::v1::agent_service_client::AgentServiceClient;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use tonic::{Status, Streaming};
use tracing::{debug, warn};

use super::{Observe, Outcome, PATIENCE};
use crate::backoff::Backoff;

const SAMPLE_INTERVAL: Duration = Duration::from_secs(1);

pub(super) async fn run(
    channel: Channel,
    agent: pb::AgentIdentity,
    outcome: Outcome,
    observe: Arc<dyn Observe>,
    stop: CancellationToken,
) {
    let mut backoff = Backoff::for_controller();
    let forever = async {
        loop {
            let reporter = Reporter {
                agent: agent.clone(),
                outcome: outcome.clone(),
                observe: Arc::clone(&observe),
                verdict_changes: observe.verdict_changes(),
                sequence: 0,
                verdicts_until: 0,
                sample_interval: SAMPLE_INTERVAL,
            };
            let ended = reporter.report(channel.clone(), &mut backoff).await;
            debug!(why = ended.message(), "report stream ended");
            tokio::time::sleep(backoff.next_wait()).await;
        }
    };
    let _stopped = stop.run_until_cancelled(forever).await;
}

struct Reporter {
    agent: pb::AgentIdentity,
    outcome: Outcome,
    observe: Arc<dyn Observe>,
    verdict_changes: watch::Receiver<u64>,
    sequence: i64,
    verdicts_until: u64,
    sample_interval: Duration,
}

impl Reporter {
    /// Reports on one stream until it ends.
    async fn report(mut self, channel: Channel, backoff: &mut Backoff) -> Status {
        let (sender, receiver) = mpsc::channel(4);
        let mut client = AgentServiceClient::new(channel);
        if sender.send(self.everything()).await.is_err() {
            return Status::internal("the stream was not opened");
        }
        let answer = client.report(ReceiverStream::new(receiver));
        let mut answers = match tokio::time::timeout(PATIENCE, answer).await {
            Ok(Ok(answer)) => answer.into_inner(),
            Ok(Err(status)) => return status,
            Err(_) => return Status::deadline_exceeded("the controller does not answer"),
        };
        backoff.reset();
        loop {
            match self.next(&mut answers).await {
                Ok(None) => {}
                Ok(Some(message)) => {
                    if sender.send(message).await.is_err() {
                        return Status::unavailable("the controller closed the stream");
                    }
                }
                Err(status) => return status,
            }
        }
    }

    /// Waits for something to say.
    async fn next(
        &mut self,
        answers: &mut Streaming<pb::ReportResponse>,
    ) -> Result<Option<pb::ReportRequest>, Status> {
        // All arms are cancel safe: `message` by tonic's documentation, `changed` by tokio's.
        tokio::select! {
            answer = answers.message() => match answer? {
                Some(answer) => Ok(self.obey(&answer)),
                None => Err(Status::unavailable("the controller closed the stream")),
            },
            Ok(()) = self.outcome.changed() => {
                let applied = self.outcome.borrow_and_update().clone();
                Ok(Some(self.message(|message| message.applied = applied)))
            }
            Ok(()) = self.verdict_changes.changed() => {
                let (verdicts, until) = self.observe.verdicts(self.verdicts_until);
                self.verdicts_until = until;
                Ok(Some(self.message(|message| message.verdicts = verdicts)))
            }
            () = tokio::time::sleep(self.sample_interval) => {
                let samples = self.observe.samples();
                let (verdicts, until) = self.observe.verdicts(self.verdicts_until);
                self.verdicts_until = until;
                Ok(Some(self.message(|message| {
                    message.samples = samples;
                    message.verdicts = verdicts;
                })))
            }
        }
    }

    fn obey(&mut self, answer: &pb::ReportResponse) -> Option<pb::ReportRequest> {
        if let Some(interval) = answer.sample_interval.and_then(|given| given.try_into().ok()) {
            self.sample_interval = Duration::max(interval, Duration::from_millis(100));
        }
        if !answer.full_report {
            return None;
        }
        warn!("the controller missed a report and asks for all of it");
        Some(self.everything())
    }

    fn everything(&mut self) -> pb::ReportRequest {
        let (verdicts, until) = self.observe.verdicts(0);
        self.verdicts_until = until;
        let applied = self.outcome.borrow_and_update().clone();
        let samples = self.observe.samples();
        let agent = self.agent.clone();
        self.message(|message| {
            message.agent = Some(agent);
            message.applied = applied;
            message.verdicts = verdicts;
            message.samples = samples;
            message.full = true;
        })
    }

    fn message(&mut self, fill: impl FnOnce(&mut pb::ReportRequest)) -> pb::ReportRequest {
        self.sequence += 1;
        let mut message = pb::ReportRequest { sequence: self.sequence, ..Default::default() };
        fill(&mut message);
        message
    }
}
