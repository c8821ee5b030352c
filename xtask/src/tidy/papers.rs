//! Rules about sets of files: migrations that were released stay as they are, decisions are
//! numbered without gaps, links lead somewhere.

use sha2::{Digest, Sha256};

use super::{Finding, Source};

/// The migrations and what they were, as `sha256sum` writes it.
pub(super) const CHECKSUMS: &str = "migrations/checksums.txt";

pub(super) fn check(sources: &[Source]) -> Vec<Finding> {
    let mut findings = migrations(sources);
    findings.extend(decisions(sources));
    findings.extend(links(sources));
    findings
}

/// The list as it should be for the migrations there are.
pub(super) fn seal(sources: &[Source]) -> String {
    all_migrations(sources).map(|source| format!("{}  {}\n", sum(source), file(source))).collect()
}

fn all_migrations(sources: &[Source]) -> impl Iterator<Item = &Source> {
    let inside = |path: &str| path.starts_with("migrations/") && path.ends_with(".sql");
    sources.iter().filter(move |source| inside(&source.path))
}

fn file(source: &Source) -> &str {
    source.path.rsplit('/').next().unwrap_or_default()
}

fn sum(source: &Source) -> String {
    Sha256::digest(&source.text).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A database out there has run them already: they can be followed by others, not changed.
fn migrations(sources: &[Source]) -> Vec<Finding> {
    let list = sources.iter().find(|source| source.path == CHECKSUMS);
    let list = list.map(|source| source.text.as_str()).unwrap_or_default();
    let listed: Vec<(&str, &str)> = list.lines().filter_map(|line| line.split_once("  ")).collect();
    let finding = |path: String, what: &str, way_out| Finding {
        path,
        line: 0,
        what: what.to_owned(),
        way_out,
    };
    let mut findings = Vec::new();
    for source in all_migrations(sources) {
        match listed.iter().find(|(_, name)| *name == file(source)) {
            None => findings.push(finding(
                source.path.clone(),
                "a migration that is not in migrations/checksums.txt",
                "run cargo xtask tidy --seal",
            )),
            Some((known, _)) if *known != sum(source) => findings.push(finding(
                source.path.clone(),
                "a migration was changed",
                "databases have run it: undo the change and write a new migration (or, if it was \
                 never released, run cargo xtask tidy --seal)",
            )),
            Some(_) => {}
        }
    }
    for (_, name) in &listed {
        if !all_migrations(sources).any(|source| file(source) == *name) {
            let path = format!("migrations/{name}");
            findings.push(finding(path, "a migration is gone", "put it back"));
        }
    }
    findings
}

/// `docs/decisions/NNNN-words.md`, from 0001 on.
fn decisions(sources: &[Source]) -> Vec<Finding> {
    let all = sources.iter().filter_map(|source| {
        let name = source.path.strip_prefix("docs/decisions/")?;
        let named = name.split_once('-').filter(|(number, _)| number.len() == 4);
        let number = named.and_then(|(number, _)| number.parse::<usize>().ok());
        (name != "README.md").then_some((source, number))
    });
    let mut expected = 1;
    let mut findings = Vec::new();
    for (source, number) in all {
        if number == Some(expected) {
            expected += 1;
            continue;
        }
        findings.push(Finding {
            path: source.path.clone(),
            line: 0,
            what: format!("the next decision is {expected:04}"),
            way_out: "call it NNNN-words.md, with the next free number",
        });
        expected = number.map_or(expected, |number| number + 1);
    }
    findings
}

/// Links in Markdown to files of the repository lead to a file or folder that is there.
fn links(sources: &[Source]) -> Vec<Finding> {
    let exists = |path: &str| {
        let path = path.trim_end_matches('/');
        let inside = |source: &Source| {
            source.path.strip_prefix(path).is_some_and(|rest| rest.starts_with('/'))
        };
        path.is_empty() || sources.iter().any(|source| source.path == path || inside(source))
    };
    let mut findings = Vec::new();
    for source in sources.iter().filter(|source| source.path.ends_with(".md")) {
        for (at, line) in source.text.lines().enumerate() {
            for target in link_targets(line) {
                let Some(path) = resolve(&source.path, target) else { continue };
                if !exists(&path) {
                    findings.push(Finding {
                        path: source.path.clone(),
                        line: at + 1,
                        what: format!("a link to {target}, which is not there"),
                        way_out: "correct it, or write the page",
                    });
                }
            }
        }
    }
    findings
}

/// What stands in the round brackets of `[words](target)`.
fn link_targets(line: &str) -> impl Iterator<Item = &str> {
    line.split("](").skip(1).filter_map(|rest| rest.split(')').next())
}

/// The path in the repository; nothing for a link to elsewhere, or within the page.
fn resolve(page: &str, target: &str) -> Option<String> {
    let target = target.split('#').next().unwrap_or_default();
    if target.is_empty() || target.contains(':') {
        return None;
    }
    let mut path: Vec<&str> = page.split('/').collect();
    path.pop();
    for part in target.split('/') {
        match part {
            "." | "" => {}
            ".." => drop(path.pop()),
            part => path.push(part),
        }
    }
    Some(path.join("/"))
}
