//! Deleting old rows, a bounded batch at a time.

use entity::{finding, reconcile_run as run, track, upload};
use sea_orm::sea_query::{Expr, ExprTrait as _, Query};
use sea_orm::{
    ColumnTrait, Condition, EntityTrait, Order, QueryFilter, QueryOrder, QuerySelect as _,
    QueryTrait as _,
};
use uuid::Uuid;

use super::Result;
use super::engine::pool::Engine;
use crate::domain::run::RunStatus;
use crate::domain::{Status, Timestamp};

/// Deletion of old rows.
#[derive(Clone, Copy)]
pub struct Retention<'a>(pub(in crate::db) &'a Engine);

impl Retention<'_> {
    /// Deletes a batch of runs that started before a time and have ended. Returns their number; 0 at
    /// the end.
    pub async fn prune_runs(self, before: Timestamp, limit: u64) -> Result<u64> {
        let old = run::Entity::find()
            .select_only()
            .column(run::Column::Id)
            .filter(run::Column::StartedAt.lt(before))
            .filter(run::Column::Status.ne(RunStatus::Running.name()))
            .order_by(run::Column::StartedAt, Order::Asc)
            .limit(limit);
        let ids: Vec<Uuid> = old.into_tuple().all(&self.0.read).await?;
        if ids.is_empty() {
            return Ok(0);
        }
        let done = run::Entity::delete_many().filter(run::Column::Id.is_in(ids));
        Ok(done.exec(&self.0.write).await?.rows_affected)
    }

    /// Deletes a batch of findings that no run has seen since a time. Returns their number; 0 at
    /// the end.
    pub async fn prune_findings(self, before: Timestamp, limit: u64) -> Result<u64> {
        use finding::Column;
        let place = [Column::Kind, Column::Policy, Column::Key];
        let old = finding::Entity::find()
            .select_only()
            .columns(place)
            .filter(Column::LastSeenAt.lt(before))
            .order_by(Column::LastSeenAt, Order::Asc)
            .limit(limit)
            .into_query();
        let done = finding::Entity::delete_many()
            .filter(Expr::tuple(place.map(Expr::col)).in_subquery(old))
            // A run may have seen one of them meanwhile.
            .filter(Column::LastSeenAt.lt(before));
        Ok(done.exec(&self.0.write).await?.rows_affected)
    }

    /// Deletes a batch of uploads in a final state whose object was deleted before a time, except
    /// the latest of a track and those whose URL expired later. Returns their number.
    pub async fn prune_ended_uploads(self, before: Timestamp, limit: u64) -> Result<u64> {
        let newest = Query::select()
            .column(track::Column::LatestUploadId)
            .from(track::Entity)
            .and_where(track::Column::LatestUploadId.is_not_null())
            .to_owned();
        let ended = Status::ALL.into_iter().filter(|status| status.is_final()).map(Status::name);
        // A row whose URL can still store bytes is kept, so that they are deleted and no orphan.
        let old = Condition::all()
            .add(upload::Column::ObjectDeletedAt.lt(before))
            .add(upload::Column::UrlExpiresAt.lt(before))
            .add(upload::Column::Status.is_in(ended));
        let ids: Vec<Uuid> = upload::Entity::find()
            .select_only()
            .column(upload::Column::Id)
            .filter(old.clone())
            .filter(upload::Column::Id.not_in_subquery(newest))
            .order_by(upload::Column::ObjectDeletedAt, Order::Asc)
            .limit(limit)
            .into_tuple()
            .all(&self.0.read)
            .await?;
        if ids.is_empty() {
            return Ok(0);
        }
        // An object may have arrived for one of them meanwhile.
        let done = upload::Entity::delete_many().filter(upload::Column::Id.is_in(ids)).filter(old);
        Ok(done.exec(&self.0.write).await?.rows_affected)
    }
}
