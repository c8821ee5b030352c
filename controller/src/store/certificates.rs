//! Certificates and their keys.
//!
//! They do not move the configuration's revision: a revision is what agents are told and what
//! history can go back to, and no agent is told of certificates yet, nor may a key stand in the
//! history. Each change of one is an event. When agents are told of them, the plans of the services
//! that use one must change with it.

use std::sync::Arc;

use gantry_model::name::CertificateName;
use gantry_runtime::clock;
use jiff::Timestamp;
use sqlx::{SqliteConnection, SqlitePool};

use super::fleet::record;
use super::{By, ChangeError, NewEvent, Store, StoreError, from_micros, micros};
use crate::certificate::{self, Material};
use crate::state::{Certificate, State};

/// A change of one certificate.
#[derive(Debug)]
pub struct CertificateChange {
    pub by: By,
    pub event: NewEvent,
    pub write: CertificateWrite,
}

#[derive(Debug)]
pub enum CertificateWrite {
    Put(CertificateName, Box<Material>),
    Delete(CertificateName),
}

impl Store {
    /// Lets `decide` look at the state and decide, under the lock that configuration changes take:
    /// a service cannot come to use a certificate that is just being deleted. It may decide that
    /// there is nothing to do.
    pub async fn change_certificates<E>(
        &self,
        decide: impl FnOnce(&State) -> Result<Option<CertificateChange>, E>,
    ) -> Result<Arc<State>, ChangeError<E>> {
        let writer = Arc::clone(&self.writer).lock_owned().await;
        let before = self.state();
        let Some(change) = decide(&before).map_err(ChangeError::Decided)? else {
            return Ok(before);
        };
        let CertificateChange { by, event, write } = change;
        let mut transaction = self.begin(&writer).await.map_err(ChangeError::Store)?;
        let changed = write_row(&mut transaction, &before, write).await;
        let (name, certificate) = changed.map_err(ChangeError::Store)?;
        let newest = record(&mut transaction, by, event).await.map_err(ChangeError::Store)?;
        let update = move |state: &mut State| match certificate {
            Some(certificate) => state.certificates.insert_mut(name, Arc::new(certificate)),
            None => {
                state.certificates.remove_mut(&name);
            }
        };
        let settled = self.settle(writer, transaction, newest, update).await;
        settled.map_err(ChangeError::Store)?;
        Ok(self.state())
    }
}

/// Writes the row; gives what is in its place from then on.
async fn write_row(
    connection: &mut SqliteConnection,
    before: &State,
    write: CertificateWrite,
) -> Result<(CertificateName, Option<Certificate>), StoreError> {
    match write {
        CertificateWrite::Put(name, material) => {
            let now = from_micros(micros(clock::wall()));
            let create_time = before.certificate(&name).map_or(now, |before| before.create_time);
            put(connection, &name, &material, [create_time, now]).await?;
            let certificate = Certificate {
                name: name.clone(),
                digest: material.digest(),
                facts: material.facts,
                create_time,
                update_time: now,
            };
            Ok((name, Some(certificate)))
        }
        CertificateWrite::Delete(name) => {
            sqlx::query("DELETE FROM certificates WHERE id = $1")
                .bind(name.certificate.as_str())
                .execute(connection)
                .await
                .map_err(writing(&name))?;
            Ok((name, None))
        }
    }
}

async fn put(
    connection: &mut SqliteConnection,
    name: &CertificateName,
    material: &Material,
    [create_time, update_time]: [Timestamp; 2],
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO certificates (id, chain, private_key, digest, create_time, update_time)
         VALUES ($1, $2, $3, $4, $5, $6)
         ON CONFLICT (id) DO UPDATE
         SET chain = $2, private_key = $3, digest = $4, update_time = $6",
    )
    .bind(name.certificate.as_str())
    .bind(&material.chain)
    .bind(material.key.reveal())
    .bind(material.digest())
    .bind(micros(create_time))
    .bind(micros(update_time))
    .execute(connection)
    .await
    .map_err(writing(name))?;
    Ok(())
}

/// Reads all certificates, and no key.
pub(super) async fn load(pool: &SqlitePool) -> Result<Vec<Certificate>, StoreError> {
    type Row = (String, String, Vec<u8>, i64, i64);
    let rows: Vec<Row> =
        sqlx::query_as("SELECT id, chain, digest, create_time, update_time FROM certificates")
            .fetch_all(pool)
            .await
            .map_err(|source| StoreError::Read { what: "certificates", source })?;
    rows.into_iter()
        .map(|(id, chain, digest, create_time, update_time)| {
            let unreadable = |why: String| StoreError::Row { name: id.clone(), why };
            let certificate = id.parse().map_err(|why| unreadable(format!("{why}")))?;
            let facts = certificate::facts(&chain);
            Ok(Certificate {
                name: CertificateName { certificate },
                facts: facts.ok_or_else(|| unreadable("it is not a chain".to_owned()))?,
                digest,
                create_time: from_micros(create_time),
                update_time: from_micros(update_time),
            })
        })
        .collect()
}

fn writing(name: &CertificateName) -> impl FnOnce(sqlx::Error) -> StoreError {
    let what = name.to_string();
    move |source| StoreError::Write { what, source }
}
