//! dcmtk: a modality's side of DICOM, and images to send.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::process::{Process, Ran, binary, program, run};

/// A study of synthetic images in a folder of its own.
#[derive(Clone, Debug)]
pub struct Study {
    pub dir: PathBuf,
    pub files: Vec<PathBuf>,
}

impl Study {
    /// Makes `count` images of `kib` KiB.
    pub async fn make(dir: PathBuf, count: u32, kib: u32) -> Self {
        let (count, kib) = (count.to_string(), kib.to_string());
        let text = dir.to_str().unwrap();
        let arguments = ["sample", "images", "--dir", text, "--count", &count, "--kib", &kib];
        run(&binary("xtask"), arguments, Path::new("/")).await.output();
        let mut files: Vec<_> =
            std::fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        Self { dir, files }
    }

    /// The SOP instance UIDs in it.
    pub async fn instances(&self) -> BTreeSet<String> {
        let mut arguments = vec!["+P".into(), "0008,0018".into(), "-q".into()];
        arguments.extend(self.files.iter().cloned());
        let dump = run(&program("dcmdump", "dcmtk"), arguments, &self.dir).await.output();
        let uid = |line: &str| {
            let (_, rest) = line.split_once('[')?;
            Some(rest.split_once(']')?.0.to_owned())
        };
        dump.lines().filter_map(uid).collect()
    }
}

/// Sends a study in one association; the exit code says whether every image was acknowledged.
pub async fn store(study: &Study, to: SocketAddr) -> Ran {
    run(&program("storescu", "dcmtk"), arguments(study, to), &study.dir).await
}

/// Begins to send a study, as a process that can be looked at.
pub fn begin_store(name: &str, study: &Study, to: SocketAddr, logs: &Path) -> Process {
    let mut all = vec!["-v".to_owned()];
    all.extend(arguments(study, to));
    Process::start(name, &program("storescu", "dcmtk"), all, logs)
}

pub async fn echo(to: SocketAddr) -> Ran {
    let arguments =
        ["-aec".to_owned(), "ARCHIVE".to_owned(), to.ip().to_string(), to.port().to_string()];
    run(&program("echoscu", "dcmtk"), arguments, Path::new("/")).await
}

fn arguments(study: &Study, to: SocketAddr) -> Vec<String> {
    let dir = study.dir.to_str().unwrap();
    let (host, port) = (to.ip().to_string(), to.port().to_string());
    ["-aec", "ARCHIVE", "+sd", &host, &port, dir].map(str::to_owned).to_vec()
}
