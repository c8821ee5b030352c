//! The desired state on disk, so that an agent starts without a controller.
//!
//! The ledger is the stream: the file holds the very messages that the controller sent, a snapshot
//! and the deltas after it, each with its length and a checksum. A change appends one record and
//! syncs it, whatever the size of the whole; when the deltas outweigh the snapshot, the file is
//! written anew beside the old one and renamed over it. A record that was cut short by a crash is
//! dropped: it was not applied either, for the ledger comes first.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use gantry_model::desired::{Change, Desired, Update};
use gantry_model::wire;
use gantry_proto::agent::v1::WatchConfigResponse;
use prost::Message;
use sha2::{Digest, Sha256};
use tracing::warn;

/// What the file begins with: its format.
const MAGIC: &[u8; 16] = b"gantry-ledger-1\n";
/// Length and checksum before each record.
const HEADER: usize = 4 + 8;
/// A ledger of less than this is not worth writing anew.
const SMALL: u64 = 256 << 10;

/// The open file; locked, so that two agents cannot share it.
#[derive(Debug)]
pub struct Ledger {
    dir: PathBuf,
    file: File,
    size: u64,
    snapshot_size: u64,
}

/// The ledger cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    #[error("opening the ledger in {dir}", dir = .dir.display())]
    Open { dir: PathBuf, source: std::io::Error },
    #[error("another agent uses {dir}; give each agent a --state folder of its own", dir = .0.display())]
    InUse(PathBuf),
    #[error("{path} is not a ledger that this version can read; move it away to start anew", path = .0.display())]
    Foreign(PathBuf),
    #[error("writing the ledger in {dir}", dir = .dir.display())]
    Write { dir: PathBuf, source: std::io::Error },
}

impl Ledger {
    /// Opens or makes the ledger in `dir`; gives what it holds.
    pub fn open(dir: &Path) -> Result<(Self, Desired<Bytes>), LedgerError> {
        let failed = |source| LedgerError::Open { dir: dir.to_owned(), source };
        std::fs::create_dir_all(dir).map_err(failed)?;
        let path = dir.join("ledger");
        let mut file = open_private(&path, OpenOptions::new().truncate(false)).map_err(failed)?;
        lock(&file).map_err(|_| LedgerError::InUse(dir.to_owned()))?;
        let mut content = Vec::new();
        file.read_to_end(&mut content).map_err(failed)?;
        if content.len() < MAGIC.len() {
            let mut ledger = Self { dir: dir.to_owned(), file, size: 0, snapshot_size: 0 };
            ledger.rewrite(&Desired::default().snapshot())?;
            return Ok((ledger, Desired::default()));
        }
        let Some(records) = content.strip_prefix(MAGIC) else {
            return Err(LedgerError::Foreign(path));
        };
        let (desired, good, snapshot_size) = replay(records);
        let size = (MAGIC.len() + good) as u64;
        if size < content.len() as u64 {
            warn!(dropped = content.len() as u64 - size, "dropping the torn end of the ledger");
            file.set_len(size).map_err(failed)?;
        }
        file.seek(SeekFrom::End(0)).map_err(failed)?;
        Ok((Self { dir: dir.to_owned(), file, size, snapshot_size }, desired))
    }

    /// What the ledger in `dir` holds, for whoever wants to look while its agent runs.
    pub fn read(dir: &Path) -> Result<Desired<Bytes>, LedgerError> {
        let path = dir.join("ledger");
        let content = std::fs::read(&path)
            .map_err(|source| LedgerError::Open { dir: dir.to_owned(), source })?;
        match content.strip_prefix(MAGIC) {
            Some(records) => Ok(replay(records).0),
            None => Err(LedgerError::Foreign(path)),
        }
    }

    /// Makes `update` durable.
    pub fn append(&mut self, update: &Update<Bytes>) -> Result<(), LedgerError> {
        if matches!(update.change, Change::Snapshot(_)) {
            return self.rewrite(update);
        }
        let record = encode(update);
        let written = self.file.write_all(&record).and_then(|()| self.file.sync_data());
        if let Err(source) = written {
            // What was written in part must not stand before what is written next.
            let undone = self.file.set_len(self.size);
            let undone = undone.and_then(|()| self.file.seek(SeekFrom::End(0)));
            let source = undone.err().unwrap_or(source);
            return Err(LedgerError::Write { dir: self.dir.clone(), source });
        }
        self.size += record.len() as u64;
        Ok(())
    }

    /// Whether the deltas outweigh the whole, so that it is time to tidy.
    pub fn is_untidy(&self) -> bool {
        self.size > SMALL && self.size > 2 * self.snapshot_size
    }

    /// Writes the file anew from `desired`, which it holds, if its deltas outweigh that.
    pub fn tidy(&mut self, desired: &Desired<Bytes>) -> Result<(), LedgerError> {
        if !self.is_untidy() {
            return Ok(());
        }
        self.rewrite(&desired.snapshot())
    }

    fn rewrite(&mut self, snapshot: &Update<Bytes>) -> Result<(), LedgerError> {
        self.try_rewrite(snapshot)
            .map_err(|source| LedgerError::Write { dir: self.dir.clone(), source })
    }

    fn try_rewrite(&mut self, snapshot: &Update<Bytes>) -> std::io::Result<()> {
        let fresh_path = self.dir.join("ledger.new");
        let mut fresh = open_private(&fresh_path, OpenOptions::new().truncate(true))?;
        lock(&fresh)?;
        let record = encode(snapshot);
        fresh.write_all(MAGIC)?;
        fresh.write_all(&record)?;
        fresh.sync_all()?;
        std::fs::rename(&fresh_path, self.dir.join("ledger"))?;
        File::open(&self.dir)?.sync_all()?;
        self.file = fresh;
        self.snapshot_size = record.len() as u64;
        self.size = MAGIC.len() as u64 + self.snapshot_size;
        Ok(())
    }
}

/// There are private keys in a ledger: only its owner may read it.
fn open_private(path: &Path, options: &mut OpenOptions) -> std::io::Result<File> {
    let file = options.read(true).write(true).create(true).mode(0o600).open(path)?;
    file.set_permissions(Permissions::from_mode(0o600))?;
    Ok(file)
}

fn lock(file: &File) -> std::io::Result<()> {
    let exclusive = rustix::fs::FlockOperation::NonBlockingLockExclusive;
    Ok(rustix::fs::flock(file, exclusive)?)
}

fn encode(update: &Update<Bytes>) -> Vec<u8> {
    let payload = wire::update_message(update).encode_to_vec();
    let length = u32::try_from(payload.len()).expect("a message is smaller than 4 GiB");
    let mut record = Vec::with_capacity(HEADER + payload.len());
    record.extend(length.to_be_bytes());
    record.extend(checksum(&payload));
    record.extend(payload);
    record
}

/// Takes one record after another; stops at the first that is not whole. Gives the state, how many
/// bytes led to it, and the size of the last snapshot.
fn replay(records: &[u8]) -> (Desired<Bytes>, usize, u64) {
    let (mut desired, mut good, mut snapshot_size) = (Desired::default(), 0, 0);
    while let Some((update, length)) = decode(&records[good..]) {
        let snapshot = matches!(update.change, Change::Snapshot(_));
        if let Err(refusal) = desired.take(update) {
            warn!(%refusal, "the ledger holds a record that does not fit; asking for a snapshot");
            break;
        }
        if snapshot {
            snapshot_size = length as u64;
        }
        good += length;
    }
    (desired, good, snapshot_size)
}

fn decode(records: &[u8]) -> Option<(Update<Bytes>, usize)> {
    let (header, rest) = records.split_at_checked(HEADER)?;
    let (length, sum) = header.split_at(4);
    let length = u32::from_be_bytes(length.try_into().ok()?) as usize;
    let payload = rest.get(..length)?;
    if sum != checksum(payload) {
        return None;
    }
    let message = WatchConfigResponse::decode(Bytes::copy_from_slice(payload)).ok()?;
    Some((wire::update(message).ok()?, HEADER + length))
}

fn checksum(payload: &[u8]) -> [u8; 8] {
    let digest = Sha256::digest(payload);
    std::array::from_fn(|at| digest[at])
}

#[cfg(test)]
mod tests;
