//! What comes of connections to a real server that fail.

use std::num::NonZeroU8;

use gantry_proto::v1 as pb;

use super::SHORTEST;
use crate::service::PassiveHealth;
use crate::violation::Violations;
use crate::wire::{duration, duration_message, number};

const MOST_FAILURES: u32 = 100;

pub(super) fn passive_health(
    violations: &mut Violations,
    message: Option<&pb::layer7::PassiveHealth>,
) -> PassiveHealth {
    let default = PassiveHealth::DEFAULT;
    let Some(message) = message else { return default };
    violations.within("passive_health", |violations| {
        let failures = number(violations, "failures", message.failures, MOST_FAILURES);
        let failures = u8::try_from(failures).ok().and_then(NonZeroU8::new);
        let hold = duration(violations, "hold", message.hold, SHORTEST);
        PassiveHealth {
            failures: failures.unwrap_or(default.failures),
            hold: hold.unwrap_or(default.hold),
            disabled: message.disabled,
        }
    })
}

pub(super) fn passive_health_message(
    passive_health: &PassiveHealth,
) -> Option<pb::layer7::PassiveHealth> {
    (*passive_health != PassiveHealth::DEFAULT).then(|| pb::layer7::PassiveHealth {
        failures: passive_health.failures.get().into(),
        hold: Some(duration_message(passive_health.hold)),
        disabled: passive_health.disabled,
    })
}

#[cfg(test)]
mod tests {
    use prost_types::Duration;

    use super::*;

    type Wire = pb::layer7::PassiveHealth;

    fn read(message: Option<Wire>) -> (Option<Wire>, Vec<String>) {
        let mut violations = Violations::new();
        let read = passive_health(&mut violations, message.as_ref());
        let found = violations.into_found();
        let found = found.into_iter().map(|v| format!("{} {}", v.field, v.reason)).collect();
        (passive_health_message(&read), found)
    }

    fn of(failures: i32, seconds: Option<i64>) -> Wire {
        let hold = seconds.map(|seconds| Duration { seconds, nanos: 0 });
        Wire { failures, hold, disabled: false }
    }

    #[test]
    fn what_is_absent_is_as_ever_and_the_rest_comes_back() {
        let off = Wire { disabled: true, ..of(0, None) };
        let cases = [
            (None, None),
            (Some(Wire::default()), None),
            (Some(of(1, Some(1))), None),
            (Some(of(3, None)), Some(of(3, Some(1)))),
            (Some(of(0, Some(60))), Some(of(1, Some(60)))),
            (Some(of(100, Some(365 * 24 * 3600))), Some(of(100, Some(365 * 24 * 3600)))),
            (Some(off), Some(Wire { disabled: true, ..of(1, Some(1)) })),
        ];
        for (given, expected) in cases {
            assert_eq!(read(given), (expected, Vec::new()), "{given:?}");
        }
    }

    #[test]
    fn what_is_wrong_is_told_all_at_once() {
        let failures = "passive_health.failures OUT_OF_RANGE";
        let hold = "passive_health.hold INVALID_DURATION";
        let cases: [(Wire, &[&str]); 4] = [
            (of(101, None), &[failures]),
            (of(-1, Some(1)), &[failures]),
            (of(1, Some(0)), &[hold]),
            (of(101, Some(-1)), &[failures, hold]),
        ];
        for (given, expected) in cases {
            assert_eq!(read(Some(given)).1, expected, "{given:?}");
        }
    }
}
