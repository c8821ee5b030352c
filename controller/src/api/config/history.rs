//! Revisions: what was changed, what differs, and the way back.

use std::fmt;
use std::str::FromStr;

use gantry_model::name::ClusterName;
use gantry_model::revision::Revision;
use gantry_model::wire::timestamp_message;
use gantry_proto::v1 as pb;
use gantry_runtime::clock;

use super::document::{Document, not_today};
use super::{check_base, config_etag, listing};
use crate::api::Control;
use crate::api::edit::Asked;
use crate::api::error::ApiError;
use crate::api::filter::{self, Field, Filter, Kind};
use crate::api::page::Page;
use crate::api::resources::{cluster_of, etag};
use crate::difference::{Passages, Resource, Resources, resources_of, undone};
use crate::state::State;
use crate::store::{Change, Committed, NewEvent, Span, Store};

/// How many revisions are read at a time.
const BATCH: u32 = 200;

/// How many revisions one call looks at. A filter that few of them match gets a shorter page, with
/// the token of the next one, and not an answer that takes for ever.
const MOST_LOOKED_AT: usize = 100_000;

/// Newer than all.
const END: Revision = Revision { epoch: u64::MAX, number: u64::MAX };

const FIELDS: &[Field<pb::Revision>] = &[
    Field::new("name", Kind::Text, |it| filter::text(&it.name)),
    Field::new("time", Kind::Time, |it| filter::time(it.time.as_ref())),
    Field::new("actor", Kind::Text, |it| filter::text(&it.actor)),
    Field::new("comment", Kind::Text, |it| filter::text(&it.comment)),
    Field::new("change_count", Kind::Number, |it| filter::number(it.change_count)),
];

pub(super) async fn list(
    control: &Control,
    request: pb::ListRevisionsRequest,
) -> Result<pb::ListRevisionsResponse, ApiError> {
    let filter = Filter::parse(&request.filter, FIELDS)?;
    let asked = ["revisions", &request.parent, &request.filter];
    let page = Page::parse(request.page_size, &request.page_token, &asked)?;
    let parent = parent(control, &request.parent).await?;
    let mut before = page.after::<RevisionName>()?.map_or(END, |name| name.0);
    let mut revisions = Vec::new();
    let mut looked_at = 0;
    // One more than the page: whether there is a next one is known then.
    while revisions.len() <= page.size() && looked_at < MOST_LOOKED_AT {
        let batch = control.store.revisions(before, parent.as_ref(), BATCH).await?;
        let Some(last) = batch.last() else { break };
        before = last.revision;
        looked_at += batch.len();
        let messages = batch.iter().map(|it| (it.revision, message(it)));
        revisions.extend(messages.filter(|(_, message)| filter.matches(message)));
    }
    let next = match revisions.get(page.size().saturating_sub(1)) {
        Some((revision, _)) if revisions.len() > page.size() => Some(*revision),
        _ if looked_at >= MOST_LOOKED_AT => Some(before),
        _ => None,
    };
    revisions.truncate(page.size());
    Ok(pb::ListRevisionsResponse {
        revisions: revisions.into_iter().map(|(_, message)| message).collect(),
        next_page_token: next.map(|it| page.token(&RevisionName(it))).unwrap_or_default(),
    })
}

pub(super) async fn get(control: &Control, name: &str) -> Result<pb::Revision, ApiError> {
    if !name.starts_with("revisions/") {
        let what =
            format!("{} does not have the form revisions/{{epoch}}.{{number}}", quoted(name));
        return Err(ApiError::field("name", "INVALID_NAME", what));
    }
    let found = find(&control.store, "name", name, &control.state()).await?;
    let changes = listing::in_full(&control.store.changes_of(found.revision).await?);
    Ok(pb::Revision { changes, ..message(&found) })
}

pub(super) async fn diff(
    control: &Control,
    request: &pb::DiffRevisionsRequest,
) -> Result<pb::DiffRevisionsResponse, ApiError> {
    let (state, store) = (control.state(), &control.store);
    let parent = parent(control, &request.parent).await?;
    let one = find(store, "from", &request.from, &state).await?.revision;
    let other = match request.to.as_str() {
        "" => state.revision,
        to => find(store, "to", to, &state).await?.revision,
    };
    let (from, to) = (one.min(other), one.max(other));
    let passages = store.passages(Span { after: from, upto: to }, parent.as_ref()).await?;
    Ok(pb::DiffRevisionsResponse {
        changes: listing::in_full(&passages.differences()),
        from: from.to_string(),
        to: to.to_string(),
    })
}

/// The document of a cluster as it was at a revision.
pub(super) async fn export_at(
    control: &Control,
    name: &str,
    revision: &str,
) -> Result<pb::Config, ApiError> {
    let past = Past::find(control, name, revision).await?;
    let touched = control.store.revisions(after(past.revision), Some(&past.cluster), 1).await?;
    let services = past.resources.values().filter_map(|resource| match resource {
        Resource::Service(service) => Some(exported(service, &past.resources)),
        Resource::Cluster(_) | Resource::Server(_) => None,
    });
    Ok(pb::Config {
        name: past.cluster.to_string(),
        services: services.collect(),
        etag: touched.first().map(|last| etag(last.revision.number)).unwrap_or_default(),
    })
}

/// A service with its servers, by their short names.
fn exported(service: &pb::VirtualService, resources: &Resources) -> pb::config::Service {
    let prefix = format!("{}/realServers/", service.name);
    let own = resources.range(prefix.clone()..).take_while(|(name, _)| name.starts_with(&prefix));
    let servers = own.filter_map(|(name, resource)| match resource {
        Resource::Server(server) => {
            let name = name.replacen(&prefix, "", 1);
            Some(pb::RealServer { name, ..(**server).clone() })
        }
        Resource::Cluster(_) | Resource::Service(_) => None,
    });
    let id = service.name.rsplit('/').next().unwrap_or_default().to_owned();
    pb::config::Service {
        real_servers: servers.collect(),
        virtual_service: Some(pb::VirtualService { name: id, ..service.clone() }),
    }
}

pub(super) async fn rollback(
    control: &Control,
    actor: String,
    request: &pb::RollbackConfigRequest,
) -> Result<pb::RollbackConfigResponse, ApiError> {
    let past = Past::find(control, &request.name, &request.revision).await?;
    let (cluster, revision) = (&past.cluster, past.revision);
    let document = Document::remember(&past.with_last_admin_states())?;
    let asked = Asked::new(actor, &request.comment)?;
    let decide = |state: &State| {
        check_base(state, cluster, &request.base_etag)?;
        document.check_certificates(state).map_err(not_today)?;
        let document = document.with_admin_states_of(state);
        let plan = document.plan(state, cluster);
        let told = format!("rolled back to {revision}: {}", listing::counted(&plan.differences));
        let event = NewEvent::info("CONFIG_ROLLED_BACK", cluster, told);
        let events = if plan.differences.is_empty() { Vec::new() } else { vec![event] };
        let change = Change { writes: plan.writes, events, ..asked.change() };
        Ok((change, (plan.differences, document)))
    };
    if request.validate_only {
        let state = control.state();
        let (_, (differences, document)) = decide(&state)?;
        let mut changes = listing::in_full(&differences);
        let effects = document.effects(&state, cluster, clock::wall());
        control.with_facts(|facts| listing::note_cuts(&mut changes, effects, facts));
        let (cut_connections, _) = listing::total(&changes);
        return Ok(pb::RollbackConfigResponse {
            changes,
            etag: config_etag(&state, cluster),
            revision: state.revision.to_string(),
            cut_connections,
        });
    }
    let ((differences, _), state) = control.change(decide).await?;
    Ok(pb::RollbackConfigResponse {
        changes: listing::in_full(&differences),
        etag: config_etag(&state, cluster),
        revision: state.revision.to_string(),
        cut_connections: 0,
    })
}

/// `revisions/{epoch}.{number}`
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct RevisionName(Revision);

impl FromStr for RevisionName {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        let (epoch, number) =
            name.strip_prefix("revisions/").and_then(|rest| rest.split_once('.')).ok_or(())?;
        let read = |digits: &str| digits.parse().map_err(|_| ());
        Ok(Self(Revision { epoch: read(epoch)?, number: read(number)? }))
    }
}

impl fmt::Display for RevisionName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "revisions/{}", self.0)
    }
}

/// A cluster as it was at a revision.
struct Past {
    cluster: ClusterName,
    revision: Revision,
    resources: Resources,
    /// What happened since.
    since: Passages,
}

impl Past {
    async fn find(control: &Control, cluster: &str, revision: &str) -> Result<Self, ApiError> {
        let state = control.state();
        let cluster = cluster_of(&state, "name", cluster)?;
        let revision = find(&control.store, "revision", revision, &state).await?.revision;
        let span = Span { after: revision, upto: state.revision };
        let since = control.store.passages(span, Some(&cluster)).await?;
        let resources = undone(resources_of(&state, &cluster), &since);
        if !resources.contains_key(&cluster.to_string()) {
            return Err(ApiError::Precondition {
                reason: "CLUSTER_NOT_THERE_YET",
                message: format!("{cluster} did not exist yet at revision {revision}"),
                subject: cluster.to_string(),
            });
        }
        Ok(Self { cluster, revision, resources, since })
    }

    /// What it was, but a real server that is gone since comes back as out of service as it was
    /// when it went.
    fn with_last_admin_states(&self) -> Resources {
        let mut resources = self.resources.clone();
        for (name, resource) in &mut resources {
            if let (Resource::Server(server), Some(Resource::Server(last))) =
                (resource, self.since.last(name))
            {
                server.admin_state = last.admin_state;
                server.halt_time = last.halt_time;
            }
        }
        resources
    }
}

/// The cluster that is asked about: one that there is, or was.
async fn parent(control: &Control, given: &str) -> Result<Option<ClusterName>, ApiError> {
    if matches!(given, "" | "clusters/-") {
        return Ok(None);
    }
    let name: ClusterName = given.parse().map_err(|error| ApiError::name("parent", &error))?;
    let is_there = control.state().cluster(&name).is_some();
    if is_there || !control.store.revisions(END, Some(&name), 1).await?.is_empty() {
        return Ok(Some(name));
    }
    Err(ApiError::NotFound { kind: "cluster", name: given.to_owned() })
}

/// The revision that `text` names; it must be one that there was.
async fn find(
    store: &Store,
    field: &str,
    text: &str,
    state: &State,
) -> Result<Committed, ApiError> {
    let revision = parse(field, text, state.revision)?;
    if revision > state.revision {
        let what = format!("{revision} is in the future: the present one is {}", state.revision);
        return Err(ApiError::field(field, "NOT_YET", what));
    }
    let missing =
        || ApiError::NotFound { kind: "revision", name: RevisionName(revision).to_string() };
    store.revision(revision).await?.ok_or_else(missing)
}

/// "epoch.number", or just "number" in the present epoch.
fn parse(field: &str, text: &str, present: Revision) -> Result<Revision, ApiError> {
    let bare = text.strip_prefix("revisions/").unwrap_or(text);
    let number = |digits: &str| {
        let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
        plain.then(|| digits.parse::<u64>().ok()).flatten()
    };
    let parsed = match bare.split_once('.') {
        Some((epoch, rest)) => number(epoch).zip(number(rest)),
        None => number(bare).map(|number| (present.epoch, number)),
    };
    let (epoch, number) = parsed.ok_or_else(|| {
        let example = format!("such as \"{present}\", or just \"{}\"", present.number);
        let what = match text {
            "" => format!("is required: give epoch.number, {example}"),
            text => format!("{} is not a revision: use epoch.number, {example}", quoted(text)),
        };
        ApiError::field(field, "INVALID_REVISION", what)
    })?;
    Ok(Revision { epoch, number })
}

fn quoted(text: &str) -> String {
    format!("{:?}", text.chars().take(80).collect::<String>())
}

/// The bound below which everything up to `revision` is.
fn after(revision: Revision) -> Revision {
    Revision { number: revision.number + 1, ..revision }
}

fn message(committed: &Committed) -> pb::Revision {
    pb::Revision {
        name: RevisionName(committed.revision).to_string(),
        time: Some(timestamp_message(committed.time)),
        actor: committed.actor.clone(),
        comment: committed.comment.clone(),
        change_count: i32::try_from(committed.changes).unwrap_or(i32::MAX),
        changes: Vec::new(),
    }
}
