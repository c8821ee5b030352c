use super::*;

fn sample(name: &str, connections_total: i64) -> pb::Sample {
    pb::Sample { name: name.to_owned(), connections_total, ..Default::default() }
}

fn whole(samples: &[(&str, i64)]) -> pb::Samples {
    let samples = samples.iter().map(|(name, total)| sample(name, *total)).collect();
    pb::Samples { samples, ..Default::default() }
}

fn changes(samples: &[(&str, i64)], gone: &[&str]) -> pb::Samples {
    let gone = gone.iter().map(ToString::to_string).collect();
    pb::Samples { changes_only: true, gone, ..whole(samples) }
}

/// Each name with its total and its rate, after each message came a second after the one before.
fn after(messages: Vec<pb::Samples>) -> Vec<(String, i64, f64)> {
    let mut agent = Agent::new(Timestamp::UNIX_EPOCH);
    let began = gantry_runtime::clock::monotonic();
    for (second, message) in (0..).zip(messages) {
        agent.take_samples(message, began + Duration::from_secs(second));
    }
    let mut seen: Vec<_> = agent
        .samples
        .into_iter()
        .map(|(name, counters)| {
            (name, counters.sample.connections_total, counters.connections_per_second)
        })
        .collect();
    seen.sort_by(|one, other| one.0.cmp(&other.0));
    seen
}

#[test]
fn changes_add_up_to_what_whole_samples_say() {
    let by_changes = vec![
        whole(&[("a", 5), ("b", 7), ("c", 1)]),
        changes(&[("a", 9)], &["c"]),
        changes(&[("a", 12), ("d", 3)], &[]),
    ];
    let in_whole = vec![
        whole(&[("a", 5), ("b", 7), ("c", 1)]),
        whole(&[("a", 9), ("b", 7)]),
        whole(&[("a", 12), ("b", 7), ("d", 3)]),
    ];
    let seen = after(by_changes);
    assert_eq!(seen, [("a".into(), 12, 3.0), ("b".into(), 7, 0.0), ("d".into(), 3, 0.0)]);
    assert_eq!(seen, after(in_whole));
}

#[test]
fn what_does_not_move_any_more_has_no_rate() {
    let still = vec![whole(&[("a", 5)]), changes(&[("a", 9)], &[]), changes(&[], &[])];
    assert_eq!(after(still), [("a".into(), 9, 0.0)]);
    let moving_again =
        vec![whole(&[("a", 5)]), changes(&[], &[]), changes(&[], &[]), changes(&[("a", 9)], &[])];
    assert_eq!(after(moving_again), [("a".into(), 9, 4.0)], "over the last second, not over three");
}

#[test]
fn a_counter_that_went_back_began_anew() {
    assert_eq!(after(vec![whole(&[("a", 5)]), whole(&[("a", 2)])]), [("a".into(), 2, 0.0)]);
}
