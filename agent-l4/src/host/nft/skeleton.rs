//! What the table consists of beside its elements, in the words of libnftables-json(5).
//!
//! Every rule has a comment, by which it is known again. A rule that is changed gets another.

use gantry_model::mark;
use serde_json::{Value, json};

use super::Rules;

/// A map or set of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Map {
    pub(super) name: &'static str,
    key: &'static str,
    /// What it maps to; absent: it is a set.
    data: Option<&'static str>,
    counted: bool,
}

/// A chain and its rules: comment and expressions.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Chain {
    pub(super) name: &'static str,
    kind: &'static str,
    hook: &'static str,
    priority: i32,
    pub(super) rules: Vec<(String, Value)>,
}

/// The maps of one address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Names {
    /// To packet marks; counts packets.
    pub(super) marks: &'static str,
    /// The same keys; counts packets that open a TCP connection.
    pub(super) opened: &'static str,
    /// To source addresses.
    pub(super) sources: &'static str,
    /// As nft calls the protocol.
    ip: &'static str,
}

pub(super) const FAMILY: &str = "inet";
pub(super) const TABLE: &str = "gantry_l4";
pub(super) const IPV4: Names =
    Names { marks: "marks4", opened: "opened4", sources: "sources4", ip: "ip" };
pub(super) const IPV6: Names =
    Names { marks: "marks6", opened: "opened6", sources: "sources6", ip: "ip6" };

/// The numbers of the protocols: their names need a file that not every machine has.
pub(super) const TCP: u8 = 6;
pub(super) const UDP: u8 = 17;

/// `mangle` and `srcnat`: before routing, and where sources are translated.
const MANGLE: i32 = -150;
const SRCNAT: i32 = 100;

pub(super) fn maps() -> Vec<Map> {
    let of = |names: Names, key, address| {
        [
            Map { name: names.marks, key, data: Some("mark"), counted: true },
            Map { name: names.opened, key, data: None, counted: true },
            Map { name: names.sources, key, data: Some(address), counted: false },
        ]
    };
    [of(IPV4, "ipv4_addr", "ipv4_addr"), of(IPV6, "ipv6_addr", "ipv6_addr")].concat()
}

/// The chains that the table has to do this.
pub(super) fn chains(rules: &Rules) -> Vec<Chain> {
    let translating = (!rules.sources.is_empty()).then(postrouting);
    let transparent = rules.transparent.then(returning);
    [prerouting()].into_iter().chain(translating).chain(transparent).collect()
}

/// The chain that is there for [`Rules::transparent`].
pub(super) const RETURNING: &str = "returning";

/// What comes back to a socket with an address that is not this machine's gets a mark, by which it is
/// routed to this machine all the same.
fn returning() -> Chain {
    let mark = json!([
        {"match": {"op": "==", "left": {"meta": {"key": "l4proto"}}, "right": TCP}},
        {"match": {"op": "==", "left": {"socket": {"key": "transparent"}}, "right": 1}},
        {"mangle": {"key": {"meta": {"key": "mark"}}, "value": mark::RETURNING}},
    ]);
    let rules = vec![("mark what comes back to transparent sockets".to_owned(), mark)];
    Chain { name: RETURNING, kind: "filter", hook: "prerouting", priority: MANGLE, rules }
}

fn prerouting() -> Chain {
    let mut rules = Vec::new();
    for names in [IPV4, IPV6] {
        let key = json!({"concat": [
            {"payload": {"protocol": names.ip, "field": "daddr"}},
            {"meta": {"key": "l4proto"}},
            {"payload": {"protocol": "th", "field": "dport"}},
        ]});
        let flags = json!({"payload": {"protocol": "tcp", "field": "flags"}});
        let opened = json!([
            {"match": {
                "op": "==",
                "left": {"&": [flags, ["fin", "syn", "rst", "ack"]]},
                "right": "syn",
            }},
            {"match": {"op": "==", "left": key, "right": format!("@{}", names.opened)}},
        ]);
        let mark = json!([{"mangle": {
            "key": {"meta": {"key": "mark"}},
            "value": {"map": {"key": key, "data": format!("@{}", names.marks)}},
        }}]);
        rules.push((format!("count connections by {}", names.opened), opened));
        rules.push((format!("mark by {}", names.marks), mark));
    }
    let name = "prerouting";
    Chain { name, kind: "filter", hook: name, priority: MANGLE, rules }
}

/// By where the client wanted to go, which IPVS has left in the tracked connection. One rule for
/// each protocol, because nft knows the type of a tracked port only with the protocol.
fn postrouting() -> Chain {
    let mut rules = Vec::new();
    for names in [IPV4, IPV6] {
        for (protocol, number) in [("tcp", TCP), ("udp", UDP)] {
            let key = json!({"concat": [
                {"ct": {"key": format!("{} daddr", names.ip), "dir": "original"}},
                {"meta": {"key": "l4proto"}},
                {"ct": {"key": "proto-dst", "dir": "original"}},
            ]});
            let source = json!({"map": {"key": key, "data": format!("@{}", names.sources)}});
            let translate = json!([
                {"match": {"op": "==", "left": {"meta": {"key": "l4proto"}}, "right": number}},
                {"snat": {"family": names.ip, "addr": source}},
            ]);
            rules.push((format!("translate {protocol} by {}", names.sources), translate));
        }
    }
    let name = "postrouting";
    Chain { name, kind: "nat", hook: name, priority: SRCNAT, rules }
}

impl Map {
    pub(super) fn add(&self) -> Value {
        let mut object = json!({
            "family": FAMILY,
            "table": TABLE,
            "name": self.name,
            "type": [self.key, "inet_proto", "inet_service"],
            "flags": ["interval"],
        });
        if self.counted {
            object["stmt"] = json!([{"counter": null}]);
        }
        let Some(data) = self.data else { return json!({"add": {"set": object}}) };
        object["map"] = json!(data);
        json!({"add": {"map": object}})
    }
}

impl Chain {
    /// The chain and its rules.
    pub(super) fn add(&self) -> Vec<Value> {
        let chain = json!({"add": {"chain": {
            "family": FAMILY,
            "table": TABLE,
            "name": self.name,
            "type": self.kind,
            "hook": self.hook,
            "prio": self.priority,
            "policy": "accept",
        }}});
        let rules = self.rules.iter().map(|(comment, expressions)| {
            json!({"add": {"rule": {
                "family": FAMILY,
                "table": TABLE,
                "chain": self.name,
                "comment": comment,
                "expr": expressions,
            }}})
        });
        [chain].into_iter().chain(rules).collect()
    }

    /// Takes the chain away, rules first.
    pub(super) fn delete(&self) -> Vec<Value> {
        let chain = json!({"chain": {"family": FAMILY, "table": TABLE, "name": self.name}});
        vec![json!({"flush": chain}), json!({"delete": chain})]
    }

    /// What is listed of a chain as this one.
    pub(super) fn is_listed_as(&self, chain: &Value) -> bool {
        chain["name"] == self.name
            && chain["type"] == self.kind
            && chain["hook"] == self.hook
            && chain["prio"] == self.priority
            && chain["policy"] == "accept"
    }
}
