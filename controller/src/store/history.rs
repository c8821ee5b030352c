//! Every revision there ever was: who made it, and what it changed.
//!
//! Nothing here changes anything. What lies between two revisions is folded together while it is
//! read, so that it costs time in proportion to the changes and memory in proportion to what they
//! touched.

use futures_util::TryStreamExt;
use gantry_model::name::{ClusterName, ServerName, ServiceName};
use gantry_model::revision::Revision;
use gantry_model::violation::Violations;
use gantry_model::wire;
use gantry_proto::v1 as pb;
use jiff::Timestamp;
use prost::Message;

use super::{Store, StoreError, from_micros, signed, unsigned};
use crate::difference::{Difference, Passages, Resource};

/// One change that was committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    pub revision: Revision,
    pub time: Timestamp,
    pub actor: String,
    pub comment: String,
    /// How many resources it changed.
    pub changes: u64,
}

/// The changes after one revision, up to and with another.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    pub after: Revision,
    pub upto: Revision,
}

type CommittedRow = (i64, i64, i64, String, String, i64);
type ChangeRow = (String, Option<Vec<u8>>, Option<Vec<u8>>);

impl Store {
    pub async fn revision(&self, revision: Revision) -> Result<Option<Committed>, StoreError> {
        let row: Option<CommittedRow> = sqlx::query_as(
            "SELECT epoch, number, time, actor, comment,
                    (SELECT count(*) FROM revision_changes c
                     WHERE c.epoch = r.epoch AND c.number = r.number)
             FROM revisions r WHERE epoch = $1 AND number = $2",
        )
        .bind(signed(revision.epoch))
        .bind(signed(revision.number))
        .fetch_optional(&self.reader)
        .await
        .map_err(reading)?;
        Ok(row.map(committed))
    }

    /// The revisions older than `before`, newest first; with a cluster, those that changed
    /// something in it.
    pub async fn revisions(
        &self,
        before: Revision,
        cluster: Option<&ClusterName>,
        limit: u32,
    ) -> Result<Vec<Committed>, StoreError> {
        let (own, first, end) = bounds(cluster);
        let rows: Vec<CommittedRow> = sqlx::query_as(
            "SELECT epoch, number, time, actor, comment,
                    (SELECT count(*) FROM revision_changes c
                     WHERE c.epoch = r.epoch AND c.number = r.number)
             FROM revisions r
             WHERE (epoch, number) < ($1, $2) AND ($3 = ''
                OR EXISTS (SELECT 1 FROM revision_changes c WHERE c.epoch = r.epoch
                           AND c.number = r.number AND c.name = $3)
                OR EXISTS (SELECT 1 FROM revision_changes c WHERE c.epoch = r.epoch
                           AND c.number = r.number AND c.name >= $4 AND c.name < $5))
             ORDER BY epoch DESC, number DESC LIMIT $6",
        )
        .bind(signed(before.epoch))
        .bind(signed(before.number))
        .bind(own)
        .bind(first)
        .bind(end)
        .bind(i64::from(limit))
        .fetch_all(&self.reader)
        .await
        .map_err(reading)?;
        Ok(rows.into_iter().map(committed).collect())
    }

    /// What one revision changed, ordered by name.
    pub async fn changes_of(&self, revision: Revision) -> Result<Vec<Difference>, StoreError> {
        let rows: Vec<ChangeRow> = sqlx::query_as(
            "SELECT name, before, after FROM revision_changes
             WHERE epoch = $1 AND number = $2 ORDER BY name",
        )
        .bind(signed(revision.epoch))
        .bind(signed(revision.number))
        .fetch_all(&self.reader)
        .await
        .map_err(reading)?;
        rows.into_iter().filter_map(|row| difference(row).transpose()).collect()
    }

    /// What all changes of a span come to, with a cluster in that cluster.
    pub async fn passages(
        &self,
        span: Span,
        cluster: Option<&ClusterName>,
    ) -> Result<Passages, StoreError> {
        let (own, first, end) = bounds(cluster);
        let mut rows = sqlx::query_as::<_, ChangeRow>(
            "SELECT name, before, after FROM revision_changes
             WHERE (epoch, number) > ($1, $2) AND (epoch, number) <= ($3, $4)
               AND ($5 = '' OR name = $5 OR (name >= $6 AND name < $7))
             ORDER BY epoch, number, name",
        )
        .bind(signed(span.after.epoch))
        .bind(signed(span.after.number))
        .bind(signed(span.upto.epoch))
        .bind(signed(span.upto.number))
        .bind(own)
        .bind(first)
        .bind(end)
        .fetch(&self.reader);
        let mut passages = Passages::default();
        while let Some((name, before, after)) = rows.try_next().await.map_err(reading)? {
            passages.take(name, before, after);
        }
        passages.read(|name, blob: Vec<u8>| resource(name, &blob))
    }
}

/// The cluster's name, and the names below it: from the second on, before the third.
fn bounds(cluster: Option<&ClusterName>) -> (String, String, String) {
    let own = cluster.map(ToString::to_string).unwrap_or_default();
    // '0' follows '/' in ASCII.
    let (first, end) = (format!("{own}/"), format!("{own}0"));
    (own, first, end)
}

fn committed((epoch, number, time, actor, comment, changes): CommittedRow) -> Committed {
    let revision = Revision { epoch: unsigned(epoch), number: unsigned(number) };
    let (time, changes) = (from_micros(time), unsigned(changes));
    Committed { revision, time, actor, comment, changes }
}

/// None for a kind of resource that has no history to go back to.
fn difference((name, before, after): ChangeRow) -> Result<Option<Difference>, StoreError> {
    let read = |blob: Option<Vec<u8>>| match blob {
        Some(blob) => resource(&name, &blob),
        None => Ok(None),
    };
    let (before, after) = (read(before)?, read(after)?);
    Ok((before.is_some() || after.is_some()).then_some(Difference { name, before, after }))
}

/// A resource as it was kept, in the form that this version writes, so that two forms differ only
/// where their meaning does.
fn resource(name: &str, blob: &[u8]) -> Result<Option<Resource>, StoreError> {
    let mut violations = Violations::new();
    if let Ok(parsed) = name.parse::<ServerName>() {
        let message: pb::RealServer = decode(name, blob)?;
        let server = wire::real_server(&mut violations, parsed, &message);
        let sound = violations.finish(server).ok();
        return Ok(Some(
            sound.map_or_else(|| Resource::Server(Box::new(message)), |s| (&s).into()),
        ));
    }
    if let Ok(parsed) = name.parse::<ServiceName>() {
        let message: pb::VirtualService = decode(name, blob)?;
        let service = wire::virtual_service(&mut violations, parsed, &message);
        let sound = violations.finish(service).ok();
        return Ok(Some(
            sound.map_or_else(|| Resource::Service(Box::new(message)), |s| (&s).into()),
        ));
    }
    if name.parse::<ClusterName>().is_ok() {
        return Ok(Some(Resource::Cluster(decode(name, blob)?)));
    }
    Ok(None)
}

fn decode<M: Message + Default>(name: &str, blob: &[u8]) -> Result<M, StoreError> {
    M::decode(blob).map_err(|why| StoreError::Row { name: name.to_owned(), why: why.to_string() })
}

fn reading(source: sqlx::Error) -> StoreError {
    StoreError::Read { what: "the history", source }
}

#[cfg(test)]
mod tests;
