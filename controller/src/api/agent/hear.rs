//! Takes one report: updates what is observed, and turns what is news into events.

use std::collections::HashMap;

use gantry_model::agent::AgentName;
use gantry_model::name::ServerName;
use gantry_model::verdict::Verdict;
use gantry_model::wire;
use gantry_proto::agent::v1 as pb;
use gantry_runtime::{clock, rpc};
use tracing::{error, warn};

use super::event;
use crate::api::Control;
use crate::observed::Agent;
use crate::store::{NewEvent, Severity};

impl Control {
    /// Takes one report of an agent.
    pub(super) async fn hear(&self, name: &AgentName, report: pb::ReportRequest) {
        let changes = read_verdicts(&report.verdicts);
        let events = self.observed.update(name, |agent| {
            agent.last_seen = clock::wall();
            let mut events = Vec::new();
            if let Some(applied) = report.applied {
                events.extend(rejection_events(agent, &applied));
                agent.applied = Some(applied);
            }
            if let Some(samples) = report.samples {
                agent.take_samples(samples, clock::monotonic());
            }
            events.extend(self.take_verdicts(agent, changes, report.full));
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
    let mut events: Vec<_> = fresh
        .map(|rejection| {
            let message = match rejection.field.as_str() {
                "" => format!("not in force: {}", rejection.message),
                field => format!("not in force: {field}: {}", rejection.message),
            };
            let subject = rejection.resource.clone();
            event("VIRTUAL_SERVICE_REJECTED", Severity::Warning, subject, message)
        })
        .collect();
    if applied.outcome() == pb::applied::Outcome::Refused && before != Some(applied) {
        let revision = applied.revision.map(gantry_model::revision::Revision::from);
        let revision = revision.unwrap_or_default();
        let message = format!("refused revision {revision}: {}", applied.refusal);
        events.push(event("CONFIG_REFUSED", Severity::Warning, String::new(), message));
    }
    events
}
