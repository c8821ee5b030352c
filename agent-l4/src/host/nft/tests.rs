use serde_json::Value;

use super::*;

/// What nft 1.0.6 lists, with a line for every object.
const LISTED: &str = include_str!("tests/listed.json");

fn key(address: &str, protocol: Protocol, first: u16, last: u16) -> PortKey {
    PortKey { address: address.parse().unwrap(), protocol, first, last }
}

fn http() -> PortKey {
    key("10.12.1.100", Protocol::Tcp, 80, 80)
}

fn marks(marks: &[(PortKey, u32)]) -> Rules {
    Rules { marks: marks.iter().copied().collect(), ..Rules::default() }
}

fn translated(mut rules: Rules, source: &str) -> Rules {
    rules.sources.insert(http(), source.parse().unwrap());
    rules
}

/// The commands of a transaction, one a line: the verb, the kind, and what it is about.
fn commands(before: Option<&Rules>, after: &Rules) -> Vec<String> {
    let Some(transaction) = encode::transaction(before, after) else { return Vec::new() };
    let commands = transaction["nftables"].as_array().unwrap();
    let tell = |command: &Value| {
        let (verb, what) = command.as_object().unwrap().iter().next().unwrap();
        let (kind, object) = what.as_object().unwrap().iter().next().unwrap();
        let name = object["name"].as_str().unwrap_or_else(|| object["comment"].as_str().unwrap());
        let elements = object.get("elem").map_or(String::new(), |elements| format!(" {elements}"));
        format!("{verb} {kind} {name}{elements}")
    };
    commands.iter().map(tell).collect()
}

#[test]
fn the_table_is_read() {
    let listed = decode::listed(LISTED).unwrap();
    let one = key("10.12.1.100", Protocol::Tcp, 104, 104);
    let range = key("10.12.1.100", Protocol::Tcp, 11112, 11119);
    let syslog = key("fd12::100", Protocol::Udp, 514, 514);
    let counter = |packets, bytes| Counter { packets, bytes };
    assert_eq!(
        listed,
        Listed {
            rules: Rules {
                marks: BTreeMap::from([
                    (one, 0x4700_0001),
                    (range, 0x4700_0001),
                    (syslog, 0x4700_0002),
                ]),
                sources: BTreeMap::from([(one, "10.13.1.99".parse().unwrap())]),
                transparent: false,
            },
            counters: BTreeMap::from([
                (one, counter(100, 6000)),
                (range, counter(200, 12000)),
                (syslog, counter(1000, 6000)),
            ]),
            connections: BTreeMap::from([(one, 10), (range, 20)]),
            whole: true,
        }
    );
}

#[test]
fn protocols_are_known_by_name_too() {
    let named = LISTED.replace("\", 6, ", "\", \"tcp\", ").replace("\", 17, ", "\", \"udp\", ");
    assert_ne!(named, LISTED);
    assert_eq!(decode::listed(&named).unwrap(), decode::listed(LISTED).unwrap());
}

#[test]
fn a_table_that_is_not_as_it_is_made_is_not_whole() {
    // Every object but the two that tell of nft and of the table.
    let lines: Vec<_> = LISTED.lines().collect();
    let objects = 3..lines.len() - 1;
    assert_eq!(objects.len(), 16);
    for gone in objects {
        let mut rest = lines.clone();
        let gone = rest.remove(gone);
        let text = rest.join("\n").replace(",\n]}", "\n]}");
        assert!(!decode::listed(&text).unwrap().whole, "without {gone}");
    }
    for (from, to) in [
        ("mark by marks4", "mark by hand"),
        (", \"comment\": \"mark by marks4\"", ""),
        ("\"prio\": -150", "\"prio\": 0"),
        ("\"hook\": \"postrouting\"", "\"hook\": \"input\""),
        ("\"policy\": \"accept\"", "\"policy\": \"drop\""),
        ("[\"10.12.1.100\", 6, 104]}, \"counter\"", "[\"10.12.1.100\", 132, 104]}, \"counter\""),
        ("1191182338", "\"named\""),
        ("\"10.13.1.99\"", "\"somewhere\""),
    ] {
        let changed = LISTED.replace(from, to);
        assert_ne!(changed, LISTED, "{from}");
        assert!(!decode::listed(&changed).unwrap().whole, "{to} for {from}");
    }
}

#[test]
fn what_is_no_list_is_an_error() {
    for text in ["", "{}", "[]", "{\"nftables\": 1}", "table inet gantry_l4 {"] {
        let read = decode::listed(text);
        assert!(matches!(read, Err(NftError::Malformed(_))), "{text:?}: {read:?}");
    }
}

#[test]
fn a_table_is_made_from_nothing_in_place_of_another() {
    let made = commands(None, &marks(&[(http(), 7)]));
    assert_eq!(
        made,
        [
            "add table gantry_l4",
            "delete table gantry_l4",
            "add table gantry_l4",
            "add map marks4",
            "add set opened4",
            "add map sources4",
            "add map marks6",
            "add set opened6",
            "add map sources6",
            "add element marks4 [[{\"concat\":[\"10.12.1.100\",6,80]},7]]",
            "add element opened4 [{\"concat\":[\"10.12.1.100\",6,80]}]",
            "add chain prerouting",
            "add rule count connections by opened4",
            "add rule mark by marks4",
            "add rule count connections by opened6",
            "add rule mark by marks6",
        ]
    );
}

#[test]
fn only_what_differs_is_changed() {
    let range = key("fd12::100", Protocol::Udp, 500, 600);
    let before = marks(&[(http(), 7), (range, 8)]);
    let element = "{\"concat\":[\"10.12.1.100\",6,80]}";
    for (after, expected) in [
        (before.clone(), vec![]),
        (
            marks(&[(http(), 9), (range, 8)]),
            vec![
                format!("delete element marks4 [{element}]"),
                format!("add element marks4 [[{element},9]]"),
            ],
        ),
        (
            marks(&[(http(), 7), (PortKey { last: 599, ..range }, 8)]),
            vec![
                "delete element marks6 [{\"concat\":[\"fd12::100\",17,{\"range\":[500,600]}]}]"
                    .to_owned(),
                "add element marks6 [[{\"concat\":[\"fd12::100\",17,{\"range\":[500,599]}]},8]]"
                    .to_owned(),
            ],
        ),
        (
            marks(&[(range, 8)]),
            vec![
                format!("delete element marks4 [{element}]"),
                format!("delete element opened4 [{element}]"),
            ],
        ),
    ] {
        assert_eq!(commands(Some(&before), &after), expected);
    }
}

#[test]
fn connections_are_tracked_only_while_sources_are_translated() {
    let plain = marks(&[]);
    let (one, other) =
        (translated(plain.clone(), "10.13.1.98"), translated(plain.clone(), "10.13.1.99"));
    let element = "{\"concat\":[\"10.12.1.100\",6,80]}";
    assert_eq!(
        commands(Some(&plain), &one),
        [
            &format!("add element sources4 [[{element},\"10.13.1.98\"]]"),
            "add chain postrouting",
            "add rule translate tcp by sources4",
            "add rule translate udp by sources4",
            "add rule translate tcp by sources6",
            "add rule translate udp by sources6",
        ]
    );
    assert_eq!(
        commands(Some(&one), &other),
        [
            format!("delete element sources4 [{element}]"),
            format!("add element sources4 [[{element},\"10.13.1.99\"]]"),
        ]
    );
    assert_eq!(
        commands(Some(&one), &plain),
        [
            "flush chain postrouting",
            "delete chain postrouting",
            &format!("delete element sources4 [{element}]"),
        ]
    );
    assert!(commands(None, &one).contains(&"add chain postrouting".to_owned()));
}

#[test]
fn what_comes_back_is_marked_only_while_somebody_is_transparent() {
    let plain = marks(&[]);
    let transparent = Rules { transparent: true, ..plain.clone() };
    let rule = "add rule mark what comes back to transparent sockets";
    assert_eq!(commands(Some(&plain), &transparent), ["add chain returning", rule]);
    assert_eq!(
        commands(Some(&transparent), &plain),
        ["flush chain returning", "delete chain returning"]
    );
    assert!(commands(None, &transparent).ends_with(&["add chain returning".into(), rule.into()]));
    let both = translated(transparent.clone(), "10.13.1.98");
    let left = commands(Some(&both), &transparent);
    assert!(left.contains(&"delete chain postrouting".to_owned()));
    assert!(!left.iter().any(|command| command.contains("returning")), "{left:?}");
}

/// As nft 1.0.6 lists it.
const RULESET: &str = "\
table inet gantry_l4 {
\tchain prerouting {
\t\ttype filter hook prerouting priority -150; policy accept;
\t\tmeta mark set ip daddr . meta l4proto . th dport map @marks4 comment \"mark by marks4\"
\t}
}
table inet firewall {
\tmap services {
\t\ttype inet_service : verdict
\t\telements = { 22 : jump by_map,
\t\t\t     23 : goto telnet }
\t}

\tchain by_map {
\t\tmeta mark set 0x00000003
\t}

\tchain telnet {
\t\tmeta mark set 0x00000004
\t}

\tchain early {
\t\ttype filter hook prerouting priority -200; policy accept;
\t\tip saddr 10.0.0.0/8 meta mark set 0x00000001 comment \"hi {\"
\t\tjump sub
\t\ttcp dport vmap { 80 : jump other, 81 : goto deep }
\t}

\tchain sub {
\t\tmeta mark set meta mark | 0x00000010
\t\tjump early
\t}

\tchain other {
\t\tmeta mark set ct mark
\t}

\tchain deep {
\t\tct mark set 0x00000007
\t\tmeta mark 0x00000007 accept
\t}

\tchain unused {
\t\tmeta mark set 0x00000008
\t}

\tchain late {
\t\ttype route hook output priority 0; policy accept;
\t\tmeta mark set 0x00000009
\t}
}
table ip mangle {
\tchain INPUT {
\t\ttype filter hook input priority -150; policy accept;
\t\ttcp dport 25 counter meta mark set 0x00000005
\t\tcounter xt target \"CONNMARK\"
\t}
}
";

#[test]
fn foreign_marks_are_told_in_nfts_words() {
    let mut found = foreign::marks(RULESET);
    found.sort();
    assert_eq!(
        found,
        [
            "table inet firewall, chain by_map: meta mark set 0x00000003",
            "table inet firewall, chain early: ip saddr 10.0.0.0/8 meta mark set 0x00000001 \
             comment \"hi {\"",
            "table inet firewall, chain other: meta mark set ct mark",
            "table inet firewall, chain sub: meta mark set meta mark | 0x00000010",
            "table inet firewall, chain telnet: meta mark set 0x00000004",
            "table ip mangle, chain INPUT: counter xt target \"CONNMARK\"",
            "table ip mangle, chain INPUT: tcp dport 25 counter meta mark set 0x00000005",
        ]
    );
    assert_eq!(foreign::marks(""), Vec::<String>::new());
}

#[test]
fn errors_are_told_in_nfts_words() {
    for (printed, words) in [
        (
            "internal:0:0-0: Error: Could not process rule: File exists\n\n\
             internal:0:0-0: Error: Could not process rule: File exists\n\n",
            "Could not process rule: File exists",
        ),
        (
            "Error: No such file or directory\nlist table inet gantry_l4\n                ^^^^^^\n",
            "No such file or directory",
        ),
        (
            "Operation not permitted (you must be root)\n",
            "Operation not permitted (you must be root)",
        ),
        ("", ""),
    ] {
        assert_eq!(program::words(printed), words);
    }
}
