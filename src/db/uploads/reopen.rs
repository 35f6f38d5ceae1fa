//! The quota of uploads that become pending again.

use std::collections::BTreeSet;

use entity::upload;
use sea_orm::{ColumnTrait, DatabaseTransaction, EntityTrait, PaginatorTrait as _, QueryFilter};

use super::quota::Quota;
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
        // In the order of creations: the subjects, then the owners.
        let subjects = reopened
            .iter()
            .filter_map(|upload| Some(((upload.owner.as_str(), upload.subject()?), None)))
            .collect();
        LockedSubjects::lock(txn, self.engine.is_postgres(), subjects).await?;
        let owners: BTreeSet<&str> = reopened.iter().map(|upload| upload.owner.as_str()).collect();
        Quota::lock(txn, &owners).await?;
        for upload in reopened {
            // If another renewal was first, the row is counted already, and this change is lost.
            let is_current = upload::Entity::find_by_id(upload.id.0)
                .filter(upload::Column::Version.eq(upload.version))
                .count(txn)
                .await?;
            if is_current == 1 {
                self.state.quota.check_pending(txn, upload).await?;
            }
        }
        Ok(())
    }
}
