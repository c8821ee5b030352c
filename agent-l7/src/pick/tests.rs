use proptest::prelude::*;

use super::*;

const SERVER: Candidate = Candidate {
    online: true,
    weight: 100,
    share: WHOLE,
    priority: 0,
    health: Health::Unknown,
    suspect: false,
    tried: false,
    room: true,
    active: 0,
    pass: 0,
    key: 0,
};

fn least(field: &[Candidate]) -> Choice {
    choose(Rule::LeastConnection, field, 0, None)
}

#[test]
fn nobody_is_chosen_where_nobody_serves() {
    let out = [
        Candidate { online: false, ..SERVER },
        Candidate { weight: 0, ..SERVER },
        Candidate { health: Health::Unhealthy, ..SERVER },
        Candidate { tried: true, ..SERVER },
    ];
    for rule in [Rule::LeastConnection, Rule::RoundRobin, Rule::SourceHash, Rule::Failover] {
        assert_eq!(choose(rule, &out, 7, None), Choice::Nobody, "{rule:?}");
        assert_eq!(choose(rule, &[], 7, None), Choice::Nobody, "{rule:?}");
    }
}

#[test]
fn known_health_goes_before_unknown() {
    let healthy = Candidate { health: Health::Healthy, active: 50, ..SERVER };
    assert_eq!(least(&[SERVER, healthy]), Choice::Server(1));
    assert_eq!(least(&[SERVER, Candidate { room: false, ..healthy }]), Choice::Wait);
    let tried = Candidate { tried: true, ..healthy };
    assert_eq!(least(&[SERVER, tried]), Choice::Server(0), "better than nobody");
}

#[test]
fn suspects_serve_only_when_nobody_better_can() {
    let suspect = Candidate { suspect: true, ..SERVER };
    let full = Candidate { room: false, ..SERVER };
    let busy = Candidate { active: 90, ..SERVER };
    for rule in [Rule::LeastConnection, Rule::RoundRobin, Rule::SourceHash, Rule::Failover] {
        assert_eq!(choose(rule, &[suspect, busy], 3, None), Choice::Server(1), "{rule:?}");
        assert_eq!(choose(rule, &[suspect, full], 3, None), Choice::Server(0), "{rule:?}");
        assert_eq!(choose(rule, &[suspect], 3, None), Choice::Server(0), "{rule:?}");
    }
}

#[test]
fn least_connection_weighs() {
    let of = |active, weight| Candidate { active, weight, ..SERVER };
    assert_eq!(least(&[of(10, 100), of(9, 100)]), Choice::Server(1));
    assert_eq!(least(&[of(10, 200), of(9, 100)]), Choice::Server(0));
    assert_eq!(least(&[of(u32::MAX, 256), of(u32::MAX - 1, 256)]), Choice::Server(1));
    let behind = Candidate { pass: 5, ..of(3, 100) };
    let ahead = Candidate { pass: 9, ..of(3, 100) };
    assert_eq!(least(&[ahead, behind]), Choice::Server(1), "equals take turns");
}

#[test]
fn failover_takes_the_first_that_works_and_waits_for_it() {
    let first = Candidate { priority: 1, ..SERVER };
    let second = Candidate { priority: 2, ..SERVER };
    let failover = |field: &[Candidate]| choose(Rule::Failover, field, 0, None);
    assert_eq!(failover(&[second, first]), Choice::Server(1));
    assert_eq!(failover(&[first, first]), Choice::Server(0), "by name");
    assert_eq!(failover(&[second, Candidate { room: false, ..first }]), Choice::Wait);
    let down = Candidate { health: Health::Unhealthy, ..first };
    assert_eq!(failover(&[second, down]), Choice::Server(0));
}

#[test]
fn a_client_stays_at_home_while_home_works() {
    let home = |home| choose(Rule::LeastConnection, &[SERVER, home], 0, Some(1));
    assert_eq!(home(Candidate { active: 99, ..SERVER }), Choice::Server(1));
    assert_eq!(home(Candidate { weight: 0, ..SERVER }), Choice::Server(1));
    assert_eq!(home(Candidate { room: false, ..SERVER }), Choice::Wait);
    for gone in [
        Candidate { online: false, ..SERVER },
        Candidate { health: Health::Unhealthy, ..SERVER },
        Candidate { suspect: true, ..SERVER },
        Candidate { tried: true, ..SERVER },
    ] {
        assert_eq!(home(gone), Choice::Server(0));
    }
}

/// Runs `count` choices by round robin and says how often each server came.
fn turns(field: &mut [Candidate], count: u32) -> Vec<u32> {
    let mut came = vec![0; field.len()];
    for _ in 0..count {
        let Choice::Server(at) = choose(Rule::RoundRobin, field, 0, None) else { panic!() };
        field[at].pass += stride(&field[at]);
        came[at] += 1;
    }
    came
}

#[test]
fn a_share_grows_evenly_from_a_tenth_to_all() {
    let milliseconds = Duration::from_millis;
    let cases = [
        (None, Some(30_000), 1000),
        (None, None, 1000),
        (Some(0), None, 1000),
        (Some(0), Some(30_000), 100),
        (Some(10_000), Some(30_000), 400),
        (Some(15_000), Some(30_000), 550),
        (Some(29_999), Some(30_000), 999),
        (Some(30_000), Some(30_000), 1000),
        (Some(u64::MAX), Some(1), 1000),
        (Some(0), Some(1), 100),
        (Some(u64::MAX - 1), Some(u64::MAX), 999),
    ];
    for (back_for, slow_start, expected) in cases {
        let share = share(back_for.map(milliseconds), slow_start.map(milliseconds));
        assert_eq!(share, expected, "{back_for:?} of {slow_start:?}");
    }
}

#[test]
fn a_slow_start_counts_where_load_is_spread_and_nowhere_else() {
    let back = Candidate { share: FIRST, ..SERVER };
    assert_eq!(turns(&mut [SERVER, back], 110), [100, 10]);
    let mut field = [SERVER, back];
    for _ in 0..110 {
        let Choice::Server(at) = least(&field) else { panic!() };
        field[at].active += 1;
    }
    assert_eq!(field.map(|server| server.active), [100, 10]);
    let light = Candidate { weight: 1, ..back };
    assert_eq!(turns(&mut [light, light], 10), [5, 5], "all of them at once is none");
    assert_eq!(least(&[light]), Choice::Server(0));

    let first = Candidate { priority: 0, ..back };
    let second = Candidate { priority: 1, ..SERVER };
    assert_eq!(choose(Rule::Failover, &[second, first], 0, None), Choice::Server(1));
    assert_eq!(choose(Rule::RoundRobin, &[SERVER, back], 0, Some(1)), Choice::Server(1));
    let field = named(&[100, 100]);
    let slow: Vec<Candidate> = field.iter().map(|one| Candidate { share: FIRST, ..*one }).collect();
    let mixed = [field[0], slow[1]];
    assert!((0..1000).all(|client| hashed(&field, client) == hashed(&mixed, client)));
}

fn hashed(field: &[Candidate], client: u32) -> usize {
    match choose(Rule::SourceHash, field, hash(&client.to_be_bytes()), None) {
        Choice::Server(at) => at,
        other => panic!("{other:?}"),
    }
}

fn named(weights: &[u16]) -> Vec<Candidate> {
    let key = |at: usize| hash(format!("server-{at}").as_bytes());
    weights
        .iter()
        .enumerate()
        .map(|(at, &weight)| Candidate { weight, key: key(at), ..SERVER })
        .collect()
}

#[test]
fn source_hash_follows_the_weights() {
    let field = named(&[100, 100, 200]);
    let mut came = [0_i32; 3];
    (0..40_000).for_each(|client| came[hashed(&field, client)] += 1);
    for (came, fair) in came.into_iter().zip([10_000, 10_000, 20_000]) {
        assert!((came - fair).abs() < 500, "{came} of {fair}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn round_robin_gives_each_its_share(weights in prop::collection::vec(1_u16..=256, 1..8)) {
        let mut field = named(&weights);
        let sum: u32 = weights.iter().map(|&weight| u32::from(weight)).sum();
        for (came, weight) in turns(&mut field, sum * 3).into_iter().zip(weights) {
            prop_assert!(came.abs_diff(u32::from(weight) * 3) <= 3, "{came} of {}", weight * 3);
        }
    }

    #[test]
    fn only_the_clients_of_a_lost_server_move(
        weights in prop::collection::vec(1_u16..=256, 2..8),
        lost in any::<prop::sample::Index>(),
        clients in prop::collection::vec(any::<u32>(), 50),
    ) {
        let field = named(&weights);
        let lost = lost.index(field.len());
        let mut after = field.clone();
        after[lost].health = Health::Unhealthy;
        for client in clients {
            let (was, is) = (hashed(&field, client), hashed(&after, client));
            prop_assert!(was == lost || was == is);
        }
    }

    #[test]
    fn more_weight_only_draws_clients_in(
        weights in prop::collection::vec(1_u16..=255, 2..8),
        clients in prop::collection::vec(any::<u32>(), 50),
    ) {
        let field = named(&weights);
        let mut after = field.clone();
        after[0].weight += 1;
        for client in clients {
            let (was, is) = (hashed(&field, client), hashed(&after, client));
            prop_assert!(was == is || is == 0);
        }
    }

    #[test]
    fn a_chosen_server_may_serve(
        field in prop::collection::vec(candidate(), 0..6),
        rule in prop::sample::select(vec![
            Rule::LeastConnection, Rule::RoundRobin, Rule::SourceHash, Rule::Failover,
        ]),
        client in any::<u64>(),
    ) {
        match choose(rule, &field, client, None) {
            Choice::Server(at) => prop_assert!(field[at].in_service() && field[at].room),
            Choice::Wait => prop_assert!(field.iter().any(|server| server.in_service() && !server.room)),
            Choice::Nobody => prop_assert!(!field.iter().any(Candidate::in_service)),
        }
    }
}

fn candidate() -> impl Strategy<Value = Candidate> {
    let health = prop::sample::select(vec![Health::Unknown, Health::Healthy, Health::Unhealthy]);
    (any::<[bool; 4]>(), 0_u16..=256, 0_u16..3, health, 0_u32..5, any::<u64>()).prop_map(
        |([online, suspect, tried, room], weight, priority, health, active, key)| Candidate {
            online,
            weight,
            share: if key % 2 == 0 { WHOLE } else { FIRST },
            priority,
            health,
            suspect,
            tried,
            room,
            active,
            pass: key % 7,
            key,
        },
    )
}
