//! dcmtk: a modality's side of DICOM, and images to send.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use crate::process::{Process, Ran, binary, program, run};
use crate::site::Site;
use crate::wait::listens;

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

/// The same with more to say to storescu.
pub async fn store_with(study: &Study, to: SocketAddr, more: &[&str]) -> Ran {
    let mut all: Vec<String> = more.iter().map(|&one| one.to_owned()).collect();
    all.extend(arguments(study, to));
    run(&program("storescu", "dcmtk"), all, &study.dir).await
}

pub async fn echo(to: SocketAddr) -> Ran {
    echo_as("ECHOSCU", "ARCHIVE", to).await
}

/// A C-ECHO by these AE titles.
pub async fn echo_as(calling: &str, called: &str, to: SocketAddr) -> Ran {
    let (host, port) = (to.ip().to_string(), to.port().to_string());
    let arguments = ["-aet", calling, "-aec", called, &host, &port];
    run(&program("echoscu", "dcmtk"), arguments, Path::new("/")).await
}

/// storescp: an archive that keeps nothing.
#[derive(Debug)]
pub struct Receiver {
    pub process: Process,
    pub at: SocketAddr,
}

impl Receiver {
    /// Starts it with more to say to it, and waits until it listens.
    pub async fn start(site: &Site, name: &str, more: &[&str]) -> Self {
        let at = SocketAddr::from((Ipv4Addr::LOCALHOST, site.block.port()));
        let mut arguments = vec!["-v".to_owned(), "--ignore".to_owned()];
        arguments.extend(more.iter().map(|&one| one.to_owned()));
        arguments.push(at.port().to_string());
        let process = Process::start(name, &program("storescp", "dcmtk"), arguments, site.dir());
        listens(at).await;
        Self { process, at }
    }
}

fn arguments(study: &Study, to: SocketAddr) -> Vec<String> {
    let dir = study.dir.to_str().unwrap();
    let (host, port) = (to.ip().to_string(), to.port().to_string());
    ["-aec", "ARCHIVE", "+sd", &host, &port, dir].map(str::to_owned).to_vec()
}
