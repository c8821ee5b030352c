//! Certificates and their keys.
//!
//! A change of one is a revision, since agents are told of it, but what it was before is not kept:
//! a key must not stand in the history.

use std::sync::Arc;

use gantry_model::key_pair::{KeyPair, PrivateKey};
use gantry_model::name::{CertificateName, Id};
use jiff::Timestamp;
use sqlx::{SqliteConnection, SqlitePool};

use super::{StoreError, from_micros, micros};
use crate::certificate::{self, Material};
use crate::state::{Certificate, State};

pub(super) async fn put(
    connection: &mut SqliteConnection,
    after: &mut State,
    (name, material): (&CertificateName, &Material),
    now: Timestamp,
) -> Result<(), StoreError> {
    let now = from_micros(micros(now));
    let certificate = Certificate {
        name: name.clone(),
        digest: material.digest(),
        facts: material.facts.clone(),
        key_pair: material.key_pair(name),
        create_time: after.certificate(name).map_or(now, |before| before.create_time),
        update_time: now,
    };
    sqlx::query(
        "INSERT INTO certificates (id, chain, private_key, digest, create_time, update_time)
         VALUES ($1, $2, $3, $4, $5, $6)
         ON CONFLICT (id) DO UPDATE
         SET chain = $2, private_key = $3, digest = $4, update_time = $6",
    )
    .bind(name.certificate.as_str())
    .bind(&material.chain)
    .bind(material.key.reveal())
    .bind(&certificate.digest)
    .bind(micros(certificate.create_time))
    .bind(micros(now))
    .execute(connection)
    .await
    .map_err(writing(name))?;
    after.certificates.insert_mut(name.clone(), Arc::new(certificate));
    Ok(())
}

pub(super) async fn delete(
    connection: &mut SqliteConnection,
    after: &mut State,
    name: &CertificateName,
) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM certificates WHERE id = $1")
        .bind(name.certificate.as_str())
        .execute(connection)
        .await
        .map_err(writing(name))?;
    after.certificates.remove_mut(name);
    Ok(())
}

/// Reads all certificates.
pub(super) async fn load(pool: &SqlitePool) -> Result<Vec<Certificate>, StoreError> {
    type Row = (String, String, String, Vec<u8>, i64, i64);
    let rows: Vec<Row> = sqlx::query_as(
        "SELECT id, chain, private_key, digest, create_time, update_time FROM certificates",
    )
    .fetch_all(pool)
    .await
    .map_err(|source| StoreError::Read { what: "certificates", source })?;
    rows.into_iter()
        .map(|(id, chain, key, digest, create_time, update_time)| {
            let unreadable = |why: String| StoreError::Row { name: id.clone(), why };
            let certificate: Id = id.parse().map_err(|why| unreadable(format!("{why}")))?;
            let facts = certificate::facts(&chain);
            let key = PrivateKey::new(key);
            Ok(Certificate {
                name: CertificateName { certificate: certificate.clone() },
                facts: facts.ok_or_else(|| unreadable("it is not a chain".to_owned()))?,
                key_pair: KeyPair { name: certificate, chain, key },
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
