//! The built-in authority's files, whole at any moment.
//!
//! `ca.pem` and `ca-key.pem` are the CA; while it is being replaced, `next-ca.pem` and
//! `next-ca-key.pem` are the one that comes. Two files cannot be renamed at once, so there is an
//! order: a key is there before its certificate, and follows it when it becomes the present one. What a
//! crash leaves half done is known by which key belongs to which certificate, and is ended or undone.

use std::path::{Path, PathBuf};

use gantry_runtime::identity::{self, IdentityError};

use super::AuthorityError;
use super::ca::{self, Ca};

/// The folder that the files are in.
#[derive(Debug)]
pub(super) struct Files {
    dir: PathBuf,
}

/// What the files hold.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) present: Ca,
    /// The CA that comes, while the present one is being replaced.
    pub(super) next: Option<Ca>,
}

const CA: &str = "ca.pem";
const KEY: &str = "ca-key.pem";
const NEXT_CA: &str = "next-ca.pem";
const NEXT_KEY: &str = "next-ca-key.pem";

impl Files {
    /// Ends what a crash left half done, makes a CA if there is none, and reads.
    pub(super) fn open(dir: &Path) -> Result<(Self, Held), AuthorityError> {
        let files = Self { dir: dir.to_owned() };
        files.settle()?;
        if !files.has(CA) && !files.has(KEY) {
            let (_, certificate, key) = Ca::generate().map_err(|why| files.failed(CA, why))?;
            files.put_next(&certificate, &key)?;
            files.promote()?;
        }
        let present = files.pair(CA, KEY)?;
        let next = files.has(NEXT_CA).then(|| files.pair(NEXT_CA, NEXT_KEY)).transpose()?;
        Ok((files, Held { present, next }))
    }

    /// Keeps the CA that comes.
    pub(super) fn put_next(&self, certificate: &str, key: &str) -> Result<(), AuthorityError> {
        identity::write_private(&self.path(NEXT_KEY), key)?;
        // From here on it counts.
        identity::write_private(&self.path(NEXT_CA), certificate)?;
        Ok(())
    }

    /// The CA that comes becomes the present one.
    pub(super) fn promote(&self) -> Result<(), AuthorityError> {
        // From here on it counts: `settle` ends it.
        identity::rename(&self.path(NEXT_CA), &self.path(CA))?;
        identity::rename(&self.path(NEXT_KEY), &self.path(KEY))?;
        Ok(())
    }

    /// Whether there is one that comes.
    pub(super) fn has_next(&self) -> bool {
        self.has(NEXT_CA)
    }

    fn settle(&self) -> Result<(), AuthorityError> {
        let nothing_present = !self.has(CA) && !self.has(KEY);
        if nothing_present && self.has(NEXT_CA) && self.has(NEXT_KEY) {
            return self.promote();
        }
        if !self.has(NEXT_KEY) || self.has(NEXT_CA) {
            return Ok(());
        }
        if self.has(CA) && ca::belong_together(&self.read(CA)?, &self.read(NEXT_KEY)?) {
            identity::rename(&self.path(NEXT_KEY), &self.path(KEY))?;
            return Ok(());
        }
        // A replacement that never began.
        let path = self.path(NEXT_KEY);
        std::fs::remove_file(&path).map_err(|source| IdentityError::Write { path, source }.into())
    }

    fn pair(&self, certificate: &str, key: &str) -> Result<Ca, AuthorityError> {
        for (there, other) in [(certificate, key), (key, certificate)] {
            if !self.has(other) {
                let (path, missing) = (self.path(there), self.path(other));
                return Err(AuthorityError::Half { path, missing });
            }
        }
        let read = Ca::read(&self.read(certificate)?, &self.read(key)?);
        read.map_err(|why| self.failed(certificate, why))
    }

    fn failed(&self, name: &str, source: ca::CaError) -> AuthorityError {
        AuthorityError::Ca { path: self.path(name), source }
    }

    fn read(&self, name: &str) -> Result<String, AuthorityError> {
        super::read_file(&self.path(name))
    }

    fn has(&self, name: &str) -> bool {
        self.path(name).exists()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whose certificate and key a file holds.
    type Content = (&'static str, &'static str);

    #[test]
    fn a_crash_at_any_moment_leaves_an_authority() {
        let [old, new] = ["old", "new"].map(|name| (name, Ca::generate().unwrap()));
        let content = |(file, whose): Content| {
            let (_, (_, certificate, key)) =
                [&old, &new].into_iter().find(|(name, _)| *name == whose).unwrap();
            if file.contains("key") { key.clone() } else { certificate.clone() }
        };
        let present = [(CA, "old"), (KEY, "old")];
        let both = [present.as_slice(), &[(NEXT_KEY, "new"), (NEXT_CA, "new")]].concat();
        let cases: [(&[Content], &str, Option<&str>); 8] = [
            // The first start, step by step.
            (&[(NEXT_KEY, "new")], "fresh", None),
            (&[(NEXT_KEY, "new"), (NEXT_CA, "new")], "new", None),
            (&[(NEXT_KEY, "new"), (CA, "new")], "new", None),
            (&present, "old", None),
            // A replacement begins.
            (&[(CA, "old"), (KEY, "old"), (NEXT_KEY, "new")], "old", None),
            (&both, "old", Some("new")),
            // And ends.
            (&[(CA, "new"), (KEY, "old"), (NEXT_KEY, "new")], "new", None),
            (&[(CA, "new"), (KEY, "new")], "new", None),
        ];
        let name_of = |ca: &Ca| {
            let known = [&old, &new].into_iter().find(|(_, (known, ..))| known.id() == ca.id());
            known.map_or("fresh", |(name, _)| *name)
        };
        for (files, present, next) in cases {
            let dir = tempfile::tempdir().unwrap();
            for (file, whose) in files {
                std::fs::write(dir.path().join(file), content((*file, *whose))).unwrap();
            }
            // The second time nothing is left to be settled.
            for _ in 0..2 {
                let (_, held) = Files::open(dir.path()).unwrap();
                assert_eq!(name_of(&held.present), present, "{files:?}");
                assert_eq!(held.next.as_ref().map(name_of), next, "{files:?}");
                assert_eq!(dir.path().join(NEXT_KEY).exists(), next.is_some(), "{files:?}");
            }
        }
    }

    #[test]
    fn half_an_authority_is_not_made_whole_by_guessing() {
        for missing in [CA, KEY, NEXT_KEY] {
            let dir = tempfile::tempdir().unwrap();
            let (files, _) = Files::open(dir.path()).unwrap();
            let (_, certificate, key) = Ca::generate().unwrap();
            files.put_next(&certificate, &key).unwrap();
            std::fs::remove_file(dir.path().join(missing)).unwrap();
            let error = Files::open(dir.path()).unwrap_err();
            assert!(
                matches!(&error, AuthorityError::Half { missing: it, .. } if it.ends_with(missing)),
                "{error}"
            );
        }
    }
}
