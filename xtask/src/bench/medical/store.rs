//! Images, from dcmtk's storescu to Orthanc.

use std::ffi::OsStr;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};
use gantry_runtime::clock;

use super::super::rig::{Running, free_address, wait_for};
use crate::sample;

/// An archive that stores every image anew.
#[derive(Debug)]
pub(super) struct Archive {
    pub(super) at: SocketAddr,
    _running: Running,
}

/// A study for each association.
#[derive(Debug)]
pub(super) struct Studies {
    folders: Vec<PathBuf>,
    images: u64,
}

/// What one association carries at least, in KiB, so that its beginning does not count.
const ASSOCIATION: u32 = 16 << 10;
const IMAGES: std::ops::RangeInclusive<u32> = 10..=60;

impl Archive {
    pub(super) fn start(dir: &Path) -> anyhow::Result<Self> {
        let (at, http) = (free_address()?, free_address()?);
        let folder = dir.join("orthanc");
        std::fs::create_dir_all(&folder)?;
        let configuration = format!(
            "{{\"DicomAet\": \"ARCHIVE\", \"DicomPort\": {}, \"HttpPort\": {}, \"DicomAlwaysAllowEcho\": true, \
             \"DicomAlwaysAllowStore\": true, \"DicomCheckCalledAet\": false, \"OverwriteInstances\": true, \
             \"StorageDirectory\": {folder:?}, \"IndexDirectory\": {folder:?}, \"Plugins\": []}}",
            at.port(),
            http.port(),
        );
        let path = dir.join("orthanc.json");
        std::fs::write(&path, configuration)?;
        let command = [OsStr::new("Orthanc"), path.as_os_str()];
        let running = Running::start(&command, &dir.join("orthanc.log"))?;
        let at = SocketAddr::from((Ipv4Addr::LOCALHOST, at.port()));
        wait_for(at).context("starting Orthanc (apt-get install orthanc)")?;
        Ok(Self { at, _running: running })
    }
}

impl Studies {
    /// Images of `kib` KiB, for so many associations.
    pub(super) fn make(dir: &Path, kib: u16, associations: usize) -> anyhow::Result<Self> {
        let count = (ASSOCIATION / u32::from(kib)).clamp(*IMAGES.start(), *IMAGES.end());
        let mut folders = Vec::new();
        for at in 0..associations {
            let folder = dir.join(format!("study-{kib}-{associations}-{at}"));
            sample::make_dicom(&folder, count, kib)?;
            folders.push(folder);
        }
        Ok(Self { folders, images: u64::from(count) * associations as u64 })
    }

    /// Sends all of them at the same time; gives how many, and how long that took.
    pub(super) fn store(&self, to: SocketAddr) -> anyhow::Result<(u64, Duration)> {
        let (host, port) = (to.ip().to_string(), to.port().to_string());
        let begun = clock::monotonic();
        let start = |folder: &PathBuf| {
            Command::new("storescu")
                .args(["-aec", "ARCHIVE", "+sd", &host, &port])
                .arg(folder)
                .stdout(Stdio::null())
                .spawn()
                .context("starting storescu (apt-get install dcmtk)")
        };
        let children: anyhow::Result<Vec<_>> = self.folders.iter().map(start).collect();
        for mut child in children? {
            ensure!(child.wait()?.success(), "storescu: not every image was acknowledged");
        }
        Ok((self.images, begun.elapsed()))
    }
}
