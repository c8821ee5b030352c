use gantry_proto::v1 as pb;
use pb::virtual_service::Forwarding;

use super::*;

fn current() -> pb::VirtualService {
    pb::VirtualService {
        name: "clusters/main/virtualServices/a".into(),
        display_name: "A".into(),
        listener: Some(pb::Listener {
            address: "10.0.0.1".into(),
            ports: vec!["104".into()],
            protocol: 1,
            ..Default::default()
        }),
        forwarding: Some(Forwarding::Layer7(pb::Layer7 { mode: 1, ..Default::default() })),
        persistence: Some(pb::Persistence { prefix_length: 24, ..Default::default() }),
        ..Default::default()
    }
}

fn mask(paths: &[&str]) -> prost_types::FieldMask {
    prost_types::FieldMask { paths: paths.iter().map(|path| (*path).to_owned()).collect() }
}

fn refused(paths: &[&str]) -> String {
    match merge(&current(), &pb::VirtualService::default(), Some(&mask(paths))) {
        Err(ApiError::Invalid(violations)) => violations[0].to_string(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn without_a_mask_populated_fields_count() {
    let given = pb::VirtualService {
        name: "clusters/other/virtualServices/b".into(),
        etag: "77".into(),
        disabled: true,
        ..Default::default()
    };
    let merged = merge(&current(), &given, None).unwrap();
    assert_eq!(merged, pb::VirtualService { disabled: true, ..current() });
}

#[test]
fn a_mask_sets_and_clears_just_what_it_names() {
    let given = pb::VirtualService {
        display_name: "ignored".into(),
        listener: Some(pb::Listener { address: "10.0.0.2".into(), ..Default::default() }),
        ..Default::default()
    };
    let paths = mask(&["listener.address", "persistence"]);
    let merged = merge(&current(), &given, Some(&paths)).unwrap();
    let mut expected = current();
    expected.listener.as_mut().unwrap().address = "10.0.0.2".into();
    expected.persistence = None;
    assert_eq!(merged, expected);
}

#[test]
fn nested_fields_of_an_absent_message_make_it() {
    let given = pb::VirtualService {
        health_check: Some(pb::HealthCheck { fall: 3, ..Default::default() }),
        ..Default::default()
    };
    let merged = merge(&current(), &given, Some(&mask(&["healthCheck.fall"]))).unwrap();
    assert_eq!(merged.health_check.unwrap().fall, 3);
}

#[test]
fn a_star_replaces_everything_but_what_is_not_the_clients() {
    let given = pb::VirtualService {
        forwarding: Some(Forwarding::Layer4(pb::Layer4 { method: 1, ..Default::default() })),
        ..Default::default()
    };
    let merged = merge(&current(), &given, Some(&mask(&["*"]))).unwrap();
    assert_eq!(merged, pb::VirtualService { name: current().name, ..given });
}

#[test]
fn one_arm_of_a_oneof_replaces_the_other() {
    let given = pb::VirtualService {
        forwarding: Some(Forwarding::Layer4(pb::Layer4 { method: 2, ..Default::default() })),
        ..Default::default()
    };
    let merged = merge(&current(), &given, Some(&mask(&["layer4"]))).unwrap();
    assert_eq!(merged.forwarding, given.forwarding);
}

#[test]
fn wrong_paths_say_what_is_wrong() {
    assert!(refused(&["lisener"]).contains("there is no field \"lisener\""));
    assert!(refused(&["listener.addres"]).contains("there are address, ports, protocol"));
    assert!(refused(&["status"]).contains("cannot be changed"));
    assert!(refused(&["name"]).contains("cannot be changed"));
    assert!(refused(&["disabled.x"]).contains("no fields of its own"));
    assert!(refused(&["listener.ports.x"]).contains("list"));
    assert!(refused(&[""]).contains("update_mask.paths[0]"));
}

#[test]
fn differences_are_named_by_path() {
    let mut other = current();
    other.disabled = true;
    other.listener.as_mut().unwrap().ports.push("11112".into());
    other.persistence = None;
    other.etag = "9".into();
    assert_eq!(difference(&current(), &other), ["listener.ports", "persistence", "disabled"]);
    assert_eq!(difference(&current(), &current()), [""; 0]);
}

#[test]
fn values_are_in_their_json_form() {
    let mut other = current();
    other.persistence.as_mut().unwrap().timeout =
        Some(prost_types::Duration { seconds: 5400, nanos: 500_000_000 });
    other.forwarding = Some(Forwarding::Layer4(pb::Layer4 { method: 1, ..Default::default() }));
    other.listener.as_mut().unwrap().ports.push("8000-8010".into());
    other.display_name = "A \"quoted\" name".into();
    other.disabled = true;
    let found: Vec<_> = changes(&current(), &other)
        .into_iter()
        .map(|change| format!("{}: {} -> {}", change.path, change.before, change.after))
        .collect();
    let expected = [
        r#"display_name: "A" -> "A \"quoted\" name""#,
        r#"listener.ports: ["104"] -> ["104","8000-8010"]"#,
        r#"layer4:  -> {"method":"DR"}"#,
        r#"layer7: {"mode":"TCP_MODE"} -> "#,
        r#"persistence.timeout:  -> "5400.500s""#,
        "disabled:  -> true",
    ];
    assert_eq!(found, expected);
}

#[test]
fn times_are_in_their_json_form() {
    let halt_time = Some(prost_types::Timestamp { seconds: 1_790_000_000, nanos: 0 });
    let drained = pb::RealServer { admin_state: 2, halt_time, ..Default::default() };
    let found = changes(&pb::RealServer { admin_state: 1, ..Default::default() }, &drained);
    let shown = |at: usize| (found[at].before.as_str(), found[at].after.as_str());
    assert_eq!(shown(0), (r#""ONLINE""#, r#""DRAIN""#));
    assert_eq!(shown(1), ("", r#""2026-09-21T14:13:20Z""#));
}
