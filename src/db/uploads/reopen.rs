//! The quota check of uploads that become pending again.

use std::collections::HashMap;

use entity::upload;
use sea_orm::{ColumnTrait, DatabaseTransaction, EntityTrait, QueryFilter, QuerySelect as _};
use uuid::Uuid;

use super::{Change, Uploads};
use crate::db::Result;
use crate::db::attachments::locked_subjects::LockedSubjects;
use crate::domain::Upload;
use crate::domain::transition::Effect;

impl Uploads<'_> {
    /// Checks that the changes that reopen an upload are within their owners' quotas, and locks
    /// those owners.
    ///
    /// # Errors
    /// If a quota is exceeded, or the database fails.
    pub(super) async fn check_reopened(
        self,
        txn: &DatabaseTransaction,
        changes: &[Change<'_>],
    ) -> Result<()> {
        let reopens = |change: &&Change<'_>| change.effects.contains(&Effect::Reopen);
        let reopened: Vec<&Upload> =
            changes.iter().filter(reopens).map(|change| &change.upload).collect();
        if reopened.is_empty() || !self.state.quota.bounds_pending() {
            return Ok(());
        }
        // Locks in the same order as a creation, to avoid deadlocks: first the subjects, then the
        // owners.
        let subjects = reopened
            .iter()
            .filter_map(|upload| Some(((upload.owner.as_str(), upload.subject()?), None)))
            .collect();
        LockedSubjects::lock(txn, self.engine.is_postgres(), subjects).await?;
        let quota = self.state.quota.of_reopened();
        let mut usage = quota.usage(txn, reopened.iter().copied()).await?;
        // If another renewal was committed first, the row is already counted as pending, and saving
        // this change will return `Saved::Lost`.
        let versions: HashMap<Uuid, i64> = upload::Entity::find()
            .select_only()
            .columns([upload::Column::Id, upload::Column::Version])
            .filter(upload::Column::Id.is_in(reopened.iter().map(|upload| upload.id.0)))
            .into_tuple::<(Uuid, i64)>()
            .all(txn)
            .await?
            .into_iter()
            .collect();
        for upload in reopened {
            if versions.get(&upload.id.0) == Some(&upload.version) {
                usage.check(upload)?;
                usage.add(upload);
            }
        }
        Ok(())
    }
}
