//! What differs between two states of the configuration, resource by resource.
//!
//! Pure. A difference is between a document and the present, or folded together from the steps
//! that history kept: from the first value before to the last value after, whatever came between.

use std::collections::BTreeMap;

use gantry_model::name::ClusterName;
use gantry_model::server::RealServer;
use gantry_model::service::VirtualService;
use gantry_model::wire;
use gantry_proto::v1 as pb;

use crate::state::{Cluster, State};

/// The configuration of one resource, as the API has it.
#[derive(Clone, Debug, PartialEq)]
pub enum Resource {
    Cluster(pb::Cluster),
    Service(Box<pb::VirtualService>),
    Server(Box<pb::RealServer>),
}

/// Resources by name.
pub type Resources = BTreeMap<String, Resource>;

/// What became of one resource; before and after are never both absent.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    pub name: String,
    pub before: Option<Resource>,
    pub after: Option<Resource>,
}

/// What all steps between two revisions come to, for one resource: read, or as it was kept.
#[derive(Clone, Debug)]
struct Passage<T> {
    before: Option<T>,
    after: Option<T>,
    /// What it was when it last existed.
    last: Option<T>,
}

/// What all steps between two revisions come to.
#[derive(Clone, Debug)]
pub struct Passages<T = Resource>(BTreeMap<String, Passage<T>>);

impl<T> Default for Passages<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<T: Clone> Passages<T> {
    /// Takes in the next step; steps come in the order of their revisions.
    pub fn take(&mut self, name: String, before: Option<T>, after: Option<T>) {
        let last = after.clone().or_else(|| before.clone());
        match self.0.get_mut(&name) {
            Some(passage) => {
                passage.after = after;
                passage.last = last.or_else(|| passage.last.take());
            }
            None => {
                self.0.insert(name, Passage { before, after, last });
            }
        }
    }

    /// Reads what was kept: of each resource its two ends, whatever came between. What `read` gives
    /// nothing for is left out.
    pub fn read<R, E>(
        self,
        read: impl Fn(&str, T) -> Result<Option<R>, E>,
    ) -> Result<Passages<R>, E> {
        let mut all = BTreeMap::new();
        for (name, Passage { before, after, last }) in self.0 {
            let one = |end: Option<T>| end.map_or(Ok(None), |end| read(&name, end));
            let passage = Passage { before: one(before)?, after: one(after)?, last: one(last)? };
            if passage.last.is_some() {
                all.insert(name, passage);
            }
        }
        Ok(Passages(all))
    }
}

impl Passages {
    /// The resources that differ at the two ends, ordered by name.
    pub fn differences(self) -> Vec<Difference> {
        let ends = |(name, Passage { before, after, .. })| Difference { name, before, after };
        let all = self.0.into_iter().map(ends);
        all.filter(|difference| difference.before != difference.after).collect()
    }

    /// What the resource was when it last existed, if a step touched it.
    pub fn last(&self, name: &str) -> Option<&Resource> {
        self.0.get(name)?.last.as_ref()
    }
}

/// Undoes the steps of `passages`: gives what `present` was before them.
pub fn undone(mut present: Resources, passages: &Passages) -> Resources {
    for (name, passage) in &passages.0 {
        match &passage.before {
            Some(before) => present.insert(name.clone(), before.clone()),
            None => present.remove(name),
        };
    }
    present
}

impl From<&Cluster> for Resource {
    fn from(cluster: &Cluster) -> Self {
        let (name, display_name) = (cluster.name.to_string(), cluster.label.clone());
        Self::Cluster(pb::Cluster { name, display_name, ..Default::default() })
    }
}

impl From<&VirtualService> for Resource {
    fn from(service: &VirtualService) -> Self {
        Self::Service(Box::new(wire::virtual_service_message(service)))
    }
}

impl From<&RealServer> for Resource {
    fn from(server: &RealServer) -> Self {
        Self::Server(Box::new(wire::real_server_message(server)))
    }
}

/// A cluster and all that is in it.
pub fn resources_of(state: &State, name: &ClusterName) -> Resources {
    let cluster = state.cluster(name).map(|cluster| (name.to_string(), cluster.as_ref().into()));
    let services = state.services_of(name).flat_map(|service| {
        let servers = service.real_servers().map(|server| (server.name.to_string(), server.into()));
        servers.chain([(service.config.name.to_string(), (&service.config).into())])
    });
    cluster.into_iter().chain(services).collect()
}

#[cfg(test)]
mod tests;
