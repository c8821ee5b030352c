//! The only place that speaks SQL.
//!
//! All configuration changes go through [`Store::change`]: under one lock a pure function looks at
//! the state and decides, one transaction writes rows, revision and events, and only what was
//! committed becomes the new state in memory. Readers take the state and need no database.

pub mod backup;
mod certificates;
mod events;
mod fleet;
mod history;
mod load;
mod rows;
mod trouble;
mod users;

use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use gantry_model::name::{CertificateName, ClusterName, ServerName, ServiceName};
use gantry_model::revision::Revision;
use gantry_model::server::RealServer;
use gantry_model::service::VirtualService;
use gantry_runtime::clock;
use jiff::Timestamp;
use sqlx::migrate::MigrateError;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{Connection, Sqlite, Transaction};
use tokio::sync::{Mutex, OwnedMutexGuard, watch};

pub use self::events::{Event, EventFilter, EventRange, NewEvent, Severity};
pub use self::fleet::{Invitation, Joined};
pub use self::history::{Committed, Span};
pub use self::trouble::Trouble;
pub use self::users::User;
use crate::certificate::Material;
use crate::state::State;

static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("../migrations");

/// The database, and the state that it holds.
#[derive(Clone, Debug)]
pub struct Store {
    reader: SqlitePool,
    writer: Arc<Mutex<SqlitePool>>,
    state: Arc<watch::Sender<Arc<State>>>,
    /// Counts the changes of appliances.
    fleet: Arc<watch::Sender<u64>>,
    newest_event: Arc<watch::Sender<i64>>,
    /// A transaction could not begin: the connection may have been opened when the disk was
    /// read-only, and would stay so.
    doubtful: Arc<AtomicBool>,
}

/// What a change consists of.
#[derive(Debug, Default)]
pub struct Change {
    pub actor: String,
    pub comment: String,
    pub writes: Vec<Write>,
    pub events: Vec<NewEvent>,
    pub request: Option<Request>,
}

/// One resource written or deleted.
#[derive(Clone, Debug)]
pub enum Write {
    PutCluster { name: ClusterName, label: String },
    DeleteCluster(ClusterName),
    PutService(Box<VirtualService>),
    DeleteService(ServiceName),
    PutServer(Box<RealServer>),
    DeleteServer(ServerName),
    PutCertificate(CertificateName, Box<Material>),
    DeleteCertificate(CertificateName),
}

/// Who does something, and why.
#[derive(Clone, Debug, Default)]
pub struct By {
    pub actor: String,
    pub comment: String,
}

impl From<String> for By {
    fn from(actor: String) -> Self {
        Self { actor, comment: String::new() }
    }
}

/// What became of a change that is carried out once, however often it is asked for.
#[derive(Debug)]
pub enum Once<T> {
    /// What `decide` gave, and the state after the change.
    Done(T, Arc<State>),
    /// It was carried out before.
    Before(Request),
}

/// A creation that may be asked for twice (AIP-155).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    pub id: String,
    pub fingerprint: Vec<u8>,
    /// What was created.
    pub name: String,
}

/// The store cannot do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("{path} was written by a newer version of the controller (migration {version}); start that version, or restore a backup from before", path = .path.display())]
    Newer { path: PathBuf, version: i64 },
    #[error("opening {path}", path = .path.display())]
    Open {
        path: PathBuf,
        #[source]
        source: sqlx::Error,
    },
    #[error("bringing {path} up to date", path = .path.display())]
    Migrate {
        path: PathBuf,
        #[source]
        source: MigrateError,
    },
    #[error("reading {what}")]
    Read {
        what: &'static str,
        #[source]
        source: sqlx::Error,
    },
    #[error("{name} in the database cannot be read: {why}")]
    Row { name: String, why: String },
    #[error("writing {what}")]
    Write {
        what: String,
        #[source]
        source: sqlx::Error,
    },
}

/// A change that was decided against, or that could not be written.
#[derive(Debug)]
pub enum ChangeError<E> {
    Decided(E),
    Store(StoreError),
}

/// How long a repeated request is recognised.
const REQUEST_MEMORY: Duration = Duration::from_secs(24 * 3600);

impl Store {
    /// Opens or makes the database at `path` and reads all of it.
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        let failed = |source| StoreError::Open { path: path.to_owned(), source };
        keep_private(path).map_err(|source| failed(sqlx::Error::Io(source)))?;
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(Duration::from_secs(5));
        let doubtful = Arc::new(AtomicBool::new(false));
        let writer = writer_pool(&doubtful);
        let writer = writer.connect_with(options.clone()).await.map_err(failed)?;
        MIGRATIONS.run(&writer).await.map_err(|source| migrate_error(path, source))?;
        let reader = SqlitePoolOptions::new().max_connections(2);
        let reader = reader.connect_with(options.read_only(true)).await.map_err(failed)?;
        rows::give_marks(&writer, &load::state(&reader).await?).await?;
        let state = load::state(&reader).await?;
        let newest = events::newest(&reader).await?;
        Ok(Self {
            reader,
            writer: Arc::new(Mutex::new(writer)),
            state: Arc::new(watch::Sender::new(Arc::new(state))),
            fleet: Arc::new(watch::Sender::new(0)),
            newest_event: Arc::new(watch::Sender::new(newest)),
            doubtful,
        })
    }

    /// Begins an epoch, before anything is served: a database that was restored must not be taken
    /// for the one that went on from it.
    pub async fn begin_epoch(&self, epoch: u64) -> Result<(), StoreError> {
        let writer = self.writer.lock().await;
        rows::epoch(&writer, epoch).await?;
        self.state.send_modify(|state| Arc::make_mut(state).revision.epoch = epoch);
        Ok(())
    }

    /// The newest committed state.
    pub fn state(&self) -> Arc<State> {
        Arc::clone(&self.state.borrow())
    }

    /// Follows the newest committed state.
    pub fn watch(&self) -> watch::Receiver<Arc<State>> {
        self.state.subscribe()
    }

    /// Changes when an appliance was invited, joined or was removed, and not with the
    /// configuration: a thousand agents need not wake for a change that concerns one.
    pub fn watch_fleet(&self) -> watch::Receiver<u64> {
        self.fleet.subscribe()
    }

    /// Lets `decide` look at the state and decide, commits what it decided, and has `publish` tell
    /// of it before anybody else's change can begin: what is told is in the order of the revisions.
    ///
    /// A change without writes and events commits nothing. Gives what `decide` gave and the state
    /// after the change.
    pub async fn change<T, E>(
        &self,
        decide: impl FnOnce(&State) -> Result<(Change, T), E>,
        publish: impl FnOnce(&State, &[Write]) + Send + 'static,
    ) -> Result<(T, Arc<State>), ChangeError<E>> {
        let writer = Arc::clone(&self.writer).lock_owned().await;
        self.settle_change(writer, decide, publish).await
    }

    /// The same, unless a change under the id of `request` was committed before. Of two that come
    /// at once, the second finds the first.
    pub async fn change_once<T, E>(
        &self,
        request: Option<&Request>,
        decide: impl FnOnce(&State) -> Result<(Change, T), E>,
        publish: impl FnOnce(&State, &[Write]) + Send + 'static,
    ) -> Result<Once<T>, ChangeError<E>> {
        let writer = Arc::clone(&self.writer).lock_owned().await;
        if let Some(request) = request {
            let known = rows::find_request(&writer, &request.id).await;
            if let Some(known) = known.map_err(ChangeError::Store)? {
                return Ok(Once::Before(known));
            }
        }
        let (value, state) = self.settle_change(writer, decide, publish).await?;
        Ok(Once::Done(value, state))
    }

    async fn settle_change<T, E>(
        &self,
        writer: OwnedMutexGuard<SqlitePool>,
        decide: impl FnOnce(&State) -> Result<(Change, T), E>,
        publish: impl FnOnce(&State, &[Write]) + Send + 'static,
    ) -> Result<(T, Arc<State>), ChangeError<E>> {
        let before = self.state();
        let (change, value) = decide(&before).map_err(ChangeError::Decided)?;
        if change.writes.is_empty() && change.events.is_empty() {
            return Ok((value, before));
        }
        let store = self.clone();
        let commit = async move {
            let after = store.commit(&writer, &before, &change).await?;
            publish(&after, &change.writes);
            Ok(after)
        };
        let after = to_the_end(commit).await.map_err(ChangeError::Store)?;
        Ok((value, after))
    }

    async fn commit(
        &self,
        writer: &SqlitePool,
        before: &State,
        change: &Change,
    ) -> Result<Arc<State>, StoreError> {
        let failed = |what: &str| {
            let what = what.to_owned();
            move |source| StoreError::Write { what, source }
        };
        let mut transaction = self.begin(writer).await?;
        let mut after = before.clone();
        let moved = !change.writes.is_empty();
        if moved {
            after.revision.number += 1;
            let now = clock::wall();
            rows::revision(&mut transaction, &after, change, now).await?;
            rows::free_labels(&mut transaction, before, &change.writes).await?;
            for write in &change.writes {
                rows::write(&mut transaction, &mut after, write, now).await?;
            }
        }
        if let Some(request) = &change.request {
            let oldest = clock::wall() - REQUEST_MEMORY;
            rows::request(&mut transaction, request, oldest).await?;
        }
        let revision = moved.then_some(after.revision);
        let newest = events::insert(&mut transaction, change, revision).await?;
        transaction.commit().await.map_err(failed("a change"))?;
        let after = Arc::new(after);
        self.state.send_replace(Arc::clone(&after));
        self.note_events(newest);
        Ok(after)
    }

    /// Begins a transaction that writes.
    async fn begin(&self, writer: &SqlitePool) -> Result<Transaction<'static, Sqlite>, StoreError> {
        writer.begin_with("BEGIN IMMEDIATE").await.map_err(|source| {
            self.doubtful.store(true, Ordering::Relaxed);
            StoreError::Write { what: "a change".to_owned(), source }
        })
    }

    /// Closes the database, so that all of it is in its one file.
    pub async fn close(&self) {
        self.reader.close().await;
        self.writer.lock().await.close().await;
    }

    /// What was created under a request id, within the time that is remembered.
    pub async fn request(&self, id: &str) -> Result<Option<Request>, StoreError> {
        rows::find_request(&self.reader, id).await
    }
}

/// The one connection that writes. It is given up when it is of no more use: SQLite ends a
/// transaction by itself when the disk is full or fails, which sqlx then counts as open for ever.
fn writer_pool(doubtful: &Arc<AtomicBool>) -> SqlitePoolOptions {
    let doubtful = Arc::clone(doubtful);
    SqlitePoolOptions::new().max_connections(1).before_acquire(move |connection, _idle| {
        let sound = !connection.is_in_transaction() && !doubtful.swap(false, Ordering::Relaxed);
        Box::pin(async move { Ok(sound) })
    })
}

/// There are private keys in the database: only its owner may read it. SQLite gives its other files
/// the same mode.
fn keep_private(path: &Path) -> std::io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    let file = options.create(true).append(true).mode(0o600).open(path)?;
    file.set_permissions(std::fs::Permissions::from_mode(0o600))
}

/// Runs `commit` to its end even if who waits for it goes away: a transaction that was committed
/// must become the state in memory. It holds the lock until then, so closing waits for it.
async fn to_the_end<T: Send + 'static>(commit: impl Future<Output = T> + Send + 'static) -> T {
    #[expect(clippy::disallowed_methods, reason = "joined here, unless the caller has gone")]
    let commit = tokio::spawn(commit);
    match commit.await {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    }
}

/// A time as the database keeps it.
fn micros(time: Timestamp) -> i64 {
    time.as_microsecond()
}

fn from_micros(micros: i64) -> Timestamp {
    Timestamp::from_microsecond(micros).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// SQLite's integers have a sign; revision numbers never use it.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

fn optional_revision(epoch: Option<i64>, number: Option<i64>) -> Option<Revision> {
    Some(Revision { epoch: unsigned(epoch?), number: unsigned(number?) })
}

fn migrate_error(path: &Path, source: MigrateError) -> StoreError {
    let path = path.to_owned();
    match source {
        MigrateError::VersionMissing(version) => StoreError::Newer { path, version },
        source => StoreError::Migrate { path, source },
    }
}

#[cfg(test)]
mod tests;
