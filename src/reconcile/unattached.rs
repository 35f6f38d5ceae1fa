//! Removes verified uploads that were not attached within the policy's `unattached_retention`.
//!
//! Only the row changes here. The object is deleted like that of any other row in a final state,
//! within the run's budget. If an upload is attached at the same time, it is not removed: the
//! change is guarded by the row's version, and is decided again for the attached row.

use super::worker::{BATCH, Target, WorkError, Worker};
use crate::app::{App, AppError};
use crate::domain::run::{Mode, RunRequest, Stage};
use crate::domain::transition::Event;
use crate::domain::{Policy, Timestamp, Upload, UploadId};

/// Unattached uploads of the policy that were verified before this time are removed; `None` if the
/// policy removes none. The first incremental run starts the retention.
pub(super) async fn unattached_before(
    app: &App,
    policy: &Policy,
    request: &RunRequest,
) -> Result<Option<Timestamp>, AppError> {
    let Some(retention) = policy.unattached_retention else { return Ok(None) };
    if request.mode != Mode::Incremental {
        return Ok(None);
    }
    let (attachments, now) = (app.db.attachments(), app.now());
    let enabled = if request.dry_run {
        attachments.retention_start(&policy.name).await?
    } else {
        Some(attachments.start_retention(&policy.name, now).await?)
    };
    let before = now - retention;
    // The time before the retention was enabled does not count.
    Ok(enabled.filter(|enabled| *enabled <= before).map(|_| before))
}

/// Removes uploads of the location that have been unattached for too long, in batches.
pub(super) async fn remove_unattached(worker: &Worker<'_>) -> Result<(), WorkError> {
    let Target { app, policy, location, .. } = worker.target;
    let request = &worker.progress.run.request;
    let Some(before) = unattached_before(app, policy, request).await? else { return Ok(()) };
    let mut after: Option<(Timestamp, UploadId)> = None;
    loop {
        let page =
            app.db.scan().list_unattached(location.into(), before, after, BATCH as u64).await;
        let uploads = page.map_err(AppError::from)?;
        let Some(last) = uploads.last() else { return Ok(()) };
        after = last.state.verified().map(|verified| (verified.at, last.id));
        let event = |upload: Upload| (upload, Event::Unattached);
        let events = uploads.into_iter().map(event).collect();
        // After a crash the stage starts from the beginning: removed uploads are not listed again.
        worker.progress.save(events, (Stage::Delete, None)).await?;
        if after.is_none() {
            return Ok(());
        }
    }
}
