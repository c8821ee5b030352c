//! Rejections, aborts and statuses in the standard's own words: DICOM PS3.8, tables 9-21 and 9-26,
//! and PS3.7, annex C.

pub(super) fn rejection(result: u8, source: u8, reason: u8) -> String {
    let kind = match result {
        1 => "permanent",
        2 => "transient",
        _ => "result unknown",
    };
    let by = match source {
        1 => "service user",
        2 => "service provider, ACSE",
        3 => "service provider, presentation",
        _ => "source unknown",
    };
    let words = match (source, reason) {
        (1 | 2, 1) => "no reason given",
        (1, 2) => "application context name not supported",
        (1, 3) => "calling AE title not recognized",
        (1, 7) => "called AE title not recognized",
        (2, 2) => "protocol version not supported",
        (3, 1) => "temporary congestion",
        (3, 2) => "local limit exceeded",
        _ => return format!("association rejected: reason {reason} ({kind}, {by})"),
    };
    format!("association rejected: {words} ({kind}, {by})")
}

pub(super) fn abort(source: u8, reason: u8) -> String {
    let words = match (source, reason) {
        (0, _) => return "association aborted by the server".to_owned(),
        (2, 0) => "reason not specified",
        (2, 1) => "unrecognized PDU",
        (2, 2) => "unexpected PDU",
        (2, 4) => "unrecognized PDU parameter",
        (2, 5) => "unexpected PDU parameter",
        (2, 6) => "invalid PDU parameter value",
        _ => return format!("association aborted by the server: reason {reason}"),
    };
    format!("association aborted by the server: {words} (service provider)")
}

/// A C-ECHO status that is not success.
pub(super) fn status(status: u16) -> String {
    let words = match status {
        0x0110 => "processing failure",
        0x0122 => "SOP class not supported",
        0x0124 => "not authorized",
        0x0210 => "duplicate invocation",
        0x0211 => "unrecognized operation",
        0x0212 => "mistyped argument",
        0xA700..=0xA7FF => "out of resources",
        _ => return format!("C-ECHO answered 0x{status:04X}"),
    };
    format!("C-ECHO answered 0x{status:04X} ({words})")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rejections() {
        let cases = [
            ((1, 1, 7), "called AE title not recognized (permanent, service user)"),
            ((1, 1, 3), "calling AE title not recognized (permanent, service user)"),
            ((1, 1, 1), "no reason given (permanent, service user)"),
            ((1, 1, 2), "application context name not supported (permanent, service user)"),
            ((1, 2, 1), "no reason given (permanent, service provider, ACSE)"),
            ((1, 2, 2), "protocol version not supported (permanent, service provider, ACSE)"),
            ((2, 3, 1), "temporary congestion (transient, service provider, presentation)"),
            ((2, 3, 2), "local limit exceeded (transient, service provider, presentation)"),
            ((2, 3, 5), "reason 5 (transient, service provider, presentation)"),
            ((9, 9, 9), "reason 9 (result unknown, source unknown)"),
        ];
        for ((result, source, reason), expected) in cases {
            let expected = format!("association rejected: {expected}");
            assert_eq!(rejection(result, source, reason), expected);
        }
    }

    #[test]
    fn aborts() {
        let cases = [
            ((0, 0), "association aborted by the server"),
            ((2, 0), "association aborted by the server: reason not specified (service provider)"),
            ((2, 1), "association aborted by the server: unrecognized PDU (service provider)"),
            ((2, 2), "association aborted by the server: unexpected PDU (service provider)"),
            (
                (2, 4),
                "association aborted by the server: unrecognized PDU parameter (service provider)",
            ),
            (
                (2, 5),
                "association aborted by the server: unexpected PDU parameter (service provider)",
            ),
            (
                (2, 6),
                "association aborted by the server: invalid PDU parameter value (service provider)",
            ),
            ((2, 3), "association aborted by the server: reason 3"),
            ((1, 0), "association aborted by the server: reason 0"),
        ];
        for ((source, reason), expected) in cases {
            assert_eq!(abort(source, reason), expected);
        }
    }

    #[test]
    fn statuses() {
        assert_eq!(status(0x0110), "C-ECHO answered 0x0110 (processing failure)");
        assert_eq!(status(0xA700), "C-ECHO answered 0xA700 (out of resources)");
        assert_eq!(status(0xC123), "C-ECHO answered 0xC123");
    }
}
