//! Due aborts of multipart uploads: aborts that failed when their upload ended, and multipart
//! uploads that may exist although the store's response was lost.

use super::worker::{Target, WorkError, Worker};
use crate::app::AppError;

/// Tries the location's due aborts, at most as many as the run may delete objects.
pub(super) async fn retry_due_aborts(worker: &Worker<'_>) -> Result<(), WorkError> {
    let progress = &worker.progress;
    if progress.run.request.dry_run {
        return Ok(());
    }
    let Target { app, policy, location, .. } = worker.target;
    let limit = worker.settings.max_deletions;
    let due = app.db.multipart_aborts().list_due(location.into(), app.now(), limit).await;
    let due = due.map_err(AppError::from)?;
    if due.is_empty() {
        return Ok(());
    }
    // In the wrong bucket there is nothing to abort, and the record of the abort would be lost.
    worker.limits.require_own_bucket("multipart uploads are to be aborted").await?;
    for due in due {
        worker.throttle.acquire().await;
        match app.retry_abort(policy, &due).await {
            Ok(had_failed) => {
                let aborted = u64::from(had_failed);
                progress.report.count(|counters| counters.aborted_multipart += aborted);
            }
            Err(error) => {
                progress.report.count(|counters| counters.errors += 1);
                tracing::warn!(upload = %due.upload, attempts = due.attempts,
                    error = &error as &dyn std::error::Error,
                    "multipart upload not aborted; a later run tries again");
            }
        }
    }
    Ok(())
}
