use std::path::Path;

use super::*;
use crate::document::{Documented, Node};

const HOSPITAL: &str = include_str!("../../tests/golden/hospital.yaml");

fn overview(text: &str) -> v1::Overview {
    v1::Overview::from_node(&Node::parse(text).unwrap()).unwrap()
}

/// Compares with `tests/golden/{name}`; with `UPDATE=1` in the environment, writes it.
fn golden(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(text, expected, "{} differs; UPDATE=1 rewrites it", path.display());
}

fn plain(text: &str) -> String {
    anstream::adapter::strip_str(text).to_string()
}

#[test]
fn a_hospital_at_every_width() {
    let overview = overview(HOSPITAL);
    golden("overview-piped.txt", &plain(&render(&overview, None)));
    golden("overview-80.txt", &plain(&render(&overview, Some(80))));
    golden("overview-coloured.txt", &render(&overview, Some(140)).replace('\x1b', "^["));
}

#[test]
fn a_terminal_is_not_overrun() {
    let text = plain(&render(&overview(HOSPITAL), Some(80)));
    let longest = text.lines().map(|line| line.chars().count()).max().unwrap();
    assert!(longest <= 80, "{longest} columns:\n{text}");
}

#[test]
fn nothing_there_says_what_to_do() {
    assert!(render(&v1::Overview::default(), None).contains("gantry create cluster"));
    let empty = overview("{clusters: [{name: clusters/main}]}".trim_matches(['{', '}']));
    let text = plain(&render(&empty, None));
    assert!(text.contains("no appliance reports") && text.contains("gantry create vs"), "{text}");
}

#[test]
fn what_is_held_back_says_how_to_go_on() {
    let text = plain(&render(
        &overview(
            "clusters: [{name: clusters/main}]
appliances:
- name: clusters/main/appliances/lb1
  agents: [{agent: agent-l7, connected: true, revision: '1.4', heldRemovalCount: 35,
    heldRevision: '2.7'}]
",
        ),
        None,
    ));
    assert!(text.contains("held back until somebody types gantry approve lb1"), "{text}");
    assert!(text.contains("agent-l7 HOLDS BACK 2.7, which removes 35"), "{text}");
}

#[test]
fn long_remarks_are_broken_between_words() {
    assert_eq!(wrapped("aa bb cc", Some(5)), ["aa bb", "cc"]);
    assert_eq!(wrapped("aaaaaaa b", Some(3)), ["aaaaaaa", "b"]);
    assert_eq!(wrapped("aa bb cc", None), ["aa bb cc"]);
}
