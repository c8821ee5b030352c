//! The parts of the overview that change by themselves: the head, a virtual service, a real server,
//! a cluster's line, the newest events.
//!
//! Pure: a message in, HTML out. Every part is one element with an id, so that the script replaces
//! just that. No part holds anything of a session, nor a time that passes: times are absolute, and
//! the script turns them into "3 min".

use gantry_proto::v1 as pb;
use maud::{Markup, html};
use pb::real_server_status::State as ServerState;

use super::words::{self, Look, Tone};

/// How many services are in which state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) up: usize,
    pub(super) degraded: usize,
    pub(super) down: usize,
    pub(super) off: usize,
    pub(super) unknown: usize,
}

impl Counts {
    pub(super) fn add(&mut self, tone: Tone) {
        let count = match tone {
            Tone::Good => &mut self.up,
            Tone::Warning => &mut self.degraded,
            Tone::Bad => &mut self.down,
            Tone::Idle => &mut self.off,
            Tone::Unknown => &mut self.unknown,
        };
        *count += 1;
    }

    pub(super) fn all(&self) -> usize {
        self.up + self.degraded + self.down + self.off + self.unknown
    }

    /// The worst first, for the title of the browser's tab.
    pub(super) fn title(&self) -> String {
        let parts = [(self.down, "down"), (self.degraded, "degraded"), (self.unknown, "not known")];
        let parts: Vec<_> = parts
            .iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, what)| format!("{count} {what}"))
            .collect();
        if parts.is_empty() { format!("{} up", self.up) } else { parts.join(", ") }
    }
}

/// Shape and word of a state, for a cell.
pub(super) fn state(look: Look) -> Markup {
    html! {
        span.state.(look.tone.class()) { (shape(look.shape)) span.word { (look.word) } }
    }
}

/// A shape of the sprite; what it means stands beside it.
pub(super) fn shape(shape: &str) -> Markup {
    html! { svg.shape aria-hidden="true" { use href={ "#shape-" (shape) } {} } }
}

/// A moment. The script shows how long ago it was, or the time of day, as `how` says.
pub(super) fn time(time: Option<&prost_types::Timestamp>, how: &str) -> Markup {
    let time = time.and_then(|time| jiff::Timestamp::new(time.seconds, time.nanos).ok());
    html! {
        @if let Some(time) = time {
            time data-how=(how) datetime=(time.strftime("%Y-%m-%dT%H:%M:%S%.3fZ")) {
                (time.strftime("%Y-%m-%d %H:%M:%S UTC"))
            }
        }
    }
}

/// The counts, each of which is also a filter. `chosen` is the filter in force.
pub(super) fn counts(counts: &Counts, chosen: &str) -> Markup {
    let tile = |state: &str, tone: Tone, shape_name: &str, count: usize, word: &str| {
        let current = (chosen == state).then_some("true");
        html! {
            li {
                a.tile.(tone.class()).none[count == 0] href={ "/?state=" (state) }
                    data-state=(state) aria-current=[current] {
                    (shape(shape_name)) b { (count) } " " span.word { (word) }
                }
            }
        }
    };
    html! {
        ul #counts.counts data-title=(counts.title()) data-all=(counts.all()) {
            (tile("good", Tone::Good, "check", counts.up, "up"))
            (tile("warning", Tone::Warning, "triangle", counts.degraded, "degraded"))
            (tile("bad", Tone::Bad, "octagon", counts.down, "down"))
            (tile("idle", Tone::Idle, "ring", counts.off, "off"))
            @if counts.unknown > 0 {
                (tile("unknown", Tone::Unknown, "question", counts.unknown, "not known"))
            }
        }
    }
}

/// The line of a cluster: which configuration runs where, and which agents are heard.
pub(super) fn cluster(
    cluster: &pb::Cluster,
    appliances: &[&pb::Appliance],
    revision: &str,
) -> Markup {
    let id = words::last(&cluster.name);
    html! {
        header.cluster id={ "cluster:" (id) } {
            h2 { (words::label(&cluster.name, &cluster.display_name)) }
            p.revision { "revision " b { (revision) } ", " (in_force(appliances)) }
            ul.appliances {
                @for appliance in appliances {
                    li {
                        span.appliance { (words::last(&appliance.name)) }
                        @if appliance.agents.is_empty() {
                            (state(Look { word: not_heard(appliance), tone: Tone::Unknown, shape: "question" }))
                        }
                        @for agent in &appliance.agents { (agent_state(agent)) }
                        @for finding in appliance.agents.iter().flat_map(|agent| &agent.findings) {
                            span.found { (finding.agent) ": " (finding.message) }
                        }
                    }
                }
            }
        }
    }
}

fn not_heard(appliance: &pb::Appliance) -> &'static str {
    match appliance.join_time {
        None => "invited, has not joined yet",
        Some(_) => "joined, no agent has reported yet",
    }
}

fn agent_state(agent: &pb::AgentStatus) -> Markup {
    let look = words::agent(agent);
    html! {
        span.agent {
            (agent.agent) " " (state(look))
            @if !agent.connected {
                span.quiet { span.unscripted { "since " } (time(agent.last_seen_time.as_ref(), "for")) }
            } @else if !agent.current && !agent.revision.is_empty() {
                span.quiet { "at " (agent.revision) }
            }
        }
    }
}

/// Whether the newest configuration runs on every appliance.
fn in_force(appliances: &[&pb::Appliance]) -> Markup {
    let heard: Vec<_> = appliances.iter().filter(|one| !one.agents.is_empty()).collect();
    let late = |agent: &pb::AgentStatus| !agent.connected || !agent.current;
    let behind: Vec<_> = heard
        .iter()
        .filter(|one| one.agents.iter().any(late))
        .map(|one| words::last(&one.name))
        .collect();
    let rejects = heard.iter().any(|one| one.agents.iter().any(|agent| agent.rejection_count > 0));
    html! {
        @if heard.is_empty() {
            "not in force: no appliance reports"
        } @else if !behind.is_empty() {
            "not known to be in force on " (behind.join(", "))
        } @else if rejects {
            "in force but for what is rejected"
        } @else {
            "in force everywhere"
        }
    }
}

/// A virtual service: what stands in its row, open or closed.
pub(super) fn service(row: &pb::overview::Row) -> Markup {
    let service = row.service.clone().unwrap_or_default();
    let status = service.status.clone().unwrap_or_default();
    let rates = row.rates.unwrap_or_default();
    let look = words::service(&status);
    let name = words::label(&service.name, &service.display_name);
    html! {
        summary id={ "row:" (words::short(&service.name)) } data-tone=(look.tone.class()) data-name=(name)
            data-word=(look.word) {
            (shape("chevron"))
            span.c-state { (state(look)) }
            span.c-name { strong { (name) } @if !name.eq_ignore_ascii_case(words::last(&service.name)) {
                small { (words::last(&service.name)) } } }
            @if let Some(listener) = &service.listener {
                span.c-address { span.label { "listens on" } span.mono { (listener.address) }
                    small.mono { (words::ports(listener)) } }
            }
            span.c-path { span.label { "path" } (words::path(&service)) small { (words::strategy(&service)) } }
            span.c-servers { span.label { "serving" }
                (status.healthy_count) " of " (status.real_server_count) }
            span.c-open.number title=[words::beside(status.inactive_connections, 0)] {
                span.label { "connections" } (rates.active_connections) }
            span.c-new.number { span.label { "new a second" } (words::few_digits(rates.connections_per_second)) }
            span.c-in.number { span.label { "in" } (words::bits(rates.received_bits_per_second)) }
            span.c-out.number { span.label { "out" } (words::bits(rates.sent_bits_per_second)) }
            (remarks(&status))
        }
    }
}

/// What is to be known beyond the state.
fn remarks(status: &pb::VirtualServiceStatus) -> Markup {
    let rejections = status.rejections.iter().filter(|one| !status.message.contains(&one.message));
    let findings = status.findings.iter().filter(|one| !status.message.contains(&one.message));
    html! {
        @if !status.message.is_empty() { span.remark { (status.message) } }
        @for one in rejections {
            span.remark {
                (words::last(&one.appliance)) " " (one.agent) ": "
                @if !one.field.is_empty() { (one.field) ": " }
                (one.message)
            }
        }
        @for one in findings {
            span.remark { (words::last(&one.appliance)) " " (one.agent) ": " (one.message) }
        }
        @if status.reconciling && status.rejections.is_empty() && !status.stale {
            span.remark.quiet { "the last change is on its way to the appliances" }
        }
    }
}

/// A real server: its row.
pub(super) fn server(server: &pb::RealServer) -> Markup {
    let status = server.status.clone().unwrap_or_default();
    let look = words::server(&status);
    let short = words::short(&server.name);
    let open = status.active_connections;
    html! {
        li.server id={ "server:" (short) } data-tone=(look.tone.class()) {
            span.c-state {
                (state(look))
                @if status.since.is_some() && matches!(status.state(), ServerState::Serving | ServerState::Failed) {
                    small { span.unscripted { "since " } (time(status.since.as_ref(), "for")) }
                }
                @if status.state() == ServerState::Draining && server.halt_time.is_some() {
                    small { "halt " (time(server.halt_time.as_ref(), "in")) }
                }
            }
            span.c-name { strong { (words::label(&server.name, &server.display_name)) } }
            span.c-address { span.label { "address" } span.mono { (words::endpoint(server.endpoint.as_ref())) }
                small { "weight " (server.weight.unwrap_or(100)) } }
            span.c-check { span.label { "last check" }
                @if status.last_check.is_empty() { span.quiet { "no answer yet" } } @else { (status.last_check) } }
            span.c-open.number
                title=[words::beside(status.inactive_connections, status.persistent_clients)] {
                span.label { "connections" } (open)
                @if server.max_connections > 0 { small { "of " (server.max_connections) } } }
            span.c-actions { @for verb in verbs(status.state()) { (action(server, &short, verb)) } }
        }
    }
}

/// What an operator may want of a server in this state.
fn verbs(state: ServerState) -> &'static [&'static str] {
    match state {
        ServerState::Halted => &["online"],
        ServerState::Draining => &["online", "halt"],
        _ => &["drain", "halt"],
    }
}

/// A link to the question, which is a page of its own and, with the script, a dialog.
fn action(server: &pb::RealServer, short: &str, verb: &str) -> Markup {
    let name = words::label(&server.name, &server.display_name);
    html! {
        a.action href={ "/servers/" (short) "/" (verb) } data-dialog aria-label={ (verb) " " (name) } {
            (verb)
        }
    }
}

/// The newest events, newest first.
pub(super) fn events(events: &[pb::Event]) -> Markup {
    html! {
        ol #events.events {
            @for event in events {
                @let look = words::severity(event.severity());
                li.event.(look.tone.class()) {
                    (time(event.time.as_ref(), "at"))
                    span.c-severity { (shape(look.shape)) span.hidden { (look.word) } }
                    span.c-subject { (subject(&event.subject)) }
                    span.c-message { (event.message)
                        @if !event.comment.is_empty() { " " q { (event.comment) } } }
                    span.c-actor { (subject(&event.actor)) }
                }
            }
            @if events.is_empty() { li.quiet { "nothing has happened yet" } }
        }
    }
}

/// A resource name without what everybody knows: `hl7/hl71`, `users/admin`.
fn subject(name: &str) -> String {
    let parts: Vec<&str> = name.split('/').collect();
    match parts.as_slice() {
        ["clusters", _, "virtualServices", service] => (*service).to_owned(),
        ["clusters", _, "virtualServices", service, "realServers", server] => {
            format!("{service}/{server}")
        }
        ["clusters", _, "appliances", rest @ ..] => rest.join("/"),
        _ => name.to_owned(),
    }
}

#[cfg(test)]
mod tests;
