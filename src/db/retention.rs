//! Deleting old rows, a bounded batch at a time.

use std::collections::BTreeMap;

use entity::{reconcile_finding as finding, reconcile_run as run, track, upload};
use sea_orm::sea_query::Query;
use sea_orm::{
    ColumnTrait, Condition, EntityTrait, Order, QueryFilter, QueryOrder, QuerySelect as _,
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
    /// Deletes a batch of findings of runs that started before a time or, if no finding is left,
    /// a batch of these runs. Returns the number of rows; 0 at the end.
    pub async fn prune_runs(self, before: Timestamp, limit: u64) -> Result<u64> {
        let runs: Vec<Uuid> = run::Entity::find()
            .select_only()
            .column(run::Column::Id)
            .filter(run::Column::StartedAt.lt(before))
            .filter(run::Column::Status.ne(RunStatus::Running.name()))
            .order_by(run::Column::StartedAt, Order::Asc)
            .limit(limit)
            .into_tuple()
            .all(&self.0.read)
            .await?;
        if runs.is_empty() {
            return Ok(0);
        }
        let findings: Vec<(Uuid, i64)> = finding::Entity::find()
            .select_only()
            .columns([finding::Column::RunId, finding::Column::Number])
            .filter(finding::Column::RunId.is_in(runs.iter().copied()))
            .order_by(finding::Column::RunId, Order::Asc)
            .order_by(finding::Column::Number, Order::Asc)
            .limit(limit)
            .into_tuple()
            .all(&self.0.read)
            .await?;
        if findings.is_empty() {
            let done = run::Entity::delete_many().filter(run::Column::Id.is_in(runs));
            return Ok(done.exec(&self.0.write).await?.rows_affected);
        }
        // They ascend, so the findings of each run are all up to the last one read.
        let last: BTreeMap<Uuid, i64> = findings.into_iter().collect();
        let mut deleted = 0;
        for (run, number) in last {
            let done = finding::Entity::delete_many()
                .filter(finding::Column::RunId.eq(run))
                .filter(finding::Column::Number.lte(number));
            deleted += done.exec(&self.0.write).await?.rows_affected;
        }
        Ok(deleted)
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
