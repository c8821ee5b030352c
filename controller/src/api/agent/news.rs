//! Which events come of what an agent sees of its machine: findings that are new or gone, and what it
//! met or did by itself. Pure.

use std::collections::BTreeMap;

use gantry_model::agent::AgentName;
use gantry_model::wire;
use gantry_proto::agent::v1 as pb;
use gantry_proto::v1;
use jiff::Timestamp;
use tracing::warn;
use v1::event::Severity as WireSeverity;

use super::event;
use crate::condition::{About, Condition, text, word};
use crate::store::{NewEvent, Severity};

/// Of one report. What is beyond is counted.
const MOST: usize = 200;

/// Events for findings that were not there before, and for those that are there no more. Another
/// wording of the same is no news: it may hold a number that grows.
pub(super) fn of_findings(agent: &AgentName, before: &Condition, now: &Condition) -> Vec<NewEvent> {
    let (mut fresh, mut gone) = (by_reason(now), by_reason(before));
    for (key, now) in &mut fresh {
        let Some(before) = gone.get_mut(key) else { continue };
        let same = |one: &&v1::Finding, others: &[&v1::Finding]| {
            others.iter().any(|other| other.message == one.message)
        };
        let (old, new) = (before.clone(), now.clone());
        now.retain(|finding| !same(finding, &old));
        before.retain(|finding| !same(finding, &new));
        let reworded = now.len().min(before.len());
        now.drain(..reworded);
        before.drain(..reworded);
    }
    let begun = fresh.into_values().flatten().map(begun);
    let ended = gone.into_values().flatten().map(ended);
    bounded(agent, begun.chain(ended).collect())
}

/// Events for what happened, as the agent tells it.
pub(super) fn of_notices(
    agent: &AgentName,
    notices: &[pb::Notice],
    now: Timestamp,
) -> Vec<NewEvent> {
    bounded(agent, notices.iter().filter_map(|one| notice(agent, one, now)).collect())
}

type ByReason<'a> = BTreeMap<(&'a str, &'a str), Vec<&'a v1::Finding>>;

fn by_reason(condition: &Condition) -> ByReason<'_> {
    let mut found = ByReason::new();
    for finding in condition.findings() {
        found.entry((&finding.resource, &finding.reason)).or_default().push(finding);
    }
    found
}

fn begun(finding: &v1::Finding) -> NewEvent {
    NewEvent {
        time: None,
        severity: Severity::Warning,
        kind: finding.reason.clone().into(),
        subject: finding.resource.clone(),
        message: finding.message.clone(),
    }
}

fn ended(finding: &v1::Finding) -> NewEvent {
    NewEvent {
        severity: Severity::Info,
        kind: format!("{}_RESOLVED", finding.reason).into(),
        message: format!("no longer so: {}", finding.message),
        ..begun(finding)
    }
}

fn notice(agent: &AgentName, notice: &pb::Notice, now: Timestamp) -> Option<NewEvent> {
    let Some(about) = About::read(agent, &notice.subject) else {
        warn!(%agent, subject = text(&notice.subject), "a notice that is not its own");
        return None;
    };
    let told = notice.time.as_ref().and_then(wire::timestamp);
    Some(NewEvent {
        // Clocks differ, and the log knows no future.
        time: told.filter(|time| *time < now),
        severity: match notice.severity() {
            WireSeverity::Critical => Severity::Critical,
            WireSeverity::Warning => Severity::Warning,
            WireSeverity::Info | WireSeverity::Unspecified => Severity::Info,
        },
        kind: word(&notice.r#type).into(),
        subject: about.resource,
        message: text(&notice.message),
    })
}

fn bounded(agent: &AgentName, mut events: Vec<NewEvent>) -> Vec<NewEvent> {
    let more = events.len().saturating_sub(MOST);
    if more > 0 {
        events.truncate(MOST);
        let message = format!("{more} more events at once are not listed; see its log there");
        let subject = agent.appliance.to_string();
        events.push(event("EVENTS_LEFT_OUT", Severity::Warning, subject, message));
    }
    events
}

#[cfg(test)]
mod tests;
