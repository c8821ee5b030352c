use super::*;

const SERVICE: &str = "
name: dicom
displayName: DICOM-Modalities   # what the overview shows
listener:
  address: 10.12.1.100
  ports: [104, 11112, 8000-8010]
layer4: { method: dr, idle_timeout: 1h30m }
persistence: { timeout: 3600s }
healthCheck:
  interval: 500ms
  dicomEcho: { calledAeTitle: 007 }
";

fn read<T: Documented>(text: &str) -> Result<T, String> {
    let node = Node::parse(text).map_err(|problems| problems.to_string())?;
    T::from_node(&node).map_err(|problems| problems.to_string())
}

fn refused<T: Documented>(text: &str) -> String {
    read::<T>(text).map(|_| ()).expect_err("this was not to be accepted")
}

#[test]
fn yaml_in_either_spelling_becomes_a_message() {
    let service: v1::VirtualService = read(SERVICE).unwrap();
    let listener = service.listener.as_ref().unwrap();
    assert_eq!(listener.ports, ["104", "11112", "8000-8010"]);
    let Some(v1::virtual_service::Forwarding::Layer4(layer4)) = &service.forwarding else {
        panic!("{service:?}")
    };
    assert_eq!(layer4.method(), v1::layer4::Method::Dr);
    assert_eq!(layer4.idle_timeout.as_ref().unwrap().seconds, 5400);
    let check = service.health_check.as_ref().unwrap();
    assert_eq!(check.interval.as_ref().unwrap().nanos, 500_000_000);
    let Some(v1::health_check::Probe::DicomEcho(echo)) = &check.probe else { panic!() };
    assert_eq!(echo.called_ae_title, "007", "text stays as it was written");
}

#[test]
fn messages_survive_both_forms() {
    let service: v1::VirtualService = read(SERVICE).unwrap();
    let json = to_json(&service.to_dynamic());
    assert!(json.contains(r#""idleTimeout": "5400s""#) && json.contains(r#""method": "DR""#));
    assert_eq!(read::<v1::VirtualService>(&json).unwrap(), service);
    let yaml = to_yaml(&service.to_dynamic());
    assert!(yaml.contains("idleTimeout: 5400s"), "{yaml}");
    assert_eq!(read::<v1::VirtualService>(&yaml).unwrap(), service);
}

#[test]
fn text_that_looks_like_something_else_survives() {
    for text in ["007", "1.10", "no", "~", "null", "true", "1e3", "a: b", "#x", " x", "é😀", "0x1f"]
    {
        let server = v1::RealServer { display_name: text.to_owned(), ..Default::default() };
        let yaml = to_yaml(&server.to_dynamic());
        assert_eq!(read::<v1::RealServer>(&yaml).as_ref(), Ok(&server), "{yaml}");
        let json = to_json(&server.to_dynamic());
        assert_eq!(read::<v1::RealServer>(&json).as_ref(), Ok(&server), "{json}");
    }
    let surrogates: v1::RealServer = read(r#"{"displayName": "\ud83d\ude00"}"#).unwrap();
    assert_eq!(surrogates.display_name, "😀");
    let plain: v1::RealServer = read("displayName: 1.10").unwrap();
    assert_eq!(plain.display_name, "1.10");
    let long = "x y ".repeat(500) + "\n  \tand more\n";
    let server = v1::RealServer { display_name: long, ..Default::default() };
    assert_eq!(read::<v1::RealServer>(&to_yaml(&server.to_dynamic())), Ok(server));
}

#[test]
fn everything_wrong_is_told_at_once_with_its_place() {
    let text = "
services:
  - virtualService:
      name: dicom
      listner: { address: 10.0.0.1 }
      layer4: { method: DIRECT }
      layer7: {}
      persistence: 1h
      disabled: maybe
    realServers:
      - { name: a, weight: heavy }
      - { name: b, endpoint: { port: 104.5 } }
  - {}
extra: 1
";
    let told = refused::<v1::Config>(text);
    let expected = [
        r#"line 5: services[0].virtualService: unknown field "listner": did you mean listener?"#,
        r#"line 6: services[0].virtualService.layer4.method: unknown value "DIRECT": there are DR, NAT, SNAT, TUNNEL"#,
        "line 7: services[0].virtualService.layer7: layer4 and layer7 exclude each other",
        r#"line 8: services[0].virtualService.persistence: fields are expected, not "1h""#,
        r#"line 9: services[0].virtualService.disabled: true or false is expected, not "maybe""#,
        r#"line 11: services[0].realServers[0].weight: a whole number is expected, not "heavy""#,
        "line 12: services[0].realServers[1].endpoint.port: a whole number is expected, not 104.5",
        r#"line 14: unknown field "extra": there are name, services, etag"#,
    ];
    assert_eq!(told.lines().collect::<Vec<_>>(), expected);
}

#[test]
fn what_stands_for_nothing_is_not_guessed_at() {
    assert!(refused::<v1::HealthCheck>("none:").contains("say {} to choose it"));
    assert!(read::<v1::HealthCheck>("none: {}").unwrap().probe.is_some());
    assert!(read::<v1::HealthCheck>("interval: null").unwrap().interval.is_none());
    assert!(refused::<v1::RealServer>("a text").contains("fields are expected"));
    assert!(refused::<v1::RealServer>("").contains("fields are expected, not nothing"));
    assert!(refused::<v1::Listener>("ports: 104").contains("a list is expected, not 104"));
}

impl Documented for v1::Listener {
    const FULL_NAME: &'static str = "gantry.v1.Listener";
}

#[test]
fn hostile_documents_are_refused() {
    let deep = "[".repeat(100_000);
    let nested = "{\"a\":".repeat(100_000);
    let bomb = "a: &a [x,x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a,*a]\n\
                c: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c,*c]\n\
                e: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: &f [*e,*e,*e,*e,*e,*e,*e,*e,*e,*e]\n\
                g: &g [*f,*f,*f,*f,*f,*f,*f,*f,*f,*f]\n";
    for (text, part) in [
        (deep.as_str(), "not YAML"),
        (nested.as_str(), "not JSON: recursion limit"),
        (bomb, "not YAML"),
        ("name: a\nname: b\n", "not YAML"),
        (r#"{"name": "a", "name": "b"}"#, "given twice"),
        ("name: a\n---\nname: b\n", "not YAML"),
        ("name: [a\n", "not YAML"),
        ("{\"name\": \"a\"", "not JSON"),
        ("name: \u{0}", "not YAML"),
        ("weight: 99999999999999999999999", "a whole number is expected"),
        ("haltTime: yesterday", "not a time"),
    ] {
        let told = refused::<v1::RealServer>(text);
        assert!(told.contains(part) && told.len() < 400, "{part}: {told}");
    }
}

#[test]
fn durations_are_written_as_people_do() {
    let parsed = |text| human_duration(text).map(|it| (it.seconds, it.nanos)).ok();
    assert_eq!(parsed("300s"), Some((300, 0)));
    assert_eq!(parsed("1h30m"), Some((5400, 0)));
    assert_eq!(parsed("0.1s"), Some((0, 100_000_000)));
    assert_eq!(parsed("500ms"), Some((0, 500_000_000)));
    assert_eq!(parsed("7d"), Some((604_800, 0)));
    for bad in ["", "5", "s", "-1s", "1 h", "1x", "1..5s", "1.s5", "9999999999999999s", "é"] {
        assert_eq!(parsed(bad), None, "{bad}");
    }
}

#[test]
fn bytes_are_base64() {
    let exchange = |text: &str| -> Result<Vec<u8>, String> {
        let check: v1::HealthCheck = read(&format!("exchange: {{ send: \"{text}\", expect: x }}"))?;
        let Some(v1::health_check::Probe::Exchange(exchange)) = check.probe else { panic!() };
        Ok(exchange.send)
    };
    assert_eq!(exchange("aGVsbG8=").unwrap(), b"hello");
    assert_eq!(exchange("_-8").unwrap(), [0xff, 0xef]);
    assert!(exchange("a b").is_err());
}
