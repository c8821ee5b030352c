//! Which state of the configuration is meant, and how two holders know that they hold the same.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest, Sha256};

/// Orders all configuration that a controller has ever committed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision {
    /// Grows when another controller takes over or a backup is restored.
    pub epoch: u64,
    /// Grows by one with every committed change.
    pub number: u64,
}

/// A hash over a set of named items that changes in proportion to a change of the set: the
/// exclusive or of the SHA-256 of each item. It tells holders apart that drifted, which is its
/// purpose; it is no defence against somebody who chooses the items.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct SetHash([u8; 32]);

impl SetHash {
    /// Puts an item in that is not there, or takes out one that is.
    pub fn toggle(&mut self, item: &ItemHash) {
        for (mine, theirs) in self.0.iter_mut().zip(item.0) {
            *mine ^= theirs;
        }
    }
}

/// The hash of one item of a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ItemHash([u8; 32]);

impl ItemHash {
    pub fn of(name: &str, content: &[u8]) -> Self {
        let mut hasher = Sha256::new();
        hasher.update((name.len() as u64).to_be_bytes());
        hasher.update(name.as_bytes());
        hasher.update(content);
        Self(hasher.finalize().into())
    }
}

/// Text that is not a hash.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a hash of 64 hexadecimal digits")]
pub struct HashError(String);

impl fmt::Display for Revision {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}.{}", self.epoch, self.number)
    }
}

impl fmt::Display for SetHash {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(out, "{byte:02x}"))
    }
}

impl fmt::Debug for SetHash {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}

impl FromStr for SetHash {
    type Err = HashError;

    fn from_str(text: &str) -> Result<Self, HashError> {
        let bad = || HashError(text.chars().take(80).collect());
        if text.len() != 64 || !text.is_ascii() {
            return Err(bad());
        }
        let mut bytes = [0; 32];
        for (at, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).map_err(|_| bad())?;
        }
        Ok(Self(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_does_not_matter_and_taking_out_undoes_putting_in() {
        let (a, b) = (ItemHash::of("a", b"1"), ItemHash::of("b", b"2"));
        let (mut one, mut other) = (SetHash::default(), SetHash::default());
        one.toggle(&a);
        one.toggle(&b);
        other.toggle(&b);
        other.toggle(&a);
        assert_eq!(one, other);
        other.toggle(&a);
        other.toggle(&b);
        assert_eq!(other, SetHash::default());
    }

    #[test]
    fn name_and_content_do_not_run_together() {
        assert_ne!(ItemHash::of("ab", b"c"), ItemHash::of("a", b"bc"));
    }

    #[test]
    fn a_hash_parses_as_it_prints() {
        let mut hash = SetHash::default();
        hash.toggle(&ItemHash::of("a", b"1"));
        assert_eq!(hash.to_string().parse(), Ok(hash));
        assert!("zz".parse::<SetHash>().is_err());
        assert!("é".repeat(32).parse::<SetHash>().is_err());
    }

    #[test]
    fn epoch_weighs_more_than_number() {
        assert!(Revision { epoch: 2, number: 1 } > Revision { epoch: 1, number: 9 });
    }
}
