//! Appliances and invitations. They are not configuration that agents are told, so they do not move
//! its revision; each change of them is an event.

use std::sync::Arc;

use gantry_model::name::ApplianceName;
use gantry_runtime::clock;
use jiff::Timestamp;
use sqlx::{SqliteConnection, SqlitePool};
use tokio::sync::OwnedMutexGuard;

use super::events::{self, NewEvent};
use super::{By, Change, Store, StoreError, micros, to_the_end};
use crate::state::{Appliance, State};

/// A one-time right to join.
#[derive(Debug)]
pub struct Invitation {
    pub appliance: ApplianceName,
    /// SHA-256 of the token's secret.
    pub secret_hash: Vec<u8>,
    pub expire_time: Timestamp,
}

/// What became of an attempt to join.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Joined {
    /// The appliance has joined, with the key given.
    Yes(ApplianceName),
    /// There never was such an invitation, or its appliance was removed.
    Unknown,
    /// It was good until then.
    Expired(ApplianceName, Timestamp),
    /// Somebody joined with it then.
    Spent(ApplianceName, Timestamp),
}

impl Store {
    /// Writes an invitation, making its appliance if there is none yet.
    pub async fn invite(
        &self,
        invitation: &Invitation,
        by: impl Into<By>,
        event: NewEvent,
    ) -> Result<(), StoreError> {
        let writer = Arc::clone(&self.writer).lock_owned().await;
        let mut transaction = self.begin(&writer).await?;
        let name = &invitation.appliance;
        sqlx::query("INSERT INTO appliances (cluster, id) VALUES ($1, $2) ON CONFLICT DO NOTHING")
            .bind(name.cluster.as_str())
            .bind(name.appliance.as_str())
            .execute(&mut *transaction)
            .await
            .map_err(writing)?;
        sqlx::query(
            "INSERT INTO invitations (secret_hash, cluster, appliance, expire_time)
             VALUES ($1, $2, $3, $4)",
        )
        .bind(&invitation.secret_hash)
        .bind(name.cluster.as_str())
        .bind(name.appliance.as_str())
        .bind(micros(invitation.expire_time))
        .execute(&mut *transaction)
        .await
        .map_err(writing)?;
        let newest = record(&mut transaction, by.into(), event).await?;
        let name = name.clone();
        let update = move |state: &mut State| {
            if state.appliances.get(&name).is_none() {
                let fresh = Appliance { name: name.clone(), join_time: None, key_hash: None };
                state.appliances.insert_mut(name, Arc::new(fresh));
            }
        };
        self.settle(writer, transaction, newest, update).await
    }

    /// Spends the invitation with this secret, if it is good, for the key with this hash.
    pub async fn join(
        &self,
        secret_hash: &[u8],
        key_hash: &[u8],
        event: impl FnOnce(&ApplianceName) -> NewEvent,
    ) -> Result<Joined, StoreError> {
        let writer = Arc::clone(&self.writer).lock_owned().await;
        let mut transaction = self.begin(&writer).await?;
        let now = clock::wall();
        let name = match find(&mut transaction, secret_hash, now).await? {
            Joined::Yes(name) => name,
            refused => return Ok(refused),
        };
        sqlx::query("UPDATE invitations SET spent_time = $1 WHERE secret_hash = $2")
            .bind(micros(now))
            .bind(secret_hash)
            .execute(&mut *transaction)
            .await
            .map_err(writing)?;
        sqlx::query(
            "UPDATE appliances SET join_time = $1, key_hash = $2 WHERE cluster = $3 AND id = $4",
        )
        .bind(micros(now))
        .bind(key_hash)
        .bind(name.cluster.as_str())
        .bind(name.appliance.as_str())
        .execute(&mut *transaction)
        .await
        .map_err(writing)?;
        let newest = record(&mut transaction, By::from(name.to_string()), event(&name)).await?;
        let key_hash = Some(key_hash.to_vec());
        let joined = Appliance { name: name.clone(), join_time: Some(now), key_hash };
        let update = move |state: &mut State| {
            state.appliances.insert_mut(joined.name.clone(), Arc::new(joined));
        };
        self.settle(writer, transaction, newest, update).await?;
        Ok(Joined::Yes(name))
    }

    /// Removes an appliance; gives whether there was one.
    pub async fn remove_appliance(
        &self,
        name: &ApplianceName,
        by: impl Into<By>,
        event: NewEvent,
    ) -> Result<bool, StoreError> {
        let writer = Arc::clone(&self.writer).lock_owned().await;
        let mut transaction = self.begin(&writer).await?;
        let result = sqlx::query("DELETE FROM appliances WHERE cluster = $1 AND id = $2")
            .bind(name.cluster.as_str())
            .bind(name.appliance.as_str())
            .execute(&mut *transaction)
            .await
            .map_err(writing)?;
        if result.rows_affected() == 0 {
            return Ok(false);
        }
        let newest = record(&mut transaction, by.into(), event).await?;
        let name = name.clone();
        let update = move |state: &mut State| {
            state.appliances.remove_mut(&name);
        };
        self.settle(writer, transaction, newest, update).await?;
        Ok(true)
    }

    /// Commits, and makes the same change to the state in memory, whoever waits for it.
    pub(super) async fn settle(
        &self,
        writer: OwnedMutexGuard<SqlitePool>,
        transaction: sqlx::Transaction<'static, sqlx::Sqlite>,
        newest: Option<i64>,
        update: impl FnOnce(&mut State) + Send + 'static,
    ) -> Result<(), StoreError> {
        let store = self.clone();
        let commit = async move {
            let failed = |source| StoreError::Write { what: "a change".to_owned(), source };
            transaction.commit().await.map_err(failed)?;
            store.state.send_modify(|state| update(Arc::make_mut(state)));
            store.fleet.send_modify(|changes| *changes += 1);
            store.note_events(newest);
            drop(writer);
            Ok(())
        };
        to_the_end(commit).await
    }
}

async fn find(
    connection: &mut SqliteConnection,
    secret_hash: &[u8],
    now: Timestamp,
) -> Result<Joined, StoreError> {
    let row: Option<(String, String, i64, Option<i64>)> = sqlx::query_as(
        "SELECT cluster, appliance, expire_time, spent_time FROM invitations
         WHERE secret_hash = $1",
    )
    .bind(secret_hash)
    .fetch_optional(connection)
    .await
    .map_err(|source| StoreError::Read { what: "invitations", source })?;
    let Some((cluster, appliance, expires, spent)) = row else { return Ok(Joined::Unknown) };
    let (Ok(cluster), Ok(appliance)) = (cluster.parse(), appliance.parse()) else {
        return Ok(Joined::Unknown);
    };
    let name = ApplianceName { cluster, appliance };
    Ok(match spent {
        Some(spent) => Joined::Spent(name, super::from_micros(spent)),
        None if expires < micros(now) => Joined::Expired(name, super::from_micros(expires)),
        None => Joined::Yes(name),
    })
}

pub(super) async fn record(
    connection: &mut SqliteConnection,
    by: By,
    event: NewEvent,
) -> Result<Option<i64>, StoreError> {
    let By { actor, comment } = by;
    let change = Change { actor, comment, events: vec![event], ..Change::default() };
    events::insert(connection, &change, None).await
}

fn writing(source: sqlx::Error) -> StoreError {
    StoreError::Write { what: "the fleet".to_owned(), source }
}
