//! Objects that belong to an upload but are not at its location, because the upload is being moved
//! or was moved.
//!
//! Before a move writes a copy, it announces the copy here. The transaction that repoints the
//! upload deletes the announcement and records the old object. A run claims a copy before it
//! deletes the object: a claimed copy cannot be announced, so nothing is moved to a place where an
//! object is being deleted.

use std::collections::{BTreeMap, BTreeSet};

use entity::object_copy::{ActiveModel, Column, Entity, Model};
use sea_orm::ActiveValue::Set;
use sea_orm::sea_query::{Expr, ExprTrait as _, OnConflict};
use sea_orm::{
    ColumnTrait, Condition, ConnectionTrait, EntityTrait, Order, QueryFilter, QueryOrder,
    QuerySelect, Select, UpdateMany,
};
use uuid::Uuid;

use super::Result;
use super::engine::bulk_update::ensure_all;
use super::engine::pool::Engine;
use super::reconcile::scan::PolicyLocation;
use crate::domain::{
    LocationNumber, ObjectCopy, ObjectKey, PolicyName, Timestamp, Upload, UploadId,
};

/// A position in the order of deletions.
pub type CopyPosition = (Timestamp, UploadId);

impl From<Model> for ObjectCopy {
    fn from(row: Model) -> Self {
        let Model { upload_id, policy, location, key, delete_after, deleting: _ } = row;
        Self {
            upload: UploadId(upload_id),
            policy: PolicyName::new(policy),
            location: LocationNumber(location),
            key: ObjectKey::stored(key),
            delete_after,
        }
    }
}

fn to_row(copy: &ObjectCopy) -> ActiveModel {
    let ObjectCopy { upload, policy, location, key, delete_after } = copy;
    ActiveModel {
        upload_id: Set(upload.0),
        policy: Set(policy.as_str().to_owned()),
        location: Set(location.0),
        key: Set(key.as_str().to_owned()),
        delete_after: Set(*delete_after),
        deleting: Set(false),
    }
}

/// If a record of the copy exists, its key and time are replaced, unless the copy is claimed.
fn known() -> OnConflict {
    OnConflict::columns([Column::UploadId, Column::Location])
        .update_columns([Column::Key, Column::DeleteAfter])
        .action_and_where(Expr::col((Entity, Column::Deleting)).eq(false))
        .to_owned()
}

/// Records the objects that uploads leave behind, and deletes the announcements of their new
/// objects, in the transaction that repoints them.
///
/// # Errors
/// If the database fails, or a new object was not announced.
pub(super) async fn record_moves(
    connection: &impl ConnectionTrait,
    moves: &[(&Upload, &ObjectCopy)],
) -> Result<()> {
    let mut arrived: BTreeMap<LocationNumber, Vec<Uuid>> = BTreeMap::new();
    for (upload, _) in moves {
        arrived.entry(upload.location).or_default().push(upload.id.0);
    }
    for (location, ids) in arrived {
        let announced = Entity::delete_many()
            .filter(Column::Location.eq(location.0))
            .filter(Column::UploadId.is_in(ids.iter().copied()))
            .filter(Column::Deleting.eq(false));
        ensure_all(&ids, announced.exec(connection).await?.rows_affected)?;
    }
    if moves.is_empty() {
        return Ok(());
    }
    let left = moves.iter().map(|(_, copy)| to_row(copy));
    Entity::insert_many(left).on_conflict(known()).exec_without_returning(connection).await?;
    Ok(())
}

fn at(query: Select<Entity>, at: PolicyLocation<'_>) -> Select<Entity> {
    query.filter(Column::Policy.eq(at.policy.as_str())).filter(Column::Location.eq(at.location.0))
}

fn update_at(at: PolicyLocation<'_>, ids: &[UploadId]) -> UpdateMany<Entity> {
    Entity::update_many()
        .filter(Column::UploadId.is_in(ids.iter().map(|id| id.0)))
        .filter(Column::Policy.eq(at.policy.as_str()))
        .filter(Column::Location.eq(at.location.0))
}

/// Copies of objects.
#[derive(Clone, Copy)]
pub struct ObjectCopies<'a>(pub(in crate::db) &'a Engine);

impl ObjectCopies<'_> {
    /// Which of these uploads have a copy at a location.
    pub async fn find_at(
        self,
        location: PolicyLocation<'_>,
        ids: &[UploadId],
    ) -> Result<BTreeSet<UploadId>> {
        if ids.is_empty() {
            return Ok(BTreeSet::new());
        }
        let query = at(Entity::find(), location).select_only().column(Column::UploadId);
        let query = query.filter(Column::UploadId.is_in(ids.iter().map(|id| id.0)));
        let found: Vec<Uuid> = query.into_tuple().all(&self.0.read).await?;
        Ok(found.into_iter().map(UploadId).collect())
    }

    /// Announces copies before they are written. Returns the uploads whose copy may be written:
    /// those whose copy at this location is not being deleted.
    pub async fn announce(self, copies: &[ObjectCopy]) -> Result<BTreeSet<UploadId>> {
        if copies.is_empty() {
            return Ok(BTreeSet::new());
        }
        let written = Entity::insert_many(copies.iter().map(to_row))
            .on_conflict(known())
            .exec_with_returning(&self.0.write)
            .await?;
        Ok(written.into_iter().map(|row| UploadId(row.upload_id)).collect())
    }

    /// Makes the copies of these uploads due for deletion, wherever they are.
    pub async fn end_all(self, ids: &[UploadId], now: Timestamp) -> Result<()> {
        if ids.is_empty() {
            return Ok(());
        }
        Entity::update_many()
            .col_expr(Column::DeleteAfter, Expr::value(now))
            .filter(Column::UploadId.is_in(ids.iter().map(|id| id.0)))
            .filter(Column::DeleteAfter.gt(now))
            .exec(&self.0.write)
            .await?;
        Ok(())
    }

    /// Makes copies at one location due for deletion.
    pub async fn end_at(
        self,
        location: PolicyLocation<'_>,
        ids: &[UploadId],
        now: Timestamp,
    ) -> Result<()> {
        if ids.is_empty() {
            return Ok(());
        }
        update_at(location, ids)
            .col_expr(Column::DeleteAfter, Expr::value(now))
            .exec(&self.0.write)
            .await?;
        Ok(())
    }

    /// The copies at a location that are due for deletion, the longest due first, after a position.
    pub async fn list_due(
        self,
        location: PolicyLocation<'_>,
        now: Timestamp,
        after: Option<CopyPosition>,
        limit: u64,
    ) -> Result<Vec<ObjectCopy>> {
        let mut query = at(Entity::find(), location).filter(Column::DeleteAfter.lte(now));
        if let Some((due, id)) = after {
            let behind = Condition::all().add(Column::DeleteAfter.eq(due));
            let behind = behind.add(Column::UploadId.gt(id.0));
            query = query.filter(Condition::any().add(Column::DeleteAfter.gt(due)).add(behind));
        }
        let rows = query
            .order_by(Column::DeleteAfter, Order::Asc)
            .order_by(Column::UploadId, Order::Asc)
            .limit(limit)
            .all(&self.0.read)
            .await?;
        Ok(rows.into_iter().map(Into::into).collect())
    }

    /// Claims due copies, before their objects are deleted. Returns the uploads whose copies were
    /// claimed.
    pub async fn claim(
        self,
        location: PolicyLocation<'_>,
        ids: &[UploadId],
        now: Timestamp,
    ) -> Result<BTreeSet<UploadId>> {
        if ids.is_empty() {
            return Ok(BTreeSet::new());
        }
        let claimed = update_at(location, ids)
            .col_expr(Column::Deleting, Expr::value(true))
            .filter(Column::DeleteAfter.lte(now))
            .exec_with_returning(&self.0.write)
            .await?;
        Ok(claimed.into_iter().map(|row| UploadId(row.upload_id)).collect())
    }

    /// Postpones the deletion of copies that are not claimed.
    pub async fn postpone(
        self,
        location: PolicyLocation<'_>,
        ids: &[UploadId],
        until: Timestamp,
    ) -> Result<()> {
        if ids.is_empty() {
            return Ok(());
        }
        update_at(location, ids)
            .col_expr(Column::DeleteAfter, Expr::value(until))
            .filter(Column::Deleting.eq(false))
            .exec(&self.0.write)
            .await?;
        Ok(())
    }

    /// Deletes the records of due copies, after their objects were deleted. Also deletes records of
    /// objects that are at their upload's own location, which are no copies.
    pub async fn delete(
        self,
        location: PolicyLocation<'_>,
        ids: &[UploadId],
        now: Timestamp,
    ) -> Result<()> {
        if ids.is_empty() {
            return Ok(());
        }
        Entity::delete_many()
            .filter(Column::UploadId.is_in(ids.iter().map(|id| id.0)))
            .filter(Column::Policy.eq(location.policy.as_str()))
            .filter(Column::Location.eq(location.location.0))
            .filter(Column::DeleteAfter.lte(now))
            .exec(&self.0.write)
            .await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::Db;
    use crate::db::testing::on_both;
    use crate::domain::transition::tests::{at as minute, upload_in};
    use crate::domain::{IdSource as _, Status, ids::SystemIds};

    async fn check(db: Db) {
        let policy = PolicyName::default();
        let here = PolicyLocation { policy: &policy, location: LocationNumber(1) };
        let there = PolicyLocation { location: LocationNumber(2), ..here };
        let copy = |id, delete_after| ObjectCopy {
            upload: id,
            policy: policy.clone(),
            location: LocationNumber(1),
            key: ObjectKey::stored(format!("k/{}", id.0)),
            delete_after: minute(delete_after),
        };
        let ids: Vec<UploadId> = (0..3).map(|_| UploadId(SystemIds.uuid())).collect();
        let copies = db.object_copies();
        let all: Vec<_> = ids.iter().map(|id| copy(*id, 5)).collect();
        assert_eq!(copies.announce(&all).await.unwrap().len(), 3);
        assert_eq!(copies.list_due(here, minute(4), None, 9).await.unwrap(), []);
        assert_eq!(copies.list_due(there, minute(9), None, 9).await.unwrap(), []);
        let due = copies.list_due(here, minute(5), None, 9).await.unwrap();
        assert_eq!(due, all);
        let position = Some((due[0].delete_after, due[0].upload));
        assert_eq!(copies.list_due(here, minute(5), position, 9).await.unwrap(), all[1..]);

        // A claimed copy is not announced again, and keeps its time.
        let claimed = copies.claim(here, &ids[..1], minute(6)).await.unwrap();
        assert_eq!(claimed, BTreeSet::from([ids[0]]));
        let later: Vec<_> = ids.iter().map(|id| copy(*id, 50)).collect();
        let free = copies.announce(&later).await.unwrap();
        assert_eq!(free, BTreeSet::from([ids[1], ids[2]]));
        assert!(copies.claim(here, &ids[1..], minute(6)).await.unwrap().is_empty(), "postponed");
        assert_eq!(copies.list_due(here, minute(6), None, 9).await.unwrap(), all[..1]);
        copies.delete(here, &ids, minute(6)).await.unwrap();
        assert_eq!(copies.find_at(here, &ids).await.unwrap(), free);
        copies.end_all(&ids, minute(7)).await.unwrap();
        assert_eq!(copies.list_due(here, minute(7), None, 9).await.unwrap().len(), 2);

        // The commit of a move fails without the announcement, and deletes it.
        let moved =
            Upload { id: ids[1], location: LocationNumber(1), ..upload_in(Status::Uploaded) };
        let left = ObjectCopy { location: LocationNumber(2), ..copy(ids[1], 9) };
        let pairs = [(&moved, &left)];
        record_moves(&db.engine.write, &pairs).await.unwrap();
        assert_eq!(copies.find_at(here, &ids).await.unwrap(), BTreeSet::from([ids[2]]));
        assert_eq!(copies.find_at(there, &ids).await.unwrap(), BTreeSet::from([ids[1]]));
        assert!(record_moves(&db.engine.write, &pairs).await.is_err());
    }

    #[tokio::test]
    async fn a_copy_that_is_being_deleted_cannot_be_announced() {
        on_both(check).await;
    }
}
