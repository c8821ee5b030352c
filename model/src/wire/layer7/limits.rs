//! How many connections one client may have.

use std::num::NonZeroU32;

use gantry_proto::v1 as pb;

use crate::service::ClientLimits;
use crate::violation::Violations;
use crate::wire::number;

const MOST: u32 = 1_000_000;

/// None where nothing is limited.
pub(super) fn client_limits(
    violations: &mut Violations,
    message: Option<&pb::layer7::ClientLimits>,
) -> Option<ClientLimits> {
    let message = message?;
    violations.within("client_limits", |violations| {
        let mut read = |field, given| NonZeroU32::new(number(violations, field, given, MOST));
        let limits = ClientLimits {
            connections: read("connections", message.connections),
            per_second: read("connections_per_second", message.connections_per_second),
        };
        (limits != ClientLimits::default()).then_some(limits)
    })
}

pub(super) fn client_limits_message(limits: &ClientLimits) -> pb::layer7::ClientLimits {
    let number = |limit: Option<NonZeroU32>| {
        limit.and_then(|limit| i32::try_from(limit.get()).ok()).unwrap_or_default()
    };
    pb::layer7::ClientLimits {
        connections: number(limits.connections),
        connections_per_second: number(limits.per_second),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read_and_written_or_found_out_of_range() {
        for (connections, connections_per_second, found) in [
            (0, 0, &[][..]),
            (5, 0, &[]),
            (0, 100, &[]),
            (1_000_000, 1, &[]),
            (-1, 1_000_001, &["connections", "connections_per_second"]),
        ] {
            let message = pb::layer7::ClientLimits { connections, connections_per_second };
            let mut violations = Violations::new();
            let read = client_limits(&mut violations, Some(&message));
            let fields: Vec<_> = violations.into_found().into_iter().map(|it| it.field).collect();
            assert_eq!(
                fields,
                found.iter().map(|f| format!("client_limits.{f}")).collect::<Vec<_>>()
            );
            if fields.is_empty() {
                let back = read.as_ref().map(client_limits_message).unwrap_or_default();
                assert_eq!(back, message);
                assert_eq!(read.is_some(), message != pb::layer7::ClientLimits::default());
            }
        }
    }
}
