//! An object on its way into the archive's folder: under a temporary name while it comes in, under
//! its SOP instance UID once it is whole. Dropped before that, it leaves nothing behind.

use std::io;
use std::path::{Path, PathBuf};

use tokio::fs::File;
use tokio::io::{AsyncWriteExt, BufWriter};
use uuid::Uuid;

use crate::sample::part10::{Meta, file_head};

/// Bytes that are gathered before they are written.
const BUFFER: usize = 256 * 1024;

/// A file that is not yet in the archive.
#[derive(Debug)]
pub(super) struct Incoming {
    file: BufWriter<File>,
    temporary: Temporary,
    name: PathBuf,
    length: u64,
}

/// A path that is removed when nobody has renamed it.
#[derive(Debug)]
struct Temporary(PathBuf);

/// Digits and dots, beginning with a digit, at most 64 (DICOM PS3.5, section 9.1): a UID, and
/// nothing that could lead out of a folder.
pub(super) fn is_uid(text: &str) -> bool {
    let digits_and_dots = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    digits_and_dots && text.starts_with(|c: char| c.is_ascii_digit()) && text.len() <= 64
}

impl Incoming {
    /// Begins the file of an object whose UIDs were found to be UIDs.
    pub(super) async fn begin(dir: &Path, meta: Meta<'_>) -> io::Result<Self> {
        let name = dir.join(format!("{}.dcm", meta.sop_instance));
        let temporary = Temporary(dir.join(format!(".{}.part", Uuid::new_v4())));
        let file = File::create_new(&temporary.0).await?;
        let mut file = BufWriter::with_capacity(BUFFER, file);
        file.write_all(&file_head(meta)).await?;
        Ok(Self { file, temporary, name, length: 0 })
    }

    pub(super) async fn write(&mut self, data: &[u8]) -> io::Result<()> {
        self.file.write_all(data).await?;
        self.length += data.len() as u64;
        Ok(())
    }

    /// Puts the file into the archive; gives the length of its data set.
    pub(super) async fn keep(mut self) -> io::Result<u64> {
        self.file.flush().await?;
        tokio::fs::rename(&self.temporary.0, &self.name).await?;
        Ok(self.length)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // After a rename there is nothing to remove.
        let _ = std::fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const META: Meta<'static> =
        Meta { sop_class: "1.2.3", sop_instance: "1.2.3.4", transfer_syntax: "1.2.840.10008.1.2" };

    #[test]
    fn only_uids_become_file_names() {
        for good in ["1.2.840.10008.1.1", "2.25.0", &"1".repeat(64)] {
            assert!(is_uid(good), "{good}");
        }
        for bad in ["", "..", "../1", "1/2", "1.2\0", "1.2 ", ".1", "a", &"1".repeat(65)] {
            assert!(!is_uid(bad), "{bad}");
        }
    }

    #[tokio::test]
    async fn an_object_is_there_when_it_is_whole_and_not_before() {
        let dir = tempfile::tempdir().unwrap();
        let count = || std::fs::read_dir(dir.path()).unwrap().count();
        let mut object = Incoming::begin(dir.path(), META).await.unwrap();
        object.write(b"data").await.unwrap();
        assert!(!dir.path().join("1.2.3.4.dcm").exists());
        assert_eq!(object.keep().await.unwrap(), 4);
        assert!(dir.path().join("1.2.3.4.dcm").exists() && count() == 1);
        drop(Incoming::begin(dir.path(), META).await.unwrap());
        assert_eq!(count(), 1);
    }
}
