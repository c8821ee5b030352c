//! The event log: who changed what and why, and what happened.

use std::borrow::Cow;

use gantry_model::revision::Revision;
use gantry_runtime::clock;
use jiff::Timestamp;
use sqlx::{SqliteConnection, SqlitePool};
use tokio::sync::watch;

use super::{
    Change, ChangeError, Store, StoreError, from_micros, micros, optional_revision, signed,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// For the record.
    Info,
    /// Redundancy is lost; service is not.
    Warning,
    /// Service is lost.
    Critical,
}

/// An event to be written.
#[derive(Clone, Debug)]
pub struct NewEvent {
    /// Absent: now.
    pub time: Option<Timestamp>,
    pub severity: Severity,
    /// Stable, for programs: `REAL_SERVER_FAILED`.
    pub kind: Cow<'static, str>,
    /// A resource name.
    pub subject: String,
    pub message: String,
}

impl NewEvent {
    /// An event for the record, of now.
    pub fn info(kind: &'static str, subject: &impl ToString, message: impl Into<String>) -> Self {
        let (subject, message) = (subject.to_string(), message.into());
        Self { time: None, severity: Severity::Info, kind: kind.into(), subject, message }
    }
}

/// An event as it stands in the log.
#[derive(Clone, Debug)]
pub struct Event {
    pub id: i64,
    pub time: Timestamp,
    pub severity: Severity,
    pub kind: String,
    pub subject: String,
    pub actor: String,
    pub message: String,
    pub comment: String,
    pub revision: Option<Revision>,
}

/// Which events to read.
#[derive(Clone, Debug, Default)]
pub struct EventFilter {
    /// This resource and what is below it; empty: all.
    pub subject: String,
    /// Newest first, older than this; or oldest first, newer than this.
    pub range: EventRange,
    pub limit: u32,
}

#[derive(Clone, Copy, Debug)]
pub enum EventRange {
    Before(i64),
    After(i64),
}

impl Default for EventRange {
    fn default() -> Self {
        Self::Before(i64::MAX)
    }
}

type EventRow = (i64, i64, i64, String, String, String, String, String, Option<i64>, Option<i64>);

impl Store {
    /// Records what was seen; no configuration changes.
    pub async fn record(&self, actor: String, events: Vec<NewEvent>) -> Result<(), StoreError> {
        let change = Change { actor, events, ..Change::default() };
        match self.change::<(), std::convert::Infallible>(|_| Ok((change, ())), |_, _| {}).await {
            Ok(_) => Ok(()),
            Err(ChangeError::Store(error)) => Err(error),
            Err(ChangeError::Decided(never)) => match never {},
        }
    }

    pub async fn events(&self, filter: &EventFilter) -> Result<Vec<Event>, StoreError> {
        let sql = match filter.range {
            EventRange::Before(_) => {
                "SELECT id, time, severity, type, subject, actor, message, comment, epoch, number
                 FROM events
                 WHERE id < $1 AND ($2 = '' OR subject = $2 OR substr(subject, 1, length($2) + 1) = $2 || '/')
                 ORDER BY id DESC LIMIT $3"
            }
            EventRange::After(_) => {
                "SELECT id, time, severity, type, subject, actor, message, comment, epoch, number
                 FROM events
                 WHERE id > $1 AND ($2 = '' OR subject = $2 OR substr(subject, 1, length($2) + 1) = $2 || '/')
                 ORDER BY id LIMIT $3"
            }
        };
        let (EventRange::Before(bound) | EventRange::After(bound)) = filter.range;
        let rows: Vec<EventRow> = sqlx::query_as(sql)
            .bind(bound)
            .bind(&filter.subject)
            .bind(i64::from(filter.limit))
            .fetch_all(&self.reader)
            .await
            .map_err(reading)?;
        Ok(rows.into_iter().map(event).collect())
    }

    /// When an event of one of these kinds was last recorded of `subject`.
    pub async fn last_event(
        &self,
        subject: &str,
        kinds: [&str; 2],
    ) -> Result<Option<Timestamp>, StoreError> {
        let row: Option<(i64,)> = sqlx::query_as(
            "SELECT time FROM events WHERE subject = $1 AND type IN ($2, $3)
             ORDER BY id DESC LIMIT 1",
        )
        .bind(subject)
        .bind(kinds[0])
        .bind(kinds[1])
        .fetch_optional(&self.reader)
        .await
        .map_err(reading)?;
        Ok(row.map(|(time,)| from_micros(time)))
    }

    /// The newest word on each real server there is: its name, and whether it was that it failed.
    /// Found by name for each, since the log is far longer than the configuration.
    pub async fn last_health_events(&self) -> Result<Vec<(String, bool)>, StoreError> {
        sqlx::query_as(
            "WITH servers AS (
                 SELECT 'clusters/' || cluster || '/virtualServices/' || virtual_service
                     || '/realServers/' || id AS name
                 FROM real_servers),
             words AS (
                 SELECT name, (
                     SELECT type FROM events
                     WHERE subject = name AND type IN ('REAL_SERVER_FAILED', 'REAL_SERVER_RECOVERED')
                     ORDER BY id DESC LIMIT 1) AS word
                 FROM servers)
             SELECT name, word = 'REAL_SERVER_FAILED' FROM words WHERE word IS NOT NULL",
        )
        .fetch_all(&self.reader)
        .await
        .map_err(reading)
    }

    /// Changes with every new event: its id.
    pub fn watch_events(&self) -> watch::Receiver<i64> {
        self.newest_event.subscribe()
    }

    pub(super) fn note_events(&self, newest: Option<i64>) {
        if let Some(newest) = newest {
            self.newest_event.send_replace(newest);
        }
    }
}

pub(super) async fn newest(pool: &SqlitePool) -> Result<i64, StoreError> {
    let row: (i64,) = sqlx::query_as("SELECT coalesce(max(id), 0) FROM events")
        .fetch_one(pool)
        .await
        .map_err(reading)?;
    Ok(row.0)
}

/// Writes the events of a change; gives the id of the last.
pub(super) async fn insert(
    connection: &mut SqliteConnection,
    change: &Change,
    revision: Option<Revision>,
) -> Result<Option<i64>, StoreError> {
    let now = clock::wall();
    let mut newest = None;
    for event in &change.events {
        let result = sqlx::query(
            "INSERT INTO events
                 (time, severity, type, subject, actor, message, comment, epoch, number)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        )
        .bind(micros(event.time.unwrap_or(now)))
        .bind(event.severity as i64)
        .bind(event.kind.as_ref())
        .bind(&event.subject)
        .bind(&change.actor)
        .bind(&event.message)
        .bind(&change.comment)
        .bind(revision.map(|revision| signed(revision.epoch)))
        .bind(revision.map(|revision| signed(revision.number)))
        .execute(&mut *connection)
        .await
        .map_err(|source| StoreError::Write { what: "an event".to_owned(), source })?;
        newest = Some(result.last_insert_rowid());
    }
    Ok(newest)
}

fn event(row: EventRow) -> Event {
    let (id, time, severity, kind, subject, actor, message, comment, epoch, number) = row;
    Event {
        id,
        time: from_micros(time),
        severity: match severity {
            0 => Severity::Info,
            1 => Severity::Warning,
            _ => Severity::Critical,
        },
        kind,
        subject,
        actor,
        message,
        comment,
        revision: optional_revision(epoch, number),
    }
}

fn reading(source: sqlx::Error) -> StoreError {
    StoreError::Read { what: "events", source }
}
