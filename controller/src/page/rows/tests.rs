use super::*;

fn at(seconds: i64) -> Option<prost_types::Timestamp> {
    Some(prost_types::Timestamp { seconds, nanos: 0 })
}

fn real_server(state: ServerState) -> pb::RealServer {
    pb::RealServer {
        name: "clusters/main/virtualServices/hl7/realServers/hl71".into(),
        display_name: "HL71".into(),
        endpoint: Some(pb::Endpoint { address: "10.0.0.1".into(), port: 2575 }),
        status: Some(pb::RealServerStatus {
            state: state.into(),
            since: at(1_800_000_000),
            last_check: "connection refused in 0 ms".into(),
            active_connections: 3,
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn row(state: pb::virtual_service_status::State, message: &str) -> pb::overview::Row {
    let service = pb::VirtualService {
        name: "clusters/main/virtualServices/hl7".into(),
        display_name: "HL7 <b>".into(),
        listener: Some(pb::Listener {
            address: "10.0.0.9".into(),
            ports: vec!["2575".into()],
            ..Default::default()
        }),
        forwarding: Some(pb::virtual_service::Forwarding::Layer7(pb::Layer7::default())),
        status: Some(pb::VirtualServiceStatus {
            state: state.into(),
            healthy_count: 1,
            real_server_count: 2,
            message: message.into(),
            ..Default::default()
        }),
        ..Default::default()
    };
    let rates = pb::overview::Rates {
        connections_per_second: 0.3,
        active_connections: 4,
        received_bits_per_second: 8e3,
        sent_bits_per_second: 2e9,
    };
    pb::overview::Row { service: Some(service), real_servers: vec![], rates: Some(rates) }
}

/// What a person reads: the text without tags, spaces made one.
fn text(markup: &Markup) -> String {
    let mut text = String::new();
    let mut inside = false;
    for letter in markup.0.chars() {
        match letter {
            '<' => inside = true,
            '>' => {
                inside = false;
                text.push(' ');
            }
            letter if !inside => text.push(letter),
            _ => {}
        }
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn a_real_server_is_its_word_its_shape_its_check_and_what_may_be_done() {
    let since = "since 2027-01-15 08:00:00 UTC";
    let rest = "HL71 address 10.0.0.1:2575 weight 100 last check connection refused in 0 ms \
                connections 3";
    let table = [
        (ServerState::Serving, "good", "check", format!("serving {since} {rest} drain halt")),
        (ServerState::Failed, "bad", "octagon", format!("failed {since} {rest} drain halt")),
        (ServerState::Draining, "warning", "drain", format!("draining {rest} online halt")),
        (ServerState::Halted, "idle", "pause", format!("halted {rest} online")),
        (
            ServerState::Unspecified,
            "unknown",
            "question",
            format!("not checked yet {rest} drain halt"),
        ),
    ];
    for (state, class, shape, words) in table {
        let row = server(&real_server(state));
        assert_eq!(text(&row), words);
        assert!(row.0.contains(&format!("<span class=\"state {class}\">")), "{}", row.0);
        assert!(row.0.contains(&format!("#shape-{shape}")), "{}", row.0);
        assert!(row.0.contains("id=\"server:main/hl7/hl71\""), "{}", row.0);
    }
}

#[test]
fn a_server_that_becomes_halted_says_when() {
    let mut draining = real_server(ServerState::Draining);
    draining.halt_time = at(1_800_000_600);
    let words = text(&server(&draining));
    assert!(words.starts_with("draining halt 2027-01-15 08:10:00 UTC"), "{words}");
}

#[test]
fn a_virtual_service_is_its_state_address_path_and_traffic() {
    use pb::virtual_service_status::State as ServiceState;
    let rest = "HL7 &lt;b&gt; hl7 listens on 10.0.0.9 TCP 2575 path layer 7, TCP mode load balanced \
                serving 1 of 2 connections 4 new a second 0.3 in 8.0 kb/s out 2.0 \
                Gb/s";
    let table = [
        (ServiceState::Up, "", "good", format!("up {rest}")),
        (ServiceState::Degraded, "1 failed", "warning", format!("degraded {rest} 1 failed")),
        (
            ServiceState::Down,
            "no real server serves",
            "bad",
            format!("down {rest} no real server serves"),
        ),
        (ServiceState::Off, "disabled", "idle", format!("off {rest} disabled")),
        (ServiceState::NotInForce, "why", "unknown", format!("not in force {rest} why")),
        (ServiceState::Unspecified, "", "unknown", format!("not known yet {rest}")),
    ];
    for (state, message, tone, words) in table {
        let markup = service(&row(state, message));
        assert_eq!(text(&markup), words);
        assert!(markup.0.contains(&format!("data-tone=\"{tone}\"")), "{}", markup.0);
        assert!(!markup.0.contains("<b>"), "labels are escaped");
    }
}

#[test]
fn a_rejection_is_told_unless_the_message_says_it() {
    let mut row = row(pb::virtual_service_status::State::NotInForce, "not in force: taken");
    let status = row.service.as_mut().unwrap().status.as_mut().unwrap();
    let rejection = |message: &str| pb::Rejection {
        appliance: "clusters/main/appliances/lb2".into(),
        agent: "agent-l7".into(),
        field: "listener".into(),
        message: message.into(),
        ..Default::default()
    };
    status.rejections = vec![rejection("taken"), rejection("no such address")];
    let words = text(&service(&row));
    assert!(
        words.ends_with("not in force: taken lb2 agent-l7: listener: no such address"),
        "{words}"
    );
}

fn finding(message: &str) -> pb::Finding {
    pb::Finding {
        appliance: "clusters/main/appliances/lb2".into(),
        agent: "agent-l4".into(),
        message: message.into(),
        ..Default::default()
    }
}

#[test]
fn a_finding_is_told_unless_the_message_says_it() {
    let mut row = row(pb::virtual_service_status::State::Degraded, "10.0.0.9 is elsewhere, too");
    let status = row.service.as_mut().unwrap().status.as_mut().unwrap();
    status.findings = vec![finding("10.0.0.9 is elsewhere, too"), finding("a rule is missing")];
    let words = text(&service(&row));
    let ending = "10.0.0.9 is elsewhere, too lb2 agent-l4: a rule is missing";
    assert!(words.ends_with(ending), "{words}");
}

#[test]
fn what_the_kernel_remembers_besides_is_said_when_it_is_pointed_at() {
    let mut row = row(pb::virtual_service_status::State::Up, "");
    assert!(!service(&row).0.contains("title="));
    row.service.as_mut().unwrap().status.as_mut().unwrap().inactive_connections = 120;
    let title = "title=\"and 120 connections that ended or fell silent\"";
    assert!(service(&row).0.contains(title), "{}", service(&row).0);
    let mut one = real_server(ServerState::Serving);
    one.status.as_mut().unwrap().persistent_clients = 7;
    let title = "title=\"7 clients kept on this server\"";
    assert!(server(&one).0.contains(title), "{}", server(&one).0);
}

#[test]
fn layer_4_is_told_by_how_packets_reach_the_servers() {
    use pb::virtual_service_status::State as ServiceState;
    let mut row = row(ServiceState::Up, "");
    let layer4 = pb::Layer4 { method: pb::layer4::Method::Dr.into(), ..Default::default() };
    let of_row = row.service.as_mut().unwrap();
    of_row.forwarding = Some(pb::virtual_service::Forwarding::Layer4(layer4));
    of_row.listener.as_mut().unwrap().set_protocol(pb::listener::Protocol::Udp);
    let words = text(&service(&row));
    assert!(words.contains("UDP 2575 path layer 4, direct routing load balanced"), "{words}");
}

#[test]
fn counts_are_titles_and_filters() {
    let mut all = Counts::default();
    assert_eq!(all.title(), "0 up");
    [Tone::Good, Tone::Good, Tone::Bad].into_iter().for_each(|tone| all.add(tone));
    assert_eq!((all.title().as_str(), all.all()), ("1 down", 3));
    let markup = counts(&all, "bad");
    assert_eq!(text(&markup), "2 up 0 degraded 1 down 0 off");
    assert!(markup.0.contains("data-state=\"bad\" aria-current=\"true\""), "{}", markup.0);
    all.add(Tone::Unknown);
    assert_eq!(text(&counts(&all, "")), "2 up 0 degraded 1 down 0 off 1 not known");
}

#[test]
fn a_cluster_says_who_is_heard_and_what_is_in_force() {
    let main = pb::Cluster { name: "clusters/main".into(), ..Default::default() };
    let agent = |agent: &str, connected| pb::AgentStatus {
        agent: agent.into(),
        connected,
        current: true,
        last_seen_time: at(1_800_000_000),
        ..Default::default()
    };
    let mut lb1 = pb::Appliance {
        name: "clusters/main/appliances/lb1".into(),
        agents: vec![agent("agent-l7", true), agent("healthd", true)],
        ..Default::default()
    };
    let told = |lb1: &pb::Appliance| text(&cluster(&main, &[lb1], "1.7"));
    let connected =
        "main revision 1.7 , in force everywhere lb1 agent-l7 connected healthd connected";
    assert_eq!(told(&lb1), connected);
    lb1.agents[0].findings = vec![finding("a mark is used twice")];
    let found = "main revision 1.7 , in force everywhere lb1 agent-l7 found something wrong healthd \
                 connected agent-l4: a mark is used twice";
    assert_eq!(told(&lb1), found);
    lb1.agents[0].findings.clear();
    lb1.agents[1] = agent("healthd", false);
    let silent = "main revision 1.7 , not known to be in force on lb1 lb1 agent-l7 connected healthd \
                  silent since 2027-01-15 08:00:00 UTC";
    assert_eq!(told(&lb1), silent);
    lb1.agents.clear();
    assert!(
        told(&lb1).ends_with("no appliance reports lb1 invited, has not joined yet"),
        "{}",
        told(&lb1)
    );
}

#[test]
fn an_event_says_when_what_where_and_who() {
    let event = pb::Event {
        time: at(1_800_000_000),
        severity: pb::event::Severity::Critical.into(),
        subject: "clusters/main/virtualServices/hl7/realServers/hl71".into(),
        actor: "clusters/main/appliances/lb1/healthd".into(),
        message: "taken out".into(),
        comment: "<script>".into(),
        ..Default::default()
    };
    let markup = events(&[event]);
    let words = "2027-01-15 08:00:00 UTC critical hl7/hl71 taken out &lt;script&gt; lb1/healthd";
    assert_eq!(text(&markup), words);
    assert!(markup.0.contains("#shape-octagon"));
}
