//! The table of tracks. It has copies of some columns of their attachments, for lists.

use std::collections::BTreeSet;

use entity::attachment;
use entity::track::{self, Column};
use sea_orm::ActiveValue::Set;
use sea_orm::{
    ColumnTrait, ConnectionTrait, DatabaseTransaction, DbErr, EntityTrait, QueryFilter, QueryOrder,
    QuerySelect, Select,
};
use uuid::Uuid;

use super::attachments::open_uploads::has_open_uploads;
use super::engine::bulk_update::{RowChange, ensure_all, update_each};
use super::engine::pool::Engine;
use super::idempotency::{Claim, complete};
use super::{DbError, Result};
use crate::domain::attachment::EMPTY;
use crate::domain::{Owner, Subject, Timestamp, Track, TrackId};

mod list;
mod row;

use row::set_fields;

pub use list::{TrackFilter, TrackOrder};
pub use row::TrackFields;

/// Tracks.
#[derive(Clone, Copy)]
pub struct Tracks<'a>(pub(in crate::db) &'a Engine);

impl Tracks<'_> {
    /// Inserts a track, and completes an idempotency key in the same transaction.
    pub async fn create(
        self,
        id: TrackId,
        owner: &Owner,
        fields: TrackFields,
        now: Timestamp,
        claim: Option<&Claim>,
    ) -> Result<Track> {
        let row = track::ActiveModel {
            id: Set(id.0),
            owner: Set(owner.as_str().to_owned()),
            status: Set(EMPTY.to_owned()),
            latest_upload_id: Set(None),
            bound_upload_id: Set(None),
            version: Set(1),
            created_at: Set(now),
            updated_at: Set(now),
            ..set_fields(fields)
        };
        let Some(claim) = claim else {
            return insert(&self.0.write, row).await?.try_into();
        };
        let txn = self.0.begin().await?;
        if !complete(&txn, claim, None).await? {
            txn.rollback().await?;
            return Err(DbError::Busy);
        }
        let row = insert(&txn, row).await?;
        txn.commit().await?;
        row.try_into()
    }

    /// A track of this owner.
    pub async fn find(self, owner: &Owner, id: TrackId) -> Result<Option<Track>> {
        let row = find(owner, id).one(&self.0.read).await?;
        row.map(TryInto::try_into).transpose()
    }

    /// Writes the fields that a client may set; `None` if the version has changed.
    pub async fn update(
        self,
        track: &Track,
        fields: TrackFields,
        now: Timestamp,
    ) -> Result<Option<Track>> {
        let change = track::ActiveModel {
            version: Set(track.version + 1),
            updated_at: Set(now),
            ..set_fields(fields)
        };
        let rows = track::Entity::update_many()
            .set(change)
            .filter(Column::Id.eq(track.id.0))
            .filter(Column::Owner.eq(track.owner.as_str()))
            .filter(Column::Version.eq(track.version))
            .exec_with_returning(&self.0.write)
            .await?;
        rows.into_iter().next().map(TryInto::try_into).transpose()
    }

    /// Deletes a track and its attachment, but not the rows of its uploads: retention deletes them
    /// later. Returns `false` if one of its uploads is not in a final state, or if the owner has no
    /// such track.
    pub async fn delete(self, owner: &Owner, id: TrackId) -> Result<bool> {
        let txn = self.0.begin().await?;
        if lock(&txn, self.0.is_postgres(), owner, id).await?.is_none() {
            txn.rollback().await?;
            return Ok(false);
        }
        let subject = Subject::of_track(id);
        if has_open_uploads(&txn, owner, &subject).await? {
            txn.rollback().await?;
            return Ok(false);
        }
        attachment::Entity::delete_many()
            .filter(attachment::Column::Owner.eq(owner.as_str()))
            .filter(attachment::Column::Subject.eq(subject.as_str()))
            .exec(&txn)
            .await?;
        track::Entity::delete_many().filter(track::Column::Id.eq(id.0)).exec(&txn).await?;
        txn.commit().await?;
        Ok(true)
    }
}

fn find(owner: &Owner, id: TrackId) -> Select<track::Entity> {
    track::Entity::find_by_id(id.0).filter(Column::Owner.eq(owner.as_str()))
}

/// Reads a track inside a write transaction, and on PostgreSQL locks its row. A transaction that
/// changes a track and its uploads locks the track first, to avoid deadlocks.
pub(super) async fn lock(
    connection: &impl ConnectionTrait,
    postgres: bool,
    owner: &Owner,
    id: TrackId,
) -> Result<Option<track::Model>> {
    let query = find(owner, id);
    let query = if postgres { query.lock_exclusive() } else { query };
    Ok(query.one(connection).await?)
}

/// Locks several tracks of any owner like [`lock`], in the order of their ids.
pub(super) async fn lock_all(
    connection: &impl ConnectionTrait,
    postgres: bool,
    ids: BTreeSet<Uuid>,
) -> Result<Vec<track::Model>> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let query = track::Entity::find().filter(Column::Id.is_in(ids)).order_by_asc(Column::Id);
    let query = if postgres { query.lock_exclusive() } else { query };
    Ok(query.all(connection).await?)
}

/// Copies the attachment columns that lists of tracks show into the locked rows of the tracks.
pub(super) async fn copy_attachments(
    txn: &DatabaseTransaction,
    copies: Vec<(track::Model, attachment::Model)>,
) -> Result<()> {
    let changes: Vec<_> = copies
        .into_iter()
        .map(|(row, attachment)| RowChange {
            id: row.id,
            version: row.version,
            values: track::ActiveModel {
                status: Set(attachment.status),
                latest_upload_id: Set(attachment.latest_upload_id),
                bound_upload_id: Set(attachment.current_upload_id),
                updated_at: Set(row.updated_at.max(attachment.updated_at)),
                ..Default::default()
            },
        })
        .collect();
    ensure_all(&changes, update_each(txn, (Column::Id, Column::Version), &changes).await?)
}

/// Inserts a row and returns it. Reads all rows of the statement, not only the first: on `SQLite` a
/// statement outside of a transaction commits after its last row. A caller that read only the first
/// row would miss an error of the commit, such as a full disk.
async fn insert(
    connection: &impl ConnectionTrait,
    row: track::ActiveModel,
) -> Result<track::Model> {
    let rows = track::Entity::insert_many([row]).exec_with_returning(connection).await?;
    Ok(rows.into_iter().next().ok_or(DbErr::RecordNotInserted)?)
}
