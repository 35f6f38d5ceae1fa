//! Deletes the objects that moves left behind, when they are no longer needed.
//!
//! A copy can be deleted if the upload's own object is in its store, or if the upload has ended.
//! It is claimed in the database before its object is deleted, so that no move writes to its key.

use std::collections::{BTreeSet, HashMap};

use chrono::TimeDelta;
use futures_util::{FutureExt as _, StreamExt as _, stream};

use super::finalize::spend_budget;
use super::worker::{BATCH, Target, WorkError, Worker};
use crate::app::AppError;
use crate::domain::object_copy::CopyAction;
use crate::domain::run::Stage;
use crate::domain::{ObjectCopy, Upload, UploadId};

/// If a copy can't be deleted yet, a run tries again after this time.
const POSTPONED_FOR: TimeDelta = TimeDelta::hours(1);

/// Deletes the due copies at the shard's location, within the run's budget.
pub(super) async fn delete_due_copies(worker: &Worker<'_>) -> Result<(), WorkError> {
    let Target { app, location, .. } = worker.target;
    let copies = app.db.object_copies();
    let mut after = None;
    loop {
        let page = copies.list_due(location.into(), app.now(), after, BATCH as u64).await;
        let mut due = page.map_err(AppError::from)?;
        if due.is_empty() {
            return Ok(());
        }
        worker.limits.require_own_bucket("copies of moved objects are due for deletion").await?;
        let within_budget = spend_budget(worker, &mut due).await?;
        let Some(last) = due.last() else { return Ok(()) };
        after = Some((last.delete_after, last.upload));
        delete_page(worker, due).await?;
        // After a crash the stage starts from the beginning: deleted copies are not listed again.
        worker.progress.save(Vec::new(), (Stage::Delete, None)).await?;
        if !within_budget {
            return Ok(());
        }
    }
}

async fn delete_page(worker: &Worker<'_>, due: Vec<ObjectCopy>) -> Result<(), WorkError> {
    let Target { app, location, .. } = worker.target;
    let copies = app.db.object_copies();
    let now = app.now();
    let ids: Vec<_> = due.iter().map(|copy| copy.upload).collect();
    let rows = app.db.uploads().find_many_any_owner(&ids).await.map_err(AppError::from)?;
    let rows: HashMap<UploadId, Upload> = rows.into_iter().map(|row| (row.id, row)).collect();
    let (mut doomed, mut forgotten, mut postponed) = (Vec::new(), Vec::new(), Vec::new());
    let decisions = due.into_iter().map(|copy| {
        let row = rows.get(&copy.upload);
        async move {
            let action = decide(worker, &copy, row).await;
            (copy, action)
        }
        .boxed()
    });
    let mut decisions = stream::iter(decisions).buffered(worker.settings.concurrency);
    while let Some((copy, action)) = decisions.next().await {
        match action {
            CopyAction::Delete | CopyAction::DeleteIfMoved => doomed.push(copy),
            CopyAction::Forget => forgotten.push(copy.upload),
            CopyAction::Keep => postponed.push(copy.upload),
        }
    }
    drop(decisions);
    if worker.progress.run.request.dry_run {
        let count = doomed.len() as u64;
        worker.progress.report.count(|counters| counters.deleted += count);
        return Ok(());
    }
    let save = async {
        copies.delete(location.into(), &forgotten, now).await?;
        copies.postpone(location.into(), &postponed, now + POSTPONED_FOR).await?;
        let ids: Vec<_> = doomed.iter().map(|copy| copy.upload).collect();
        copies.claim(location.into(), &ids, now).await
    };
    let claimed = save.await.map_err(AppError::from)?;
    let deleted = delete(worker, doomed, &claimed).await;
    copies.delete(location.into(), &deleted, now).await.map_err(AppError::from)?;
    Ok(())
}

/// What to do with a copy, after a HEAD of the upload's own object if that matters.
async fn decide(worker: &Worker<'_>, copy: &ObjectCopy, row: Option<&Upload>) -> CopyAction {
    let app = worker.target.app;
    match (copy.decide(row, app.now()), row) {
        (CopyAction::DeleteIfMoved, Some(upload)) => {
            worker.throttle.acquire().await;
            worker.progress.report.count(|counters| counters.head_requests += 1);
            match is_in_store(worker, upload).await {
                Ok(true) => CopyAction::Delete,
                Ok(false) => CopyAction::Keep,
                Err(error) => {
                    worker.progress.count_error(upload, &error);
                    CopyAction::Keep
                }
            }
        }
        (action, _) => action,
    }
}

/// Whether the verified object of an upload is in its store.
async fn is_in_store(worker: &Worker<'_>, upload: &Upload) -> Result<bool, AppError> {
    let (_, store) = worker.target.app.rules_of(upload).await?;
    let found = store.objects.head(upload.key.as_str()).await?;
    let etag = upload.state.facts().map(|facts| facts.etag.as_str());
    Ok(found.is_some_and(|meta| Some(meta.etag.as_str()) == etag))
}

/// Deletes claimed copies, several at a time, and returns those that were deleted.
async fn delete(
    worker: &Worker<'_>,
    doomed: Vec<ObjectCopy>,
    claimed: &BTreeSet<UploadId>,
) -> Vec<UploadId> {
    let doomed = doomed.into_iter().filter(|copy| claimed.contains(&copy.upload));
    let deletions = doomed.map(|copy| {
        async move {
            worker.throttle.acquire().await;
            let deleted = worker.target.store.objects.delete(copy.key.as_str()).await;
            (copy.upload, deleted)
        }
        .boxed()
    });
    let mut deletions = stream::iter(deletions).buffered(worker.settings.concurrency);
    let mut deleted = Vec::new();
    while let Some((id, result)) = deletions.next().await {
        match result {
            Ok(()) => {
                worker.progress.report.count(|counters| counters.deleted += 1);
                deleted.push(id);
            }
            Err(error) => {
                worker.progress.report.count(|counters| counters.errors += 1);
                tracing::warn!(upload = %id, error = &error as &dyn std::error::Error,
                    "the copy of a moved object was not deleted; the next run tries again");
            }
        }
    }
    deleted
}
