//! Takes one report: updates what is observed, and turns what is news into events.

use std::collections::HashMap;

use gantry_model::agent::AgentName;
use gantry_model::name::ServerName;
use gantry_model::revision::Revision;
use gantry_model::verdict::Verdict;
use gantry_model::wire;
use gantry_proto::agent::v1 as pb;
use gantry_runtime::{clock, rpc};
use tracing::{error, warn};

use super::{event, news};
use crate::api::Control;
use crate::condition::Condition;
use crate::observed::{Agent, Taken};
use crate::store::{NewEvent, Severity};

impl Control {
    /// Takes one report of an agent.
    pub(super) async fn hear(&self, name: &AgentName, report: pb::ReportRequest) {
        for answer in report.answers {
            self.questions.answer(name, answer);
        }
        let changes = read_verdicts(&report.verdicts);
        let said = report.condition.or_else(|| report.full.then(pb::Condition::default));
        let condition = said.map(|said| Condition::read(name, said));
        let events = self.observed.update(name, |agent| {
            agent.last_seen = clock::wall();
            let mut events = Vec::new();
            if let Some(applied) = report.applied {
                events.extend(rejection_events(agent, &applied));
                events.extend(self.take_applied(name, agent, applied));
            }
            if let Some(samples) = report.samples {
                agent.take_samples(samples, clock::monotonic());
            }
            events.extend(self.take_verdicts(agent, changes, report.full));
            if let Some(condition) = condition {
                events.extend(news::of_findings(name, &agent.condition, &condition));
                agent.condition = condition;
            }
            events.extend(news::of_notices(name, &report.notices, clock::wall()));
            events
        });
        let events = events.unwrap_or_default();
        if events.is_empty() {
            return;
        }
        if let Err(failure) = self.store.record(name.to_string(), events).await {
            error!(why = rpc::causes(&failure), "an event could not be recorded");
        }
    }

    /// Takes what became of an offer; gives an event when it begins to be refused or held back.
    fn take_applied(
        &self,
        name: &AgentName,
        agent: &mut Agent,
        applied: pb::Applied,
    ) -> Option<NewEvent> {
        let offered = applied.clone();
        match agent.take_applied(applied) {
            Taken::InForce => {
                let revision = offered.revision.unwrap_or_default();
                self.approvals.spend(name, revision.into());
                None
            }
            Taken::RefusedStill => None,
            Taken::RefusedFromNowOn => Some(refusal_event(name, &offered)),
        }
    }

    /// Takes verdicts; gives events for servers of which the last word was another one.
    fn take_verdicts(
        &self,
        agent: &mut Agent,
        changes: HashMap<ServerName, Option<Verdict>>,
        full: bool,
    ) -> Vec<NewEvent> {
        if full {
            agent.verdicts.retain(|server, _| changes.contains_key(server));
        }
        let mut failed = self.failed.lock();
        let mut events = Vec::new();
        for (server, verdict) in changes {
            let Some(verdict) = verdict else {
                agent.verdicts.remove(&server);
                failed.remove(&server.to_string());
                continue;
            };
            let subject = server.to_string();
            let news = match verdict.healthy {
                true => failed.remove(&subject),
                false => failed.insert(subject.clone()),
            };
            if news {
                events.push(health_event(subject, &verdict));
            }
            agent.verdicts.insert(server, verdict);
        }
        events
    }
}

fn read_verdicts(messages: &[pb::Verdict]) -> HashMap<ServerName, Option<Verdict>> {
    let mut changes = HashMap::new();
    for message in messages {
        match wire::verdict(message) {
            Ok(Ok(verdict)) => {
                changes.insert(verdict.server.clone(), Some(verdict));
            }
            Ok(Err(gone)) => {
                changes.insert(gone, None);
            }
            Err(why) => warn!(%why, "healthd sent nonsense"),
        }
    }
    changes
}

fn health_event(subject: String, verdict: &Verdict) -> NewEvent {
    let (kind, severity, message) = if verdict.healthy {
        ("REAL_SERVER_RECOVERED", Severity::Info, format!("in service again: {}", verdict.last))
    } else {
        ("REAL_SERVER_FAILED", Severity::Warning, format!("taken out: {}", verdict.last))
    };
    NewEvent { time: Some(verdict.since), ..event(kind, severity, subject, message) }
}

/// Events for rejections that were not there before.
fn rejection_events(agent: &Agent, applied: &pb::Applied) -> Vec<NewEvent> {
    let before = agent.applied.as_ref();
    let known = |rejection| before.is_some_and(|before| before.rejections.contains(rejection));
    let fresh = applied.rejections.iter().filter(|rejection| !known(rejection));
    fresh
        .map(|rejection| {
            let message = match rejection.field.as_str() {
                "" => format!("not in force: {}", rejection.message),
                field => format!("not in force: {field}: {}", rejection.message),
            };
            let subject = rejection.resource.clone();
            event("VIRTUAL_SERVICE_REJECTED", Severity::Warning, subject, message)
        })
        .collect()
}

fn refusal_event(name: &AgentName, applied: &pb::Applied) -> NewEvent {
    let revision = applied.revision.map(Revision::from).unwrap_or_default();
    let (kind, message) = match applied.outcome() {
        pb::applied::Outcome::Held => {
            let (kind, count) = (name.kind, applied.removal_count);
            let id = &name.appliance.appliance;
            let message = format!(
                "{kind} holds back revision {revision}, which would take {count} virtual services \
                 from it; look at them, then `gantry approve {id}`"
            );
            ("CONFIG_HELD", message)
        }
        _ => {
            let (kind, why) = (name.kind, &applied.refusal);
            ("CONFIG_REFUSED", format!("{kind} refused revision {revision}: {why}"))
        }
    };
    event(kind, Severity::Warning, name.appliance.to_string(), message)
}
