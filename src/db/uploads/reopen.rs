//! Uploads that are pending once more.

use std::collections::BTreeSet;

use entity::upload;
use sea_orm::{ColumnTrait, EntityTrait, PaginatorTrait as _, QueryFilter};

use super::{Change, Saved, Uploads};
use crate::db::Result;
use crate::db::tracks::lock;
use crate::db::uploads::quota::Quota;
use crate::domain::Timestamp;

impl Uploads<'_> {
    /// Saves an expired upload as pending: among its owner's it counts like a new one.
    pub async fn reopen(self, change: Change<'_>, now: Timestamp) -> Result<Saved> {
        if !self.0.quota.bounds_pending() {
            return self.save(change, now).await;
        }
        let upload = &change.upload;
        let txn = self.0.begin().await?;
        // In the order of creations: the track, then the owner.
        if let Some(slot) = upload.slot {
            lock(&txn, self.0.is_postgres(), &upload.owner, slot.track).await?;
        }
        Quota::lock(&txn, &BTreeSet::from([upload.owner.as_str()])).await?;
        // Where another renewal was faster the row is counted already.
        let same = upload::Entity::find_by_id(upload.id.0)
            .filter(upload::Column::Version.eq(upload.version))
            .count(&txn)
            .await?;
        let checked = match same {
            1 => self.0.quota.check_pending(&txn, upload).await.map(|()| true),
            _ => Ok(false),
        };
        if !matches!(checked, Ok(true)) {
            txn.rollback().await?;
            return checked.map(|_| Saved::Lost);
        }
        let (saved, superseded) = self.save_in(&txn, vec![change], now).await?;
        txn.commit().await?;
        self.tell_all(&saved, &superseded);
        Ok(saved.into_iter().next().unwrap_or(Saved::Lost))
    }
}
