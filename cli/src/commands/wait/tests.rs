use super::*;

fn agent(change: impl FnOnce(&mut v1::AgentStatus)) -> v1::AgentStatus {
    let mut agent = v1::AgentStatus {
        agent: "agent-l7".into(),
        connected: true,
        current: true,
        revision: "1.7".into(),
        ..Default::default()
    };
    change(&mut agent);
    agent
}

#[test]
fn an_agent_is_where_it_says() {
    let stands = [
        stand(&agent(|_| {})),
        stand(&agent(|it| it.current = false)),
        stand(&agent(|it| it.rejection_count = 2)),
        stand(&agent(|it| {
            (it.rejection_count, it.current) = (2, false);
        })),
        stand(&agent(|it| {
            (it.held_removal_count, it.held_revision, it.current) = (12, "1.8".into(), false);
        })),
        stand(&agent(|it| it.connected = false)),
    ];
    let expected = [
        Stand::InForce,
        Stand::Behind("1.7".into()),
        Stand::Refused(2),
        Stand::Behind("1.7".into()),
        Stand::Held(12, "1.8".into()),
        Stand::Away("-".into()),
    ];
    assert_eq!(stands, expected, "what it refused before it took the newest is old news");
}

#[test]
fn who_has_joined_and_never_spoke_is_missed_and_who_is_only_invited_is_not() {
    let appliance = |id: &str, joined: bool| v1::Appliance {
        name: format!("clusters/main/appliances/{id}"),
        join_time: joined.then(prost_types::Timestamp::default),
        ..Default::default()
    };
    let steps = steps(&[appliance("lb1", true), appliance("lb2", false)]);
    assert_eq!(steps, [Step { who: "lb1".into(), stand: Stand::Silent }]);
}

fn overview(status: v1::VirtualServiceStatus) -> v1::Overview {
    let name = "clusters/main/virtualServices/dicom".into();
    let service = v1::VirtualService { name, status: Some(status), ..Default::default() };
    let row = v1::overview::Row { service: Some(service), ..Default::default() };
    v1::Overview { rows: vec![row], ..Default::default() }
}

#[test]
fn refusals_name_field_and_way_out() {
    let rejection = v1::Rejection {
        appliance: "clusters/main/appliances/lb1".into(),
        agent: "agent-l7".into(),
        reason: "ADDRESS_IN_USE".into(),
        field: "listener.address".into(),
        message: "use another".into(),
        ..Default::default()
    };
    let status = v1::VirtualServiceStatus {
        state: State::Degraded.into(),
        rejections: vec![rejection],
        ..Default::default()
    };
    let Outcome::Refused(why) = judged(&overview(status)) else { panic!() };
    assert_eq!(why, ["dicom: lb1 agent-l7: ADDRESS_IN_USE at listener.address: use another"]);
}

#[test]
fn what_nobody_carries_out_is_not_in_force() {
    let state = State::NotInForce.into();
    let message = "not in force: no agent-l4 of cluster main has reported".to_owned();
    let status = v1::VirtualServiceStatus { state, message, ..Default::default() };
    assert!(
        matches!(judged(&overview(status)), Outcome::NotYet(why) if why[0].contains("agent-l4"))
    );
    let down = v1::VirtualServiceStatus { state: State::Down.into(), ..Default::default() };
    assert!(
        matches!(judged(&overview(down)), Outcome::InForce),
        "whether it works is another matter"
    );
}

#[test]
fn lines_are_drawn_over_each_other_and_never_wrap() {
    let steps = [Step { who: "lb1 agent-l7".into(), stand: Stand::Away("2026".into()) }];
    let text = anstream::adapter::strip_str(&redrawn(0, &steps, Some(30))).to_string();
    assert_eq!(text, "lb1 agent-l7  not connected, \n");
    assert!(redrawn(3, &steps, None).starts_with("\x1b[3A"));
}
