//! The configuration as it is in memory: what the store has committed, no more and no less.
//!
//! A state never changes. A change makes a new one, which shares with the old all that stayed the
//! same; whoever holds a state reads it in peace.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use gantry_model::key_pair::KeyPair;
use gantry_model::mark::Mark;
use gantry_model::name::{
    ApplianceName, CertificateName, ClusterName, Id, ServerName, ServiceName,
};
use gantry_model::revision::Revision;
use gantry_model::server::RealServer;
use gantry_model::service::VirtualService;
use jiff::Timestamp;
use rpds::RedBlackTreeMapSync;

use crate::certificate::Facts;

/// The configuration at one revision.
#[derive(Clone, Debug, Default)]
pub struct State {
    pub revision: Revision,
    pub(crate) clusters: RedBlackTreeMapSync<ClusterName, Arc<Cluster>>,
    pub(crate) services: RedBlackTreeMapSync<ServiceName, Arc<Service>>,
    pub(crate) appliances: RedBlackTreeMapSync<ApplianceName, Arc<Appliance>>,
    pub(crate) certificates: RedBlackTreeMapSync<CertificateName, Arc<Certificate>>,
}

#[derive(Clone, Debug)]
pub struct Cluster {
    pub name: ClusterName,
    pub label: String,
    /// The revision number that last changed the cluster itself.
    pub number: u64,
    /// The revision number that last changed anything in it.
    pub config_number: u64,
    pub create_time: Timestamp,
}

/// A virtual service with its real servers.
#[derive(Clone, Debug)]
pub struct Service {
    pub config: VirtualService,
    pub uid: String,
    /// By what the kernel of every appliance knows its packets, where it needs that.
    pub mark: Option<Mark>,
    pub number: u64,
    pub create_time: Timestamp,
    pub update_time: Timestamp,
    pub servers: BTreeMap<Id, Server>,
}

#[derive(Clone, Debug)]
pub struct Server {
    pub config: RealServer,
    pub number: u64,
}

#[derive(Clone, Debug)]
pub struct Appliance {
    pub name: ApplianceName,
    /// Absent while its invitation is open.
    pub join_time: Option<Timestamp>,
    /// SHA-256 of the public key whose certificate is good.
    pub key_hash: Option<Vec<u8>>,
}

/// A certificate with its key, which goes to agent-l7 and nowhere else.
#[derive(Clone, Debug)]
pub struct Certificate {
    pub name: CertificateName,
    pub facts: Facts,
    pub key_pair: KeyPair,
    /// Tells whether another chain and key are the same.
    pub digest: Vec<u8>,
    pub create_time: Timestamp,
    pub update_time: Timestamp,
}

impl State {
    pub fn cluster(&self, name: &ClusterName) -> Option<&Arc<Cluster>> {
        self.clusters.get(name)
    }

    pub fn clusters(&self) -> impl Iterator<Item = &Arc<Cluster>> {
        self.clusters.values()
    }

    /// The only cluster, if there is just one.
    pub fn only_cluster(&self) -> Option<&Arc<Cluster>> {
        let mut all = self.clusters.values();
        all.next().filter(|_| all.next().is_none())
    }

    pub fn service(&self, name: &ServiceName) -> Option<&Arc<Service>> {
        self.services.get(name)
    }

    pub fn server(&self, name: &ServerName) -> Option<&Server> {
        self.services.get(&name.service)?.servers.get(&name.server)
    }

    /// Every virtual service, ordered by name.
    pub fn services(&self) -> impl Iterator<Item = &Arc<Service>> {
        self.services.values()
    }

    /// The virtual services of one cluster, ordered by name.
    pub fn services_of<'a>(
        &'a self,
        cluster: &'a ClusterName,
    ) -> impl Iterator<Item = &'a Arc<Service>> {
        let first: ServiceName = cluster.service(Id::lowest());
        self.services
            .range(first..)
            .map(|(_, service)| service)
            .take_while(move |service| service.config.name.cluster == cluster.cluster)
    }

    pub fn certificate(&self, name: &CertificateName) -> Option<&Arc<Certificate>> {
        self.certificates.get(name)
    }

    /// The virtual services that use a certificate, ordered by name.
    pub fn users<'a>(
        &'a self,
        certificate: &'a CertificateName,
    ) -> impl Iterator<Item = &'a ServiceName> {
        let services = self.services().map(|service| &service.config);
        let users = services
            .filter(|service| service.certificates().any(|id| *id == certificate.certificate));
        users.map(|service| &service.name)
    }

    /// The certificates that a service needs the keys of, each once.
    pub fn key_pairs(&self, service: &VirtualService) -> Vec<KeyPair> {
        let named: BTreeSet<&Id> = service.certificates().collect();
        let pair = |id: &Id| {
            let name = CertificateName { certificate: id.clone() };
            self.certificate(&name).map(|found| found.key_pair.clone())
        };
        named.into_iter().filter_map(pair).collect()
    }

    /// Every certificate, ordered by name.
    pub fn certificates(&self) -> impl Iterator<Item = &Arc<Certificate>> {
        self.certificates.values()
    }

    pub fn appliance(&self, name: &ApplianceName) -> Option<&Arc<Appliance>> {
        self.appliances.get(name)
    }

    pub fn appliances(&self) -> impl Iterator<Item = &Arc<Appliance>> {
        self.appliances.values()
    }

    /// The appliances of one cluster, ordered by name.
    pub fn appliances_of<'a>(
        &'a self,
        cluster: &'a ClusterName,
    ) -> impl Iterator<Item = &'a Arc<Appliance>> {
        let first: ApplianceName = cluster.appliance(Id::lowest());
        self.appliances
            .range(first..)
            .map(|(_, appliance)| appliance)
            .take_while(move |appliance| appliance.name.cluster == cluster.cluster)
    }
}

impl Service {
    pub fn real_servers(&self) -> impl Iterator<Item = &RealServer> {
        self.servers.values().map(|server| &server.config)
    }

    /// The revision number that last changed the service or a server of it.
    pub fn newest_number(&self) -> u64 {
        self.servers.values().map(|server| server.number).fold(self.number, u64::max)
    }
}
