//! The head of a cluster's section: which configuration runs, and how its appliances are.

use std::fmt::Write;

use gantry_proto::v1;

use crate::look::{self, Tone, Word};
use crate::names;

/// One line for the cluster, one for each appliance, and an empty one.
pub(super) fn render(
    overview: &v1::Overview,
    cluster: &v1::Cluster,
    width: Option<usize>,
) -> String {
    let id = names::last(&cluster.name);
    let now = overview.time.as_ref().map_or(0, |time| time.seconds);
    let of_cluster = |appliance: &&v1::Appliance| names::cluster_of(&appliance.name) == id;
    let appliances: Vec<&v1::Appliance> = overview.appliances.iter().filter(of_cluster).collect();
    let label = match cluster.display_name.as_str() {
        "" => String::new(),
        label => format!(" ({label})"),
    };
    let verdict = in_force(&appliances);
    let mut text = format!("CLUSTER {id}{label}   revision {}", overview.revision);
    let whole = text.chars().count() + 1 + verdict.text.chars().count();
    let separator = if width.is_some_and(|width| whole > width) { "\n  " } else { " " };
    let _ = writeln!(text, "{separator}{verdict}");
    for appliance in appliances {
        let words: Vec<String> = agents(appliance, now).iter().map(ToString::to_string).collect();
        let _ = writeln!(text, "  {}   {}", names::last(&appliance.name), words.join("   "));
        let findings = appliance.agents.iter().flat_map(|agent| &agent.findings);
        for one in findings.map(super::finding) {
            let room = width.map(|width| width.saturating_sub(4));
            for part in super::wrapped(&one, room) {
                let _ = writeln!(text, "    {}", Word::new(part, Tone::Warning));
            }
        }
    }
    text.push('\n');
    text
}

/// Whether the newest configuration runs on every appliance, else where it does not.
fn in_force(appliances: &[&v1::Appliance]) -> Word {
    let joined: Vec<_> =
        appliances.iter().filter(|appliance| !appliance.agents.is_empty()).collect();
    if joined.is_empty() {
        return Word::new("not in force: no appliance reports", Tone::Bad);
    }
    let holds = |agent: &v1::AgentStatus| agent.connected && agent.held_removal_count > 0;
    let holding = joined.iter().find(|appliance| appliance.agents.iter().any(holds));
    if let Some(appliance) = holding {
        let id = names::last(&appliance.name);
        return Word::new(format!("held back until somebody types gantry approve {id}"), Tone::Bad);
    }
    let late = |agent: &v1::AgentStatus| !agent.connected || !agent.current;
    let behind: Vec<&str> = joined
        .iter()
        .filter(|appliance| appliance.agents.iter().any(late))
        .map(|appliance| names::last(&appliance.name))
        .collect();
    if !behind.is_empty() {
        let text = format!("not known to be in force on {}", behind.join(", "));
        return Word::new(text, Tone::Warning);
    }
    let mut agents = joined.iter().flat_map(|appliance| &appliance.agents);
    if agents.any(|agent| agent.rejection_count > 0) {
        return Word::new("in force but for what is rejected", Tone::Warning);
    }
    Word::new("in force everywhere", Tone::Good)
}

/// What each agent of an appliance is doing.
pub(crate) fn agents(appliance: &v1::Appliance, now: i64) -> Vec<Word> {
    if appliance.agents.is_empty() {
        let text = match appliance.join_time {
            None => "invited, has not joined yet",
            Some(_) => "joined, no agent has reported yet",
        };
        return vec![Word::new(text, Tone::Warning)];
    }
    appliance.agents.iter().map(|agent| agent_word(agent, now)).collect()
}

/// `agent-l4 current`, `agent-l7 behind at 1.117`, `healthd silent for 3m`.
fn agent_word(agent: &v1::AgentStatus, now: i64) -> Word {
    let name = &agent.agent;
    if !agent.connected {
        let since = look::since(agent.last_seen_time.as_ref(), now);
        let span = since.map_or_else(String::new, |since| format!(" for {since}"));
        return Word::new(format!("{name} SILENT{span}"), Tone::Bad);
    }
    if agent.held_removal_count > 0 {
        let v1::AgentStatus { held_revision, held_removal_count, .. } = agent;
        let text = format!("{name} HOLDS BACK {held_revision}, which removes {held_removal_count}");
        return Word::new(text, Tone::Bad);
    }
    if !agent.current {
        return Word::new(format!("{name} behind at {}", agent.revision), Tone::Warning);
    }
    match agent.rejection_count {
        0 => Word::new(format!("{name} current"), Tone::Good),
        count => Word::new(format!("{name} current, rejects {count}"), Tone::Bad),
    }
}
