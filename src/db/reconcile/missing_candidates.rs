//! Uploads that the finalizing shard of their policy must process.

use entity::{missing_candidate as candidate, upload};
use sea_orm::ActiveValue::Set;
use sea_orm::sea_query::OnConflict;
use sea_orm::{
    ColumnTrait, ConnectionTrait, EntityTrait, Order, PaginatorTrait, QueryFilter, QueryOrder,
    QuerySelect, Select,
};
use uuid::Uuid;

use crate::db::Result;
use crate::db::engine::pool::Engine;
use crate::domain::run::{CandidateKind, RunShard};
use crate::domain::{RunId, Upload, UploadId};

/// A run's candidates of these kinds, under the policy of the shard.
pub(super) fn of(
    shard: &RunShard,
    kinds: impl IntoIterator<Item = CandidateKind>,
) -> Select<candidate::Entity> {
    let kinds = kinds.into_iter().map(CandidateKind::name);
    candidate::Entity::find()
        .filter(candidate::Column::RunId.eq(shard.run.0))
        .filter(candidate::Column::Policy.eq(shard.policy.as_str()))
        .filter(candidate::Column::Kind.is_in(kinds))
}

/// Adds candidates. Known candidates stay.
pub(super) async fn insert(
    connection: &impl ConnectionTrait,
    shard: &RunShard,
    candidates: &[(CandidateKind, UploadId)],
) -> Result<()> {
    if candidates.is_empty() {
        return Ok(());
    }
    let rows = candidates.iter().map(|(kind, id)| candidate::ActiveModel {
        run_id: Set(shard.run.0),
        policy: Set(shard.policy.as_str().to_owned()),
        kind: Set(kind.name().to_owned()),
        upload_id: Set(id.0),
    });
    candidate::Entity::insert_many(rows)
        .on_conflict(OnConflict::new().do_nothing().to_owned())
        .exec_without_returning(connection)
        .await?;
    Ok(())
}

/// Deletes a run's candidates. The record of what it rejected stays with the run.
pub(super) async fn forget(connection: &impl ConnectionTrait, run: RunId) -> Result<()> {
    let all = candidate::Entity::delete_many()
        .filter(candidate::Column::RunId.eq(run.0))
        .filter(candidate::Column::Kind.ne(CandidateKind::Rejected.name()));
    all.exec(connection).await?;
    Ok(())
}

/// Uploads that a run checks again at its end.
#[derive(Clone, Copy)]
pub struct MissingCandidates<'a>(pub(in crate::db) &'a Engine);

impl MissingCandidates<'_> {
    /// The number of a run's candidates of these kinds, under the policy of the shard.
    pub async fn count(self, shard: &RunShard, kinds: &[CandidateKind]) -> Result<u64> {
        Ok(of(shard, kinds.iter().copied()).count(&self.0.read).await?)
    }

    /// The next candidates of some kinds after an id, and the current rows of those at the shard's
    /// location.
    pub async fn list_after(
        self,
        shard: &RunShard,
        kinds: &[CandidateKind],
        after: Option<UploadId>,
        limit: u64,
    ) -> Result<(Option<UploadId>, Vec<Upload>)> {
        let (last, mut rows) = self.page(of(shard, kinds.iter().copied()), after, limit).await?;
        rows.retain(|row| row.location == shard.location);
        Ok((last, rows))
    }

    /// The next uploads after an id that a run rejected, and their current rows.
    pub async fn list_rejected(
        self,
        run: RunId,
        after: Option<UploadId>,
        limit: u64,
    ) -> Result<(Option<UploadId>, Vec<Upload>)> {
        let rejected = candidate::Entity::find()
            .filter(candidate::Column::RunId.eq(run.0))
            .filter(candidate::Column::Kind.eq(CandidateKind::Rejected.name()));
        self.page(rejected, after, limit).await
    }

    async fn page(
        self,
        query: Select<candidate::Entity>,
        after: Option<UploadId>,
        limit: u64,
    ) -> Result<(Option<UploadId>, Vec<Upload>)> {
        // An upload may be a candidate of several kinds.
        let mut query = query.select_only().column(candidate::Column::UploadId).distinct();
        if let Some(after) = after {
            query = query.filter(candidate::Column::UploadId.gt(after.0));
        }
        let ids: Vec<Uuid> = query
            .order_by(candidate::Column::UploadId, Order::Asc)
            .limit(limit)
            .into_tuple()
            .all(&self.0.read)
            .await?;
        let last = ids.last().copied().map(UploadId);
        if ids.is_empty() {
            return Ok((None, Vec::new()));
        }
        let rows = upload::Entity::find().filter(upload::Column::Id.is_in(ids));
        let rows = rows.order_by(upload::Column::Id, Order::Asc).all(&self.0.read).await?;
        let rows = rows.into_iter().map(TryInto::try_into).collect::<Result<_>>()?;
        Ok((last, rows))
    }
}
