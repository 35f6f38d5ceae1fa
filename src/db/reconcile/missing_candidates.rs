//! Uploads that a run keeps in mind until the closing shard of their policy.

use entity::{reconcile_suspect as suspect, upload};
use sea_orm::ActiveValue::Set;
use sea_orm::sea_query::OnConflict;
use sea_orm::{
    ColumnTrait, ConnectionTrait, EntityTrait, Order, PaginatorTrait, QueryFilter, QueryOrder,
    QuerySelect, Select,
};
use uuid::Uuid;

use crate::db::{Db, Result};
use crate::domain::run::{RunShard, SuspectKind};
use crate::domain::{RunId, Upload, UploadId};

fn of(shard: &RunShard, kind: SuspectKind) -> Select<suspect::Entity> {
    suspect::Entity::find()
        .filter(suspect::Column::RunId.eq(shard.run.0))
        .filter(suspect::Column::Policy.eq(shard.policy.as_str()))
        .filter(suspect::Column::Kind.eq(kind.name()))
}

/// Adds suspects; those that are known stay.
pub(super) async fn insert(
    connection: &impl ConnectionTrait,
    shard: &RunShard,
    suspects: &[(SuspectKind, UploadId)],
) -> Result<()> {
    if suspects.is_empty() {
        return Ok(());
    }
    let rows = suspects.iter().map(|(kind, id)| suspect::ActiveModel {
        run_id: Set(shard.run.0),
        policy: Set(shard.policy.as_str().to_owned()),
        kind: Set(kind.name().to_owned()),
        upload_id: Set(id.0),
    });
    suspect::Entity::insert_many(rows)
        .on_conflict(OnConflict::new().do_nothing().to_owned())
        .exec_without_returning(connection)
        .await?;
    Ok(())
}

/// Forgets a run's suspects.
pub(super) async fn forget(connection: &impl ConnectionTrait, run: RunId) -> Result<()> {
    let all = suspect::Entity::delete_many().filter(suspect::Column::RunId.eq(run.0));
    all.exec(connection).await?;
    Ok(())
}

/// Uploads that a run checks again at its end.
#[derive(Clone, Copy)]
pub struct MissingCandidates<'a>(pub(in crate::db) &'a Db);

impl MissingCandidates<'_> {
    /// How many suspects of a kind a run has under a shard's policy.
    pub async fn count(self, shard: &RunShard, kind: SuspectKind) -> Result<u64> {
        Ok(of(shard, kind).count(&self.0.read).await?)
    }

    /// The next suspects after an id, and their rows as they are now.
    pub async fn list_after(
        self,
        shard: &RunShard,
        kind: SuspectKind,
        after: Option<UploadId>,
        limit: u64,
    ) -> Result<(Option<UploadId>, Vec<Upload>)> {
        let mut query = of(shard, kind).select_only().column(suspect::Column::UploadId);
        if let Some(after) = after {
            query = query.filter(suspect::Column::UploadId.gt(after.0));
        }
        let ids: Vec<Uuid> = query
            .order_by(suspect::Column::UploadId, Order::Asc)
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
