//! A-ABORT: an association that ends at once (PS3.8, section 9.3.8, table 9-26).

/// Who ends an association.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AbortSource {
    /// The application.
    User = 0,
    /// What carries its messages.
    Provider = 2,
}

/// An end at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Abort {
    pub source: AbortSource,
    /// Of the provider; 0: none is given.
    pub reason: u8,
}

impl Abort {
    /// The other side is gone.
    pub const PROVIDER: Self = Self { source: AbortSource::Provider, reason: 0 };

    /// Reads a whole protocol data unit; none if it is no such. A source that the standard does not have
    /// counts as the provider.
    pub fn read(unit: &[u8]) -> Option<Self> {
        let [7, _, 0, 0, 0, 4, _, _, source, reason] = *unit else { return None };
        let source = if source == 0 { AbortSource::User } else { AbortSource::Provider };
        Some(Self { source, reason })
    }

    pub fn write(self) -> [u8; 10] {
        [7, 0, 0, 0, 0, 4, 0, 0, self.source as u8, self.reason]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_abort_says_who_and_why() {
        let user = Abort { source: AbortSource::User, reason: 0 };
        assert_eq!(user.write(), [7, 0, 0, 0, 0, 4, 0, 0, 0, 0]);
        assert_eq!(Abort::PROVIDER.write(), [7, 0, 0, 0, 0, 4, 0, 0, 2, 0]);
        for abort in [user, Abort::PROVIDER, Abort { reason: 2, ..Abort::PROVIDER }] {
            assert_eq!(Abort::read(&abort.write()), Some(abort));
        }
        assert_eq!(Abort::read(&[7, 0, 0, 0, 0, 4, 0, 0, 2]), None);
    }
}
