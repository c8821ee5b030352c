//! How labs end: every process in the namespaces is killed, then the namespaces are deleted.

use std::collections::BTreeSet;
use std::fs::DirEntry;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::process::{Pid, Signal, kill_process};

use super::node::{NAMESPACES, run_batch};

const ALL: &str = "gantry-lab-";

/// Ends every lab of this process, whoever holds it.
pub fn raze_all() {
    raze(&own_prefix());
}

/// What the names of this process's labs begin with.
pub(super) fn own_prefix() -> String {
    prefix_of(std::process::id())
}

/// Ends the labs of test runs that were killed before they could.
pub(super) fn raze_left_behind() {
    let owner = |name: &str| name.strip_prefix(ALL)?.split('-').next()?.parse::<u32>().ok();
    let owners: BTreeSet<u32> = namespaces(ALL).iter().filter_map(|name| owner(name)).collect();
    let is_dead = |owner: &u32| !Path::new("/proc").join(owner.to_string()).exists();
    for owner in owners.into_iter().filter(is_dead) {
        raze(&prefix_of(owner));
    }
}

/// Ends everything in the namespaces whose names begin so.
pub(super) fn raze(prefix: &str) {
    let names = namespaces(prefix);
    let inode = |name: &String| Path::new(NAMESPACES).join(name).metadata().map(|meta| meta.ino());
    let inodes: BTreeSet<u64> = names.iter().filter_map(|name| inode(name).ok()).collect();
    for process in processes_in(&inodes) {
        // It may have ended already.
        let _ = kill_process(process, Signal::KILL);
    }
    let lines: String = names.iter().map(|name| format!("netns del {name}\n")).collect();
    if !lines.is_empty() {
        // A lab whose trial was late is razed twice at once; and this may be during a panic.
        let _ = run_batch(&["-force"], &lines);
    }
}

fn prefix_of(process: u32) -> String {
    format!("{ALL}{process}-")
}

fn namespaces(prefix: &str) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(NAMESPACES) else { return Vec::new() };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names.filter(|name| name.starts_with(prefix)).collect()
}

/// The processes in these network namespaces; this one, of which threads are there, is never one.
fn processes_in(inodes: &BTreeSet<u64>) -> Vec<Pid> {
    let own = std::process::id().cast_signed();
    let found = |entry: DirEntry| {
        let id: i32 = entry.file_name().to_str()?.parse().ok()?;
        let at = entry.path().join("ns/net").metadata().ok()?.ino();
        (id != own && inodes.contains(&at)).then(|| Pid::from_raw(id))?
    };
    std::fs::read_dir("/proc").unwrap().filter_map(|entry| found(entry.ok()?)).collect()
}
