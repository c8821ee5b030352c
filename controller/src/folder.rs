//! The state folder: made at the first start, and held by one process at a time.
//!
//! It is held by a lock on a file in it, which the kernel lets go when the process ends, however it
//! ends. Two controllers on one database would each believe in a state that the other changes.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

const LOCK: &str = "lock";
const DATABASE: &str = "gantry.db";
const RESTORING: &str = "restoring";

/// A state folder that is ours as long as this lives.
#[derive(Debug)]
pub struct StateFolder {
    path: PathBuf,
    /// Holds the folder.
    _lock: File,
}

/// The folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    #[error("a controller runs on {path} already{holder}: stop it first, or use another folder (--state)", path = .path.display())]
    InUse { path: PathBuf, holder: String },
    #[error("{path} is on a disk that is read-only: find out why (dmesg) and mount it read-write, or use another folder (--state)", path = .path.display())]
    ReadOnly { path: PathBuf },
    #[error("{path} is on a disk that is full: make room there", path = .path.display())]
    Full { path: PathBuf },
    #[error("{path} cannot be used: give it to the user that the controller runs as, or use another folder (--state)", path = .path.display())]
    Refused {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("a restore into {path} did not come to its end: repeat it, with --force", path = .path.display())]
    HalfRestored { path: PathBuf },
}

impl StateFolder {
    /// Makes the folder if it is missing, and holds it.
    pub fn hold(path: &Path) -> Result<Self, FolderError> {
        let failed = |source| FolderError::of(path, source);
        // Keys and the hashes of tokens are in there.
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed)?;
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let mut lock = options.open(path.join(LOCK)).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let holder = holder(&mut lock);
                return Err(FolderError::InUse { path: path.to_owned(), holder });
            }
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        // Only for the message above: a full disk is no reason not to start.
        let _ = lock.set_len(0).and_then(|()| write!(lock, "{}", std::process::id()));
        Ok(Self { path: path.to_owned(), _lock: lock })
    }

    /// Refuses a folder in which a restore was interrupted: what is in it may be half of each.
    pub fn whole(self) -> Result<Self, FolderError> {
        match self.restoring().exists() {
            true => Err(FolderError::HalfRestored { path: self.path }),
            false => Ok(self),
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn database(&self) -> PathBuf {
        database(&self.path)
    }

    /// Where a restore makes ready what it is going to put in place.
    pub fn restoring(&self) -> PathBuf {
        self.path.join(RESTORING)
    }
}

/// Where the database is in a state folder.
pub fn database(folder: &Path) -> PathBuf {
    folder.join(DATABASE)
}

impl FolderError {
    fn of(path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::ReadOnlyFilesystem => Self::ReadOnly { path },
            io::ErrorKind::StorageFull => Self::Full { path },
            _ => Self::Refused { path, source },
        }
    }
}

fn holder(lock: &mut File) -> String {
    let mut text = String::new();
    match lock.read_to_string(&mut text) {
        Ok(_) if !text.is_empty() => format!(" (process {text})"),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_held_once_and_free_again_afterwards() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        let held = StateFolder::hold(&path).unwrap();
        let refused = StateFolder::hold(&path).unwrap_err().to_string();
        assert!(refused.contains("runs on"), "{refused}");
        assert!(refused.contains(&format!("(process {})", std::process::id())), "{refused}");
        drop(held);
        StateFolder::hold(&path).unwrap();
    }

    #[test]
    fn a_folder_in_the_middle_of_a_restore_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let folder = StateFolder::hold(dir.path()).unwrap();
        std::fs::create_dir(folder.restoring()).unwrap();
        assert!(matches!(folder.whole(), Err(FolderError::HalfRestored { .. })));
    }
}
