//! Reports up: what was applied, verdicts as they change, counters at an interval.
//!
//! Everything is sent whole at the start of a stream; after that only what changed, the counters too
//! once the controller has said that it can add changes up. Nothing is kept for a controller that
//! does not listen: the next one asks anew.

mod counters;

use std::sync::Arc;
use std::time::Duration;

use gantry_model::wire;
use gantry_proto::agent::v1 as pb;
use gantry_proto::agent::v1::agent_service_client::AgentServiceClient;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use tonic::{Status, Streaming};
use tracing::{debug, warn};

use self::counters::Counters;
use super::question::refusal;
use super::way::Way;
use super::{Link, News, Observe, Outcome, PATIENCE, Told};
use crate::backoff::Backoff;

const SAMPLE_INTERVAL: Duration = Duration::from_secs(1);

/// How many of the newest checks go with each sample. They are for people: with tens of thousands of
/// servers each has its turn, and no message keeps others waiting.
const RESULTS: usize = 2000;

/// To a question that only newer versions have.
const UNKNOWN: &str = "this version of the agent does not know the question: update it";

pub(super) async fn run(
    link: Link,
    agent: pb::AgentIdentity,
    outcome: Outcome,
    observe: Arc<dyn Observe>,
    stop: CancellationToken,
) {
    let Link { mut way, mut backoff } = link;
    let forever = async {
        loop {
            let channel = way.newest();
            let reporter = Reporter {
                way: way.clone(),
                agent: agent.clone(),
                outcome: outcome.clone(),
                said: Told::default(),
                observe: Arc::clone(&observe),
                news_comes: observe.changes(),
                sequence: 0,
                version: 0,
                counters: Counters::default(),
                condition: None,
                answering: JoinSet::new(),
                next_sample: Instant::now() + SAMPLE_INTERVAL,
                sample_interval: SAMPLE_INTERVAL,
            };
            let ended = reporter.report(channel, &mut backoff).await;
            debug!(why = ended.message(), "report stream ended");
            if !way.has_moved() {
                tokio::time::sleep(backoff.next_wait()).await;
            }
        }
    };
    let _stopped = stop.run_until_cancelled(forever).await;
}

struct Reporter {
    way: Way,
    agent: pb::AgentIdentity,
    outcome: Outcome,
    /// What of it was said on this stream.
    said: Told,
    observe: Arc<dyn Observe>,
    news_comes: watch::Receiver<u64>,
    sequence: i64,
    version: u64,
    counters: Counters,
    /// What was said of the machine last.
    condition: Option<pb::Condition>,
    /// Answers that are being looked for.
    answering: JoinSet<pb::Answer>,
    next_sample: Instant,
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
        // All arms are cancel safe: `message` by tonic's documentation, `changed` and `join_next`
        // by tokio's, `moved` by its own.
        tokio::select! {
            answer = answers.message() => match answer? {
                Some(answer) => Ok(self.obey(&answer)),
                None => Err(Status::unavailable("the controller closed the stream")),
            },
            () = self.way.moved() => Err(Status::aborted("there is a new certificate")),
            Ok(()) = self.outcome.changed() => {
                let Some(applied) = self.unsaid() else { return Ok(None) };
                Ok(Some(self.message(|message| message.applied = Some(applied))))
            }
            Ok(()) = self.news_comes.changed() => {
                let news = self.observe.news(self.version);
                if news.whole {
                    return Ok(Some(self.everything()));
                }
                self.version = news.version;
                Ok(Some(self.message(|message| message.verdicts = news.verdicts)))
            }
            Some(answer) = self.answering.join_next() => match answer {
                Ok(answer) => Ok(Some(self.message(|message| message.answers = vec![answer]))),
                Err(panic) => std::panic::resume_unwind(panic.into_panic()),
            },
            () = tokio::time::sleep_until(self.next_sample) => Ok(Some(self.sample())),
        }
    }

    /// What is new of what became of the desired state. The newest report stands for all: what is
    /// in force goes first, and is said again when nothing is refused or held back any more.
    fn unsaid(&mut self) -> Option<pb::Applied> {
        let told = self.outcome.borrow_and_update().clone();
        let over = told.not_taken.is_none() && self.said.not_taken.is_some();
        if told.in_force != self.said.in_force || over {
            self.said = Told { in_force: told.in_force.clone(), not_taken: None };
            if told.not_taken.is_some() {
                self.outcome.mark_changed();
            }
            return told.in_force;
        }
        if told.not_taken == self.said.not_taken {
            return None;
        }
        self.said.not_taken.clone_from(&told.not_taken);
        told.not_taken
    }

    /// Counters now, and what the newest checks said.
    fn sample(&mut self) -> pb::ReportRequest {
        self.next_sample = Instant::now() + self.sample_interval;
        let samples = self.counters.news(self.observe.samples());
        let verdicts = self.observe.take_results(RESULTS);
        let (condition, notices) = (self.changed_condition(), self.observe.take_notices());
        self.message(|message| {
            message.samples = Some(samples);
            message.verdicts = verdicts;
            message.condition = condition;
            message.notices = notices;
        })
    }

    /// What there is to say of the machine, if it differs from what was said.
    fn changed_condition(&mut self) -> Option<pb::Condition> {
        let now = self.observe.condition();
        if self.condition.as_ref() == Some(&now) {
            return None;
        }
        self.condition = Some(now.clone());
        Some(now)
    }

    fn look_for_answers(&mut self, questions: &[pb::Question]) {
        for pb::Question { id, ask } in questions.iter().cloned() {
            // An agent that does not know the question says so, rather than nothing.
            let observe = Arc::clone(&self.observe);
            self.answering.spawn_blocking(move || match ask {
                Some(ask) => pb::Answer { id, ..observe.answer(ask) },
                None => pb::Answer { id, ..refusal("UNSUPPORTED", UNKNOWN) },
            });
        }
    }

    fn obey(&mut self, answer: &pb::ReportResponse) -> Option<pb::ReportRequest> {
        if let Some(interval) = answer.sample_interval.and_then(wire::plain_duration) {
            self.sample_interval = Duration::max(interval, Duration::from_millis(100));
        }
        if answer.sample_changes {
            self.counters.send_changes();
        }
        self.look_for_answers(&answer.questions);
        if answer.renew_certificate {
            self.way.renew();
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
        self.said = Told::default();
        let applied = self.unsaid();
        let samples = self.counters.whole(self.observe.samples());
        let agent = self.agent.clone();
        let condition = self.observe.condition();
        self.condition = Some(condition.clone());
        self.message(|message| {
            message.agent = Some(agent);
            message.condition = Some(condition);
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
