//! An operator who writes all the time, and knows exactly what was acknowledged.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use gantry_proto::v1 as pb;
use pb::balancer_service_client::BalancerServiceClient;
use pb::fleet_service_client::FleetServiceClient;
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::shared::{AGENTS, CLUSTER, Dice, Shared};
use crate::wire::channel;

/// How many services there are, about.
const SERVICES: usize = 24;

/// What is known of the configuration.
#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    pub(crate) services: BTreeMap<String, Known>,
    /// Counts restorations: an answer from before one says nothing of after it.
    pub(crate) generation: u64,
}

/// What is known of a service: its port, or that it does not exist.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Known {
    pub(crate) acknowledged: Option<u16>,
    /// A write of which the outcome is not known. Nothing is written after it.
    pub(crate) perhaps: Option<Option<u16>>,
}

impl Model {
    /// Services that certainly exist, and may be written to.
    fn certain(&self) -> Vec<String> {
        let certain = self
            .services
            .iter()
            .filter(|(_, known)| known.acknowledged.is_some() && known.perhaps.is_none());
        certain.map(|(id, _)| id.clone()).collect()
    }
}

pub(crate) struct Operator {
    shared: Arc<Shared>,
    dice: Dice,
    balancer: BalancerServiceClient<Channel>,
    fleet: FleetServiceClient<Channel>,
    next: u16,
}

impl Operator {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        let channel = channel();
        Self {
            dice: Dice(shared.seed ^ 0x0bea),
            shared,
            balancer: BalancerServiceClient::new(channel.clone()),
            fleet: FleetServiceClient::new(channel),
            next: 0,
        }
    }

    pub(crate) async fn run(mut self) -> turmoil::Result {
        loop {
            tokio::time::sleep(self.dice.millis(5, 200)).await;
            if self.shared.is_quiet() {
                let settled = self.look().await.unwrap_or(false);
                self.shared.settled.store(settled, Ordering::Relaxed);
                continue;
            }
            match self.dice.below(100) {
                0..50 => self.create_or_delete().await,
                50..94 => self.change().await,
                94..97 => self.purge().await,
                _ => drop(self.look().await),
            }
        }
    }

    /// Looks at all agents, and lets those go on that hold something back.
    async fn look(&mut self) -> Option<bool> {
        let request = pb::ListAppliancesRequest::default();
        let answer = in_time(self.fleet.list_appliances(request)).await.ok()?;
        let mut well = 0;
        for appliance in answer.into_inner().appliances {
            for agent in &appliance.agents {
                if agent.held_removal_count > 0 {
                    let revision = agent.held_revision.clone();
                    let name = appliance.name.clone();
                    let comment = String::new();
                    let request = pb::ApproveRemovalsRequest { name, revision, comment };
                    // What was held a moment ago may be outdated.
                    if in_time(self.fleet.approve_removals(request)).await.is_ok() {
                        self.shared.approvals.fetch_add(1, Ordering::Relaxed);
                    }
                } else if agent.connected && agent.current && agent.rejection_count == 0 {
                    well += 1;
                }
            }
        }
        Some(well == AGENTS.len())
    }

    async fn create_or_delete(&mut self) {
        let certain = self.shared.model.lock().certain();
        if certain.len() < SERVICES {
            self.create().await;
        } else {
            let id = self.dice.pick(&certain).clone();
            self.delete(&id).await;
        }
    }

    async fn create(&mut self) {
        let port = self.port();
        let id = format!("s-{port}");
        let request = pb::CreateVirtualServiceRequest {
            parent: CLUSTER.to_owned(),
            virtual_service_id: id.clone(),
            virtual_service: Some(service(&id, port)),
            ..Default::default()
        };
        let mut balancer = self.balancer.clone();
        let call = async move { balancer.create_virtual_service(request).await.map(drop) };
        self.write(&id, Some(port), call).await;
    }

    async fn change(&mut self) {
        let certain = self.shared.model.lock().certain();
        if certain.is_empty() {
            return;
        }
        let (id, port) = (self.dice.pick(&certain).clone(), self.port());
        let request = pb::UpdateVirtualServiceRequest {
            virtual_service: Some(service(&id, port)),
            update_mask: Some(prost_types::FieldMask { paths: vec!["listener".to_owned()] }),
            ..Default::default()
        };
        let mut balancer = self.balancer.clone();
        let call = async move { balancer.update_virtual_service(request).await.map(drop) };
        self.write(&id, Some(port), call).await;
    }

    /// Most of them go.
    async fn purge(&mut self) {
        let certain = self.shared.model.lock().certain();
        let generation = self.shared.model.lock().generation;
        for id in certain.iter().skip(3) {
            // What was restored meanwhile has others.
            if self.shared.model.lock().generation == generation {
                self.delete(id).await;
            }
        }
    }

    async fn delete(&mut self, id: &str) {
        let request = pb::DeleteVirtualServiceRequest { name: name(id), ..Default::default() };
        let mut balancer = self.balancer.clone();
        let call = async move { balancer.delete_virtual_service(request).await.map(drop) };
        self.write(id, None, call).await;
    }

    /// Writes one service; `after` is what it is then.
    async fn write(
        &self,
        id: &str,
        after: Option<u16>,
        call: impl Future<Output = Result<(), Status>>,
    ) {
        let generation = {
            let mut model = self.shared.model.lock();
            let generation = model.generation;
            let known = model.services.entry(id.to_owned()).or_default();
            known.perhaps = Some(after);
            generation
        };
        let outcome = in_time(call).await;
        let mut model = self.shared.model.lock();
        let current = model.generation == generation;
        let known = model.services.entry(id.to_owned()).or_default();
        match outcome {
            Ok(()) if current => *known = Known { acknowledged: after, perhaps: None },
            Ok(()) => known.perhaps = Some(after),
            Err(status) if is_uncertain(&status) || !current => known.perhaps = Some(after),
            Err(status) => self.shared.violation(format!("{id} could not be written: {status}")),
        }
    }

    fn port(&mut self) -> u16 {
        self.next += 1;
        self.next
    }
}

async fn in_time<T>(call: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
    match tokio::time::timeout(Duration::from_secs(3), call).await {
        Ok(answer) => answer,
        Err(_) => Err(Status::deadline_exceeded("no answer")),
    }
}

fn is_uncertain(status: &Status) -> bool {
    use Code::{Cancelled, DeadlineExceeded, Internal, Unavailable, Unknown};
    matches!(status.code(), Cancelled | DeadlineExceeded | Internal | Unavailable | Unknown)
}

pub(crate) fn name(id: &str) -> String {
    format!("{CLUSTER}/virtualServices/{id}")
}

fn service(id: &str, port: u16) -> pb::VirtualService {
    pb::VirtualService {
        name: name(id),
        listener: Some(pb::Listener {
            address: "10.0.0.1".to_owned(),
            ports: vec![port.to_string()],
            ..Default::default()
        }),
        forwarding: Some(pb::virtual_service::Forwarding::Layer7(pb::Layer7::default())),
        ..Default::default()
    }
}
