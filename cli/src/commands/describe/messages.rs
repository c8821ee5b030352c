//! Messages of HL7, and how they were acknowledged.

use std::fmt::Write;
use std::time::Duration;

use gantry_proto::v1;

/// What came, or what a real server was sent.
pub(super) fn messages(text: &mut String, mllp: Option<&v1::MllpStatistics>) {
    let Some(mllp) = mllp else { return };
    let _ = writeln!(text, "\nMessages: {}", mllp.messages_total);
    let total: i64 = mllp.acknowledgements.iter().map(|one| one.total).sum();
    let took = mllp.acknowledgement_time_total.and_then(|time| Duration::try_from(time).ok());
    let mean = took.unwrap_or_default().as_secs_f64() * 1000.0 / (total.max(1) as f64);
    for one in &mllp.acknowledgements {
        let code = if one.code.is_empty() { "unreadable" } else { &one.code };
        let _ = writeln!(text, "  {:8} acknowledged: {code}", one.total);
    }
    if total > 0 {
        let _ = writeln!(text, "  {mean:8.1} ms from a message to its acknowledgement, on average");
    }
    for (count, what) in [
        (mllp.in_doubt_total, "in doubt: sent to a real server, and not acknowledged"),
        (mllp.resent_total, "of these sent to another one at once"),
        (mllp.replayed_total, "repeated, and answered with the acknowledgement that was kept"),
        (mllp.reused_control_ids_total, "with the control id of another message"),
        (mllp.strays_total, "answers that nobody waited for"),
    ] {
        if count > 0 {
            let _ = writeln!(text, "  {count:8} {what}");
        }
    }
    for one in &mllp.types {
        let _ = writeln!(text, "  {:8} of type {}", one.total, one.r#type);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_occurred_is_told() {
        let acknowledged =
            |code: &str, total| v1::AcknowledgementCount { code: code.into(), total };
        let mllp = v1::MllpStatistics {
            messages_total: 12,
            acknowledgements: vec![acknowledged("AA", 9), acknowledged("", 1)],
            acknowledgement_time_total: Some(prost_types::Duration {
                seconds: 0,
                nanos: 24_000_000,
            }),
            in_doubt_total: 2,
            types: vec![v1::MessageTypeCount { r#type: "ADT^A01".into(), total: 12 }],
            ..Default::default()
        };
        let mut text = String::new();
        messages(&mut text, Some(&mllp));
        let expected = "
Messages: 12
         9 acknowledged: AA
         1 acknowledged: unreadable
       2.4 ms from a message to its acknowledgement, on average
         2 in doubt: sent to a real server, and not acknowledged
        12 of type ADT^A01
";
        assert_eq!(text, expected);
        messages(&mut text, None);
        assert_eq!(text, expected);
    }
}
