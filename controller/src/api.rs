//! The gRPC services: one file each. Each call is: who asks, what is asked, decide, answer.

mod agent;
mod approval;
mod authority;
mod balancer;
mod caller;
mod certificate;
mod config;
mod edit;
mod enrollment;
mod error;
mod fields;
mod filter;
mod fleet;
mod observe;
mod operator;
mod page;
mod resources;
#[cfg(test)]
mod testing;
mod user;

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use gantry_model::name::{ClusterName, ServiceName};
use gantry_proto::agent::v1::agent_service_server::AgentServiceServer;
use gantry_proto::agent::v1::enrollment_service_server::EnrollmentServiceServer;
use gantry_proto::v1::authority_service_server::AuthorityServiceServer;
use gantry_proto::v1::balancer_service_server::BalancerServiceServer;
use gantry_proto::v1::certificate_service_server::CertificateServiceServer;
use gantry_proto::v1::config_service_server::ConfigServiceServer;
use gantry_proto::v1::fleet_service_server::FleetServiceServer;
use gantry_proto::v1::observe_service_server::ObserveServiceServer;
use gantry_proto::v1::user_service_server::UserServiceServer;
use gantry_runtime::clock;
use parking_lot::Mutex;
use tonic::service::Routes;

pub use self::caller::{Caller, Connection};
use self::caller::{known_only, operators_only};
use self::error::ApiError;
pub(crate) use self::operator::no_such_server;
pub use self::operator::{News, Operator};
use crate::approvals::Approvals;
use crate::authority::Authority;
use crate::observed::Observed;
use crate::publish::Publisher;
use crate::questions::Questions;
use crate::state::State;
use crate::status::Facts;
use crate::store::{self, Change, Once, Store, StoreError, Write};

/// What the services share: the store, what is published from it, and what is observed.
#[derive(Debug)]
pub struct Control {
    store: Store,
    publisher: Arc<Publisher>,
    observed: Observed,
    approvals: Approvals,
    questions: Questions,
    authority: Arc<Authority>,
    streams: AtomicU64,
    /// Servers whose newest event says that they failed.
    failed: Mutex<HashSet<String>>,
}

impl Control {
    pub async fn new(store: Store, authority: Arc<Authority>) -> Result<Self, StoreError> {
        let publisher = Arc::new(Publisher::new(&store.state()));
        let failed = store.last_health_events().await?;
        let failed = failed.into_iter().filter_map(|(name, failed)| failed.then_some(name));
        Ok(Self {
            publisher,
            store,
            observed: Observed::new(),
            approvals: Approvals::new(),
            questions: Questions::new(),
            authority,
            streams: AtomicU64::new(0),
            failed: Mutex::new(failed.collect()),
        })
    }

    /// The state, which decides who may do what.
    pub fn state(&self) -> Arc<State> {
        self.store.state()
    }

    /// Ends all work on the store.
    pub async fn close(&self) {
        self.store.close().await;
    }

    /// Commits a change and tells the agents.
    async fn change<T>(
        &self,
        decide: impl FnOnce(&State) -> Result<(Change, T), ApiError>,
    ) -> Result<(T, Arc<State>), ApiError> {
        Ok(self.store.change(decide, self.publish()).await?)
    }

    /// The same, unless the change was committed before under the id of `request`.
    async fn change_once<T>(
        &self,
        request: Option<&store::Request>,
        decide: impl FnOnce(&State) -> Result<(Change, T), ApiError>,
    ) -> Result<Once<T>, ApiError> {
        Ok(self.store.change_once(request, decide, self.publish()).await?)
    }

    /// Decides and changes nothing.
    async fn decide_once<T>(
        &self,
        request: Option<&store::Request>,
        decide: impl FnOnce(&State) -> Result<(Change, T), ApiError>,
    ) -> Result<Once<T>, ApiError> {
        if let Some(request) = request
            && let Some(known) = self.store.request(&request.id).await?
        {
            return Ok(Once::Before(known));
        }
        let state = self.state();
        Ok(Once::Done(decide(&state)?.1, state))
    }

    /// What tells the agents of a change.
    fn publish(&self) -> impl FnOnce(&State, &[Write]) + Send + 'static {
        let publisher = Arc::clone(&self.publisher);
        move |state: &State, writes: &[Write]| {
            let touched: Vec<_> =
                writes.iter().flat_map(|write| touched_services(state, write)).collect();
            let clusters: Vec<_> = writes.iter().filter_map(touched_cluster).collect();
            publisher.publish_clusters(state, &clusters);
            publisher.publish(state, &touched);
        }
    }

    /// Works something out from configuration and observation together.
    fn with_facts<T>(&self, work: impl FnOnce(Facts<'_>) -> T) -> T {
        let desired = self.publisher.as_ref();
        self.observed.read(|agents| work(Facts { agents, desired, now: clock::wall() }))
    }

    fn next_stream(&self) -> u64 {
        self.streams.fetch_add(1, Ordering::Relaxed)
    }
}

fn touched_services(state: &State, write: &Write) -> Vec<ServiceName> {
    match write {
        Write::PutService(service) => vec![service.name.clone()],
        Write::DeleteService(name) => vec![name.clone()],
        Write::PutServer(server) => vec![server.name.service.clone()],
        Write::DeleteServer(name) => vec![name.service.clone()],
        Write::PutCertificate(name, _) => state.users(name).cloned().collect(),
        // Nobody uses one that may be deleted.
        Write::DeleteCertificate(_) => Vec::new(),
        Write::PutCluster { .. } | Write::DeleteCluster(_) => Vec::new(),
    }
}

fn touched_cluster(write: &Write) -> Option<ClusterName> {
    match write {
        Write::PutCluster { name, .. } | Write::DeleteCluster(name) => Some(name.clone()),
        _ => None,
    }
}

/// Answers the calls of every service.
#[derive(Clone, Debug)]
struct Calls {
    control: Arc<Control>,
}

/// Documents of tens of thousands of services in one message.
const LARGEST_DOCUMENT: usize = 64 << 20;

/// Full reports of as many.
const LARGEST_REPORT: usize = 256 << 20;

/// Everything that is served, behind one port.
pub fn routes(control: &Arc<Control>) -> Result<Routes, tonic_reflection::server::Error> {
    let calls = Calls { control: Arc::clone(control) };
    // The status of the server as a whole is SERVING from the start and needs no reporter.
    let (_reporter, health) = tonic_health::server::health_reporter();
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(gantry_proto::DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let config = ConfigServiceServer::new(calls.clone());
    let agents = AgentServiceServer::new(calls.clone());
    Ok(Routes::new(health)
        .add_service(known_only(reflection().build_v1()?))
        .add_service(known_only(reflection().build_v1alpha()?))
        .add_service(operators_only(AuthorityServiceServer::new(calls.clone())))
        .add_service(operators_only(BalancerServiceServer::new(calls.clone())))
        .add_service(operators_only(config.max_decoding_message_size(LARGEST_DOCUMENT)))
        .add_service(operators_only(CertificateServiceServer::new(calls.clone())))
        .add_service(operators_only(FleetServiceServer::new(calls.clone())))
        .add_service(operators_only(ObserveServiceServer::new(calls.clone())))
        .add_service(operators_only(UserServiceServer::new(calls.clone())))
        .add_service(known_only(agents.max_decoding_message_size(LARGEST_REPORT)))
        .add_service(EnrollmentServiceServer::new(calls)))
}

#[cfg(test)]
mod tests;
