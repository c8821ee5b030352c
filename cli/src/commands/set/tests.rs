use super::*;

fn parsed<T: Documented>(assignments: &[&str]) -> Result<(T, Vec<String>), String> {
    let assignments: Vec<String> = assignments.iter().map(ToString::to_string).collect();
    assigned::<T>(&assignments)
        .map(|(message, mask)| (message, mask.paths))
        .map_err(|error| format!("{error:#}"))
}

#[test]
fn assignments_become_a_message_and_its_mask() {
    let (server, mask) = parsed::<v1::RealServer>(&["weight=0", "endpoint.port=104"]).unwrap();
    assert_eq!((server.weight, server.endpoint.unwrap().port), (Some(0), 104));
    assert_eq!(mask, ["weight", "endpoint.port"]);

    let assignments =
        ["layer7.connectTimeout=4s", "health_check.interval=2s", "listener.ports=104,11112"];
    let (service, mask) = parsed::<v1::VirtualService>(&assignments).unwrap();
    assert_eq!(service.listener.unwrap().ports, ["104", "11112"]);
    assert_eq!(service.health_check.unwrap().interval.unwrap().seconds, 2);
    assert_eq!(mask, ["layer7.connect_timeout", "health_check.interval", "listener.ports"]);
}

#[test]
fn whole_messages_and_nothing_can_be_assigned() {
    let assignments = ["fallback={address: 10.0.0.9, port: 104}", "persistence=", "disabled=true"];
    let (service, mask) = parsed::<v1::VirtualService>(&assignments).unwrap();
    assert_eq!(service.fallback.unwrap().port, 104);
    assert!(service.persistence.is_none() && service.disabled);
    assert_eq!(mask, ["fallback", "persistence", "disabled"]);
    let (service, mask) = parsed::<v1::VirtualService>(&["displayName=a=b"]).unwrap();
    assert_eq!((service.display_name.as_str(), mask.len()), ("a=b", 1));
}

#[test]
fn what_cannot_be_assigned_is_refused() {
    for (assignment, part) in [
        ("wieght=5", "did you mean weight?"),
        ("weight", "use FIELD=VALUE"),
        ("weight=heavy", "a whole number is expected"),
        ("weight.x=5", "there is no x in it"),
        ("endpoint.prot=5", "did you mean port?"),
        ("adminState=MAYBE", "there are ONLINE, DRAIN, HALT"),
        ("endpoint=10.0.0.1", "fields are expected"),
        ("=5", "unknown field"),
        ("haltTime=soon", "not a time"),
    ] {
        let told = parsed::<v1::RealServer>(&[assignment]).unwrap_err();
        assert!(told.contains(part), "{assignment}: {told}");
    }
    let twice = parsed::<v1::RealServer>(&["weight=1", "weight=2"]).unwrap_err();
    assert!(twice.contains("twice"), "{twice}");
}
