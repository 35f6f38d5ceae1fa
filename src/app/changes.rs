//! Waiting for an upload: long polls and streams of changes.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::{App, AppError, Result};
use crate::db::uploads::Watch;
use crate::domain::{LimitReached, Owner, Status, Upload, UploadId};

/// The longest that one request waits.
pub const MAX_WAIT: Duration = Duration::from_mins(1);

impl App {
    /// The upload as soon as it is not pending any more, or as it is after `wait`.
    pub async fn wait_for_upload(
        &self,
        owner: &Owner,
        id: UploadId,
        wait: Duration,
    ) -> Result<Upload> {
        let until = Instant::now() + wait.min(MAX_WAIT);
        let (mut upload, mut watch) = self.watch_upload(owner, id).await?;
        while upload.status() == Status::Pending {
            match timeout_at(until, watch.next()).await {
                Ok(Some(changed)) => upload = Upload::clone(&changed),
                // Behind, or the service ends: better an early answer than none.
                Ok(None) => return self.upload(owner, id).await,
                Err(_) => break,
            }
        }
        Ok(upload)
    }

    /// Follows an upload from now on.
    pub async fn follow_upload(&self, owner: &Owner, id: UploadId) -> Result<Followed> {
        let (upload, watch) = self.watch_upload(owner, id).await?;
        Ok(Followed { next: Some(Arc::new(upload)), watch })
    }

    /// The row is read after the place is taken, so that no change falls in between. Ids
    /// that are nobody's take no place for longer than that.
    async fn watch_upload(&self, owner: &Owner, id: UploadId) -> Result<(Upload, Watch)> {
        let watch = self.db.uploads().watch(owner, id).map_err(|reached| match reached {
            LimitReached::Total => AppError::TooManyWaiters,
            LimitReached::PerOwner(limit) => AppError::ShareOfWaiters(limit),
        });
        let mut watch = watch?;
        let upload = self.upload(owner, id).await?;
        watch.saw(&upload);
        Ok((upload, watch))
    }
}

/// The changes of one upload.
pub struct Followed {
    next: Option<Arc<Upload>>,
    watch: Watch,
}

impl Followed {
    /// The upload as it is now, first; then after each change. `None` after a final state,
    /// and for a reader that is too slow: it has to come back and read afresh.
    pub async fn next(&mut self, last: Option<&Upload>) -> Option<Arc<Upload>> {
        if last.is_some_and(|upload| upload.status().is_final()) {
            return None;
        }
        match self.next.take() {
            Some(now) => Some(now),
            None => self.watch.next().await,
        }
    }
}
