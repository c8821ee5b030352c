//! Answers which clients the kernel remembers and which connections it has, from its own table.

use std::collections::BTreeMap;
use std::net::IpAddr;

use gantry_model::address;
use gantry_model::name::{ServerName, ServiceName};
use gantry_model::service::Protocol;
use gantry_model::wire;
use gantry_proto::agent::v1 as pb;
use gantry_proto::v1;
use gantry_runtime::agent::Ask;
use gantry_runtime::agent::question::{client, refusal};

use crate::director::Director;
use crate::host::connections::{self, Carried, Entry};
use crate::ipvs::{DestinationKey, Family, ServiceKey};

/// By what entries of one virtual service are known in the kernel's table.
#[derive(Clone, Debug)]
pub(super) struct Lookup {
    keys: Vec<ServiceKey>,
    address: IpAddr,
    protocol: Protocol,
    ports: Vec<(u16, u16)>,
    prefix: u8,
    servers: BTreeMap<DestinationKey, ServerName>,
}

/// Of a longer table no more is read.
const LIMIT: usize = 200_000;

impl<K> Director<K> {
    /// By what the entries of a service are known; none if it is not carried here.
    pub(super) fn look_up(&self, name: &ServiceName) -> Option<Lookup> {
        let (plan, form) = self.carried(name)?;
        let listener = &plan.service.listener;
        let host = address::bits(listener.address);
        let prefix = plan.service.persistence.and_then(|persistence| persistence.prefix);
        let ranges = listener.ports.ranges().iter();
        Some(Lookup {
            keys: form.services.keys().copied().collect(),
            address: listener.address,
            protocol: listener.protocol,
            ports: ranges.map(|range| (range.first().get(), range.last().get())).collect(),
            prefix: prefix.map_or(host, std::num::NonZeroU8::get),
            servers: form.servers.clone(),
        })
    }
}

/// Answers one question; `look_up` knows the services.
pub(super) fn answer(ask: Ask, look_up: impl FnOnce(ServiceName) -> Option<Lookup>) -> pb::Answer {
    let (entries, connections) = match &ask {
        Ask::PersistenceEntries(entries) => (entries, false),
        Ask::Connections(entries) => (entries, true),
        Ask::Assign(_) => {
            return refusal(
                "NOT_IN_KERNEL",
                "the kernel cannot be told where a client of a layer 4 service belongs: use layer7 for \
                 it, or drain the other real servers until the client has come",
            );
        }
        Ask::Forget(_) => {
            return refusal(
                "NOT_IN_KERNEL",
                "the kernel cannot forget one client of a layer 4 service: drain its real server, \
                 which makes its clients go elsewhere, or wait until the client has been silent for \
                 persistence.timeout",
            );
        }
    };
    // Of a service that is not in force here, nobody is remembered.
    let Some(lookup) = entries.service.parse().ok().and_then(look_up) else {
        return pb::Answer::default();
    };
    let client = match client(&entries.client) {
        Ok(client) => client,
        Err(refusal) => return refusal,
    };
    match connections::read(LIMIT) {
        Ok(table) => list(&table.entries, &lookup, (client, entries.most, connections)),
        Err(error) => {
            refusal("NOT_READABLE", format!("the kernel's table cannot be read: {error}"))
        }
    }
}

fn list(
    entries: &[Entry],
    lookup: &Lookup,
    (client, most, connections): (Option<IpAddr>, i32, bool),
) -> pb::Answer {
    // In place of a client the kernel remembers the network that counts as one.
    let remembered =
        |client| if connections { client } else { address::network(client, lookup.prefix) };
    let client = client.map(remembered);
    let mut found: Vec<&Entry> = entries
        .iter()
        .filter(|entry| entry.template != connections && lookup.is_of(entry))
        .filter(|entry| client.is_none_or(|client| entry.client.ip() == client))
        .collect();
    // Those of the last moment first.
    found.sort_by_key(|entry| std::cmp::Reverse(entry.expires));
    let total_size = i64::try_from(found.len()).unwrap_or(i64::MAX);
    found.truncate(usize::try_from(most).unwrap_or(0));
    let mut answer = pb::Answer { total_size, ..pb::Answer::default() };
    for entry in found {
        if connections {
            answer.connections.push(lookup.connection(entry));
        } else {
            answer.persistence_entries.push(lookup.client(entry));
        }
    }
    answer
}

impl Lookup {
    /// Whether an entry is of this service.
    fn is_of(&self, entry: &Entry) -> bool {
        let (to, port) = (entry.virtual_address.ip(), entry.virtual_address.port());
        if entry.template {
            return self.keys.iter().any(|key| match *key {
                ServiceKey::Mark { family, mark } => {
                    entry.mark() == Some(mark) && Family::of(entry.client.ip()) == family
                }
                ServiceKey::Address { protocol, address, port: own } => {
                    entry.mark().is_none()
                        && to == address
                        && (port == own || port == 0)
                        && carries(entry.protocol, protocol)
                }
            });
        }
        let mine = self.ports.iter().any(|(first, last)| (*first..=*last).contains(&port));
        to == self.address && mine && carries(entry.protocol, self.protocol)
    }

    fn server(&self, entry: &Entry) -> String {
        let (address, port) = (entry.destination.ip(), entry.destination.port());
        let at = |port| self.servers.get(&DestinationKey { address, port });
        // A service by its mark has its servers without a port.
        let server = at(port).or_else(|| at(0));
        let only = || {
            let mut those = self.servers.iter().filter(|(key, _)| key.address == address);
            those.next().map(|(_, server)| server)
        };
        // The template of a service by its mark has no port.
        let server = server.or_else(|| if port == 0 { only() } else { None });
        server.map(ToString::to_string).unwrap_or_default()
    }

    fn client(&self, entry: &Entry) -> v1::PersistenceEntry {
        v1::PersistenceEntry {
            client: address::network_text(entry.client.ip(), self.prefix),
            real_server: self.server(entry),
            endpoint: endpoint(entry),
            expires_in: Some(wire::duration_message(entry.expires)),
            appliance: String::new(),
        }
    }

    fn connection(&self, entry: &Entry) -> v1::Connection {
        v1::Connection {
            client: entry.client.to_string(),
            listener: entry.virtual_address.to_string(),
            real_server: self.server(entry),
            endpoint: endpoint(entry),
            state: entry.state.clone(),
            expires_in: Some(wire::duration_message(entry.expires)),
            appliance: String::new(),
        }
    }
}

fn carries(carried: Carried, protocol: Protocol) -> bool {
    matches!(
        (carried, protocol),
        (Carried::Tcp, Protocol::Tcp) | (Carried::Udp, Protocol::Udp) | (Carried::Any, _)
    )
}

fn endpoint(entry: &Entry) -> String {
    match entry.destination.port() {
        0 => entry.destination.ip().to_string(),
        _ => entry.destination.to_string(),
    }
}
