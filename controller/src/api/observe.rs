//! ObserveService: the overview and the event log.

use std::fmt;
use std::pin::Pin;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{Stream, stream};
use gantry_model::name::{ClusterName, Id};
use gantry_model::violation::Violations;
use gantry_model::wire::{self, timestamp_message};
use gantry_proto::v1 as pb;
use gantry_runtime::clock;
use pb::observe_service_server::ObserveService;
use tonic::{Request, Response, Status};

use super::error::{ApiError, sound};
use super::filter::{self, Filter};
use super::page::Page;
use super::resources::{appliance, cluster, parent_of, real_server, virtual_service};
use super::{Calls, Control};
use crate::observed::of_cluster;
use crate::state::Service as StoredService;
use crate::status::Facts;
use crate::store::{Event, EventFilter, EventRange, Severity};

type Streamed<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// How many events are read at a time.
const BATCH: u32 = 200;

/// How many events one call looks at. A filter that few of them match gets a shorter page, with the
/// token of the next one, and not an answer that takes for ever.
const MOST_LOOKED_AT: usize = 100_000;

#[tonic::async_trait]
impl ObserveService for Calls {
    type WatchOverviewStream = Streamed<pb::Overview>;
    type WatchEventsStream = Streamed<pb::Event>;

    async fn get_overview(
        &self,
        request: Request<pb::GetOverviewRequest>,
    ) -> Result<Response<pb::Overview>, Status> {
        let parent = parent_of(&self.control.state(), &request.into_inner().parent)?;
        Ok(Response::new(overview(&self.control, parent.as_ref())))
    }

    async fn watch_overview(
        &self,
        request: Request<pb::WatchOverviewRequest>,
    ) -> Result<Response<Self::WatchOverviewStream>, Status> {
        let request = request.into_inner();
        let parent = parent_of(&self.control.state(), &request.parent)?;
        let mut violations = Violations::new();
        let shortest = Duration::from_millis(100);
        let given = request.min_interval;
        let interval = wire::duration(&mut violations, "min_interval", given, shortest);
        sound(violations, Some(()))?;
        let interval = interval.unwrap_or(Duration::from_secs(1));
        let watch = OverviewWatch::new(Arc::clone(&self.control), parent, interval);
        let stream = stream::unfold(watch, |mut watch| async {
            let overview = watch.next().await?;
            Some((Ok(overview), watch))
        });
        Ok(Response::new(Box::pin(stream)))
    }

    async fn list_events(
        &self,
        request: Request<pb::ListEventsRequest>,
    ) -> Result<Response<pb::ListEventsResponse>, Status> {
        Ok(Response::new(list_events(&self.control, request.into_inner()).await?))
    }

    async fn get_event(
        &self,
        request: Request<pb::GetEventRequest>,
    ) -> Result<Response<pb::Event>, Status> {
        Ok(Response::new(get_event(&self.control, request.into_inner().name).await?))
    }

    async fn watch_events(
        &self,
        request: Request<pb::WatchEventsRequest>,
    ) -> Result<Response<Self::WatchEventsStream>, Status> {
        let request = request.into_inner();
        let filter = Filter::parse(&request.filter, filter::EVENTS)?;
        let mut newest = self.control.store.watch_events();
        let after = match request.after.as_str() {
            "" => *newest.borrow_and_update(),
            name => EventName::parse("after", name)?.0,
        };
        newest.mark_changed();
        let watch = EventWatch {
            control: Arc::clone(&self.control),
            subject: request.subject,
            filter,
            after,
            newest,
            batch: Vec::new().into_iter(),
        };
        let stream = stream::unfold(watch, |mut watch| async {
            let event = watch.next().await?;
            Some((event, watch))
        });
        Ok(Response::new(Box::pin(stream)))
    }
}

fn overview(control: &Control, parent: Option<&ClusterName>) -> pb::Overview {
    let state = control.state();
    let wanted = |id: &Id| parent.is_none_or(|parent| parent.cluster == *id);
    control.with_facts(|facts| pb::Overview {
        time: Some(timestamp_message(clock::wall())),
        revision: state.revision.to_string(),
        clusters: state
            .clusters()
            .filter(|entry| wanted(&entry.name.cluster))
            .map(|entry| cluster(entry))
            .collect(),
        appliances: state
            .appliances()
            .filter(|entry| wanted(&entry.name.cluster))
            .map(|entry| appliance(entry, facts))
            .collect(),
        rows: state
            .services()
            .filter(|service| wanted(&service.config.name.cluster))
            .map(|service| row(service, facts))
            .collect(),
    })
}

fn row(service: &StoredService, facts: Facts<'_>) -> pb::overview::Row {
    let name = service.config.name.to_string();
    let own = of_cluster(facts.agents, &service.config.name.cluster)
        .filter_map(|(_, agent)| agent.samples.get(&name).filter(|_| agent.is_connected()));
    let mut rates = pb::overview::Rates::default();
    for counters in own {
        rates.connections_per_second += counters.connections_per_second;
        let active = counters.sample.active_connections;
        rates.active_connections = rates.active_connections.saturating_add(active);
        rates.received_bits_per_second += 8.0 * counters.received_bytes_per_second;
        rates.sent_bits_per_second += 8.0 * counters.sent_bytes_per_second;
    }
    pb::overview::Row {
        service: Some(virtual_service(service, facts)),
        real_servers: service.servers.values().map(|server| real_server(server, facts)).collect(),
        rates: Some(rates),
    }
}

/// Gives the overview at once, then after each change, but not too often.
struct OverviewWatch {
    control: Arc<Control>,
    parent: Option<ClusterName>,
    interval: Duration,
    state: tokio::sync::watch::Receiver<Arc<crate::state::State>>,
    observed: tokio::sync::watch::Receiver<u64>,
    first: bool,
}

impl OverviewWatch {
    fn new(control: Arc<Control>, parent: Option<ClusterName>, interval: Duration) -> Self {
        let (state, observed) = (control.store.watch(), control.observed.watch());
        Self { control, parent, interval, state, observed, first: true }
    }

    async fn next(&mut self) -> Option<pb::Overview> {
        if !std::mem::take(&mut self.first) {
            tokio::time::sleep(self.interval).await;
            // Both arms are cancel safe, by tokio's documentation of `changed`.
            tokio::select! {
                changed = self.state.changed() => changed.ok()?,
                changed = self.observed.changed() => changed.ok()?,
            }
        }
        self.state.mark_unchanged();
        self.observed.mark_unchanged();
        Some(overview(&self.control, self.parent.as_ref()))
    }
}

async fn list_events(
    control: &Control,
    request: pb::ListEventsRequest,
) -> Result<pb::ListEventsResponse, ApiError> {
    let filter = Filter::parse(&request.filter, filter::EVENTS)?;
    let asked = ["events", &request.subject, &request.filter];
    let page = Page::parse(request.page_size, &request.page_token, &asked)?;
    let after: Option<EventName> = page.after()?;
    let mut before = after.map_or(i64::MAX, |name| name.0);
    let mut events = Vec::new();
    let mut looked_at = 0;
    // One more than the page: whether there is a next one is known then.
    while events.len() <= page.size() && looked_at < MOST_LOOKED_AT {
        let (subject, range) = (request.subject.clone(), EventRange::Before(before));
        let batch = control.store.events(&EventFilter { subject, range, limit: BATCH }).await?;
        let Some(last) = batch.last() else { break };
        before = last.id;
        looked_at += batch.len();
        let messages = batch.into_iter().map(|event| (event.id, event_message(event)));
        events.extend(messages.filter(|(_, message)| filter.matches(message)));
    }
    let next = match events.get(page.size().saturating_sub(1)) {
        Some((id, _)) if events.len() > page.size() => Some(*id),
        _ if looked_at >= MOST_LOOKED_AT => Some(before),
        _ => None,
    };
    events.truncate(page.size());
    Ok(pb::ListEventsResponse {
        next_page_token: next.map(|id| page.token(&EventName(id))).unwrap_or_default(),
        events: events.into_iter().map(|(_, message)| message).collect(),
    })
}

/// Gives events one by one as they are written.
struct EventWatch {
    control: Arc<Control>,
    subject: String,
    filter: Filter<pb::Event>,
    after: i64,
    newest: tokio::sync::watch::Receiver<i64>,
    batch: std::vec::IntoIter<Event>,
}

impl EventWatch {
    async fn next(&mut self) -> Option<Result<pb::Event, Status>> {
        loop {
            if let Some(event) = self.batch.next() {
                self.after = event.id;
                let message = event_message(event);
                if self.filter.matches(&message) {
                    return Some(Ok(message));
                }
                continue;
            }
            if self.newest.has_changed().ok()? || *self.newest.borrow() > self.after {
                let newest = *self.newest.borrow_and_update();
                let range = EventRange::After(self.after);
                let filter = EventFilter { subject: self.subject.clone(), range, limit: BATCH };
                match self.control.store.events(&filter).await {
                    Ok(events) if events.is_empty() => self.after = self.after.max(newest),
                    Ok(events) => self.batch = events.into_iter(),
                    Err(error) => return Some(Err(ApiError::from(error).into())),
                }
            } else {
                self.newest.changed().await.ok()?;
            }
        }
    }
}

async fn get_event(control: &Control, name: String) -> Result<pb::Event, ApiError> {
    let EventName(id) = EventName::parse("name", &name)?;
    let range = EventRange::After(id.saturating_sub(1));
    let filter = EventFilter { range, limit: 1, ..EventFilter::default() };
    let found = control.store.events(&filter).await?.pop().filter(|event| event.id == id);
    found.map(event_message).ok_or(ApiError::NotFound { kind: "event", name })
}

fn event_message(event: Event) -> pb::Event {
    pb::Event {
        name: EventName(event.id).to_string(),
        time: Some(timestamp_message(event.time)),
        severity: match event.severity {
            Severity::Info => pb::event::Severity::Info,
            Severity::Warning => pb::event::Severity::Warning,
            Severity::Critical => pb::event::Severity::Critical,
        }
        .into(),
        r#type: event.kind,
        subject: event.subject,
        actor: event.actor,
        message: event.message,
        comment: event.comment,
        revision: event.revision.map(|revision| revision.to_string()).unwrap_or_default(),
    }
}

/// `events/{event}`
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct EventName(i64);

impl EventName {
    fn parse(field: &str, name: &str) -> Result<Self, ApiError> {
        let shown: String = name.chars().take(80).collect();
        let what = format!("{shown:?} does not have the form events/{{event}}");
        name.parse().map_err(|()| ApiError::field(field, "INVALID_NAME", what))
    }
}

impl FromStr for EventName {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        let id = name.strip_prefix("events/").and_then(|id| id.parse().ok());
        id.map(Self).ok_or(())
    }
}

impl fmt::Display for EventName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "events/{}", self.0)
    }
}
