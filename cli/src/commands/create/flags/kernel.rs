//! The flags of forwarding in the kernel.

use std::net::IpAddr;

use clap::{Args, ValueEnum};
use gantry_proto::v1;

use crate::document::human_duration;

#[derive(Args, Debug)]
pub(super) struct KernelFlags {
    /// Who gets the next connection
    #[arg(long, value_enum, requires = "layer4", conflicts_with = "layer7")]
    scheduler: Option<Scheduler>,
    /// For the schedulers source-hash and maglev-hash: hash the client's port, too
    #[arg(long, requires = "scheduler")]
    hash_ports: bool,
    /// How packets are wrapped, for method tunnel
    #[arg(long, value_enum, requires = "layer4", conflicts_with = "layer7")]
    encapsulation: Option<Encapsulation>,
    /// UDP port that the real servers receive on, for encapsulation gue
    #[arg(long, value_name = "PORT", requires = "encapsulation")]
    tunnel_port: Option<u16>,
    /// Address that real servers see connections come from, for method snat
    #[arg(long, value_name = "ADDRESS", requires = "layer4", conflicts_with = "layer7")]
    snat_address: Option<IpAddr>,
    /// Send each UDP datagram to a real server for itself
    #[arg(long, requires = "udp")]
    one_packet: bool,
    /// How long a silent connection is remembered: 1h
    #[arg(long, value_name = "DURATION", value_parser = human_duration, requires = "layer4", conflicts_with = "layer7")]
    idle_timeout: Option<prost_types::Duration>,
    /// How long the connections of a real server that failed may go on: 60s
    #[arg(long, value_name = "DURATION", value_parser = human_duration, requires = "layer4", conflicts_with = "layer7")]
    failure_grace: Option<prost_types::Duration>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Scheduler {
    /// The fewest connections for its weight
    WeightedLeastConnection,
    /// The fewest connections
    LeastConnection,
    /// One after the other, by weight
    WeightedRoundRobin,
    /// One after the other
    RoundRobin,
    /// By the client's address
    SourceHash,
    /// By the client's address, and few move when a server goes
    MaglevHash,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Encapsulation {
    /// IP in IP
    Ipip,
    /// Generic UDP encapsulation
    Gue,
    /// Generic routing encapsulation
    Gre,
}

impl KernelFlags {
    pub(super) fn into_layer4(self, method: v1::layer4::Method) -> v1::Layer4 {
        use v1::layer4::{Encapsulation as WireEncapsulation, Scheduler as Wire};
        let scheduler = match self.scheduler {
            None => Wire::Unspecified,
            Some(Scheduler::WeightedLeastConnection) => Wire::WeightedLeastConnection,
            Some(Scheduler::LeastConnection) => Wire::LeastConnection,
            Some(Scheduler::WeightedRoundRobin) => Wire::WeightedRoundRobin,
            Some(Scheduler::RoundRobin) => Wire::RoundRobin,
            Some(Scheduler::SourceHash) => Wire::SourceHash,
            Some(Scheduler::MaglevHash) => Wire::MaglevHash,
        };
        let encapsulation = match self.encapsulation {
            None => WireEncapsulation::Unspecified,
            Some(Encapsulation::Ipip) => WireEncapsulation::Ipip,
            Some(Encapsulation::Gue) => WireEncapsulation::Gue,
            Some(Encapsulation::Gre) => WireEncapsulation::Gre,
        };
        v1::Layer4 {
            method: method.into(),
            scheduler: scheduler.into(),
            encapsulation: encapsulation.into(),
            idle_timeout: self.idle_timeout,
            hash_ports: self.hash_ports,
            one_packet: self.one_packet,
            tunnel_port: self.tunnel_port.map_or(0, i32::from),
            snat_address: self.snat_address.map(|address| address.to_string()).unwrap_or_default(),
            failure_grace: self.failure_grace,
        }
    }
}
