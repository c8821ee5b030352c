use super::*;

fn applied(outcome: Outcome, epoch: i64, number: i64) -> pb::Applied {
    pb::Applied {
        outcome: outcome.into(),
        revision: Some(pb::Revision { epoch, number }),
        hash: format!("{epoch}.{number}"),
        ..Default::default()
    }
}

fn refused(reason: &str, epoch: i64, number: i64) -> pb::Applied {
    pb::Applied { refusal: reason.to_owned(), ..applied(Outcome::Refused, epoch, number) }
}

#[test]
fn a_refusal_is_news_when_it_begins_and_again_after_something_was_taken() {
    use Taken::{InForce, RefusedFromNowOn, RefusedStill};
    let mut agent = Agent::new(Timestamp::UNIX_EPOCH);
    for (offer, taken) in [
        (applied(Outcome::Applied, 1, 5), InForce),
        (refused("OLDER_REVISION", 1, 3), RefusedFromNowOn),
        (refused("OLDER_REVISION", 1, 3), RefusedStill),
        (refused("OLDER_REVISION", 1, 4), RefusedStill),
        // The stream began anew, and so did the report.
        (applied(Outcome::Applied, 1, 5), InForce),
        (refused("OLDER_REVISION", 1, 4), RefusedStill),
        (refused("OTHER_CONTENT", 1, 5), RefusedFromNowOn),
        (applied(Outcome::Held, 1, 6), RefusedFromNowOn),
        (applied(Outcome::Held, 1, 7), RefusedStill),
        (applied(Outcome::Held, 2, 7), RefusedFromNowOn),
        (applied(Outcome::Partial, 2, 7), InForce),
        (applied(Outcome::Held, 2, 8), RefusedFromNowOn),
    ] {
        assert_eq!(agent.take_applied(offer.clone()), taken, "{offer:?}");
    }
}

#[test]
fn what_is_not_taken_does_not_hide_what_is_in_force() {
    let mut agent = Agent::new(Timestamp::UNIX_EPOCH);
    let (before, held) = (applied(Outcome::Partial, 1, 5), applied(Outcome::Held, 2, 6));
    agent.take_applied(before.clone());
    agent.take_applied(held.clone());
    assert_eq!((agent.applied.as_ref(), agent.held_back()), (Some(&before), Some(&held)));
    agent.take_applied(refused("OLDER_EPOCH", 0, 9));
    assert_eq!((agent.applied.as_ref(), agent.held_back()), (Some(&before), None));
    agent.take_applied(before.clone());
    assert_eq!((agent.applied.as_ref(), agent.not_taken.as_ref()), (Some(&before), None));
}
