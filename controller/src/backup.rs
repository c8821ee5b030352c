//! `gantry-controller backup` and `restore`: one file with all that a controller needs on a new
//! machine, and back.
//!
//! A backup is a database of its own, so it can be read with `sqlite3` as well. What is restored is
//! made ready in a folder of its own first; a controller refuses to start while that folder is there.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use gantry_model::revision::Revision;
use gantry_runtime::clock;

use crate::authority;
use crate::folder::{self, StateFolder};
use crate::store::StoreError;
use crate::store::backup::{self, BackupError, Kept, Label, Restoration};

/// What a restore did.
#[derive(Debug)]
pub struct Restored {
    pub label: Label,
    pub revision: Revision,
    /// Where the former state is kept.
    pub aside: Option<PathBuf>,
    /// Whether the former database could not be read, so that nothing is known of its epoch.
    pub unreadable: bool,
}

/// Nothing was made, or nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("there is no database in {path}: give the controller's folder with --state", path = .0.display())]
    NoDatabase(PathBuf),
    #[error("{path} exists already: choose another name, or replace it with --force", path = .0.display())]
    Exists(PathBuf),
    #[error("{path} has a database already: --force replaces it and keeps it aside", path = .0.display())]
    Occupied(PathBuf),
    #[error("there is no backup {path}", path = .0.display())]
    NoBackup(PathBuf),
    #[error("{path} names a file outside of the folder: the backup was not made by a controller", path = .0.display())]
    Outside(PathBuf),
    #[error(transparent)]
    Backup(#[from] BackupError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("writing {path}", path = .path.display())]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("reading {path}", path = .path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// Writes all of the state in `folder` to `file`, beside a running controller or without one.
pub async fn backup(folder: &Path, file: &Path, force: bool) -> Result<Label, Error> {
    let database = folder::database(folder);
    if !database.exists() {
        return Err(Error::NoDatabase(folder.to_owned()));
    }
    if file.exists() && !force {
        return Err(Error::Exists(file.to_owned()));
    }
    let partial = partial(file);
    let made = make(folder, &database, &partial).await;
    let placed = made.and_then(|label| {
        rename(&partial, file)?;
        sync_folder_of(file)?;
        Ok(label)
    });
    if placed.is_err() {
        // Why it failed is told; that the rest of it is in the way as well is not news.
        let _ = std::fs::remove_file(&partial);
    }
    placed
}

async fn make(folder: &Path, database: &Path, partial: &Path) -> Result<Label, Error> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let file = options.open(partial).map_err(writing(partial))?;
    backup::copy(database, partial).await?;
    // After the database: who is in it shows a certificate of an authority that is in the files.
    let files = authority::files(folder).map_err(reading(folder))?;
    let files = files.into_iter().map(|path| {
        let content = std::fs::read(folder.join(&path)).map_err(reading(&folder.join(&path)))?;
        Ok(Kept { path: path.to_string_lossy().into_owned(), content })
    });
    let label = backup::enclose(partial, &files.collect::<Result<Vec<_>, Error>>()?).await?;
    backup::check(partial).await?;
    file.sync_all().map_err(writing(partial))?;
    Ok(label)
}

/// Makes the state in `folder` what it was in the backup `file`, under a new epoch.
pub async fn restore(
    folder: &StateFolder,
    file: &Path,
    actor: String,
    force: bool,
) -> Result<Restored, Error> {
    if !file.exists() {
        return Err(Error::NoBackup(file.to_owned()));
    }
    let unfinished = folder.restoring().exists();
    if (folder.database().exists() || unfinished) && !force {
        return Err(Error::Occupied(folder.path().to_owned()));
    }
    let (label, files) = backup::check(file).await?;
    let (known, unreadable) = known(folder.path()).await?;
    let source = file.display().to_string();
    let restoration = Restoration { actor, source, known };
    let ready = folder.restoring();
    let made = async {
        let fresh = make_ready(&ready, file, &files)?;
        let revision = backup::revive(&fresh, &label, &restoration).await?;
        Ok((fresh, revision))
    };
    let (fresh, revision) = made.await.inspect_err(|_: &Error| {
        if !unfinished {
            // Nothing was touched: the state that is there may be used as before.
            let _ = std::fs::remove_dir_all(&ready);
        }
    })?;
    let aside = set_aside(folder)?;
    for file in &files {
        move_to(&ready.join(&file.path), &folder.path().join(&file.path))?;
    }
    move_to(&fresh, &folder.database())?;
    sync_folder_of(&folder.database())?;
    std::fs::remove_dir_all(&ready).map_err(writing(&ready))?;
    sync_folder_of(&ready)?;
    Ok(Restored { label, revision, aside, unreadable })
}

/// The highest epoch and the highest number of the databases in the folder, those kept aside
/// included, and whether one could not be read.
async fn known(folder: &Path) -> Result<(Revision, bool), Error> {
    let mut databases = vec![folder::database(folder)];
    for entry in folder.read_dir().map_err(reading(folder))? {
        databases.push(folder::database(&entry.map_err(reading(folder))?.path()));
    }
    let (mut highest, mut unreadable) = (Revision::default(), false);
    for database in databases.iter().filter(|database| database.exists()) {
        match backup::revision(database).await {
            Some(Revision { epoch, number }) => {
                highest.epoch = highest.epoch.max(epoch);
                highest.number = highest.number.max(number);
            }
            None => unreadable = true,
        }
    }
    Ok((highest, unreadable))
}

/// Writes what is to be put in place; gives the database of it.
fn make_ready(ready: &Path, file: &Path, files: &[Kept]) -> Result<PathBuf, Error> {
    if ready.exists() {
        std::fs::remove_dir_all(ready).map_err(writing(ready))?;
    }
    make_folder(ready)?;
    for kept in files {
        let inside = Path::new(&kept.path);
        let plain = |part| matches!(part, std::path::Component::Normal(_));
        if !inside.components().all(plain) {
            return Err(Error::Outside(inside.to_owned()));
        }
        let path = ready.join(inside);
        make_folder(path.parent().unwrap_or(ready))?;
        let mut whole = private(&path)?;
        io::Write::write_all(&mut whole, &kept.content).map_err(writing(&path))?;
        whole.sync_all().map_err(writing(&path))?;
    }
    let fresh = folder::database(ready);
    let mut from = File::open(file).map_err(reading(file))?;
    let mut to = private(&fresh)?;
    io::copy(&mut from, &mut to).map_err(writing(&fresh))?;
    to.sync_all().map_err(writing(&fresh))?;
    Ok(fresh)
}

/// Moves what is there now into a folder with the time in its name.
fn set_aside(folder: &StateFolder) -> Result<Option<PathBuf>, Error> {
    let here = folder.path();
    let database = folder.database();
    let log = ["-wal", "-shm"].map(|end| {
        let mut name = database.clone().into_os_string();
        name.push(end);
        PathBuf::from(name)
    });
    let files = authority::files(here).map_err(reading(here))?;
    let all: Vec<PathBuf> = std::iter::once(database)
        .chain(log)
        .chain(files.into_iter().map(|file| here.join(file)))
        .filter(|path| path.exists())
        .collect();
    if all.is_empty() {
        return Ok(None);
    }
    let time = clock::wall().strftime("%Y%m%dT%H%M%SZ").to_string();
    let names = (0..).map(|at| match at {
        0 => here.join(format!("replaced-{time}")),
        at => here.join(format!("replaced-{time}-{at}")),
    });
    let aside = { names }.find(|path| !path.exists()).expect("names without end");
    for path in all {
        let inside = path.strip_prefix(here).unwrap_or(&path);
        move_to(&path, &aside.join(inside))?;
    }
    Ok(Some(aside))
}

fn make_folder(path: &Path) -> Result<(), Error> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(writing(path))
}

fn private(path: &Path) -> Result<File, Error> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600).open(path).map_err(writing(path))
}

fn move_to(from: &Path, to: &Path) -> Result<(), Error> {
    make_folder(to.parent().unwrap_or(to))?;
    rename(from, to)?;
    sync_folder_of(to)
}

fn rename(from: &Path, to: &Path) -> Result<(), Error> {
    std::fs::rename(from, to).map_err(writing(to))
}

fn sync_folder_of(path: &Path) -> Result<(), Error> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(writing(folder))
}

/// Beside the file, so that it can be renamed; with the process in its name, for another one may
/// make the same backup now.
fn partial(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(format!(".{}.partial", std::process::id()));
    name.into()
}

fn writing(path: &Path) -> impl Fn(io::Error) -> Error + use<> {
    let path = path.to_owned();
    move |source| Error::Write { path: path.clone(), source }
}

fn reading(path: &Path) -> impl Fn(io::Error) -> Error + use<> {
    let path = path.to_owned();
    move |source| Error::Read { path: path.clone(), source }
}
