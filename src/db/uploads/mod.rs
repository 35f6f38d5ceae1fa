//! Uploads: created, read by their owner, and saved after a transition.

use std::sync::Arc;

use entity::upload::{self, Column};
use sea_orm::sea_query::{ExprTrait as _, OnConflict};
use sea_orm::{ColumnTrait, EntityTrait, Order, QueryFilter, QueryOrder, QuerySelect, Select};

use super::engine::pagination::{keyset, no_index};
use super::idempotency::Claim;
use super::{Cursor, Db, Page, Result, sqlite_json};
use crate::domain::{Owner, PolicyName, Status, Timestamp, TrackId, Upload, UploadId};

mod create;
mod locked_rows;
pub(super) mod quota;
mod read;
mod reopen;
mod row;
mod save;
pub(super) mod watch;

use create::Wanted;

pub(super) use create::{Creator, creator};
pub use quota::Quota;
pub(super) use read::{Reader, reader};
use row::to_row;
pub use save::{Change, Saved};
pub use watch::Watch;

/// Which uploads to list, newest first.
#[derive(Debug, Default, Clone)]
pub struct UploadFilter {
    /// In this state.
    pub status: Option<Status>,
    /// Of this track.
    pub track: Option<TrackId>,
    /// Under this policy.
    pub policy: Option<PolicyName>,
    /// Created before this moment.
    pub created_before: Option<Timestamp>,
    /// Created at or after this moment.
    pub created_after: Option<Timestamp>,
    /// Where the page before ended.
    pub cursor: Option<Cursor>,
    /// How many at most.
    pub limit: u64,
}

/// The order of upload lists, as their cursors name it.
pub const UPLOAD_ORDER: &str = "-created_at";

impl UploadFilter {
    /// The statement that reads the page, and one row more.
    pub(super) fn query(&self, owner: &Owner) -> Select<upload::Entity> {
        // Of a track there are few: its index is the one to be used, whatever else is asked.
        let eq = |column: Column, text: &str| match self.track {
            None => column.eq(text),
            Some(_) => no_index(column).eq(text),
        };
        let mut query = upload::Entity::find().filter(eq(Column::Owner, owner.as_str()));
        if let Some(status) = self.status {
            query = query.filter(eq(Column::Status, status.name()));
        }
        if let Some(track) = self.track {
            query = query.filter(Column::TrackId.eq(track.0));
        }
        if let Some(policy) = &self.policy {
            query = query.filter(eq(Column::Policy, policy.as_str()));
        }
        if let Some(before) = self.created_before {
            query = query.filter(Column::CreatedAt.lt(before));
        }
        if let Some(after) = self.created_after {
            query = query.filter(Column::CreatedAt.gte(after));
        }
        if let Some(cursor) = &self.cursor
            && let Ok(at) = cursor.value.parse::<Timestamp>()
        {
            query = query.filter(keyset(Column::CreatedAt, Column::Id, at.into(), cursor.id, true));
        }
        query
            .order_by(Column::CreatedAt, Order::Desc)
            .order_by(Column::Id, Order::Desc)
            .limit(self.limit + 1)
    }
}

/// Uploads.
#[derive(Clone, Copy)]
pub struct Uploads<'a>(pub(in crate::db) &'a Db);

impl Uploads<'_> {
    /// Commits a new upload. With a track it gets the next number of the track's
    /// sequence and becomes its newest; `None` where the owner has no such track.
    pub async fn create(self, upload: Upload, track: Option<TrackId>) -> Result<Option<Upload>> {
        self.create_claimed(upload, track, None).await
    }

    /// As [`Self::create`], and completes an idempotency key with it.
    pub async fn create_claimed(
        self,
        upload: Upload,
        track: Option<TrackId>,
        claim: Option<&Claim>,
    ) -> Result<Option<Upload>> {
        self.0.creator.ask_now(Wanted::new(upload, track, claim.cloned(), &self.0.quota)).await
    }

    /// One upload of this owner.
    pub async fn find(self, owner: &Owner, id: UploadId) -> Result<Option<Upload>> {
        Ok(self.0.reader.ask((owner.clone(), id)).await?.map(Arc::unwrap_or_clone))
    }

    /// The uploads of this owner with these ids, in no order.
    pub async fn find_many(self, owner: &Owner, ids: &[UploadId]) -> Result<Vec<Upload>> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let query = upload::Entity::find()
            .filter(Column::Owner.eq(owner.as_str()))
            .filter(Column::Id.is_in(ids.iter().map(|id| id.0)));
        sqlite_json::all(&self.0.read, query).await?.into_iter().map(TryInto::try_into).collect()
    }

    /// A page of an owner's uploads, newest first.
    pub async fn list(self, owner: &Owner, filter: &UploadFilter) -> Result<Page<Upload>> {
        let rows = self.0.rows_aside(filter.query(owner)).await?;
        let page = Page::cut(rows, filter.limit, |row| Cursor {
            order: UPLOAD_ORDER.to_owned(),
            value: row.created_at.to_rfc3339(),
            id: row.id,
        });
        let items = page.items.into_iter().map(TryInto::try_into).collect::<Result<_>>()?;
        Ok(Page { items, next: page.next })
    }

    /// Uploads of a track that are not in a final state, up to `limit`.
    pub async fn list_open_of_track(
        self,
        owner: &Owner,
        track: TrackId,
        limit: u64,
    ) -> Result<Vec<Upload>> {
        let open = Status::ALL.into_iter().filter(|status| !status.is_final()).map(Status::name);
        let query = upload::Entity::find()
            .filter(Column::Owner.eq(owner.as_str()))
            .filter(Column::TrackId.eq(track.0))
            .filter(Column::Status.is_in(open))
            .limit(limit);
        query.all(&self.0.read).await?.into_iter().map(TryInto::try_into).collect()
    }

    /// An upload, whoever owns it.
    pub async fn find_any_owner(self, id: UploadId) -> Result<Option<Upload>> {
        upload::Entity::find_by_id(id.0).one(&self.0.read).await?.map(TryInto::try_into).transpose()
    }

    /// Adds a row that is in a final state from the start; `false` where there is one of
    /// that id or key.
    pub async fn create_ended(self, upload: &Upload) -> Result<bool> {
        let added = upload::Entity::insert(to_row(upload))
            .on_conflict(OnConflict::new().do_nothing().to_owned())
            .exec_without_returning(&self.0.write)
            .await?;
        Ok(added == 1)
    }
}
