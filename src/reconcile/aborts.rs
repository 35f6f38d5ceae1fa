//! Aborts that are on record: those that failed when their upload ended, and what calls
//! without an answer may have left open.

use super::worker::{WorkError, Worker};
use crate::app::AppError;

impl Worker<'_> {
    /// Tries the policy's aborts that are due, as many as the run may delete objects.
    pub(super) async fn abort_due(&self) -> Result<(), WorkError> {
        if self.run.request.dry_run {
            return Ok(());
        }
        let (db, now) = (&self.app.db, self.app.now());
        let limit = self.settings.max_deletions;
        let due = db
            .multipart_aborts()
            .list_due(&self.policy.name, now, limit)
            .await
            .map_err(AppError::from)?;
        if due.is_empty() {
            return Ok(());
        }
        // In another bucket there is nothing to abort, and the record would be lost.
        self.check_bucket_identity("multipart uploads are to be aborted").await?;
        for due in due {
            self.throttle.acquire().await;
            match self.app.abort_due(self.policy, &due).await {
                Ok(had_failed) => {
                    let aborted = u64::from(had_failed);
                    self.report.count(|counters| counters.aborted_multipart += aborted);
                }
                Err(error) => {
                    self.report.count(|counters| counters.errors += 1);
                    tracing::warn!(upload = %due.upload, attempts = due.attempts,
                        error = &error as &dyn std::error::Error,
                        "multipart upload not aborted; a later run tries again");
                }
            }
        }
        Ok(())
    }
}
