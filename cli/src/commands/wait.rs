//! `--wait`: until what was changed is in force on every appliance of its cluster.
//!
//! On a terminal each agent has a line that changes in place; elsewhere each step is a line of its
//! own. It ends well when every agent runs the newest configuration and took all of it. It ends at
//! once when one refused something or holds it back, which only people can help with, and after its
//! time when somebody was not heard.

use std::io::IsTerminal;
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use gantry_proto::v1;
use gantry_proto::v1::virtual_service_status::State;
use gantry_runtime::clock;

use super::lists;
use crate::document::human_duration;
use crate::failure::{Exit, Failure};
use crate::look::{self, Tone, Word};
use crate::names;
use crate::output;
use crate::overview::rejection;
use crate::session::Session;

#[derive(Args, Debug)]
pub(crate) struct Wait {
    /// Wait until every appliance runs it, at most this long [without a value: 60s]
    #[arg(long, value_name = "DURATION", value_parser = human_duration)]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "60s")]
    wait: Option<prost_types::Duration>,
}

impl Wait {
    /// How long to wait, if at all.
    pub(crate) fn patience(&self) -> Option<Duration> {
        self.wait.and_then(|given| given.try_into().ok())
    }
}

/// Between two looks at the agents.
const LOOK: Duration = Duration::from_millis(250);

/// How many refusals are told one by one.
const TOLD: usize = 20;

/// Where one agent is.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Step {
    /// `lb1 agent-l7`
    who: String,
    stand: Stand,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Stand {
    InForce,
    /// In force, but for so many services.
    Refused(i32),
    /// It runs this revision yet.
    Behind(String),
    /// It would remove so many services, at this revision.
    Held(i32, String),
    /// When it was last heard.
    Away(String),
    /// The appliance has joined, and no agent of it has reported.
    Silent,
}

/// What keeps the configuration from being in force.
enum Outcome {
    InForce,
    /// Time will not help.
    Refused(Vec<String>),
    /// Time may help.
    NotYet(Vec<String>),
}

pub(crate) async fn until_in_force(
    cluster: &str,
    patience: Duration,
    session: &Session,
) -> Result<()> {
    let begun = clock::monotonic();
    let mut board = Board::new();
    loop {
        let appliances = lists::appliances(session, cluster.to_owned(), "").await?;
        let steps = steps(&appliances);
        board.show(&steps)?;
        let obstacles = match outcome(&steps, cluster, session).await? {
            Outcome::InForce => {
                let took = clock::monotonic() - begun;
                let text = format!("in force on every appliance, seen after {}", short(took));
                return Ok(output::line(Word::new(text, Tone::Good))?);
            }
            Outcome::Refused(why) => return Err(failure("not in force everywhere", &why)),
            Outcome::NotYet(why) => why,
        };
        if clock::monotonic() - begun >= patience {
            let what = format!("not in force everywhere after {}", short(patience));
            return Err(failure(&what, &obstacles));
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// The agents of every appliance that has joined.
fn steps(appliances: &[v1::Appliance]) -> Vec<Step> {
    let mut steps = Vec::new();
    for appliance in appliances {
        let id = names::last(&appliance.name);
        let agent = |agent: &v1::AgentStatus| Step {
            who: format!("{id} {}", agent.agent),
            stand: stand(agent),
        };
        steps.extend(appliance.agents.iter().map(agent));
        if appliance.agents.is_empty() && appliance.join_time.is_some() {
            steps.push(Step { who: id.to_owned(), stand: Stand::Silent });
        }
    }
    steps
}

fn stand(agent: &v1::AgentStatus) -> Stand {
    if !agent.connected {
        return Stand::Away(look::time(agent.last_seen_time.as_ref()));
    }
    if agent.held_removal_count > 0 {
        return Stand::Held(agent.held_removal_count, agent.held_revision.clone());
    }
    match (agent.current, agent.rejection_count) {
        (false, _) => Stand::Behind(agent.revision.clone()),
        (true, 0) => Stand::InForce,
        (true, count) => Stand::Refused(count),
    }
}

async fn outcome(steps: &[Step], cluster: &str, session: &Session) -> Result<Outcome> {
    if steps.is_empty() {
        let id = names::last(cluster);
        let why = format!("no appliance of cluster {id} has joined: gantry invite {id}/APPLIANCE");
        return Ok(Outcome::Refused(vec![why]));
    }
    let held = steps.iter().filter(|step| matches!(step.stand, Stand::Held(..)));
    let held: Vec<_> = held.map(Step::told).collect();
    if !held.is_empty() {
        return Ok(Outcome::Refused(held));
    }
    let on_the_way =
        steps.iter().filter(|step| !matches!(step.stand, Stand::InForce | Stand::Refused(_)));
    let on_the_way: Vec<_> = on_the_way.map(Step::told).collect();
    if !on_the_way.is_empty() {
        return Ok(Outcome::NotYet(on_the_way));
    }
    let request = v1::GetOverviewRequest { parent: cluster.to_owned() };
    let overview = session.observe().get_overview(request).await?.into_inner();
    Ok(judged(&overview))
}

/// What the services say, once every agent is up to date.
fn judged(overview: &v1::Overview) -> Outcome {
    let (mut refused, mut not_yet) = (Vec::new(), Vec::new());
    for service in overview.rows.iter().filter_map(|row| row.service.as_ref()) {
        let status = service.status.clone().unwrap_or_default();
        let name = names::short(&service.name);
        for one in &status.rejections {
            refused.push(format!("{name}: {}", rejection(one)));
        }
        let nobody = status.rejections.is_empty() && status.state() == State::NotInForce;
        if nobody || status.reconciling {
            let why = if status.message.is_empty() { "not taken yet" } else { &status.message };
            not_yet.push(format!("{name}: {why}"));
        }
    }
    match (refused.is_empty(), not_yet.is_empty()) {
        (false, _) => Outcome::Refused(refused),
        (true, false) => Outcome::NotYet(not_yet),
        (true, true) => Outcome::InForce,
    }
}

fn failure(what: &str, why: &[String]) -> anyhow::Error {
    let mut text = what.to_owned();
    for line in why.iter().take(TOLD) {
        text.push_str("\n  ");
        text.push_str(line);
    }
    if why.len() > TOLD {
        text.push_str(&format!("\n  and {} more: gantry overview", why.len() - TOLD));
    }
    Failure { exit: Exit::Refused, text }.into()
}

/// `250ms`, `12s`
fn short(span: Duration) -> String {
    match span.as_secs() {
        0 => format!("{}ms", span.as_millis()),
        seconds => look::span(i64::try_from(seconds).unwrap_or(i64::MAX)),
    }
}

impl Step {
    fn word(&self) -> Word {
        let (text, tone) = match &self.stand {
            Stand::InForce => ("in force".to_owned(), Tone::Good),
            Stand::Refused(1) => ("in force, but for 1 virtual service".to_owned(), Tone::Bad),
            Stand::Refused(count) => {
                (format!("in force, but for {count} virtual services"), Tone::Bad)
            }
            Stand::Behind(revision) if revision.is_empty() => {
                ("runs nothing yet".to_owned(), Tone::Warning)
            }
            Stand::Behind(revision) => (format!("still at revision {revision}"), Tone::Warning),
            Stand::Held(count, revision) => (
                format!("holds revision {revision} back: it removes {count} virtual services"),
                Tone::Bad,
            ),
            Stand::Away(time) => (format!("not connected, last heard {time}"), Tone::Warning),
            Stand::Silent => ("no agent has reported".to_owned(), Tone::Warning),
        };
        Word::new(text, tone)
    }

    /// What is wrong with it, and what to do.
    fn told(&self) -> String {
        let Self { who, stand } = self;
        let appliance = who.split(' ').next().unwrap_or_default();
        let way_out = match stand {
            Stand::Held(..) => format!("\n    gantry approve {appliance}"),
            Stand::Away(_) | Stand::Silent => "; it takes it when it is back".to_owned(),
            _ => String::new(),
        };
        format!("{who}: {}{way_out}", self.word().text)
    }
}

/// Where the steps are shown.
struct Board {
    terminal: bool,
    shown: Vec<Step>,
}

impl Board {
    fn new() -> Self {
        Self { terminal: std::io::stdout().is_terminal(), shown: Vec::new() }
    }

    fn show(&mut self, steps: &[Step]) -> Result<()> {
        if self.shown == steps {
            return Ok(());
        }
        if self.terminal {
            output::frame(&redrawn(self.shown.len(), steps, output::width()))?;
        } else {
            for step in steps.iter().filter(|step| !self.shown.contains(step)) {
                output::line(format_args!("{}: {}", step.who, step.word()))?;
            }
        }
        self.shown = steps.to_vec();
        Ok(())
    }
}

/// The lines of `steps`, drawn over so many that were drawn before.
fn redrawn(before: usize, steps: &[Step], width: Option<usize>) -> String {
    let mut text = String::new();
    if before > 0 {
        text.push_str(&format!("\x1b[{before}A"));
    }
    let widest = steps.iter().map(|step| step.who.chars().count()).max().unwrap_or(0);
    for step in steps {
        let mut word = step.word();
        // A line that wraps would be two to draw over.
        let room = width.unwrap_or(usize::MAX).saturating_sub(widest + 3);
        word.text = word.text.chars().take(room).collect();
        text.push_str(&format!("{:widest$}  {word}\x1b[K\n", step.who));
    }
    text.push_str("\x1b[J");
    text
}

#[cfg(test)]
mod tests;
