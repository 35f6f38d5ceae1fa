//! Reads the rows that a run finalizes: due deletions, and uploads that were not attached in time.

use entity::upload::{self, Column};
use sea_orm::sea_query::Expr;
use sea_orm::{
    ColumnTrait as _, Condition, EntityTrait as _, Order, QueryFilter as _, QueryOrder as _,
    QuerySelect as _, Select,
};

use super::{PolicyLocation, Scan, only};
use crate::db::Result;
use crate::db::engine::pagination::keyset;
use crate::domain::{Owner, PolicyName, RejectReason, Status, Timestamp, Upload, UploadId};

/// Due deletions that are damage, see [`Upload::deletion_is_damage`].
pub(in crate::db::reconcile) fn due_damage(
    policy: &PolicyName,
    now: Timestamp,
) -> Select<upload::Entity> {
    due_query(policy, now).filter(is_damage())
}

fn is_damage() -> Condition {
    let was_verified = Condition::any()
        .add(Column::VerifiedBefore.is_not_null())
        .add(Column::Reason.eq(RejectReason::Overwritten.name()));
    Condition::all().add(Column::Status.eq(Status::Rejected.name())).add(was_verified)
}

pub(super) fn due_query(policy: &PolicyName, now: Timestamp) -> Select<upload::Entity> {
    upload::Entity::find()
        .filter(Column::ObjectDeletedAt.is_null())
        .filter(Column::ObjectDeleteAfter.lte(now))
        .filter(Column::Policy.eq(policy.as_str()))
}

impl Scan<'_> {
    /// Rows of a location in a final state whose object is due for deletion, in the order of their
    /// due time, after the given row. Damaging deletions of `withheld` owners are left out.
    pub async fn list_due_deletions(
        self,
        at: PolicyLocation<'_>,
        now: Timestamp,
        withheld: &[Owner],
        after: Option<(Timestamp, UploadId)>,
        limit: u64,
    ) -> Result<Vec<Upload>> {
        let mut query = at.only(due_query(at.policy, now));
        if !withheld.is_empty() {
            let owners = withheld.iter().map(Owner::as_str);
            let withheld = is_damage().add(Column::Owner.is_in(owners));
            query = query.filter(withheld.not());
        }
        if let Some((due, id)) = after {
            let behind =
                Condition::all().add(Column::ObjectDeleteAfter.eq(due)).add(Column::Id.gt(id.0));
            let behind = Condition::any().add(Column::ObjectDeleteAfter.gt(due)).add(behind);
            query = query.filter(Column::ObjectDeleteAfter.gte(due)).filter(behind);
        }
        let rows = query
            .order_by(Column::ObjectDeleteAfter, Order::Asc)
            .order_by(Column::Id, Order::Asc)
            .limit(limit)
            .all(&self.0.read)
            .await?;
        rows.into_iter().map(TryInto::try_into).collect()
    }

    /// Verified uploads of a location that are not attached and were verified before a time, the
    /// oldest first, after the given one.
    pub async fn list_unattached(
        self,
        at: PolicyLocation<'_>,
        before: Timestamp,
        after: Option<(Timestamp, UploadId)>,
        limit: u64,
    ) -> Result<Vec<Upload>> {
        let mut query = at
            .filter(upload::Entity::find())
            // Written as in the index: with a parameter, the index could not be used.
            .filter(Expr::cust("status = 'uploaded'"))
            .filter(Column::AttachTo.is_null())
            .filter(Column::UploadedAt.lt(before));
        if let Some((verified, id)) = after {
            query =
                query.filter(keyset(Column::UploadedAt, Column::Id, verified.into(), id.0, false));
        }
        let rows = query
            .order_by(Column::UploadedAt, Order::Asc)
            .order_by(Column::Id, Order::Asc)
            .limit(limit)
            .all(&self.0.read)
            .await?;
        rows.into_iter().map(TryInto::try_into).collect()
    }

    /// How many objects of a location are due for deletion, up to `most`.
    pub async fn count_due(self, at: PolicyLocation<'_>, now: Timestamp, most: u64) -> Result<u64> {
        self.count_some(only(at.only(due_query(at.policy, now)).limit(most), Column::Id)).await
    }

    /// How many deletions of a policy's objects are due and are damage
    /// ([`Upload::deletion_is_damage`]): neither the owner nor a newer upload ended the upload.
    /// Counts up to `most`.
    pub async fn count_due_damage(
        self,
        policy: &PolicyName,
        now: Timestamp,
        most: u64,
    ) -> Result<u64> {
        self.count_some(only(due_damage(policy, now).limit(most), Column::Id)).await
    }
}
