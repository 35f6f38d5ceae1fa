//! Candidates: uploads for which a run may have to change the row or delete the object. The
//! finalizing shard of their policy checks and processes them at the end of the run.

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

/// The run's candidates of these kinds, of the policy of the shard.
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

/// Inserts candidates, except those that are already recorded.
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

/// Deletes a run's candidates, except the list of uploads that it rejected.
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
    /// The number of the run's candidates of these kinds, of the policy of the shard.
    pub async fn count(self, shard: &RunShard, kinds: &[CandidateKind]) -> Result<u64> {
        Ok(of(shard, kinds.iter().copied()).count(&self.0.read).await?)
    }

    /// Reads the next page of candidates of some kinds, after an id. Returns the last id of the
    /// page, and the current rows of the candidates at the shard's location.
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

    /// Reads the next page of uploads that a run rejected, after an id. Returns the last id of the
    /// page, and the current rows.
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
