//! Orthanc: a real archive, with a storage folder of its own.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::block::Block;
use crate::process::{Process, program};
use crate::wait::eventually;

/// An archive that runs, or ran.
#[derive(Debug)]
pub struct Orthanc {
    pub process: Process,
    /// Where it takes associations.
    pub dicom: SocketAddr,
    http: SocketAddr,
}

impl Orthanc {
    /// Starts an archive with an AE title and waits until it answers.
    pub async fn start(ae_title: &str, block: &Block, dir: &Path) -> Self {
        let (dicom, http) = (block.port(), block.port());
        let folder = dir.join(ae_title);
        std::fs::create_dir_all(&folder).unwrap();
        let configuration = json!({
            "Name": ae_title,
            "DicomAet": ae_title,
            "DicomPort": dicom,
            "HttpPort": http,
            "RemoteAccessAllowed": true,
            "AuthenticationEnabled": false,
            "DicomAlwaysAllowEcho": true,
            "DicomAlwaysAllowStore": true,
            "DicomCheckCalledAet": false,
            "StorageDirectory": folder,
            "IndexDirectory": folder,
            "Plugins": [],
        });
        let file = dir.join(format!("{ae_title}.json"));
        std::fs::write(&file, configuration.to_string()).unwrap();
        let process = Process::start(ae_title, &program("Orthanc", "orthanc"), [&file], dir);
        let at = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let archive = Self { process, dicom: at(dicom), http: at(http) };
        archive.answers().await;
        archive
    }

    /// Comes back after [`Self::kill`], with what it had stored.
    pub async fn start_again(&mut self) {
        self.process.start_again();
        self.answers().await;
    }

    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// How many images it holds.
    pub async fn images(&self) -> usize {
        let statistics = self.get("/statistics").await.expect("statistics of an archive that runs");
        usize::try_from(statistics["CountInstances"].as_u64().unwrap()).unwrap()
    }

    /// The SOP instance UIDs of what it holds.
    pub async fn instances(&self) -> Vec<String> {
        let all = self.get("/instances?expand").await.expect("instances of an archive that runs");
        let uid = |one: &Value| one["MainDicomTags"]["SOPInstanceUID"].as_str().unwrap().to_owned();
        all.as_array().unwrap().iter().map(uid).collect()
    }

    async fn answers(&self) {
        eventually("the archive answers", async || {
            self.get("/system").await?;
            TcpStream::connect(self.dicom).await.ok()
        })
        .await;
    }

    async fn get(&self, path: &str) -> Option<Value> {
        let mut stream = TcpStream::connect(self.http).await.ok()?;
        let request = format!("GET {path} HTTP/1.0\r\nHost: archive\r\n\r\n");
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.ok()?;
        let head = answer.windows(4).position(|four| four == b"\r\n\r\n")?;
        serde_json::from_slice(&answer[head + 4..]).ok()
    }
}
