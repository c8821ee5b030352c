//! The overview cut into parts, and what to send to who has seen an older one.
//!
//! Pure. A part that did not change is neither rendered again nor sent: rows are compared as
//! messages with those of the frame before, and parts as text.

use std::collections::HashMap;
use std::sync::Arc;

use gantry_proto::v1 as pb;
use maud::{Markup, PreEscaped, html};

use super::rows::{self, Counts};
use super::words::{self, Tone};

/// With more virtual services than that, rows are closed at first, and real servers are fetched when
/// a row is opened: most of a page's elements are theirs.
const FEW: usize = 12;

/// Everything the page shows of one moment.
#[derive(Clone, Debug)]
pub(super) struct Frame {
    /// Of this controller's run: frames of another are not compared with it.
    pub(super) number: u64,
    pub(super) counts: Counts,
    pub(super) counts_part: Arc<str>,
    clusters: Vec<Cluster>,
    events: Arc<str>,
}

#[derive(Clone, Debug)]
struct Cluster {
    id: String,
    head: Arc<str>,
    services: Vec<Arc<Service>>,
}

#[derive(Debug)]
struct Service {
    message: pb::overview::Row,
    /// `main/hl7`
    short: String,
    tone: Tone,
    row: Arc<str>,
    /// Id and row of each.
    servers: Vec<(String, Arc<str>)>,
    /// What the filter looks in, in small letters.
    find: String,
}

/// What to show of a frame, for who has no script.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Filter {
    /// A tone's class, or empty.
    pub(super) state: String,
    /// In small letters.
    pub(super) text: String,
    /// A service whose row is open all the same: `main/hl7`.
    pub(super) open: String,
}

impl Filter {
    fn hides(&self, service: &Service) -> bool {
        let state = !self.state.is_empty() && self.state != service.tone.class();
        state || !self.text.split_whitespace().all(|word| service.find.contains(word))
    }
}

impl Frame {
    /// Renders what is new since `before`.
    pub(super) fn new(overview: pb::Overview, events: &[pb::Event], before: Option<&Self>) -> Self {
        let known: HashMap<&str, &Arc<Service>> = before
            .iter()
            .flat_map(|before| &before.clusters)
            .flat_map(|cluster| &cluster.services)
            .map(|service| (service.short.as_str(), service))
            .collect();
        let mut rows: HashMap<String, Vec<Arc<Service>>> = HashMap::new();
        for row in overview.rows {
            let name = row.service.as_ref().map(|service| service.name.as_str());
            let name = name.unwrap_or_default();
            let cluster = words::cluster_of(name).to_owned();
            let same = known.get(words::short(name).as_str()).filter(|old| old.message == row);
            let service = same.map_or_else(|| Arc::new(Service::new(row)), |old| Arc::clone(old));
            rows.entry(cluster).or_default().push(service);
        }
        let mut counts = Counts::default();
        rows.values().flatten().for_each(|service| counts.add(service.tone));
        let clusters = overview.clusters.iter().map(|cluster| {
            let id = words::last(&cluster.name);
            let own = |one: &&pb::Appliance| words::cluster_of(&one.name) == id;
            let appliances: Vec<_> = overview.appliances.iter().filter(own).collect();
            let head = rows::cluster(cluster, &appliances, &overview.revision);
            let services = rows.remove(id).unwrap_or_default();
            Cluster { id: id.to_owned(), head: head.into_string().into(), services }
        });
        Self {
            number: before.map_or(0, |before| before.number + 1),
            clusters: clusters.collect(),
            counts_part: rows::counts(&counts, "").into_string().into(),
            counts,
            events: rows::events(events).into_string().into(),
        }
    }

    /// All virtual services, those that the filter hides included, but hidden.
    pub(super) fn clusters(&self, filter: &Filter) -> Markup {
        html! {
            div #clusters {
                @for cluster in &self.clusters {
                    section aria-labelledby={ "cluster:" (cluster.id) } {
                        (PreEscaped(&cluster.head))
                        (columns())
                        (cluster.list(filter, self.are_open()))
                    }
                }
                @if self.clusters.is_empty() {
                    p.empty { "No clusters yet. Make one: " code { "gantry create cluster ID" } }
                }
            }
        }
    }

    pub(super) fn events(&self) -> Markup {
        PreEscaped(self.events.to_string())
    }

    /// The real servers of `main/hl7`, as its open row has them.
    pub(super) fn servers(&self, short: &str) -> Option<Markup> {
        let mut services = self.clusters.iter().flat_map(|cluster| &cluster.services);
        Some(services.find(|service| service.short == short)?.list())
    }

    /// Whether anybody would see a difference.
    pub(super) fn is_like(&self, old: &Self) -> bool {
        self.since(old).is_empty()
    }

    pub(super) fn shown(&self, filter: &Filter) -> usize {
        let services = self.clusters.iter().flat_map(|cluster| &cluster.services);
        services.filter(|service| !filter.hides(service)).count()
    }

    /// The parts to put in place of their older selves, for who has seen `old`.
    pub(super) fn since(&self, old: &Self) -> String {
        let mut parts = String::new();
        add(&mut parts, &old.counts_part, &self.counts_part);
        let ids =
            |frame: &Self| frame.clusters.iter().map(|one| one.id.clone()).collect::<Vec<_>>();
        if ids(self) != ids(old) || self.are_open() != old.are_open() {
            parts.push_str(&self.clusters(&Filter::default()).into_string());
        } else {
            for (new, old) in self.clusters.iter().zip(&old.clusters) {
                new.since(old, self.are_open(), &mut parts);
            }
        }
        add(&mut parts, &old.events, &self.events);
        parts
    }

    /// Everything, for who has seen nothing that is known.
    pub(super) fn whole(&self) -> String {
        let clusters = self.clusters(&Filter::default()).into_string();
        [self.counts_part.as_ref(), &clusters, &self.events].concat()
    }

    fn are_open(&self) -> bool {
        self.counts.all() <= FEW
    }
}

impl Cluster {
    fn list(&self, filter: &Filter, open: bool) -> Markup {
        html! {
            ul.services.many[!open] id={ "services:" (self.id) } {
                @for service in &self.services {
                    (service.whole(open || filter.open == service.short, filter.hides(service)))
                }
                @if self.services.is_empty() {
                    li.empty { "No virtual services yet. Make one: " code { "gantry create vs --help" } }
                }
            }
        }
    }

    fn since(&self, old: &Self, open: bool, parts: &mut String) {
        add(parts, &old.head, &self.head);
        let names =
            |one: &Self| one.services.iter().map(|one| one.short.clone()).collect::<Vec<_>>();
        if names(self) != names(old) {
            parts.push_str(&self.list(&Filter::default(), open).into_string());
            return;
        }
        for (new, old) in self.services.iter().zip(&old.services) {
            if !Arc::ptr_eq(new, old) {
                new.since(old, open, parts);
            }
        }
    }
}

impl Service {
    fn new(message: pb::overview::Row) -> Self {
        let service = message.service.clone().unwrap_or_default();
        let tone = words::service(&service.status.clone().unwrap_or_default()).tone;
        let row: Arc<str> = rows::service(&message).into_string().into();
        let servers = message
            .real_servers
            .iter()
            .map(|server| (words::short(&server.name), rows::server(server).into_string().into()));
        let servers: Vec<_> = servers.collect();
        let find = find(&service, &message.real_servers);
        Self { short: words::short(&service.name), tone, row, servers, find, message }
    }

    fn whole(&self, open: bool, hidden: bool) -> Markup {
        html! {
            li.service id={ "service:" (self.short) } data-find=(self.find) hidden[hidden] {
                details open[open] {
                    (PreEscaped(&self.row))
                    @if open { (self.list()) } @else { (self.promise()) }
                }
            }
        }
    }

    fn list(&self) -> Markup {
        html! {
            ul.servers id={ "servers:" (self.short) } {
                @for (_, server) in &self.servers { (PreEscaped(server)) }
                @if self.servers.is_empty() { li.empty { "It has no real servers." } }
            }
        }
    }

    /// In place of the real servers, until they are asked for.
    fn promise(&self) -> Markup {
        html! {
            ul.servers id={ "servers:" (self.short) } data-from={ "/servers/" (self.short) } {
                li.empty { a href={ "/?open=" (self.short) "#service:" (self.short) } { "Show its real servers" } }
            }
        }
    }

    fn since(&self, old: &Self, open: bool, parts: &mut String) {
        let names = |one: &Self| one.servers.iter().map(|(id, _)| id.clone()).collect::<Vec<_>>();
        if names(self) != names(old) || self.find != old.find {
            parts.push_str(&self.whole(open, false).into_string());
            return;
        }
        add(parts, &old.row, &self.row);
        for ((_, new), (_, old)) in self.servers.iter().zip(&old.servers) {
            add(parts, old, new);
        }
    }
}

fn add(parts: &mut String, old: &str, new: &str) {
    if old != new {
        parts.push_str(new);
    }
}

/// Names and addresses of a service and its servers.
fn find(service: &pb::VirtualService, servers: &[pb::RealServer]) -> String {
    let listener = service.listener.clone().unwrap_or_default();
    let mut words = vec![
        words::short(&service.name),
        service.display_name.clone(),
        listener.address.clone(),
        words::ports(&listener),
        words::path(service).to_owned(),
    ];
    for server in servers {
        words.extend([server.display_name.clone(), words::endpoint(server.endpoint.as_ref())]);
        words.push(words::last(&server.name).to_owned());
    }
    words.join(" ").to_lowercase()
}

/// What stands above the columns; every cell says it again for who cannot see that.
fn columns() -> Markup {
    html! {
        div.columns aria-hidden="true" {
            span {} span { "state" } span { "virtual service" } span { "listens on" } span { "path" }
            span { "serving" } span.number { "open" } span.number { "new/s" }
            span.number { "in" } span.number { "out" }
        }
    }
}

#[cfg(test)]
mod tests;
