//! How messages of HL7 are carried.

use std::num::NonZeroU16;
use std::time::Duration;

use gantry_proto::v1 as pb;
use pb::layer7::mllp::Balancing;

use super::{SHORTEST, choice, duration, duration_message};
use crate::mllp::Mllp;
use crate::violation::Violations;
use crate::wire::number;

const LENGTHS: std::ops::RangeInclusive<i32> = 1024..=64 << 20;
const LONGEST_WINDOW: Duration = Duration::from_secs(24 * 3600);
const MOST_NEGATIVES: u32 = 1000;

pub(super) fn mllp(violations: &mut Violations, message: &pb::layer7::Mllp) -> Option<Mllp> {
    let default = Mllp::default();
    let balancing = choice::<Balancing>(violations, "balancing", message.balancing)?;
    let field = "acknowledgement_timeout";
    let timeout = duration(violations, field, message.acknowledgement_timeout, SHORTEST);
    let longest_message = match message.max_message_bytes {
        0 => Some(default.longest_message),
        given if LENGTHS.contains(&given) => u32::try_from(given).ok(),
        given => {
            let what = format!("{given} is out of range: use 1024 to 67108864, or 0 for 16777216");
            violations.add("max_message_bytes", "OUT_OF_RANGE", what);
            None
        }
    };
    let window = duration(violations, "replay_window", message.replay_window, SHORTEST);
    if window.is_some_and(|window| window > LONGEST_WINDOW) {
        violations.add("replay_window", "INVALID_DURATION", "is too long: use at most 24h");
    }
    if window.is_some() && message.replay_disabled {
        let what = "says how long acknowledgements are kept, and replay_disabled that none is: leave \
                    one out";
        violations.add("replay_window", "EXCLUDES_REPLAY_DISABLED", what);
    }
    let field = "negative_acknowledgements";
    let negatives = number(violations, field, message.negative_acknowledgements, MOST_NEGATIVES);
    let negatives = u16::try_from(negatives).ok().and_then(NonZeroU16::new);
    Some(Mllp {
        by_message: balancing == Balancing::Message,
        acknowledgement_timeout: timeout.unwrap_or(default.acknowledgement_timeout),
        longest_message: longest_message?,
        resend_in_doubt: message.resend_in_doubt,
        replay_window: (!message.replay_disabled).then(|| window.unwrap_or(Mllp::REPLAY_WINDOW)),
        negatives: negatives.unwrap_or(default.negatives),
    })
}

/// None if nothing is said that would not hold anyway.
pub(super) fn mllp_message(mllp: &Mllp) -> Option<pb::layer7::Mllp> {
    let balancing = if mllp.by_message { Balancing::Message } else { Balancing::Connection };
    (*mllp != Mllp::default()).then(|| pb::layer7::Mllp {
        balancing: balancing.into(),
        acknowledgement_timeout: Some(duration_message(mllp.acknowledgement_timeout)),
        max_message_bytes: i32::try_from(mllp.longest_message).unwrap_or_default(),
        resend_in_doubt: mllp.resend_in_doubt,
        replay_window: mllp.replay_window.map(duration_message),
        replay_disabled: mllp.replay_window.is_none(),
        negative_acknowledgements: mllp.negatives.get().into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    type Wire = pb::layer7::Mllp;

    fn read(message: &Wire) -> (Option<Mllp>, Vec<String>) {
        let mut violations = Violations::new();
        let read = mllp(&mut violations, message);
        let found = violations.into_found();
        (read, found.into_iter().map(|it| format!("{} {}", it.field, it.reason)).collect())
    }

    fn seconds(seconds: i64) -> Option<prost_types::Duration> {
        Some(prost_types::Duration { seconds, nanos: 0 })
    }

    #[test]
    fn settings_are_read_and_written() {
        let all = Wire {
            balancing: Balancing::Message.into(),
            acknowledgement_timeout: seconds(7),
            max_message_bytes: 4096,
            resend_in_doubt: true,
            replay_window: seconds(60),
            replay_disabled: false,
            negative_acknowledgements: 9,
        };
        let without = Wire { replay_window: None, replay_disabled: true, ..all };
        for message in [all, without] {
            let (mllp, found) = read(&message);
            assert_eq!(found, <[&str; 0]>::default());
            assert_eq!(mllp.and_then(|mllp| mllp_message(&mllp)), Some(message));
        }
        assert_eq!(read(&Wire::default()).0, Some(Mllp::default()));
        assert_eq!(mllp_message(&Mllp::default()), None);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let nothing = Wire::default;
        for (message, expected) in [
            (Wire { balancing: 9, ..nothing() }, "balancing UNKNOWN_VALUE"),
            (
                Wire { acknowledgement_timeout: seconds(0), ..nothing() },
                "acknowledgement_timeout INVALID_DURATION",
            ),
            (Wire { max_message_bytes: 1023, ..nothing() }, "max_message_bytes OUT_OF_RANGE"),
            (Wire { max_message_bytes: i32::MAX, ..nothing() }, "max_message_bytes OUT_OF_RANGE"),
            (
                Wire { replay_window: seconds(86_401), ..nothing() },
                "replay_window INVALID_DURATION",
            ),
            (
                Wire { replay_window: seconds(9), replay_disabled: true, ..nothing() },
                "replay_window EXCLUDES_REPLAY_DISABLED",
            ),
            (
                Wire { negative_acknowledgements: 1001, ..nothing() },
                "negative_acknowledgements OUT_OF_RANGE",
            ),
        ] {
            assert_eq!(read(&message).1, [expected]);
        }
    }
}
