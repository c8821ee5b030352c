//! Reports up: what was applied, verdicts as they change, counters at an interval.
//!
//! Everything is sent whole at the start of a stream; after that only what changed, the counters too
//! once the controller has said that it can add changes up. Nothing is kept for a controller that
//! does not listen: the next one asks anew.

mod counters;

use std::sync::Arc;
use std::time::Duration;

use gantry_proto::agent::v1 as pb;
use gantry_proto::agent::v1::agent_service_client::AgentServiceClient;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use tonic::{Status, Streaming};
use tracing::{debug, warn};

use self::counters::Counters;
use super::{News, Observe, Outcome, PATIENCE};
use crate::backoff::Backoff;

const SAMPLE_INTERVAL: Duration = Duration::from_secs(1);

/// What the newest checks said is for people, who look less often.
const SAMPLES_PER_RESULTS: u32 = 3;

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
                news_comes: observe.changes(),
                sequence: 0,
                version: 0,
                counters: Counters::default(),
                next_sample: Instant::now() + SAMPLE_INTERVAL,
                samples_sent: 0,
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
    news_comes: watch::Receiver<u64>,
    sequence: i64,
    version: u64,
    counters: Counters,
    next_sample: Instant,
    samples_sent: u32,
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
            Ok(()) = self.news_comes.changed() => {
                let news = self.observe.news(self.version);
                if news.whole {
                    return Ok(Some(self.everything()));
                }
                self.version = news.version;
                Ok(Some(self.message(|message| message.verdicts = news.verdicts)))
            }
            () = tokio::time::sleep_until(self.next_sample) => Ok(Some(self.sample())),
        }
    }

    /// Counters now, and from time to time what the newest checks said.
    fn sample(&mut self) -> pb::ReportRequest {
        self.next_sample = Instant::now() + self.sample_interval;
        self.samples_sent += 1;
        let samples = self.counters.news(self.observe.samples());
        let results = self.samples_sent.is_multiple_of(SAMPLES_PER_RESULTS);
        let verdicts = if results { self.observe.newest() } else { Vec::new() };
        self.message(|message| {
            message.samples = Some(samples);
            message.verdicts = verdicts;
        })
    }

    fn obey(&mut self, answer: &pb::ReportResponse) -> Option<pb::ReportRequest> {
        if let Some(interval) = answer.sample_interval.and_then(|given| given.try_into().ok()) {
            self.sample_interval = Duration::max(interval, Duration::from_millis(100));
        }
        if answer.sample_changes {
            self.counters.send_changes();
        }
        if !answer.full_report {
            return None;
        }
        warn!("the controller missed a report and asks for all of it");
        Some(self.everything())
    }

    fn everything(&mut self) -> pb::ReportRequest {
        self.news_comes.mark_unchanged();
        let News { verdicts, version, .. } = self.observe.news(0);
        self.version = version;
        let applied = self.outcome.borrow_and_update().clone();
        let samples = self.counters.whole(self.observe.samples());
        let agent = self.agent.clone();
        self.message(|message| {
            message.agent = Some(agent);
            message.applied = applied;
            message.verdicts = verdicts;
            message.samples = Some(samples);
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
