//! The transaction that makes the table do one thing after another.

use std::collections::BTreeMap;
use std::net::IpAddr;

use gantry_model::service::Protocol;
use serde_json::{Value, json};

use super::skeleton::{self, FAMILY, IPV4, IPV6, Names, TABLE, TCP, UDP};
use super::{PortKey, Rules};

/// The elements of one map: keys and, unless it is a set, what they map to.
type Elements = BTreeMap<PortKey, Option<Value>>;

/// Nothing, if there is nothing to do.
pub(super) fn transaction(before: Option<&Rules>, after: &Rules) -> Option<Value> {
    let mut commands = Vec::new();
    let (had, has) = (before.map(skeleton::chains).unwrap_or_default(), skeleton::chains(after));
    if before.is_none() {
        commands.extend(anew());
    }
    let goes = had.iter().filter(|chain| !has.contains(chain));
    commands.extend(goes.flat_map(skeleton::Chain::delete));
    let nothing = Rules::default();
    let (old, new) = (elements(before.unwrap_or(&nothing)), elements(after));
    // What goes makes room for what comes.
    commands.extend(old.iter().filter_map(|(map, old)| delete(map, old, &new[map])));
    commands.extend(new.iter().filter_map(|(map, new)| add(map, new, &old[map])));
    let comes = has.iter().filter(|chain| !had.contains(chain));
    commands.extend(comes.flat_map(skeleton::Chain::add));
    (!commands.is_empty()).then(|| json!({"nftables": commands}))
}

/// The table and its maps, in place of whatever is there.
fn anew() -> Vec<Value> {
    let table = json!({"table": {"family": FAMILY, "name": TABLE}});
    // A table that is not there cannot be deleted: first make sure that it is.
    let table = [json!({"add": table}), json!({"delete": table}), json!({"add": table})];
    table.into_iter().chain(skeleton::maps().iter().map(skeleton::Map::add)).collect()
}

/// The elements of all maps.
fn elements(rules: &Rules) -> BTreeMap<&'static str, Elements> {
    let mut maps = BTreeMap::new();
    for names in [IPV4, IPV6] {
        for name in [names.marks, names.opened, names.sources] {
            maps.insert(name, Elements::new());
        }
    }
    let mut put = |map: &'static str, key: &PortKey, value| {
        maps.entry(map).or_default().insert(*key, value);
    };
    for (key, mark) in &rules.marks {
        put(names(key).marks, key, Some(json!(mark)));
        if key.protocol == Protocol::Tcp {
            put(names(key).opened, key, None);
        }
    }
    for (key, source) in &rules.sources {
        put(names(key).sources, key, Some(json!(source.to_string())));
    }
    maps
}

fn delete(map: &str, old: &Elements, new: &Elements) -> Option<Value> {
    let gone = old.iter().filter(|(key, value)| new.get(key) != Some(value));
    let gone: Vec<_> = gone.map(|(key, _)| port_key(key)).collect();
    (!gone.is_empty()).then(|| json!({"delete": element(map, &gone)}))
}

fn add(map: &str, new: &Elements, old: &Elements) -> Option<Value> {
    let come = new.iter().filter(|(key, value)| old.get(key) != Some(value));
    let come: Vec<_> = come
        .map(|(key, value)| match value {
            Some(value) => json!([port_key(key), value]),
            None => port_key(key),
        })
        .collect();
    (!come.is_empty()).then(|| json!({"add": element(map, &come)}))
}

fn element(map: &str, elements: &[Value]) -> Value {
    json!({"element": {"family": FAMILY, "table": TABLE, "name": map, "elem": elements}})
}

fn port_key(key: &PortKey) -> Value {
    let ports = match key.first == key.last {
        true => json!(key.first),
        false => json!({"range": [key.first, key.last]}),
    };
    let protocol = match key.protocol {
        Protocol::Tcp => TCP,
        Protocol::Udp => UDP,
    };
    json!({"concat": [key.address.to_string(), protocol, ports]})
}

fn names(key: &PortKey) -> Names {
    match key.address {
        IpAddr::V4(_) => IPV4,
        IpAddr::V6(_) => IPV6,
    }
}
