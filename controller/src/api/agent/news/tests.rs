use gantry_model::agent::AgentKind;

use super::*;

const DICOM: &str = "clusters/main/virtualServices/dicom";
const LB1: &str = "clusters/main/appliances/lb1";

fn agent() -> AgentName {
    AgentName { appliance: LB1.parse().unwrap(), kind: AgentKind::L4 }
}

/// A condition of findings, each `resource reason message`.
fn condition(findings: &[(&str, &str, &str)]) -> Condition {
    let finding = |(resource, reason, message): &(&str, &str, &str)| v1::Finding {
        resource: (*resource).to_owned(),
        reason: (*reason).to_owned(),
        message: (*message).to_owned(),
        ..Default::default()
    };
    let findings = findings.iter().map(finding).collect();
    Condition::read(&agent(), pb::Condition { findings, ..Default::default() })
}

fn shown(events: Vec<NewEvent>) -> Vec<String> {
    let one = |event: NewEvent| {
        format!("{:?} {} {} {}", event.severity, event.kind, event.subject, event.message)
    };
    events.into_iter().map(one).collect()
}

#[test]
fn a_finding_is_news_when_it_begins_and_when_it_ends() {
    let none = condition(&[]);
    let conflict = condition(&[(DICOM, "ADDRESS_CONFLICT", "lb9 has it")]);
    let both = condition(&[
        (DICOM, "ADDRESS_CONFLICT", "lb9 has it"),
        (DICOM, "ADDRESS_CONFLICT", "lb8 has it"),
        ("", "FOREIGN_MARK", "0x1 is used"),
    ]);
    let reworded = condition(&[(DICOM, "ADDRESS_CONFLICT", "lb9 has it, seen 7 times")]);
    let begun = format!("Warning ADDRESS_CONFLICT {DICOM} lb9 has it");
    let ended = format!("Info ADDRESS_CONFLICT_RESOLVED {DICOM} no longer so: lb9 has it");
    let second = format!("Warning ADDRESS_CONFLICT {DICOM} lb8 has it");
    let foreign = format!("Warning FOREIGN_MARK {LB1} 0x1 is used");
    let second_ended = format!("Info ADDRESS_CONFLICT_RESOLVED {DICOM} no longer so: lb8 has it");
    let foreign_ended = format!("Info FOREIGN_MARK_RESOLVED {LB1} no longer so: 0x1 is used");
    for (before, now, expected) in [
        (&none, &conflict, vec![begun]),
        (&conflict, &conflict, vec![]),
        (&conflict, &reworded, vec![]),
        (&conflict, &none, vec![ended]),
        (&conflict, &both, vec![foreign, second]),
        (&both, &conflict, vec![foreign_ended, second_ended]),
    ] {
        assert_eq!(shown(of_findings(&agent(), before, now)), expected);
    }
}

fn notice(kind: &str, subject: &str, seconds: i64) -> pb::Notice {
    pb::Notice {
        r#type: kind.to_owned(),
        severity: WireSeverity::Warning.into(),
        subject: subject.to_owned(),
        message: "a destination was missing".to_owned(),
        time: Some(prost_types::Timestamp { seconds, nanos: 0 }),
    }
}

#[test]
fn an_agent_tells_what_happened_to_its_own() {
    let now = Timestamp::from_second(1000).unwrap();
    let told = [
        notice("DRIFT_REPAIRED", DICOM, 900),
        notice("not a type", "", 1001),
        notice("DRIFT_REPAIRED", "clusters/lab/virtualServices/dicom", 900),
        pb::Notice { severity: 99, ..notice("KERNEL_LOST_ALL", LB1, -1) },
    ];
    let events = of_notices(&agent(), &told, now);
    let times: Vec<_> = events.iter().map(|event| event.time.map(Timestamp::as_second)).collect();
    assert_eq!(times, [Some(900), None, Some(-1)]);
    let expected = [
        format!("Warning DRIFT_REPAIRED {DICOM} a destination was missing"),
        format!("Warning UNKNOWN {LB1} a destination was missing"),
        format!("Info KERNEL_LOST_ALL {LB1} a destination was missing"),
    ];
    assert_eq!(shown(events), expected);
}

#[test]
fn what_comes_in_heaps_is_counted() {
    let told: Vec<_> = (0..MOST + 7).map(|_| notice("DRIFT_REPAIRED", DICOM, 1)).collect();
    let events = shown(of_notices(&agent(), &told, Timestamp::UNIX_EPOCH));
    assert_eq!(events.len(), MOST + 1);
    assert!(events[MOST].contains("EVENTS_LEFT_OUT") && events[MOST].contains("7 more"));
}
