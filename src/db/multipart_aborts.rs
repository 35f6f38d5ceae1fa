//! Multipart uploads that are to be aborted. A record is stored when an upload's row loses the id
//! of its multipart upload, and is deleted when the store has confirmed that the multipart upload
//! is gone.
//!
//! Before a multipart upload is created, an *intent* is written. With it, a run can find a
//! multipart upload whose id was never received (a lost response, a crash).

use entity::multipart_abort::{ActiveModel, Column, Entity, Model};
use sea_orm::ActiveValue::Set;
use sea_orm::sea_query::OnConflict;
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, Order, QueryFilter, QueryOrder};
use sea_orm::{PaginatorTrait, QuerySelect};
use uuid::Uuid;

use super::Result;
use super::engine::pool::Engine;
use super::reconcile::scan::PolicyLocation;
use crate::domain::{LocationNumber, PolicyName, Timestamp, Upload, UploadId};

/// Prefix of an intent's token. No id of a store begins with it.
const INTENT: char = '?';

/// Rows in one statement: eight parameters each, and `SQLite` allows 32,766.
const CHUNK: usize = 1000;

/// An abort that is due.
#[derive(Debug, Clone)]
pub struct DueAbort {
    /// The upload that the parts belong to.
    pub upload: UploadId,
    /// Its policy.
    pub policy: PolicyName,
    /// The location of the parts.
    pub location: LocationNumber,
    /// The object key.
    pub key: String,
    /// The number of attempts so far.
    pub attempts: i32,
    stored_id: String,
}

impl DueAbort {
    /// The store's id. `None` for an intent: then every open multipart upload of the key must be
    /// aborted, unless the row of an upload has its id.
    pub fn multipart_id(&self) -> Option<&str> {
        (!self.stored_id.starts_with(INTENT)).then_some(&self.stored_id)
    }
}

impl From<Model> for DueAbort {
    fn from(row: Model) -> Self {
        let Model { upload_id, multipart_id, policy, location, key, attempts, .. } = row;
        let (upload, policy) = (UploadId(upload_id), PolicyName::new(policy));
        let location = LocationNumber(location);
        Self { upload, policy, location, key, attempts, stored_id: multipart_id }
    }
}

/// An abort to insert.
#[derive(Debug, Clone)]
pub(super) struct NewAbort<'a> {
    /// The upload that the parts belong to.
    pub upload: &'a Upload,
    /// The store's id, or the token of an intent.
    pub multipart_id: String,
    /// Time of the first attempt.
    pub due: Timestamp,
}

/// Inserts aborts, in the transaction of the change that makes them due.
pub(super) async fn add(
    connection: &impl ConnectionTrait,
    aborts: impl IntoIterator<Item = NewAbort<'_>>,
) -> Result<()> {
    let rows: Vec<_> = aborts
        .into_iter()
        .map(|NewAbort { upload, multipart_id, due }| ActiveModel {
            upload_id: Set(upload.id.0),
            multipart_id: Set(multipart_id),
            policy: Set(upload.policy.as_str().to_owned()),
            location: Set(upload.location.0),
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
    /// Records that a multipart upload is about to be created. From `due` on, a run checks whether
    /// it exists in the store, unless the record was deleted.
    pub async fn create_intent(
        self,
        upload: &Upload,
        token: Uuid,
        due: Timestamp,
    ) -> Result<DueAbort> {
        let stored_id = format!("{INTENT}{}", token.as_simple());
        add(&self.0.write, [NewAbort { upload, multipart_id: stored_id.clone(), due }]).await?;
        let (policy, key) = (upload.policy.clone(), upload.key.as_str().to_owned());
        let location = upload.location;
        Ok(DueAbort { upload: upload.id, policy, location, key, attempts: 0, stored_id })
    }

    /// Inserts the abort of a multipart upload whose id is in no row of an upload.
    pub async fn create(self, upload: &Upload, multipart_id: &str) -> Result<()> {
        let (multipart_id, due) = (multipart_id.to_owned(), upload.updated_at);
        add(&self.0.write, [NewAbort { upload, multipart_id, due }]).await
    }

    /// Deletes an abort: the store has confirmed that nothing is left.
    pub async fn delete(self, upload: UploadId, multipart_id: &str) -> Result<()> {
        let key = (upload.0, multipart_id.to_owned());
        Entity::delete_by_id(key).exec(&self.0.write).await?;
        Ok(())
    }

    /// Like [`Self::delete`], for an abort that was read.
    pub async fn complete(self, due: &DueAbort) -> Result<()> {
        self.delete(due.upload, &due.stored_id).await
    }

    /// Sets the next attempt of an abort.
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

    /// Like [`Self::reschedule`], for an abort that was read.
    pub async fn postpone(self, due: &DueAbort, next: Timestamp) -> Result<()> {
        self.reschedule(due.upload, &due.stored_id, due.attempts + 1, next).await
    }

    /// The due aborts of a policy at a location, the longest due first.
    pub async fn list_due(
        self,
        at: PolicyLocation<'_>,
        now: Timestamp,
        limit: u64,
    ) -> Result<Vec<DueAbort>> {
        let due = Entity::find()
            .filter(Column::Policy.eq(at.policy.as_str()))
            .filter(Column::Location.eq(at.location.0))
            .filter(Column::NextAttemptAt.lte(now))
            .order_by(Column::NextAttemptAt, Order::Asc)
            .limit(limit)
            .all(&self.0.read)
            .await?;
        Ok(due.into_iter().map(Into::into).collect())
    }

    /// The number of aborts, due or not.
    pub async fn count(self) -> Result<u64> {
        Ok(Entity::find().count(&self.0.read).await?)
    }
}
