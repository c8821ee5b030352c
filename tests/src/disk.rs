//! A small disk of a test's own: mounted where only the processes that are started on it see it.
//!
//! The mount namespace is held by a process that sleeps; when it is gone, so is the disk. Needs root.

use std::path::{Path, PathBuf};

use crate::process::{Process, program};

/// A disk, mounted in a mount namespace of its own.
#[derive(Debug)]
pub struct Disk {
    holder: Process,
    mounted: PathBuf,
}

impl Disk {
    /// A disk in memory of `kilobytes`.
    pub async fn in_memory(kilobytes: u32, dir: &Path) -> Self {
        let mount = format!("mount -t tmpfs -o size={kilobytes}k,mode=700 gantry-test \"$1\"");
        Self::mount(&mount, dir).await
    }

    /// A disk with a file system that turns read-only when it finds an error, as Debian's do.
    pub async fn with_ext4(megabytes: u32, dir: &Path) -> Self {
        let mount = format!(
            "truncate -s {megabytes}M \"$1.image\" && mkfs.ext4 -q \"$1.image\" && \
             mount -o loop,errors=remount-ro \"$1.image\" \"$1\""
        );
        Self::mount(&mount, dir).await
    }

    async fn mount(mount: &str, dir: &Path) -> Self {
        assert!(rustix::process::geteuid().is_root(), "a disk can be mounted by root only");
        let mounted = dir.join("disk");
        std::fs::create_dir_all(&mounted).unwrap();
        let script =
            format!("PATH=$PATH:/usr/sbin:/sbin; {mount} && echo mounted && exec sleep infinity");
        let path = mounted.to_str().unwrap();
        let arguments = ["--mount", "sh", "-c", &script, "sh", path];
        let holder = Process::start("disk", &program("unshare", "util-linux"), arguments, dir);
        holder.says(&["mounted"]).await;
        Self { holder, mounted }
    }

    /// Where the disk is for processes on it.
    pub fn path(&self) -> &Path {
        &self.mounted
    }

    /// Where this process finds `path` of the disk.
    pub fn seen(&self, path: &str) -> PathBuf {
        let root = format!("/proc/{}/root", self.holder.id());
        let inside = self.mounted.join(path);
        Path::new(&root).join(inside.strip_prefix("/").unwrap_or(&inside))
    }

    /// Starts a program that sees the disk.
    pub fn start(&self, name: &str, program: &Path, arguments: &[&str], logs: &Path) -> Process {
        let mut all = self.entered();
        all.push(program.to_str().unwrap().to_owned());
        all.extend(arguments.iter().map(|argument| (*argument).to_owned()));
        Process::start(name, &nsenter(), all, logs)
    }

    /// Runs a line of shell where the disk is seen; "$1" is its path.
    pub async fn shell(&self, line: &str) -> String {
        let mut all = self.entered();
        all.extend(["sh", "-c", line, "sh", self.mounted.to_str().unwrap()].map(str::to_owned));
        crate::process::run(&nsenter(), all, Path::new("/")).await.output()
    }

    /// Leaves not a byte free.
    pub fn fill(&self) {
        use std::io::Write;
        let mut ballast = std::fs::File::create(self.seen("ballast")).unwrap();
        for size in [64 << 10, 4 << 10, 1] {
            while ballast.write_all(&vec![0; size]).is_ok() {}
        }
    }

    /// Takes away what [`Self::fill`] put there.
    pub fn make_room(&self) {
        std::fs::remove_file(self.seen("ballast")).unwrap();
    }

    fn entered(&self) -> Vec<String> {
        vec![format!("--mount=/proc/{}/ns/mnt", self.holder.id()), "--".to_owned()]
    }
}

fn nsenter() -> PathBuf {
    program("nsenter", "util-linux")
}
