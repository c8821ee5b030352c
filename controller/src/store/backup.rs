//! The database as one file to keep: copied beside a running controller, with the authority's files
//! in a table of their own, and made current again under a new epoch.
//!
//! Only SQL is here; where the files are, and in which order they are moved, is `crate::backup`.

use std::path::{Path, PathBuf};

use gantry_model::revision::Revision;
use gantry_runtime::clock;
use jiff::Timestamp;
use sqlx::migrate::Migrate;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{Connection, SqliteConnection};

use super::events::{self, NewEvent, Severity};
use super::{
    Change, MIGRATIONS, StoreError, from_micros, micros, migrate_error, rows, signed, unsigned,
};
use crate::state::State;

/// A file beside the database that belongs to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// From the state folder on.
    pub path: String,
    pub content: Vec<u8>,
}

/// What a backup says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    pub revision: Revision,
    pub time: Timestamp,
    /// Of the controller that made it.
    pub version: String,
}

/// Who restored, and from what.
#[derive(Clone, Debug)]
pub struct Restoration {
    pub actor: String,
    /// The file, for people.
    pub source: String,
    /// The highest epoch and the highest number that are known beside the backup's own.
    pub known: Revision,
}

/// It is no backup that can be restored.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    #[error("{path} is not a backup made by `gantry-controller backup`", path = .0.display())]
    Foreign(PathBuf),
    #[error("{path} is damaged ({finding}): use another backup", path = .path.display())]
    Damaged { path: PathBuf, finding: String },
    #[error(transparent)]
    Store(#[from] StoreError),
}

const TABLES: &str = "
    CREATE TABLE backup (
        id      INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
        epoch   INTEGER NOT NULL,
        number  INTEGER NOT NULL,
        time    INTEGER NOT NULL,
        version TEXT    NOT NULL
    ) STRICT;
    CREATE TABLE backup_files (
        path    TEXT NOT NULL PRIMARY KEY,
        content BLOB NOT NULL
    ) STRICT, WITHOUT ROWID;";

/// Copies the database, as it is at this moment, to `to`: an empty file or none.
pub async fn copy(database: &Path, to: &Path) -> Result<(), StoreError> {
    let options = SqliteConnectOptions::new().filename(database).read_only(true);
    let mut connection = connect(database, options).await?;
    sqlx::query("VACUUM INTO $1")
        .bind(to.to_string_lossy().as_ref())
        .execute(&mut connection)
        .await
        .map_err(writing(to))?;
    close(connection).await
}

/// Puts `files` into a copy, and says what it is.
pub async fn enclose(copy: &Path, files: &[Kept]) -> Result<Label, StoreError> {
    let mut connection = connect(copy, alone(copy)).await?;
    let mut transaction = connection.begin().await.map_err(writing(copy))?;
    sqlx::raw_sql(TABLES).execute(&mut *transaction).await.map_err(writing(copy))?;
    let label = Label {
        revision: head(&mut transaction).await?,
        time: clock::wall(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    sqlx::query("INSERT INTO backup (id, epoch, number, time, version) VALUES (1, $1, $2, $3, $4)")
        .bind(signed(label.revision.epoch))
        .bind(signed(label.revision.number))
        .bind(micros(label.time))
        .bind(&label.version)
        .execute(&mut *transaction)
        .await
        .map_err(writing(copy))?;
    for file in files {
        sqlx::query("INSERT INTO backup_files (path, content) VALUES ($1, $2)")
            .bind(&file.path)
            .bind(&file.content)
            .execute(&mut *transaction)
            .await
            .map_err(writing(copy))?;
    }
    transaction.commit().await.map_err(writing(copy))?;
    close(connection).await?;
    Ok(label)
}

/// Reads all of a backup, and gives what it says of itself and the files in it.
pub async fn check(backup: &Path) -> Result<(Label, Vec<Kept>), BackupError> {
    // Nothing is written beside it: it may be on a disk that is read-only.
    let options = SqliteConnectOptions::new().filename(backup).read_only(true).immutable(true);
    let mut connection = connect(backup, options).await.map_err(|error| told(backup, error))?;
    let checked = check_all(&mut connection, backup).await;
    close(connection).await?;
    checked.map_err(|error| match error {
        BackupError::Store(error) => told(backup, error),
        error => error,
    })
}

async fn check_all(
    connection: &mut SqliteConnection,
    backup: &Path,
) -> Result<(Label, Vec<Kept>), BackupError> {
    let tables: (i64,) = sqlx::query_as(
        "SELECT count(*) FROM sqlite_schema
         WHERE type = 'table' AND name IN ('head', 'backup', 'backup_files')",
    )
    .fetch_one(&mut *connection)
    .await
    .map_err(reading)?;
    if tables.0 != 3 {
        return Err(BackupError::Foreign(backup.to_owned()));
    }
    let finding: (String,) = sqlx::query_as("PRAGMA integrity_check(1)")
        .fetch_one(&mut *connection)
        .await
        .map_err(reading)?;
    if finding.0 != "ok" {
        return Err(BackupError::Damaged { path: backup.to_owned(), finding: finding.0 });
    }
    let applied = connection.list_applied_migrations("_sqlx_migrations").await;
    let applied = applied.map_err(|source| migrate_error(backup, source))?;
    let newer = applied.iter().find(|applied| !MIGRATIONS.version_exists(applied.version));
    if let Some(newer) = newer {
        let error = StoreError::Newer { path: backup.to_owned(), version: newer.version };
        return Err(error.into());
    }
    let row: (i64, i64, i64, String) =
        sqlx::query_as("SELECT epoch, number, time, version FROM backup")
            .fetch_one(&mut *connection)
            .await
            .map_err(reading)?;
    let label = Label {
        revision: Revision { epoch: unsigned(row.0), number: unsigned(row.1) },
        time: from_micros(row.2),
        version: row.3,
    };
    let files: Vec<(String, Vec<u8>)> =
        sqlx::query_as("SELECT path, content FROM backup_files ORDER BY path")
            .fetch_all(connection)
            .await
            .map_err(reading)?;
    Ok((label, files.into_iter().map(|(path, content)| Kept { path, content }).collect()))
}

/// Makes of `copy`, a copy of a backup, a database to be current, under an epoch above all that are
/// known. Gives the revision it begins with.
pub async fn revive(
    copy: &Path,
    label: &Label,
    restoration: &Restoration,
) -> Result<Revision, StoreError> {
    let options = alone(copy).pragma("secure_delete", "ON");
    let mut connection = connect(copy, options).await?;
    let migrated = MIGRATIONS.run(&mut connection).await;
    migrated.map_err(|source| migrate_error(copy, source))?;
    let mut transaction = connection.begin().await.map_err(writing(copy))?;
    let before = head(&mut transaction).await?;
    let now = clock::wall();
    let revision = Revision {
        epoch: next_epoch(before.epoch.max(restoration.known.epoch), now),
        // An etag is a number: one of the state that is replaced must not be good again.
        number: before.number.max(restoration.known.number) + 1,
    };
    // The copies of the authority's files are on the disk by now.
    for sql in ["DROP TABLE backup_files", "DROP TABLE backup"] {
        sqlx::query(sql).execute(&mut *transaction).await.map_err(writing(copy))?;
    }
    let epoch = sqlx::query("UPDATE head SET epoch = $1").bind(signed(revision.epoch));
    epoch.execute(&mut *transaction).await.map_err(writing(copy))?;
    let change = restored(label, restoration, before);
    let after = State { revision, ..State::default() };
    rows::revision(&mut transaction, &after, &change, now).await?;
    events::insert(&mut transaction, &change, Some(revision)).await?;
    transaction.commit().await.map_err(writing(copy))?;
    close(connection).await?;
    Ok(revision)
}

/// Where the database at `path` stands; none if it cannot be read.
pub async fn revision(path: &Path) -> Option<Revision> {
    let options = SqliteConnectOptions::new().filename(path).read_only(true);
    let mut connection = connect(path, options).await.ok()?;
    let head = head(&mut connection).await;
    close(connection).await.ok()?;
    head.ok()
}

/// An epoch above `known`, and above those of other restores of the same backup, of which nothing
/// is known here: the minutes since 1970, since those go on by themselves.
fn next_epoch(known: u64, now: Timestamp) -> u64 {
    let minutes = u64::try_from(now.as_second() / 60).unwrap_or(0);
    minutes.max(known + 1)
}

fn restored(label: &Label, restoration: &Restoration, before: Revision) -> Change {
    let Restoration { actor, source, .. } = restoration;
    let message = format!("restored from {source}: revision {before}, kept at {}", label.time);
    let severity = Severity::Warning;
    let event = NewEvent { severity, ..NewEvent::info("RESTORED", &"", message) };
    Change {
        actor: actor.clone(),
        comment: format!("restored from {source}"),
        events: vec![event],
        ..Change::default()
    }
}

/// How a file is opened that nobody else has open: all of it is in the one file again afterwards.
fn alone(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .journal_mode(SqliteJournalMode::Delete)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
}

async fn connect(
    path: &Path,
    options: SqliteConnectOptions,
) -> Result<SqliteConnection, StoreError> {
    let failed = |source| StoreError::Open { path: path.to_owned(), source };
    SqliteConnection::connect_with(&options).await.map_err(failed)
}

async fn close(connection: SqliteConnection) -> Result<(), StoreError> {
    connection.close().await.map_err(reading)
}

async fn head(connection: &mut SqliteConnection) -> Result<Revision, StoreError> {
    let row: (i64, i64) = sqlx::query_as("SELECT epoch, number FROM head")
        .fetch_one(connection)
        .await
        .map_err(reading)?;
    Ok(Revision { epoch: unsigned(row.0), number: unsigned(row.1) })
}

/// What cannot be read at all is no backup; what can be read in part is a damaged one.
fn told(backup: &Path, error: StoreError) -> BackupError {
    use super::Trouble;
    match (&error, error.trouble()) {
        (StoreError::Open { .. }, Some(Trouble::Damaged)) => {
            BackupError::Foreign(backup.to_owned())
        }
        (StoreError::Read { source, .. }, Some(Trouble::Damaged)) => {
            let not_a_database = source
                .as_database_error()
                .is_some_and(|error| error.code().as_deref() == Some("26"));
            match not_a_database {
                true => BackupError::Foreign(backup.to_owned()),
                false => {
                    let finding = source.to_string();
                    BackupError::Damaged { path: backup.to_owned(), finding }
                }
            }
        }
        _ => BackupError::Store(error),
    }
}

fn reading(source: sqlx::Error) -> StoreError {
    StoreError::Read { what: "the backup", source }
}

fn writing(path: &Path) -> impl Fn(sqlx::Error) -> StoreError + use<> {
    let what = path.display().to_string();
    move |source| StoreError::Write { what: what.clone(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_rises_even_where_the_clock_does_not() {
        let minute = |minute: i64| Timestamp::from_second(minute * 60).unwrap();
        assert_eq!(next_epoch(1, minute(29_000_000)), 29_000_000);
        assert_eq!(next_epoch(29_000_000, minute(29_000_000)), 29_000_001);
        assert_eq!(next_epoch(7, minute(0)), 8, "a clock that was never set");
    }
}
