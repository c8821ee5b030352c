use super::*;
use crate::workspace::{Dependency, Package};

fn source(path: &str, text: &str) -> Source {
    Source { path: path.to_owned(), text: text.to_owned() }
}

/// What is found in one file, as `line: what`.
fn found(path: &str, text: &str) -> Vec<String> {
    let findings = sources::check(&source(path, text));
    findings.iter().map(|finding| format!("{}: {}", finding.line, finding.what)).collect()
}

fn package(name: &str, dependencies: &[(&str, Option<&str>)]) -> Package {
    let dependencies = dependencies
        .iter()
        .map(|(name, kind)| Dependency { name: (*name).to_owned(), kind: kind.map(str::to_owned) });
    Package {
        name: name.to_owned(),
        manifest_path: format!("/w/{}/Cargo.toml", name.trim_start_matches("gantry-")).into(),
        dependencies: dependencies.collect(),
    }
}

#[test]
fn layers_point_one_way() {
    let good = [
        package("gantry-proto", &[("tonic", None)]),
        package("gantry-model", &[("gantry-proto", None), ("proptest", Some("dev"))]),
        package("gantry-runtime", &[("gantry-model", None), ("tokio", None)]),
        package("gantry-controller", &[("gantry-runtime", None), ("gantry-model", None)]),
        package("gantry-medical", &[("thiserror", None)]),
        package("gantry-healthd", &[("gantry-medical", None)]),
    ];
    assert_eq!(layers::check(&good), []);
    let bad = [
        package("gantry-model", &[("gantry-runtime", Some("dev")), ("tokio", None)]),
        package("gantry-runtime", &[]),
        package("gantry-healthd", &[("gantry-controller", None)]),
        package("gantry-controller", &[]),
    ];
    let told: Vec<_> = layers::check(&bad).into_iter().map(|finding| finding.what).collect();
    assert_eq!(
        told,
        [
            "gantry-model depends on gantry-runtime",
            "the model depends on tokio",
            "gantry-healthd depends on gantry-controller",
        ]
    );
}

#[test]
fn answers_and_sql_have_one_place() {
    let text = "//! Head.\nfn f() -> Status {\n    tonic::Status::not_found(\"x\")\n}\n";
    assert_eq!(found("controller/src/api/fleet.rs", text), ["3: \"Status::not_found\" in code"]);
    assert_eq!(found("controller/src/api/error.rs", text), [""; 0]);
    assert_eq!(found("cli/src/overview.rs", text), [""; 0]);
    let conversion = "//! Head.\nfn f(e: E) -> Status { Status::from(e) }\n";
    assert_eq!(found("controller/src/api/fleet.rs", conversion), [""; 0]);
    let text = "//! Not sqlx.\nuse sqlx::Row;\n";
    assert_eq!(found("controller/src/state.rs", text), ["2: \"sqlx\" in code"]);
    assert_eq!(found("controller/src/store/rows.rs", text), [""; 0]);
}

#[test]
fn the_model_is_pure() {
    let text = "//! Head.\nuse tokio::net;\n// tokio in a comment\nlet now = Timestamp::now();\n";
    assert_eq!(
        found("model/src/judge.rs", text),
        ["2: \"tokio\" in code", "4: \"Timestamp::now\" in code"]
    );
    let text = "//! Head.\nlet my_tokio = 1;\n";
    assert_eq!(found("model/src/judge.rs", text), [""; 0]);
}

#[test]
fn nothing_is_left_unfinished() {
    let text = "//! Head.\n// TODO: more\nfn f() {\n    dbg!(1);\n}\n";
    assert_eq!(found("cli/src/x.rs", text), ["2: \"TODO\" in code", "4: \"dbg!\" in code"]);
}

#[test]
fn files_say_what_they_are_for_and_end() {
    assert_eq!(found("cli/src/x.rs", "use a;\n"), ["0: it has no head"]);
    assert_eq!(found("cli/src/x/tests.rs", "use a;\n"), [""; 0]);
    assert_eq!(found("cli/src/x/mod.rs", "//! X.\n"), ["0: it is called mod.rs"]);
    let long = format!("//! Long.\n{}", "fn f() {}\n".repeat(700));
    assert_eq!(found("cli/src/x.rs", &long), ["0: 701 lines, more than 700"]);
    assert!(sources::long(&source("a.rs", &"x\n".repeat(401))).is_some());
    assert!(sources::long(&source("a.rs", &"x\n".repeat(400))).is_none());
}

#[test]
fn no_machine_is_named() {
    let bad = "a: /tmp/x\nb: ${HOME}/tmp/x\nc: target/tmp/x\nd: \"/root/.cargo\"\n";
    assert_eq!(
        found("a.yaml", bad),
        ["1: \"/tmp/\" is one machine's own", "4: \"/root/\" is one machine's own"]
    );
    assert_eq!(found("a.md", "see https://static.crates.io/x\n").len(), 1);
    assert_eq!(found("Cargo.lock", "https://static.crates.io/x\n"), [""; 0]);
}

#[test]
fn white_space_is_kept_short() {
    assert_eq!(
        found("a.md", "one \ntwo\t\nthree"),
        [
            "1: white space at the end of the line",
            "2: white space at the end of the line",
            "3: no line end at the end",
        ]
    );
    assert_eq!(found("a.md", "one\n\n"), ["2: an empty line at the end of the file"]);
    assert_eq!(found("a.md", ""), [""; 0]);
}

#[test]
fn migrations_are_only_added_to() {
    let one = source("migrations/0001_a.sql", "create table a;\n");
    let told = |sources: &[Source]| -> Vec<String> {
        papers::check(sources).into_iter().map(|finding| finding.what).collect()
    };
    let list = papers::seal(std::slice::from_ref(&one));
    assert!(list.ends_with("  0001_a.sql\n"), "{list}");
    let list = source(papers::CHECKSUMS, &list);
    assert_eq!(told(&[list, one]), [""; 0]);
    let list = source(papers::CHECKSUMS, "00  0001_a.sql\n00  0002_gone.sql\n");
    let changed = source("migrations/0001_a.sql", "create table b;\n");
    let fresh = source("migrations/0003_c.sql", "create table c;\n");
    assert_eq!(
        told(&[list, changed, fresh]),
        [
            "a migration was changed",
            "a migration that is not in migrations/checksums.txt",
            "a migration is gone",
        ]
    );
}

#[test]
fn decisions_are_numbered_without_gaps() {
    let decision = |name: &str| source(&format!("docs/decisions/{name}"), "x\n");
    let good = ["0001-a.md", "0002-b.md", "README.md"].map(decision);
    assert_eq!(papers::check(&good), []);
    let bad = ["0001-a.md", "0003-c.md", "0004-d.md", "later.md"].map(decision);
    let told: Vec<_> = papers::check(&bad).into_iter().map(|finding| finding.what).collect();
    assert_eq!(told, ["the next decision is 0002", "the next decision is 0005"]);
}

#[test]
fn links_lead_somewhere() {
    let page = source(
        "docs/a.md",
        "[ok](b.md#part) [up](../cli/) [out](https://example.org) [self](#x)\n[bad](c.md)\n",
    );
    let sources = [page, source("docs/b.md", "x\n"), source("cli/Cargo.toml", "x\n")];
    let findings = papers::check(&sources);
    assert_eq!(findings.len(), 1);
    assert!(findings[0].to_string().starts_with("docs/a.md:2: a link to c.md"), "{findings:?}");
}
