//! The scheduled checks of uploads whose URL has expired: a client may have sent the file without a
//! confirmation.
//!
//! A claim moves the time of the check to the end of a lease. If the process dies, the check is due
//! again after that.

use entity::url_end_check::{ActiveModel, Column, Entity};
use sea_orm::ActiveValue::Set;
use sea_orm::sea_query::OnConflict;
use sea_orm::{ColumnTrait, EntityTrait, Order, QueryFilter, QueryOrder, QuerySelect};
use uuid::Uuid;

use super::Result;
use super::engine::pool::Engine;
use crate::domain::{Timestamp, UploadId};

/// The checks.
#[derive(Clone, Copy)]
pub struct UrlEndChecks<'a>(pub(in crate::db) &'a Engine);

impl UrlEndChecks<'_> {
    /// Sets the times at which these uploads are checked.
    pub async fn schedule(self, checks: &[(UploadId, Timestamp)]) -> Result<()> {
        if checks.is_empty() {
            return Ok(());
        }
        let row = |(id, due): &(UploadId, Timestamp)| ActiveModel {
            upload_id: Set(id.0),
            due_at: Set(*due),
        };
        let moved = OnConflict::column(Column::UploadId).update_column(Column::DueAt).to_owned();
        Entity::insert_many(checks.iter().map(row))
            .on_conflict(moved)
            .exec_without_returning(&self.0.write)
            .await?;
        Ok(())
    }

    /// Claims up to `limit` checks that are due, until `lease_end`. One query if there are none.
    pub async fn claim(
        self,
        now: Timestamp,
        lease_end: Timestamp,
        limit: u64,
    ) -> Result<Vec<UploadId>> {
        let due: Vec<Uuid> = Entity::find()
            .select_only()
            .column(Column::UploadId)
            .filter(Column::DueAt.lte(now))
            .order_by(Column::DueAt, Order::Asc)
            .limit(limit)
            .into_tuple()
            .all(&self.0.read)
            .await?;
        if due.is_empty() {
            return Ok(Vec::new());
        }
        let claimed = Entity::update_many()
            .set(ActiveModel { due_at: Set(lease_end), ..Default::default() })
            .filter(Column::UploadId.is_in(due))
            // Another process may have claimed some of them.
            .filter(Column::DueAt.lte(now))
            .exec_with_returning(&self.0.write)
            .await?;
        Ok(claimed.into_iter().map(|row| UploadId(row.upload_id)).collect())
    }

    /// Deletes checks that are done.
    pub async fn delete(self, done: &[UploadId]) -> Result<()> {
        if done.is_empty() {
            return Ok(());
        }
        let done = Entity::delete_many().filter(Column::UploadId.is_in(done.iter().map(|id| id.0)));
        done.exec(&self.0.write).await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;
    use crate::db::Db;
    use crate::db::testing::on_both;

    async fn check(db: Db) {
        let (one, two) = (UploadId(Uuid::from_u128(1)), UploadId(Uuid::from_u128(2)));
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let second = TimeDelta::seconds(1);
        let checks = db.url_end_checks();
        checks.schedule(&[(one, now), (two, now + second)]).await.unwrap();
        let lease = now + TimeDelta::minutes(1);
        let claim = async |now| checks.claim(now, lease, 10).await.unwrap();
        assert_eq!(claim(now - second).await, []);
        assert_eq!(claim(now).await, [one]);
        assert_eq!(claim(now + second).await, [two], "the first one is claimed");
        checks.schedule(&[(two, now + second * 2)]).await.unwrap();
        assert_eq!(claim(now + second * 2).await, [two], "the check was rescheduled");
        assert_eq!(claim(lease).await.len(), 2, "both leases have ended");
        checks.delete(&[one]).await.unwrap();
        assert_eq!(claim(lease).await, [two], "the previous lease had no duration");
        assert_eq!(checks.claim(lease, lease, 0).await.unwrap(), []);
    }

    #[tokio::test]
    async fn a_check_is_claimed_by_one_process_until_its_lease_ends() {
        on_both(check).await;
    }
}
