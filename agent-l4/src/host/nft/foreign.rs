//! Rules of others that set packet marks, found in nft's listing of everything.
//!
//! The listing for people is read, not JSON: it also shows the rules of iptables in nft's words, and
//! those words are what is told.

use std::collections::{BTreeMap, BTreeSet};

use super::skeleton::{FAMILY, TABLE};

/// A chain or map as it is listed.
#[derive(Debug, Default)]
struct Block<'a> {
    chain: bool,
    /// Packets come here before IPVS sees them.
    early: bool,
    lines: Vec<&'a str>,
}

/// Hooks through which a packet goes on its way to IPVS, which sits in `input`.
const EARLY: [&str; 3] = ["hook ingress", "hook prerouting", "hook input"];
/// How nft shows a rule that sets the mark, or such a rule of iptables that it cannot translate.
const SETS_MARK: [&str; 3] = ["meta mark set", "xt target \"MARK\"", "xt target \"CONNMARK\""];

pub(super) fn marks(ruleset: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (table, blocks) in tables(ruleset) {
        if table == format!("{FAMILY} {TABLE}") {
            continue;
        }
        let early = early(&blocks);
        for (name, block) in blocks.iter().filter(|(name, _)| early.contains(*name)) {
            let rules = block.lines.iter().filter(|line| sets_mark(line));
            found.extend(rules.map(|rule| format!("table {table}, chain {name}: {rule}")));
        }
    }
    found
}

/// The chains and maps of each table, by name.
fn tables(ruleset: &str) -> Vec<(&str, BTreeMap<&str, Block<'_>>)> {
    let mut tables: Vec<(&str, BTreeMap<&str, Block<'_>>)> = Vec::new();
    let mut block = "";
    for line in ruleset.lines() {
        let depth = line.len() - line.trim_start_matches('\t').len();
        let words = line.trim();
        match (depth, words.strip_suffix(" {")) {
            (0, Some(head)) => {
                tables.push((head.strip_prefix("table ").unwrap_or(head), BTreeMap::new()));
            }
            (1, Some(head)) => {
                let Some((_, blocks)) = tables.last_mut() else { continue };
                let (kind, name) = head.split_once(' ').unwrap_or((head, ""));
                block = name;
                blocks.insert(name, Block { chain: kind == "chain", ..Block::default() });
            }
            (2.., _) => {
                let blocks = tables.last_mut().map(|(_, blocks)| blocks);
                let Some(block) = blocks.and_then(|blocks| blocks.get_mut(block)) else { continue };
                block.early |=
                    words.starts_with("type ") && EARLY.iter().any(|hook| words.contains(hook));
                block.lines.push(words);
            }
            _ => {}
        }
    }
    tables
}

/// The chains that packets come through on their way to IPVS, directly or from another chain. A map
/// may send them on as well, wherever it is looked up.
fn early<'a>(blocks: &BTreeMap<&'a str, Block<'a>>) -> BTreeSet<&'a str> {
    let begin = blocks.iter().filter(|(_, block)| block.early || !block.chain);
    let mut reached: BTreeSet<_> = begin.map(|(name, _)| *name).collect();
    let mut open: Vec<_> = reached.iter().copied().collect();
    while let Some(name) = open.pop() {
        let Some(block) = blocks.get(name) else { continue };
        let targets = block.lines.iter().flat_map(|line| targets(line));
        open.extend(targets.filter(|target| reached.insert(target)));
    }
    reached
}

/// Where a line sends packets.
fn targets(line: &str) -> impl Iterator<Item = &str> {
    let words = line.split([' ', ',', '}']).filter(|word| !word.is_empty());
    words
        .clone()
        .zip(words.skip(1))
        .filter(|(word, _)| ["jump", "goto"].contains(word))
        .map(|(_, target)| target)
}

fn sets_mark(line: &str) -> bool {
    SETS_MARK.iter().any(|words| line.contains(words))
}
