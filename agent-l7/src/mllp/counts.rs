//! What is counted of messages, for a service and for each of its real servers.

use std::collections::BTreeMap;
use std::time::Duration;

use gantry_medical::hl7::Code;
use parking_lot::Mutex;

use crate::stats::{Count, MllpSample};

#[derive(Debug, Default)]
pub(crate) struct MllpCounts {
    messages: Count,
    /// Acknowledgements by code, in the order of [`CODES`].
    codes: [Count; CODES.len()],
    /// How long these took together, in microseconds.
    waited: Count,
    pub(crate) in_doubt: Count,
    pub(crate) resent: Count,
    pub(crate) replayed: Count,
    pub(crate) reused: Count,
    pub(crate) strays: Count,
    types: Mutex<BTreeMap<Box<str>, u64>>,
}

/// What an answer may say. None: it cannot be read.
const CODES: [Option<Code>; 7] = [
    Some(Code::ApplicationAccept),
    Some(Code::ApplicationError),
    Some(Code::ApplicationReject),
    Some(Code::CommitAccept),
    Some(Code::CommitError),
    Some(Code::CommitReject),
    None,
];
/// Types that are counted: anybody may call his messages anything.
const TYPES: usize = 100;

impl MllpCounts {
    /// A message of this type.
    pub(crate) fn message(&self, kind: &str) {
        self.messages.add(1);
        let mut types = self.types.lock();
        if let Some(count) = types.get_mut(kind) {
            *count += 1;
        } else if types.len() < TYPES {
            types.insert(kind.into(), 1);
        }
    }

    /// A message was answered after so long.
    pub(crate) fn answered(&self, code: Option<Code>, after: Duration) {
        if let Some(at) = CODES.iter().position(|one| *one == code) {
            self.codes[at].add(1);
        }
        self.waited.add(u64::try_from(after.as_micros()).unwrap_or(u64::MAX));
    }

    /// All that only grow, but for those of types: in an order that stays.
    pub(crate) fn all(&self) -> [&Count; 14] {
        let [aa, ae, ar, ca, ce, cr, unreadable] = &self.codes;
        let Self { messages, waited, in_doubt, resent, replayed, reused, strays, .. } = self;
        [
            messages, aa, ae, ar, ca, ce, cr, unreadable, waited, in_doubt, resent, replayed,
            reused, strays,
        ]
    }

    pub(crate) fn sample(&self) -> MllpSample {
        let of_code = |(code, count): (&Option<Code>, &Count)| (*code, count.get());
        let types = self.types.lock();
        MllpSample {
            messages: self.messages.get(),
            codes: CODES.iter().zip(&self.codes).map(of_code).filter(|(_, n)| *n > 0).collect(),
            waited: Duration::from_micros(self.waited.get()),
            in_doubt: self.in_doubt.get(),
            resent: self.resent.get(),
            replayed: self.replayed.get(),
            reused: self.reused.get(),
            strays: self.strays.get(),
            types: types.iter().map(|(kind, count)| (kind.to_string(), *count)).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_occurred_is_told_and_no_more_types_than_so_many() {
        let counts = MllpCounts::default();
        assert_eq!(counts.sample(), MllpSample::default());
        for at in 0..2 * TYPES {
            counts.message(&format!("ADT^A{at:03}"));
            counts.message("ADT^A000");
        }
        counts.answered(Some(Code::ApplicationError), Duration::from_millis(3));
        counts.answered(None, Duration::from_millis(4));
        let sample = counts.sample();
        assert_eq!(sample.messages, 4 * TYPES as u64);
        assert_eq!(sample.codes, [(Some(Code::ApplicationError), 1), (None, 1)]);
        assert_eq!(sample.waited, Duration::from_millis(7));
        assert_eq!(sample.types.len(), TYPES);
        assert_eq!(sample.types[0], ("ADT^A000".to_owned(), 2 * TYPES as u64 + 1));
    }
}
