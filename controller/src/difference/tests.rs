use proptest::prelude::*;

use super::*;

/// The name of a real server and its weight; none: it is gone.
type Move = (u8, Option<i32>);

fn server(weight: i32) -> Resource {
    Resource::Server(Box::new(pb::RealServer { weight: Some(weight), ..Default::default() }))
}

fn apply(state: &mut Resources, difference: &Difference) {
    assert_eq!(state.get(&difference.name), difference.before.as_ref(), "{difference:?}");
    match &difference.after {
        Some(after) => state.insert(difference.name.clone(), after.clone()),
        None => state.remove(&difference.name),
    };
}

/// Every state there was, and the steps that led from each to the next.
fn walk(revisions: &[Vec<Move>]) -> (Vec<Resources>, Vec<Vec<Difference>>) {
    let (mut states, mut steps) = (vec![Resources::new()], Vec::new());
    for moves in revisions {
        let before = states.last().unwrap();
        let mut after = before.clone();
        for (name, weight) in moves {
            match weight {
                Some(weight) => after.insert(name.to_string(), server(*weight)),
                None => after.remove(&name.to_string()),
            };
        }
        let names: std::collections::BTreeSet<_> = before.keys().chain(after.keys()).collect();
        let step = |name: &String| Difference {
            name: name.clone(),
            before: before.get(name).cloned(),
            after: after.get(name).cloned(),
        };
        // Rewriting a resource as it is counts as a step, as in the database.
        steps.push(names.into_iter().map(step).collect());
        states.push(after);
    }
    (states, steps)
}

fn folded(steps: &[Vec<Difference>]) -> Passages {
    let mut passages = Passages::default();
    for Difference { name, before, after } in steps.iter().flatten().cloned() {
        passages.take(name, before, after);
    }
    passages
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_state_can_be_had_back_from_every_later_one(
        revisions in prop::collection::vec(
            prop::collection::vec((0_u8..5, prop::option::of(0..4)), 0..4), 0..12,
        ),
    ) {
        let (states, steps) = walk(&revisions);
        for from in 0..states.len() {
            for to in from..states.len() {
                let passages = folded(&steps[from..to]);
                prop_assert_eq!(&undone(states[to].clone(), &passages), &states[from]);
                let mut state = states[from].clone();
                passages.differences().iter().for_each(|difference| apply(&mut state, difference));
                prop_assert_eq!(&state, &states[to]);
            }
        }
    }
}

#[test]
fn what_was_last_is_known_of_what_is_gone() {
    let (_, steps) = walk(&[vec![(1, Some(5))], vec![(1, Some(6))], vec![(1, None)], vec![]]);
    assert_eq!(folded(&steps).last("1"), Some(&server(6)));
    assert_eq!(folded(&steps[2..]).last("1"), Some(&server(6)));
    assert!(folded(&steps).differences().is_empty(), "it came and went");
    assert_eq!(folded(&steps).last("2"), None);
}
