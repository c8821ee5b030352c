//! What is wrong with the disk or the file when the database fails: told in words that name the way
//! out, and not in SQLite's numbers.

use std::{fmt, io};

use super::StoreError;

/// What somebody has to put right before the store works again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    DiskFull,
    ReadOnly,
    /// The disk answers with errors.
    Disk,
    /// The file is not a database, or no longer.
    Damaged,
    /// Another program holds the database.
    Held,
}

impl Trouble {
    /// Stable, for programs.
    pub fn reason(self) -> &'static str {
        match self {
            Self::DiskFull => "DISK_FULL",
            Self::ReadOnly => "DISK_READ_ONLY",
            Self::Disk => "DISK_FAILING",
            Self::Damaged => "DATABASE_DAMAGED",
            Self::Held => "DATABASE_HELD",
        }
    }

    fn of(source: &sqlx::Error) -> Option<Self> {
        if let sqlx::Error::Io(error) = source {
            return match error.kind() {
                io::ErrorKind::StorageFull => Some(Self::DiskFull),
                io::ErrorKind::ReadOnlyFilesystem => Some(Self::ReadOnly),
                _ => Some(Self::Disk),
            };
        }
        let code = source.as_database_error()?.code()?;
        Self::of_code(code.parse().ok()?)
    }

    /// By SQLite's result code; the low byte is its kind, the rest says more.
    fn of_code(code: u32) -> Option<Self> {
        // No room for one more page of the index of the write-ahead log.
        const NO_ROOM_FOR_INDEX: u32 = 10 | (19 << 8);
        match (code, code & 0xff) {
            (_, 13) | (NO_ROOM_FOR_INDEX, _) => Some(Self::DiskFull),
            (_, 8) => Some(Self::ReadOnly),
            (_, 10 | 14) => Some(Self::Disk),
            (_, 11 | 26) => Some(Self::Damaged),
            (_, 5 | 6) => Some(Self::Held),
            _ => None,
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::DiskFull => {
                "the disk is full: make room on the disk with the controller's state; no restart \
                 is needed"
            }
            Self::ReadOnly => {
                "the disk with the controller's state is read-only: find out why (dmesg) and mount \
                 it read-write"
            }
            Self::Disk => {
                "the disk with the controller's state does not take it: it fails, or is read-only \
                 since an error; look at the kernel's log (dmesg)"
            }
            Self::Damaged => {
                "the database is damaged: stop the controller and restore a backup with \
                 `gantry-controller restore FILE --force`, which keeps the damaged one aside"
            }
            Self::Held => "another program holds the database: end it, then repeat this",
        })
    }
}

impl StoreError {
    /// What has to be put right, where that is known.
    pub fn trouble(&self) -> Option<Trouble> {
        match self {
            Self::Open { source, .. } | Self::Read { source, .. } | Self::Write { source, .. } => {
                Trouble::of(source)
            }
            Self::Migrate { source, .. } => match source {
                sqlx::migrate::MigrateError::Execute(source)
                | sqlx::migrate::MigrateError::ExecuteMigration(source, _) => Trouble::of(source),
                _ => None,
            },
            Self::Row { .. } => Some(Trouble::Damaged),
            Self::Newer { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_of_the_same_kind_mean_the_same_trouble() {
        for (code, trouble) in [
            (13, Some(Trouble::DiskFull)),
            (4874, Some(Trouble::DiskFull)),
            (8, Some(Trouble::ReadOnly)),
            (1032, Some(Trouble::ReadOnly)),
            (778, Some(Trouble::Disk)),
            (14, Some(Trouble::Disk)),
            (11, Some(Trouble::Damaged)),
            (26, Some(Trouble::Damaged)),
            (5, Some(Trouble::Held)),
            // A constraint is the request's trouble.
            (2067, None),
        ] {
            assert_eq!(Trouble::of_code(code), trouble, "{code}");
        }
    }
}
