//! Resources as clients see them: configuration with status, etag and times.

use gantry_model::name::ClusterName;
use gantry_model::wire::{real_server_message, timestamp_message, virtual_service_message};
use gantry_proto::v1 as pb;

use super::error::ApiError;
use crate::observed::of_cluster;
use crate::state::{Appliance, Cluster, Server, Service, State};
use crate::status::{self, Facts};

pub(super) fn virtual_service(service: &Service, facts: Facts<'_>) -> pb::VirtualService {
    pb::VirtualService {
        uid: service.uid.clone(),
        status: Some(status::service(service, facts)),
        etag: etag(service.number),
        create_time: Some(timestamp_message(service.create_time)),
        update_time: Some(timestamp_message(service.update_time)),
        ..virtual_service_message(&service.config)
    }
}

pub(super) fn real_server(server: &Server, facts: Facts<'_>) -> pb::RealServer {
    pb::RealServer {
        status: Some(status::real_server(&server.config, facts)),
        etag: etag(server.number),
        ..real_server_message(&server.config)
    }
}

pub(super) fn cluster(cluster: &Cluster) -> pb::Cluster {
    pb::Cluster {
        name: cluster.name.to_string(),
        display_name: cluster.label.clone(),
        etag: etag(cluster.number),
        create_time: Some(timestamp_message(cluster.create_time)),
    }
}

pub(super) fn appliance(appliance: &Appliance, facts: Facts<'_>) -> pb::Appliance {
    let own = of_cluster(facts.agents, &appliance.name.cluster)
        .filter(|(name, _)| name.appliance == appliance.name);
    let last_seen = own.map(|(_, agent)| agent.last_seen).max();
    pb::Appliance {
        name: appliance.name.to_string(),
        agents: status::agents(&appliance.name, facts),
        join_time: appliance.join_time.map(timestamp_message),
        last_seen_time: last_seen.map(timestamp_message),
    }
}

/// The etag of a resource that the revision with this number changed last.
pub(super) fn etag(number: u64) -> String {
    number.to_string()
}

/// Refuses a change that was made from an older form of the resource.
pub(super) fn check_etag(name: &str, given: &str, number: u64) -> Result<(), ApiError> {
    let current = etag(number);
    if given.is_empty() || given == current {
        return Ok(());
    }
    Err(ApiError::Stale { name: name.to_owned(), given: given.to_owned(), current })
}

/// The cluster that a list is asked of; none: all of them.
pub(super) fn parent_of(state: &State, given: &str) -> Result<Option<ClusterName>, ApiError> {
    match given {
        "" | "clusters/-" => Ok(None),
        given => cluster_of(state, "parent", given).map(Some),
    }
}

/// The cluster that a request is about: the one it names, or the only one there is.
pub(super) fn cluster_of(state: &State, field: &str, given: &str) -> Result<ClusterName, ApiError> {
    if given.is_empty() {
        let only = state.only_cluster().map(|cluster| cluster.name.clone());
        return only.ok_or_else(|| {
            let count = state.clusters().count();
            let what =
                format!("is required, since there are {count} clusters: give clusters/{{cluster}}");
            ApiError::field(field, "REQUIRED", what)
        });
    }
    let name: ClusterName = given.parse().map_err(|error| ApiError::name(field, &error))?;
    match state.cluster(&name) {
        Some(_) => Ok(name),
        None => Err(ApiError::NotFound { kind: "cluster", name: given.to_owned() }),
    }
}
