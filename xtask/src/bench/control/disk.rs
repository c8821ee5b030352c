//! What the disk itself takes, to compare writes with.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;

use gantry_runtime::clock;

use crate::bench::figures::Durations;

/// How long one page takes to be durable in a file of `dir` that has its size already.
pub(super) fn sync_times(dir: &Path) -> anyhow::Result<Durations> {
    const PAGES: usize = 500;
    let page = [7; 4096];
    let mut file: File = tempfile::tempfile_in(dir)?;
    let mut took = Durations::default();
    for _ in 0..2 {
        took = Durations::default();
        file.seek(SeekFrom::Start(0))?;
        for _ in 0..PAGES {
            let began = clock::monotonic();
            file.write_all(&page)?;
            file.sync_data()?;
            took.push(clock::monotonic() - began);
        }
    }
    Ok(took)
}
