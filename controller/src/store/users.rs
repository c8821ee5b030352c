//! Users and the hashes of their passwords. They are not configuration that agents are told, so
//! they do not move its revision; each change of them is an event.
//!
//! They are read from the database each time: another process may have reset a password.

use std::sync::Arc;

use gantry_runtime::clock;
use jiff::Timestamp;

use super::events::NewEvent;
use super::fleet::record;
use super::{Store, StoreError, from_micros, micros};

/// Somebody who may log in.
#[derive(Clone, PartialEq, Eq)]
pub struct User {
    /// The last part of `users/{user}`.
    pub id: String,
    /// `viewer`, `operator` or `administrator`.
    pub role: String,
    /// A PHC string.
    pub password_hash: String,
    pub create_time: Timestamp,
    pub password_time: Timestamp,
}

#[derive(sqlx::FromRow)]
struct UserRow {
    id: String,
    role: String,
    password_hash: String,
    create_time: i64,
    password_time: i64,
}

impl std::fmt::Debug for User {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("User").field("id", &self.id).field("role", &self.role).finish()
    }
}

impl Store {
    pub async fn user(&self, id: &str) -> Result<Option<User>, StoreError> {
        let rows = self.users().await?;
        Ok(rows.into_iter().find(|user| user.id == id))
    }

    /// All of them, ordered by name; there are few.
    pub async fn users(&self) -> Result<Vec<User>, StoreError> {
        let rows: Vec<UserRow> = sqlx::query_as(
            "SELECT id, role, password_hash, create_time, password_time FROM users ORDER BY id",
        )
        .fetch_all(&self.reader)
        .await
        .map_err(|source| StoreError::Read { what: "users", source })?;
        let user = |row: UserRow| User {
            id: row.id,
            role: row.role,
            password_hash: row.password_hash,
            create_time: from_micros(row.create_time),
            password_time: from_micros(row.password_time),
        };
        Ok(rows.into_iter().map(user).collect())
    }

    /// Gives a user this password, and makes the user, an administrator, if there is none yet.
    pub async fn set_password(
        &self,
        id: &str,
        password_hash: &str,
        actor: String,
        event: NewEvent,
    ) -> Result<(), StoreError> {
        let failed = |source| StoreError::Write { what: "users".to_owned(), source };
        let writer = Arc::clone(&self.writer).lock_owned().await;
        let mut transaction = self.begin(&writer).await?;
        sqlx::query(
            "INSERT INTO users (id, role, password_hash, create_time, password_time)
             VALUES ($1, 'administrator', $2, $3, $3)
             ON CONFLICT (id) DO UPDATE SET password_hash = $2, password_time = $3",
        )
        .bind(id)
        .bind(password_hash)
        .bind(micros(clock::wall()))
        .execute(&mut *transaction)
        .await
        .map_err(failed)?;
        let newest = record(&mut transaction, actor.into(), event).await?;
        self.settle(writer, transaction, newest, |_| {}).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_password_is_set_with_its_event_and_another_process_sees_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("gantry.db");
        let store = Store::open(&path).await.unwrap();
        assert_eq!(store.user("admin").await.unwrap(), None);
        let event = |kind| NewEvent::info(kind, &"users/admin", "a password");
        let set = |hash, kind| store.set_password("admin", hash, "users/admin".into(), event(kind));
        set("one", "USER_CREATED").await.unwrap();
        let first = store.user("admin").await.unwrap().unwrap();
        assert_eq!((first.role.as_str(), first.password_hash.as_str()), ("administrator", "one"));
        let other = Store::open(&path).await.unwrap();
        let hash = "two";
        let event = event("PASSWORD_RESET");
        other.set_password("admin", hash, "console".into(), event).await.unwrap();
        let second = store.user("admin").await.unwrap().unwrap();
        assert_eq!(second.password_hash, "two");
        assert!(second.password_time > first.password_time);
        let all = crate::store::EventFilter { limit: 9, ..Default::default() };
        let events = store.events(&all).await.unwrap();
        let kinds: Vec<_> = events.into_iter().map(|event| event.kind).collect();
        assert_eq!(kinds, ["PASSWORD_RESET", "USER_CREATED"]);
        assert!(!format!("{second:?}").contains("two"), "hashes are not logged");
    }
}
