//! How the connections of a virtual service fared.

use std::fmt::Write;
use std::time::Duration;

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

/// Who waits for a real server, and how long that takes.
pub(super) fn queue(queue: Option<&v1::QueueStatus>) -> String {
    let Some(queue) = queue else { return String::new() };
    let mut told = match &queue.longest_wait {
        Some(longest) => format!("{} wait, the first for {}", queue.queued, wait(longest)),
        None => format!("{} wait", queue.queued),
    };
    if let Some(mean) = &queue.mean_wait {
        let _ = write!(told, "; {} served after {} on average", queue.served_total, wait(mean));
    }
    told
}

/// How clients are kept on their real servers.
pub(super) fn persistence(persistence: Option<&v1::PersistenceStatus>) -> String {
    let Some(v1::PersistenceStatus { clients, new_total, kept_total, moved_total }) = persistence
    else {
        return String::new();
    };
    format!("{clients} clients; {new_total} new, {kept_total} kept, {moved_total} moved")
}

fn wait(message: &prost_types::Duration) -> String {
    let wait = Duration::try_from(*message).unwrap_or_default();
    match wait.as_secs() {
        0 => format!("{} ms", wait.as_millis()),
        1..60 => format!("{:.1} s", wait.as_secs_f64()),
        seconds => format!("{} min {} s", seconds / 60, seconds % 60),
    }
}

#[cfg(test)]
mod tests {
    use v1::ended::Termination;

    use super::*;

    #[test]
    fn waits_are_told_by_their_length() {
        let of = |seconds, nanos| Some(prost_types::Duration { seconds, nanos });
        let told = |queued, longest_wait, served_total, mean_wait| {
            queue(Some(&v1::QueueStatus { queued, longest_wait, served_total, mean_wait }))
        };
        assert_eq!(queue(None), "");
        assert_eq!(told(0, None, 0, None), "0 wait");
        let both = told(3, of(75, 0), 8, of(0, 40_900_000));
        assert_eq!(both, "3 wait, the first for 1 min 15 s; 8 served after 40 ms on average");
        assert_eq!(told(1, of(2, 250_000_000), 0, None), "1 wait, the first for 2.2 s");
    }

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
