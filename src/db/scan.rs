//! What the reconciler reads, across owners: rows of a policy in key order, and
//! deletions that are due.

use entity::upload::{self, Column};
use sea_orm::{
    ColumnTrait, EntityTrait, Order, PaginatorTrait, QueryFilter, QueryOrder, QuerySelect,
};

use super::uploads::to_row;
use super::{Db, Result};
use crate::domain::{KeyRange, PolicyName, Status, Timestamp, Upload, UploadId};

impl Db {
    /// The next rows of a policy in a range of keys, in byte order of the key.
    pub async fn rows_by_key(
        &self,
        policy: &PolicyName,
        range: &KeyRange,
        limit: u64,
    ) -> Result<Vec<Upload>> {
        let mut query = upload::Entity::find().filter(Column::Policy.eq(policy.as_str()));
        if let Some(after) = &range.after {
            query = query.filter(Column::Key.gt(after.as_str()));
        }
        if let Some(until) = &range.until {
            query = query.filter(Column::Key.lte(until.as_str()));
        }
        let rows = query.order_by(Column::Key, Order::Asc).limit(limit).all(&self.read).await?;
        rows.into_iter().map(TryInto::try_into).collect()
    }

    /// An upload, whoever owns it.
    pub async fn any_upload(&self, id: UploadId) -> Result<Option<Upload>> {
        upload::Entity::find_by_id(id.0).one(&self.read).await?.map(TryInto::try_into).transpose()
    }

    /// Final rows of a policy whose object is due for deletion, the longest due first.
    pub async fn due_deletions(
        &self,
        policy: &PolicyName,
        now: Timestamp,
        limit: u64,
    ) -> Result<Vec<Upload>> {
        let rows = upload::Entity::find()
            .filter(Column::ObjectDeletedAt.is_null())
            .filter(Column::ObjectDeleteAfter.lte(now))
            .filter(Column::Policy.eq(policy.as_str()))
            .order_by(Column::ObjectDeleteAfter, Order::Asc)
            .limit(limit)
            .all(&self.read)
            .await?;
        rows.into_iter().map(TryInto::try_into).collect()
    }

    /// How many uploads of a policy are verified.
    pub async fn count_uploaded(&self, policy: &PolicyName) -> Result<u64> {
        let query = upload::Entity::find()
            .filter(Column::Policy.eq(policy.as_str()))
            .filter(Column::Status.eq(Status::Uploaded.name()));
        Ok(query.count(&self.read).await?)
    }

    /// Makes the row of an orphan, so that no upload can be created with its id; `false`
    /// where there is one.
    pub async fn adopt_orphan(&self, upload: &Upload) -> Result<bool> {
        use sea_orm::sea_query::OnConflict;
        let done = upload::Entity::insert(to_row(upload))
            .on_conflict(OnConflict::column(Column::Id).do_nothing().to_owned())
            .exec_without_returning(&self.write)
            .await?;
        Ok(done == 1)
    }
}
