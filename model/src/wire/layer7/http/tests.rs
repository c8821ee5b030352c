use super::*;

fn routes_violations(route: pb::layer7::Route) -> Vec<String> {
    let mut violations = Violations::new();
    routes(&mut violations, &[route]);
    told(violations)
}

fn told(violations: Violations) -> Vec<String> {
    let found = violations.into_found();
    found.into_iter().map(|found| format!("{} {}", found.field, found.reason)).collect()
}

fn strings(all: &[&str]) -> Vec<String> {
    all.iter().map(|&text| text.to_owned()).collect()
}

#[test]
fn routes_say_what_is_wrong_with_them() {
    for (hosts, paths, pool, expected) in [
        (&["a.example"][..], &["/x"][..], "files", &[][..]),
        (&["*.a.example", "10.1.2.3", "fd00::1"], &[], "", &[]),
        (&[], &[], "files", &["routes[0].hosts REQUIRED"]),
        (
            &["*", "a*.example", "a.example:80"],
            &[],
            "",
            &[
                "routes[0].hosts[0] INVALID_NAME",
                "routes[0].hosts[1] INVALID_NAME",
                "routes[0].hosts[2] INVALID_NAME",
            ],
        ),
        (
            &[],
            &["x", "/a b", "/a?b"],
            "",
            &[
                "routes[0].path_prefixes[0] INVALID_PATH",
                "routes[0].path_prefixes[1] INVALID_PATH",
                "routes[0].path_prefixes[2] INVALID_PATH",
            ],
        ),
        (&["a.example"], &[], "Not a name", &["routes[0].pool INVALID_NAME"]),
    ] {
        let (hosts, path_prefixes) = (strings(hosts), strings(paths));
        let route = pb::layer7::Route { hosts, path_prefixes, pool: pool.to_owned() };
        assert_eq!(routes_violations(route), expected);
    }
}

#[test]
fn http_says_what_is_wrong_with_it() {
    let edit = |action: Action, name: &str, value: &str| pb::layer7::HeaderEdit {
        action: action.into(),
        name: name.to_owned(),
        value: value.to_owned(),
    };
    let message = pb::layer7::Http {
        request_headers: vec![
            edit(Action::Set, "X-Good", "yes"),
            edit(Action::Set, "Not good", "yes"),
            edit(Action::Add, "Connection", "close"),
            edit(Action::Remove, "Server", "yes"),
            edit(Action::Set, "X-Split", "a\r\nb: c"),
        ],
        maintenance: Some(pb::layer7::Maintenance {
            status: 199,
            body: "x".repeat(LONGEST_PAGE + 1),
            ..Default::default()
        }),
        max_header_bytes: 100,
        cookie_name: "a=b".to_owned(),
        ..Default::default()
    };
    let mut violations = Violations::new();
    assert_eq!(http(&mut violations, &message), None);
    assert_eq!(
        told(violations),
        [
            "request_headers[1].name INVALID_NAME",
            "request_headers[2].name NOT_ALLOWED",
            "request_headers[3].value NOT_ALLOWED",
            "request_headers[4].value INVALID_VALUE",
            "maintenance.status OUT_OF_RANGE",
            "maintenance.body TOO_LONG",
            "max_header_bytes OUT_OF_RANGE",
            "cookie_name INVALID_NAME",
        ]
    );
}

#[test]
fn what_was_read_is_written_the_same() {
    let route = pb::layer7::Route {
        hosts: strings(&["a.example", "*.b.example"]),
        path_prefixes: strings(&["/dicom-web/"]),
        pool: "archive".to_owned(),
    };
    let mut violations = Violations::new();
    let read = routes(&mut violations, std::slice::from_ref(&route)).unwrap();
    assert_eq!(route_message(&read[0]), route);
    let edit = |action: Action, value: &str| pb::layer7::HeaderEdit {
        action: action.into(),
        name: "x-a".to_owned(),
        value: value.to_owned(),
    };
    let message = pb::layer7::Http {
        request_headers: vec![edit(Action::Set, "1"), edit(Action::Remove, "")],
        response_headers: vec![edit(Action::Add, "2")],
        redirect_to_https: true,
        maintenance: Some(pb::layer7::Maintenance {
            status: 200,
            content_type: "text/plain".to_owned(),
            body: "later".to_owned(),
        }),
        request_timeout: Some(duration_message(std::time::Duration::from_secs(7))),
        max_header_bytes: 8192,
        trust_forwarded: true,
        cookie_name: "AFFINITY".to_owned(),
    };
    let read = http(&mut violations, &message).unwrap();
    assert_eq!(http_message(&read), Some(message));
    let nothing_said = http(&mut violations, &pb::layer7::Http::default()).unwrap();
    assert_eq!(http_message(&nothing_said), None);
    assert_eq!(told(violations), Vec::<String>::new());
}
