//! How the connections of a virtual service fared.

use std::fmt::Write;

use gantry_model::wire;
use gantry_proto::v1;

/// Why connections have ended since the agents started.
pub(super) fn ended(text: &mut String, ended: &[v1::Ended]) {
    if !ended.is_empty() {
        text.push_str("\nConnections that ended:\n");
    }
    for one in ended {
        let (name, why) = match wire::termination(one.reason) {
            Some(reason) => (reason.name(), reason.as_str()),
            None => ("UNKNOWN", "for a reason that this release does not know"),
        };
        let _ = writeln!(text, "  {:8} {name:31} {why}", one.connections_total);
    }
}

#[cfg(test)]
mod tests {
    use v1::ended::Termination;

    use super::*;

    #[test]
    fn reasons_are_told_in_words() {
        let mut text = String::new();
        ended(&mut text, &[]);
        assert_eq!(text, "");
        let queue = Termination::QueueTimeout.into();
        let all = [(queue, 12), (9999, 1)];
        ended(
            &mut text,
            &all.map(|(reason, connections_total)| v1::Ended { reason, connections_total }),
        );
        let wanted = "
Connections that ended:
        12 QUEUE_TIMEOUT                   its time in the queue was over
         1 UNKNOWN                         for a reason that this release does not know
";
        assert_eq!(text, wanted);
    }
}
