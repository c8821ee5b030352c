//! What each kind of agent in each cluster is to have, ready to be sent.
//!
//! Plans are made once for a change, not once for an agent, and a change costs in proportion to
//! itself: every plan remembers the revision that changed it last, so the difference from any
//! revision to now can be read off. No queue anywhere: a slow agent finds the newest state when it
//! comes to read.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use gantry_model::agent::AgentKind;
use gantry_model::desired::{Change, Update};
use gantry_model::name::{ClusterName, ServiceName};
use gantry_model::plan::{self, ServicePlan};
use gantry_model::revision::{ItemHash, Revision, SetHash};
use gantry_model::wire;
use parking_lot::RwLock;
use tokio::sync::watch;

use crate::state::{Service, State};
use crate::status::Desired;

/// How many removals are remembered; who held a state from before them gets a snapshot.
const REMOVALS: usize = 10_000;

/// Everything that agents are told.
#[derive(Debug)]
pub struct Publisher {
    shelves: RwLock<HashMap<(ClusterName, AgentKind), Arc<Shelf>>>,
}

/// What the agents of one kind in one cluster are told.
#[derive(Debug)]
pub struct Shelf {
    content: RwLock<Content>,
    newest: watch::Sender<Revision>,
}

#[derive(Debug, Default)]
struct Content {
    /// The revision that last changed anything here.
    revision: Revision,
    hash: SetHash,
    plans: BTreeMap<String, Plan>,
    /// Which plan which revision changed last.
    changed: BTreeMap<u64, BTreeSet<String>>,
    removed: BTreeMap<u64, Vec<String>>,
    removed_count: usize,
    /// States older than this cannot be brought up to date by a difference.
    horizon: u64,
}

struct Plan {
    /// There may be private keys in it.
    bytes: Bytes,
    hash: ItemHash,
    number: u64,
}

impl std::fmt::Debug for Plan {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Plan").field("number", &self.number).finish_non_exhaustive()
    }
}

impl Publisher {
    /// Plans the whole of `state`.
    pub fn new(state: &State) -> Self {
        let publisher = Self { shelves: RwLock::default() };
        for cluster in state.clusters() {
            publisher.open_shelves(&cluster.name, state);
        }
        publisher
    }

    /// Follows the making and deleting of the clusters named.
    pub fn publish_clusters(&self, state: &State, touched: &[ClusterName]) {
        for name in touched {
            if state.cluster(name).is_some() {
                self.open_shelves(name, state);
            } else {
                self.shelves.write().retain(|(cluster, _), _| cluster != name);
            }
        }
    }

    /// Follows a change of the services named; others must not differ.
    pub fn publish(&self, state: &State, touched: &[ServiceName]) {
        let mut by_cluster: BTreeMap<ClusterName, Vec<&ServiceName>> = BTreeMap::new();
        for name in touched {
            by_cluster.entry(name.cluster()).or_default().push(name);
        }
        for (cluster, names) in by_cluster {
            for kind in AgentKind::ALL {
                if let Some(shelf) = self.shelf(&cluster, kind) {
                    shelf.change(state, kind, &names);
                }
            }
        }
    }

    pub fn shelf(&self, cluster: &ClusterName, kind: AgentKind) -> Option<Arc<Shelf>> {
        self.shelves.read().get(&(cluster.clone(), kind)).cloned()
    }

    fn open_shelves(&self, cluster: &ClusterName, state: &State) {
        let mut shelves = self.shelves.write();
        for kind in AgentKind::ALL {
            shelves
                .entry((cluster.clone(), kind))
                .or_insert_with(|| Arc::new(Shelf::new(state, cluster, kind)));
        }
    }
}

impl Desired for Publisher {
    fn hash(&self, cluster: &ClusterName, kind: AgentKind) -> Option<SetHash> {
        self.shelf(cluster, kind).map(|shelf| shelf.hash())
    }
}

impl Shelf {
    fn new(state: &State, cluster: &ClusterName, kind: AgentKind) -> Self {
        let mut content = Content {
            revision: state.revision,
            horizon: state.revision.number,
            ..Content::default()
        };
        for service in state.services_of(cluster) {
            if let Some((hash, bytes)) = planned(state, kind, service) {
                let (name, number) = (service.config.name.to_string(), service.newest_number());
                content.put(name, Plan { bytes, hash, number });
            }
        }
        Self { newest: watch::Sender::new(content.revision), content: RwLock::new(content) }
    }

    fn change(&self, state: &State, kind: AgentKind, touched: &[&ServiceName]) {
        let plan = |name: &ServiceName| planned(state, kind, state.service(name)?);
        // Planned before anybody who reads has to wait.
        let plans: Vec<_> = touched.iter().map(|name| (name.to_string(), plan(name))).collect();
        let number = state.revision.number;
        let mut content = self.content.write();
        let mut news = false;
        for (name, plan) in plans {
            news |= match plan {
                Some((hash, bytes)) => content.put(name, Plan { bytes, hash, number }),
                None => content.remove(&name, number),
            };
        }
        if news {
            content.revision = state.revision;
            self.newest.send_replace(content.revision);
        }
    }

    /// Changes whenever there is something new to send.
    pub fn watch(&self) -> watch::Receiver<Revision> {
        self.newest.subscribe()
    }

    pub fn revision(&self) -> Revision {
        self.content.read().revision
    }

    pub fn hash(&self) -> SetHash {
        self.content.read().hash
    }

    /// Whether this is what there is to send now.
    pub fn is_at(&self, revision: Revision, hash: SetHash) -> bool {
        let content = self.content.read();
        (content.revision, content.hash) == (revision, hash)
    }

    /// What brings an agent that holds `held` up to date.
    pub fn update_from(&self, held: Option<(Revision, SetHash)>) -> Update<Bytes> {
        let content = self.content.read();
        let change = match held {
            Some((_, hash)) if hash == content.hash => Change::Current,
            Some((revision, _)) if content.covers(revision) => content.since(revision.number),
            _ => content.everything(),
        };
        content.lead_to(change)
    }

    /// What brings an agent that was sent `sent` up to date; none if it is.
    pub fn update_since(&self, sent: Revision) -> Option<Update<Bytes>> {
        let content = self.content.read();
        if content.revision == sent {
            return None;
        }
        let change =
            if content.covers(sent) { content.since(sent.number) } else { content.everything() };
        Some(content.lead_to(change))
    }
}

impl Content {
    /// Gives whether this changed anything.
    fn put(&mut self, name: String, plan: Plan) -> bool {
        if let Some(held) = self.plans.get(&name) {
            if held.bytes == plan.bytes {
                return false;
            }
            let (old, at) = (held.hash, held.number);
            self.hash.toggle(&old);
            forget(&mut self.changed, at, &name);
        }
        self.hash.toggle(&plan.hash);
        self.changed.entry(plan.number).or_default().insert(name.clone());
        self.plans.insert(name, plan);
        true
    }

    fn remove(&mut self, name: &str, number: u64) -> bool {
        let Some(held) = self.plans.remove(name) else { return false };
        self.hash.toggle(&held.hash);
        forget(&mut self.changed, held.number, name);
        self.removed.entry(number).or_default().push(name.to_owned());
        self.removed_count += 1;
        while self.removed_count > REMOVALS {
            let Some((oldest, names)) = self.removed.pop_first() else { break };
            self.removed_count -= names.len();
            self.horizon = self.horizon.max(oldest);
        }
        true
    }

    fn lead_to(&self, change: Change<Bytes>) -> Update<Bytes> {
        Update { revision: self.revision, hash: self.hash, change, removals_approved: false }
    }

    fn covers(&self, revision: Revision) -> bool {
        revision.epoch == self.revision.epoch
            && revision.number >= self.horizon
            && revision.number <= self.revision.number
    }

    fn since(&self, number: u64) -> Change<Bytes> {
        let newer = (number + 1)..;
        let names = self.changed.range(newer.clone()).flat_map(|(_, names)| names);
        let upserts = names.filter_map(|name| {
            let plan = self.plans.get(name)?;
            Some((name.clone(), plan.bytes.clone()))
        });
        let gone = self.removed.range(newer).flat_map(|(_, names)| names);
        let gone = gone.filter(|name| !self.plans.contains_key(*name)).cloned();
        Change::Delta { upserts: upserts.collect(), removed: gone.collect() }
    }

    fn everything(&self) -> Change<Bytes> {
        let all = self.plans.iter().map(|(name, plan)| (name.clone(), plan.bytes.clone()));
        Change::Snapshot(all.collect())
    }
}

/// What agents of `kind` are told of a service, if anything.
fn planned(state: &State, kind: AgentKind, service: &Service) -> Option<(ItemHash, Bytes)> {
    let plan = plan::plan(kind, &service.config, service.real_servers(), service.mark)?;
    let key_pairs = state.key_pairs(&plan.service);
    let bytes = wire::encode_plan(&ServicePlan { key_pairs, ..plan });
    Some((ItemHash::of(&service.config.name.to_string(), &bytes), bytes))
}

fn forget(index: &mut BTreeMap<u64, BTreeSet<String>>, number: u64, name: &str) {
    if let Some(names) = index.get_mut(&number) {
        names.remove(name);
        if names.is_empty() {
            index.remove(&number);
        }
    }
}

#[cfg(test)]
mod tests;
