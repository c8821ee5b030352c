use gantry_proto::v1 as pb;
use pb::virtual_service::Forwarding;

use super::*;

fn service() -> pb::VirtualService {
    use pb::virtual_service_status::State;
    pb::VirtualService {
        name: "clusters/main/virtualServices/dicom".into(),
        display_name: "DICOM \"main\" \\ Modalities".into(),
        listener: Some(pb::Listener {
            address: "10.12.1.100".into(),
            ports: vec!["104".into(), "8000-8010".into()],
            protocol: pb::listener::Protocol::Tcp.into(),
            ..Default::default()
        }),
        forwarding: Some(Forwarding::Layer7(pb::Layer7 {
            mode: pb::layer7::Mode::DicomMode.into(),
            ..Default::default()
        })),
        status: Some(pb::VirtualServiceStatus {
            state: State::Degraded.into(),
            healthy_count: 1,
            active_connections: 12,
            ..Default::default()
        }),
        create_time: Some(prost_types::Timestamp { seconds: 1_800_000_000, nanos: 0 }),
        ..Default::default()
    }
}

/// Whether the service above matches, or the reason and the character of the fault.
fn result(text: &str) -> Result<bool, (&'static str, Option<usize>)> {
    let filter = Filter::read(text, VIRTUAL_SERVICES);
    filter.map(|filter| filter.matches(&service())).map_err(|fault| (fault.reason, fault.at))
}

#[test]
fn filters_match_what_they_say() {
    for yes in [
        "",
        "  \t\n",
        "status.state = DEGRADED",
        "status.state!=UP AND listener.address=10.12.1.100",
        "status.state : degr",
        "display_name : dicom",
        r#"display_name = "DICOM \"main\" \\ Modalities""#,
        r#"display_name : "\"MAIN\"""#,
        "name : DICOM AND name != dicom",
        "listener.ports = 104",
        "listener.ports = 8005",
        "listener.ports : 8005",
        "listener.ports != 105",
        "listener.ports < 105",
        "listener.ports >= 8010",
        "listener.ports > 8009",
        "layer = 7",
        "mode = DICOM_MODE",
        "method != DR",
        "disabled = false",
        "fallback.address != 10.0.0.1",
        "status.active_connections > 11 AND status.active_connections <= 12",
        "create_time < 2027-01-15T08:00:01Z",
        "create_time = 2027-01-15T09:00:00+01:00",
        "name > a",
    ] {
        assert_eq!(result(yes), Ok(true), "{yes}");
    }
    for no in [
        "status.state = UP",
        "status.state != DEGRADED",
        "display_name = DICOM",
        "listener.ports != 8005",
        "listener.ports > 8010",
        "listener.ports < 104",
        "method = DR",
        "disabled = true",
        "fallback.address = 10.0.0.1",
        "fallback.address : 1",
        "create_time > 2027-01-15T08:00:00Z",
        "layer = 7 AND layer = 4",
        "update_time < 2030-01-01T00:00:00Z",
    ] {
        assert_eq!(result(no), Ok(false), "{no}");
    }
}

#[test]
fn faults_say_where_and_why() {
    let long = "x".repeat(2049);
    let many = vec!["layer = 7"; 33].join(" AND ");
    for (text, reason, at) in [
        ("colour = red", "UNKNOWN_FIELD", 0),
        ("layer = 7 AND colour = red", "UNKNOWN_FIELD", 14),
        ("layer = seven", "INVALID_VALUE", 8),
        ("layer = 99999999999999999999", "INVALID_VALUE", 8),
        ("disabled = yes", "INVALID_VALUE", 11),
        ("status.state = BLUE", "INVALID_VALUE", 15),
        ("status.state = degraded", "INVALID_VALUE", 15),
        ("create_time > yesterday", "INVALID_VALUE", 14),
        ("listener.address = 10.12.1", "INVALID_VALUE", 19),
        ("status.state > UP", "INVALID_OPERATOR", 13),
        ("disabled < true", "INVALID_OPERATOR", 9),
        ("layer = 7 OR layer = 4", "UNSUPPORTED", 10),
        ("NOT layer = 7", "UNSUPPORTED", 0),
        ("-layer = 7", "UNSUPPORTED", 0),
        ("(layer = 7)", "UNSUPPORTED", 0),
        ("layer = (7)", "UNSUPPORTED", 8),
        ("layer = 7)", "UNSUPPORTED", 9),
        ("name = dicom*", "UNSUPPORTED", 12),
        ("* = 7", "UNSUPPORTED", 0),
        ("layer", "INVALID_FILTER", 5),
        ("layer 7", "INVALID_FILTER", 6),
        ("layer == 7", "INVALID_FILTER", 6),
        ("layer ~ 7", "INVALID_FILTER", 6),
        ("layer =", "INVALID_FILTER", 7),
        ("layer = AND", "INVALID_FILTER", 8),
        ("layer = 7 AND", "INVALID_FILTER", 13),
        ("layer = 7 and layer = 7", "INVALID_FILTER", 10),
        ("layer = 7 layer = 7", "INVALID_FILTER", 10),
        ("AND layer = 7", "INVALID_FILTER", 0),
        ("name = a=b", "INVALID_FILTER", 8),
        ("name = \"a", "INVALID_FILTER", 7),
        ("name = \"a\\n\"", "INVALID_FILTER", 9),
        ("name = \"a\"b", "INVALID_FILTER", 10),
        ("= 7", "INVALID_FILTER", 0),
        ("\u{e9} = 7", "INVALID_FILTER", 0),
        (&many, "TOO_LONG", 448),
    ] {
        assert_eq!(result(text), Err((reason, Some(at))), "{text}");
    }
    assert_eq!(result(&long), Err(("TOO_LONG", None)));
}

#[test]
fn the_message_names_field_place_and_way_out() {
    let message = |text| match Filter::parse(text, CLUSTERS).unwrap_err() {
        ApiError::Invalid(violations) => violations[0].to_string(),
        other => panic!("{other:?}"),
    };
    assert_eq!(
        message("name : \"é\" AND colour = red"),
        "filter: at character 16: there is no field \"colour\"; there are name, display_name, \
         create_time"
    );
    assert!(message("name = a OR name = b").contains("AND, which is all that is supported"));
}

#[test]
fn events_are_graded_and_revisions_are_numbers() {
    let event = pb::Event {
        severity: pb::event::Severity::Warning.into(),
        actor: "users/admin".into(),
        revision: "1.10".into(),
        ..Default::default()
    };
    let matches = |text: &str| Filter::read(text, EVENTS).unwrap().matches(&event);
    assert!(matches("severity >= WARNING AND actor = users/admin"));
    assert!(matches("severity < CRITICAL AND revision > 1.9"));
    assert!(!matches("severity > WARNING"));
    assert!(!matches("revision < 1.9"));
}

#[test]
fn an_appliance_is_what_all_its_agents_are() {
    let agent =
        |connected| pb::AgentStatus { connected, version: "1".into(), ..Default::default() };
    let matches = |agents: Vec<pb::AgentStatus>, text| {
        let appliance = pb::Appliance { agents, ..Default::default() };
        Filter::read(text, APPLIANCES).unwrap().matches(&appliance)
    };
    assert!(matches(vec![agent(true), agent(true)], "connected = true AND version = 1"));
    assert!(matches(vec![agent(true), agent(false)], "connected = false"));
    assert!(matches(Vec::new(), "connected = false AND version != 1"));
}

/// The tables name enums and getters: each of them is used here.
#[test]
fn every_field_of_every_table_can_be_asked_for() {
    fn ask<T: Default>(fields: &'static [Field<T>]) {
        for field in fields {
            let value = match field.kind {
                Kind::Text => "a",
                Kind::Address => "10.0.0.1",
                Kind::Number => "4",
                Kind::Bool => "true",
                Kind::Time => "2027-01-15T08:00:00Z",
                Kind::Revision => "1.2",
                Kind::Choice(kind) | Kind::Grade(kind) => {
                    &fields::choices(kind).next().map(|(name, _)| name).unwrap()
                }
            };
            for operator in ["=", "!=", ":"] {
                let text = format!("{} {operator} {value}", field.name);
                Filter::read(&text, fields).unwrap().matches(&T::default());
            }
        }
    }
    ask(VIRTUAL_SERVICES);
    ask(REAL_SERVERS);
    ask(CLUSTERS);
    ask(APPLIANCES);
    ask(CERTIFICATES);
    ask(USERS);
    ask(EVENTS);
}

/// Whatever is written, the answer is a filter or a fault within the text.
#[test]
fn no_text_is_too_strange() {
    let pieces = [
        "layer",
        "name",
        "=",
        "!=",
        ":",
        "<",
        "7",
        "\"",
        "\\",
        "(",
        ")",
        "*",
        "AND",
        "OR",
        "NOT",
        " ",
        "\u{0}",
        "\u{1F600}",
        ".",
        "-",
        "é",
    ];
    // A walk through all triples, in every order of three.
    for first in pieces {
        for second in pieces {
            for third in pieces {
                for text in [
                    format!("{first}{second}{third}"),
                    format!("layer = 7 {first} {second}{third}"),
                ] {
                    if let Err(fault) = Filter::read(&text, VIRTUAL_SERVICES) {
                        let at = fault.at.unwrap();
                        assert!(text.is_char_boundary(at) && !fault.what.is_empty(), "{text:?}");
                    }
                }
            }
        }
    }
}
