//! The time when each policy began to remove unattached uploads (`unattached_retention`).

use entity::unattached_retention::{ActiveModel, Column, Entity};
use sea_orm::ActiveValue::Set;
use sea_orm::sea_query::OnConflict;
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter};

use super::Attachments;
use crate::db::Result;
use crate::domain::{PolicyName, Timestamp};

impl Attachments<'_> {
    /// When the retention of a policy was enabled, if it is.
    pub async fn retention_start(self, policy: &PolicyName) -> Result<Option<Timestamp>> {
        let row = Entity::find_by_id(policy.as_str()).one(&self.0.read).await?;
        Ok(row.map(|row| row.enabled_at))
    }

    /// Enables the retention of a policy if it is not enabled yet. Returns the time when it was
    /// enabled.
    pub async fn start_retention(self, policy: &PolicyName, now: Timestamp) -> Result<Timestamp> {
        if let Some(enabled_at) = self.retention_start(policy).await? {
            return Ok(enabled_at);
        }
        let row = ActiveModel { policy: Set(policy.as_str().to_owned()), enabled_at: Set(now) };
        Entity::insert(row)
            .on_conflict(OnConflict::column(Column::Policy).do_nothing().to_owned())
            .exec_without_returning(&self.0.write)
            .await?;
        // Another process may have inserted its own time first. With `now`, this caller removes
        // nothing yet, and the next call reads the stored time.
        Ok(now)
    }

    /// Forgets the time of all policies except these. If the retention of a policy is enabled again
    /// later, it starts with a new time.
    pub async fn stop_retention_except(self, policies: &[&PolicyName]) -> Result<()> {
        let names = policies.iter().map(|policy| policy.as_str());
        let others = Entity::delete_many().filter(Column::Policy.is_not_in(names));
        others.exec(&self.0.write).await?;
        Ok(())
    }
}
