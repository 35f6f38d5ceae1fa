//! Waits for changes of an upload, for long polls and event streams.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::{App, AppError, Result};
use crate::db::uploads::Watch;
use crate::domain::{LimitReached, Principal, Status, Upload, UploadId};

/// The longest time that one request waits.
pub const MAX_WAIT: Duration = Duration::from_mins(1);

impl App {
    /// Returns the upload as soon as it is neither pending nor being inspected, or its current
    /// state after `wait`.
    pub async fn wait_for_upload(
        &self,
        by: impl Into<Principal<'_>>,
        id: UploadId,
        wait: Duration,
    ) -> Result<Upload> {
        let by = by.into();
        let until = Instant::now() + wait.min(MAX_WAIT);
        let (mut upload, mut watch) = self.watch_upload(by, id).await?;
        while matches!(upload.status(), Status::Pending | Status::Inspecting) {
            match timeout_at(until, watch.next()).await {
                Ok(Some(changed)) => upload = Upload::clone(&changed),
                // The watcher is too slow, or the service shuts down: return early.
                Ok(None) => return self.upload(by, id).await,
                Err(_) => break,
            }
        }
        Ok(upload)
    }

    /// Follows the changes of an upload.
    pub async fn follow_upload(
        &self,
        by: impl Into<Principal<'_>>,
        id: UploadId,
    ) -> Result<Followed> {
        let (upload, watch) = self.watch_upload(by.into(), id).await?;
        Ok(Followed { next: Some(Arc::new(upload)), watch })
    }

    /// The row is read after the watch starts, so that no change is missed. A watch of an id that
    /// does not exist ends at once.
    async fn watch_upload(&self, by: Principal<'_>, id: UploadId) -> Result<(Upload, Watch)> {
        let watch = self.db.uploads().watch(by.owner(), id).map_err(|reached| match reached {
            LimitReached::Total => AppError::TooManyWaiters,
            LimitReached::PerOwner(limit) => AppError::ShareOfWaiters(limit),
        });
        let mut watch = watch?;
        let upload = self.upload(by, id).await?;
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
    /// Returns the current upload first, and then the upload after each change. Returns `None`
    /// after a final state. Also returns `None` if the reader is too slow; it must then start
    /// again.
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
