use super::*;

const SERVER: &str = "clusters/main/virtualServices/dicom/realServers/pacs-1";

fn field(path: &str, before: &str, after: &str) -> v1::FieldChange {
    v1::FieldChange { path: path.into(), before: before.into(), after: after.into() }
}

fn change(action: Action, name: &str, fields: Vec<v1::FieldChange>) -> v1::Change {
    v1::Change {
        action: action.into(),
        name: name.into(),
        fields: fields.iter().map(|field| field.path.clone()).collect(),
        field_changes: fields,
        cuts: Vec::new(),
    }
}

fn shown(changes: &[v1::Change], width: Option<usize>) -> String {
    anstream::adapter::strip_str(&listed(changes, width)).to_string()
}

#[test]
fn values_are_those_before_and_after() {
    let service = "clusters/main/virtualServices/dicom";
    let changes = [
        change(Action::Update, SERVER, vec![field("weight", "100", "50")]),
        change(
            Action::Update,
            service,
            vec![
                field("listener.ports", r#"["104"]"#, r#"["104","8000-8010"]"#),
                field("health_check.fall", "", "3"),
                field("disabled", "", "true"),
                field("display_name", r#""PACS""#, r#""""#),
                field("persistence", "", r#"{"key":"SOURCE_IP","prefixLength":24}"#),
            ],
        ),
    ];
    let expected = "\
~ dicom/pacs-1  weight: 100 -> 50
~ dicom
    listener.ports: 104 -> 104, 8000-8010
    healthCheck.fall: (not set) -> 3
    disabled: false -> true
    displayName: PACS -> \"\"
    persistence: (not set) -> {key: SOURCE_IP, prefixLength: 24}
";
    assert_eq!(shown(&changes, Some(70)), expected);
}

#[test]
fn what_comes_and_goes_is_known_by_where_it_listens() {
    let endpoint = r#"{"address":"10.0.0.3","port":104}"#;
    let listener = r#"{"address":"fd00::1","ports":["104","11112"],"protocol":"TCP"}"#;
    let service = "clusters/main/virtualServices/dicom";
    let changes = [
        change(Action::Delete, SERVER, vec![field("endpoint", endpoint, "")]),
        change(Action::Create, service, vec![field("listener", "", listener)]),
        change(Action::Create, "clusters/main", Vec::new()),
    ];
    let expected = "- dicom/pacs-1  10.0.0.3:104\n+ dicom  [fd00::1]:104,11112\n+ clusters/main\n";
    assert_eq!(shown(&changes, None), expected);
}

#[test]
fn what_is_too_wide_has_its_own_line() {
    let (before, after) = (r#""one two three four""#, r#""five six seven eight""#);
    let changes = [change(Action::Update, SERVER, vec![field("display_name", before, after)])];
    let expected = "~ dicom/pacs-1\n    displayName:\n       one two three four\n    -> five six seven eight\n";
    assert_eq!(shown(&changes, Some(40)), expected);
    let expected = "~ dicom/pacs-1\n    displayName: one two three four -> five six seven eight\n";
    assert_eq!(shown(&changes, Some(62)), expected);
}

#[test]
fn cuts_stand_below_what_makes_them() {
    let cut = |connections, stale| v1::Cut {
        name: SERVER.into(),
        connections,
        reason: "the real server is removed".into(),
        stale,
    };
    for (count, stale, expected) in [
        (1, false, "cuts 1 connection: the"),
        (0, false, "cuts nothing now: the"),
        (3, true, "cuts 3 connections by old reports: the"),
        (0, true, "cuts its connections, nobody reports how many: the"),
    ] {
        let change =
            v1::Change { cuts: vec![cut(count, stale)], ..change(Action::Delete, SERVER, vec![]) };
        let shown = shown(&[change], None);
        assert!(shown.contains(&format!("\n    {expected} real server is removed\n")), "{shown}");
    }
}

#[test]
fn several_clusters_are_told_apart() {
    let other = SERVER.replace("main", "lab");
    let changes = [change(Action::Delete, SERVER, vec![]), change(Action::Delete, &other, vec![])];
    assert_eq!(shown(&changes, None), format!("- {SERVER}\n- {other}\n"));
}
