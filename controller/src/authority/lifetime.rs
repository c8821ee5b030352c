//! How long certificates are good, as it is typed: `90d`, `12h`, `60s`.

use std::fmt;
use std::str::FromStr;

use gantry_runtime::identity::Validity;
use jiff::{SignedDuration, Span, SpanRelativeTo, Timestamp};

/// Clocks of appliances may be behind; never by so much that it counts.
const BACKDATED: SignedDuration = SignedDuration::from_hours(24);
const SHORTEST: SignedDuration = SignedDuration::from_secs(5);
const LONGEST: SignedDuration = SignedDuration::from_hours(24 * 3650);
const DEFAULT: SignedDuration = SignedDuration::from_hours(24 * 365);

/// How long a certificate is good from when it is issued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetime(SignedDuration);

impl Lifetime {
    /// From when until when a certificate issued now is good: never beyond its CA's end, and
    /// backdated by a day, but at most by a tenth of what it has before it. None when the CA's end
    /// has come.
    pub(super) fn from(self, now: Timestamp, ca_end: Timestamp) -> Option<Validity> {
        let until = ca_end.min(now + self.0);
        let from = now - BACKDATED.min(until.duration_since(now) / 10);
        (until > now).then_some(Validity { from, until })
    }
}

impl Default for Lifetime {
    fn default() -> Self {
        Self(DEFAULT)
    }
}

impl FromStr for Lifetime {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let span = text.parse::<Span>();
        let length = span.and_then(|span| span.to_duration(SpanRelativeTo::days_are_24_hours()));
        let length =
            length.map_err(|_| "give days, hours, minutes or seconds, such as 90d, 12h or 60s")?;
        if length < SHORTEST || length > LONGEST {
            return Err("certificates are good for 5s at least and 3650d at most".to_owned());
        }
        Ok(Self(length))
    }
}

impl fmt::Display for Lifetime {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_secs() {
            seconds if seconds % 86_400 == 0 => write!(out, "{}d", seconds / 86_400),
            seconds => write!(out, "{seconds}s"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_read_as_people_write_it() {
        for (text, expected) in [
            ("365d", Ok("365d")),
            ("12h", Ok("43200s")),
            ("60s", Ok("60s")),
            ("1d12h", Ok("129600s")),
            ("48h", Ok("2d")),
            ("5s", Ok("5s")),
            ("4s", Err("5s at least")),
            ("-1d", Err("5s at least")),
            ("3651d", Err("3650d at most")),
            ("1y", Err("give days")),
            ("soon", Err("give days")),
            ("60", Err("give days")),
            ("", Err("give days")),
        ] {
            match (text.parse::<Lifetime>(), expected) {
                (Ok(read), Ok(expected)) => assert_eq!(read.to_string(), expected),
                (Err(error), Err(words)) => assert!(error.contains(words), "{text}: {error}"),
                (read, _) => panic!("{text}: {read:?}"),
            }
        }
        assert_eq!(Lifetime::default().to_string(), "365d");
    }

    #[test]
    fn it_begins_a_little_before_now_and_ends_with_the_ca() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let far = now + SignedDuration::from_hours(24 * 5000);
        for (text, ca_end, expected) in [
            ("365d", far, Some((24 * 3600, 365 * 24 * 3600))),
            ("100h", far, Some((10 * 3600, 100 * 3600))),
            ("60s", far, Some((6, 60))),
            ("60s", now + SignedDuration::from_secs(30), Some((3, 30))),
            ("60s", now, None),
            ("60s", now - SignedDuration::from_secs(1), None),
        ] {
            let lifetime: Lifetime = text.parse().unwrap();
            let validity = lifetime.from(now, ca_end);
            let seconds = |validity: Validity| {
                let before = now.duration_since(validity.from).as_secs();
                (before, validity.until.duration_since(now).as_secs())
            };
            assert_eq!(validity.map(seconds), expected, "{text}");
        }
    }
}
