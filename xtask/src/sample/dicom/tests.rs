//! The archive against dcmtk, as a modality would use it.

use std::path::Path;
use std::process::{Command, Output};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::*;
use crate::sample::make_dicom;

const KIB: u16 = 300;
const PIXELS: usize = KIB as usize * 1024;

/// An archive in this process; it ends with the test.
struct Running {
    port: String,
    dir: tempfile::TempDir,
    _task: JoinSet<()>,
}

async fn start() -> Running {
    let dir = tempfile::tempdir().unwrap();
    let listener = listen::bind("PACS1", "127.0.0.1:0".parse().unwrap()).await.unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let archive = Arc::new(Archive { title: "PACS1".into(), dir: dir.path().to_owned() });
    let mut task = JoinSet::new();
    task.spawn(async move {
        let handle = |stream| association::serve(Arc::clone(&archive), stream);
        listen::serve("PACS1", listener, handle).await
    });
    Running { port, dir, _task: task }
}

async fn run(command: &str, options: &[&str], port: &str, files: &[PathBuf]) -> Output {
    let mut command = Command::new(command);
    command.args(options).args(["127.0.0.1", port]).args(files);
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

fn files(dir: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect()
}

/// What dcmtk reads in `file` besides the meta information, which the archive writes itself, and
/// the pixels' bytes; their VR depends on the transfer syntax.
fn content(file: &Path) -> (String, Vec<u8>) {
    let dump = Command::new("dcmdump").args(["+L", "-q"]).arg(file).output().unwrap();
    let dump = String::from_utf8(dump.stdout).unwrap();
    let ours = |line: &&str| !["(0002,", "(7fe0,", "#"].iter().any(|start| line.starts_with(start));
    let bytes = std::fs::read(file).unwrap();
    let pixels = bytes[bytes.len() - PIXELS..].to_vec();
    (dump.lines().filter(ours).collect(), pixels)
}

fn contents(files: &[PathBuf]) -> Vec<(String, Vec<u8>)> {
    let mut contents: Vec<_> = files.iter().map(|file| content(file)).collect();
    contents.sort();
    contents
}

#[tokio::test]
async fn echoscu_is_answered() {
    let archive = start().await;
    let echo = run("echoscu", &["-v", "-aec", "ANY"], &archive.port, &[]).await;
    let log = String::from_utf8_lossy(&echo.stderr).into_owned();
    assert!(echo.status.success() && log.contains("Success"), "{log}");
}

#[tokio::test]
async fn what_storescu_sends_is_kept_unchanged() {
    let (archive, images) = (start().await, tempfile::tempdir().unwrap());
    let made = make_dicom(images.path(), 5, KIB).unwrap();
    for options in [&["-xe"], &["-xi"]] {
        let stored = run("storescu", options, &archive.port, &made).await;
        assert!(stored.status.success(), "{stored:?}");
        let kept = files(archive.dir.path());
        assert_eq!(kept.len(), made.len());
        let test = Command::new("dcmftest").args(&kept).output().unwrap();
        assert!(test.status.success(), "{test:?}");
        let expected = contents(&made);
        assert!(expected[0].0.contains("GANTRY^SAMPLE"));
        assert!(contents(&kept) == expected, "{options:?}");
    }
}

#[tokio::test]
async fn compressed_objects_are_kept_compressed() {
    let (archive, images) = (start().await, tempfile::tempdir().unwrap());
    let made = make_dicom(images.path(), 1, 64).unwrap();
    let jpeg = images.path().join("jpeg.dcm");
    let compressed = Command::new("dcmcjpeg").args([&made[0], &jpeg]).output().unwrap();
    assert!(compressed.status.success(), "{compressed:?}");
    let stored = run("storescu", &["-xs"], &archive.port, &[jpeg]).await;
    assert!(stored.status.success(), "{stored:?}");
    let kept = files(archive.dir.path());
    let dump = Command::new("dcmdump").arg(&kept[0]).output().unwrap();
    assert!(String::from_utf8_lossy(&dump.stdout).contains("=JPEGLossless"));
}

#[tokio::test]
async fn an_object_that_cannot_be_kept_is_not_acknowledged() {
    let (archive, images) = (start().await, tempfile::tempdir().unwrap());
    let made = make_dicom(images.path(), 1, 300).unwrap();
    std::fs::remove_dir_all(archive.dir.path()).unwrap();
    let stored = run("storescu", &["-v"], &archive.port, &made).await;
    let log = String::from_utf8_lossy(&stored.stderr).into_owned();
    assert!(log.contains("0xa700") || log.contains("OutOfResources"), "{log}");
}

#[tokio::test]
async fn what_is_not_dicom_ends_its_own_connection_only() {
    let archive = start().await;
    let giant = [0x01, 0, 0xFF, 0xFF, 0xFF, 0xFF];
    let release = [0x05, 0, 0, 0, 0, 4, 0, 0, 0, 0];
    for (bytes, answer) in [(&giant[..], None), (b"GET / HTTP/1.1\r\n", None), (&release, Some(7))]
    {
        let address = format!("127.0.0.1:{}", archive.port);
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let mut answered = Vec::new();
        let _ = stream.read_to_end(&mut answered).await;
        assert_eq!(answered.first().copied(), answer, "{bytes:?}");
    }
    assert!(run("echoscu", &[], &archive.port, &[]).await.status.success());
}

#[tokio::test]
async fn many_associations_at_a_time() {
    let (archive, images) = (start().await, tempfile::tempdir().unwrap());
    let mut modalities = JoinSet::new();
    for number in 0..8 {
        let made = make_dicom(&images.path().join(number.to_string()), 5, 64).unwrap();
        let port = archive.port.clone();
        modalities.spawn(async move { run("storescu", &[], &port, &made).await });
    }
    while let Some(stored) = modalities.join_next().await {
        assert!(stored.unwrap().status.success());
    }
    assert_eq!(files(archive.dir.path()).len(), 40);
}
