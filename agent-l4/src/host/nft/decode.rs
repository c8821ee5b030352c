//! What nft lists of the table, in JSON (libnftables-json(5)).

use std::net::IpAddr;

use gantry_model::service::Protocol;
use serde_json::Value;

use super::skeleton::{self, IPV4, IPV6, RETURNING, TCP, UDP};
use super::{Counter, Listed, NftError, PortKey, Rules};

pub(super) fn listed(printed: &str) -> Result<Listed, NftError> {
    let printed: Value =
        serde_json::from_str(printed).map_err(|error| NftError::Malformed(error.to_string()))?;
    let objects = printed["nftables"].as_array().ok_or_else(|| {
        NftError::Malformed("a list of the table without the objects in it".to_owned())
    })?;
    let mut listed = Listed { whole: true, ..Listed::default() };
    let mut maps = Vec::new();
    for object in objects {
        for kind in ["map", "set"] {
            let Some(map) = object.get(kind) else { continue };
            maps.push(name(map));
            for element in map["elem"].as_array().into_iter().flatten() {
                // What others have put there that Gantry could not have.
                listed.whole &= listed.take(name(map), element).is_some();
            }
        }
    }
    let chains: Vec<_> = objects.iter().filter_map(|object| object.get("chain")).collect();
    listed.rules.transparent = chains.iter().any(|chain| name(chain) == RETURNING);
    listed.whole &= maps_are(&mut maps) && chains_are(&chains, objects, &listed.rules);
    listed.whole &= listed.counts_connections();
    Ok(listed)
}

/// Whether these are the table's maps, in whatever order.
fn maps_are(names: &mut [&str]) -> bool {
    let maps = skeleton::maps();
    let mut expected: Vec<_> = maps.iter().map(|map| map.name).collect();
    expected.sort_unstable();
    names.sort_unstable();
    names == expected
}

/// Whether these are the table's chains and rules, by the comments of those.
fn chains_are(chains: &[&Value], objects: &[Value], of: &Rules) -> bool {
    let rules: Vec<_> = objects.iter().filter_map(|object| object.get("rule")).collect();
    let expected = skeleton::chains(of);
    chains.len() == expected.len()
        && expected.iter().all(|chain| {
            let in_chain = rules.iter().filter(|rule| rule["chain"] == chain.name);
            let comments = in_chain.map(|rule| rule["comment"].as_str().unwrap_or_default());
            chains.iter().any(|listed| chain.is_listed_as(listed))
                && comments.eq(chain.rules.iter().map(|(comment, _)| comment.as_str()))
        })
}

impl Listed {
    /// Takes in one element of a map; nothing, if it cannot be one of Gantry's.
    fn take(&mut self, map: &str, element: &Value) -> Option<()> {
        // An element of a map is a pair.
        let (key, data) = match element.as_array().map(Vec::as_slice) {
            Some([key, data]) => (key, Some(data)),
            Some(_) => return None,
            None => (element, None),
        };
        let counter = counter(key);
        let key = port_key(key)?;
        if map == IPV4.marks || map == IPV6.marks {
            let mark = u32::try_from(data?.as_u64()?).ok()?;
            self.rules.marks.insert(key, mark);
            self.counters.insert(key, counter);
        } else if map == IPV4.opened || map == IPV6.opened {
            self.connections.insert(key, counter.packets);
        } else if map == IPV4.sources || map == IPV6.sources {
            self.rules.sources.insert(key, data?.as_str()?.parse().ok()?);
        }
        Some(())
    }

    /// Whether connections are counted for just the TCP ports that have marks.
    fn counts_connections(&self) -> bool {
        let marked = self.rules.marks.keys().filter(|key| key.protocol == Protocol::Tcp);
        marked.eq(self.connections.keys())
    }
}

fn port_key(element: &Value) -> Option<PortKey> {
    let [address, protocol, ports] = fields(element)? else { return None };
    let protocol = match (protocol.as_str(), protocol.as_u64()) {
        (Some("tcp"), _) => Protocol::Tcp,
        (Some("udp"), _) => Protocol::Udp,
        (_, Some(number)) if number == u64::from(TCP) => Protocol::Tcp,
        (_, Some(number)) if number == u64::from(UDP) => Protocol::Udp,
        _ => return None,
    };
    let (first, last) = match ports["range"].as_array().map(Vec::as_slice) {
        Some([first, last]) => (first, last),
        Some(_) => return None,
        None => (ports, ports),
    };
    let address: IpAddr = address.as_str()?.parse().ok()?;
    Some(PortKey { address, protocol, first: port(first)?, last: port(last)? })
}

/// The parts of a key, which has its counter around it where there is one.
fn fields(element: &Value) -> Option<&[Value]> {
    let key = element.pointer("/elem/val").unwrap_or(element);
    key["concat"].as_array().map(Vec::as_slice)
}

fn counter(element: &Value) -> Counter {
    let number = |name| element["elem"]["counter"][name].as_u64().unwrap_or(0);
    Counter { packets: number("packets"), bytes: number("bytes") }
}

fn port(value: &Value) -> Option<u16> {
    u16::try_from(value.as_u64()?).ok()
}

fn name(object: &Value) -> &str {
    object["name"].as_str().unwrap_or_default()
}
