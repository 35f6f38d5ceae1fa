//! Multipart uploads whose abort is due: on record from the moment that their id leaves the
//! upload's row until the store has confirmed that they are gone.
//!
//! What opens one writes an *intent* first, so that one whose id was never learned (a lost
//! answer, a crash) is looked for as well.

use entity::multipart_abort::{ActiveModel, Column, Entity, Model};
use sea_orm::ActiveValue::Set;
use sea_orm::sea_query::OnConflict;
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, Order, QueryFilter, QueryOrder};
use sea_orm::{PaginatorTrait, QuerySelect};
use uuid::Uuid;

use super::Result;
use super::engine::pool::Engine;
use crate::domain::{PolicyName, Timestamp, Upload, UploadId};

/// What stands before the token of an intent; no store's id begins with it.
const INTENT: char = '?';

/// How many rows one statement takes: seven parameters each, and SQLite takes 32,766.
const CHUNK: usize = 1000;

/// An abort that is due.
#[derive(Debug, Clone)]
pub struct DueAbort {
    /// Whose parts they are.
    pub upload: UploadId,
    /// Under which policy.
    pub policy: PolicyName,
    /// Where they lie.
    pub key: String,
    /// How often it was tried.
    pub attempts: i32,
    mark: String,
}

impl DueAbort {
    /// The store's id; `None` for an intent: whatever is open there and nobody's.
    pub fn multipart_id(&self) -> Option<&str> {
        (!self.mark.starts_with(INTENT)).then_some(&self.mark)
    }
}

impl From<Model> for DueAbort {
    fn from(row: Model) -> Self {
        let Model { upload_id, multipart_id, policy, key, attempts, .. } = row;
        let (upload, policy) = (UploadId(upload_id), PolicyName::new(policy));
        Self { upload, policy, key, attempts, mark: multipart_id }
    }
}

/// An abort that is to be put on record.
#[derive(Debug, Clone)]
pub(super) struct NewAbort<'a> {
    /// Whose parts they are.
    pub upload: &'a Upload,
    /// The store's id, or an intent's mark.
    pub mark: String,
    /// From when on it is tried.
    pub due: Timestamp,
}

/// Puts aborts on record, in the transaction of the change that makes them due.
pub(super) async fn add(
    connection: &impl ConnectionTrait,
    aborts: impl IntoIterator<Item = NewAbort<'_>>,
) -> Result<()> {
    let rows: Vec<_> = aborts
        .into_iter()
        .map(|NewAbort { upload, mark, due }| ActiveModel {
            upload_id: Set(upload.id.0),
            multipart_id: Set(mark),
            policy: Set(upload.policy.as_str().to_owned()),
            key: Set(upload.key.as_str().to_owned()),
            attempts: Set(0),
            next_attempt_at: Set(due),
            created_at: Set(upload.updated_at),
        })
        .collect();
    let known =
        OnConflict::columns([Column::UploadId, Column::MultipartId]).do_nothing().to_owned();
    for rows in rows.chunks(CHUNK) {
        let insert = Entity::insert_many(rows.to_vec()).on_conflict(known.clone());
        insert.exec_without_returning(connection).await?;
    }
    Ok(())
}

/// Multipart uploads that are to be aborted.
#[derive(Clone, Copy)]
pub struct MultipartAborts<'a>(pub(in crate::db) &'a Engine);

impl MultipartAborts<'_> {
    /// Puts on record that a multipart upload is about to be opened; looked into from `due`
    /// on, unless it is settled before.
    pub async fn create_intent(
        self,
        upload: &Upload,
        token: Uuid,
        due: Timestamp,
    ) -> Result<DueAbort> {
        let mark = format!("{INTENT}{}", token.as_simple());
        add(&self.0.write, [NewAbort { upload, mark: mark.clone(), due }]).await?;
        let (policy, key) = (upload.policy.clone(), upload.key.as_str().to_owned());
        Ok(DueAbort { upload: upload.id, policy, key, attempts: 0, mark })
    }

    /// Puts on record that a multipart upload which no row knows is to be aborted.
    pub async fn create(self, upload: &Upload, multipart_id: &str) -> Result<()> {
        let (mark, due) = (multipart_id.to_owned(), upload.updated_at);
        add(&self.0.write, [NewAbort { upload, mark, due }]).await
    }

    /// Takes an abort off the record: the store has confirmed that there is nothing left.
    pub async fn delete(self, upload: UploadId, multipart_id: &str) -> Result<()> {
        let key = (upload.0, multipart_id.to_owned());
        Entity::delete_by_id(key).exec(&self.0.write).await?;
        Ok(())
    }

    /// As [`Self::delete`], for one that was read.
    pub async fn complete(self, due: &DueAbort) -> Result<()> {
        self.delete(due.upload, &due.mark).await
    }

    /// Has an abort tried again later.
    pub async fn reschedule(
        self,
        upload: UploadId,
        multipart_id: &str,
        attempts: i32,
        next: Timestamp,
    ) -> Result<()> {
        Entity::update_many()
            .set(ActiveModel {
                attempts: Set(attempts),
                next_attempt_at: Set(next),
                ..Default::default()
            })
            .filter(Column::UploadId.eq(upload.0))
            .filter(Column::MultipartId.eq(multipart_id))
            .exec(&self.0.write)
            .await?;
        Ok(())
    }

    /// As [`Self::reschedule`], for one that was read.
    pub async fn postpone(self, due: &DueAbort, next: Timestamp) -> Result<()> {
        self.reschedule(due.upload, &due.mark, due.attempts + 1, next).await
    }

    /// The aborts of a policy that are due, longest due first.
    pub async fn list_due(
        self,
        policy: &PolicyName,
        now: Timestamp,
        limit: u64,
    ) -> Result<Vec<DueAbort>> {
        let due = Entity::find()
            .filter(Column::Policy.eq(policy.as_str()))
            .filter(Column::NextAttemptAt.lte(now))
            .order_by(Column::NextAttemptAt, Order::Asc)
            .limit(limit)
            .all(&self.0.read)
            .await?;
        Ok(due.into_iter().map(Into::into).collect())
    }

    /// How many aborts are on record, those included that are not due yet.
    pub async fn count(self) -> Result<u64> {
        Ok(Entity::find().count(&self.0.read).await?)
    }
}
