//! The part of a run that can do damage: it marks verified uploads missing or rejects them, and
//! deletes objects. A finalizing shard waits until all locations of its policy are compared. Each
//! page of rows is saved with its cursor.

use futures_util::{FutureExt as _, StreamExt as _, stream};

use super::aborts::retry_due_aborts;
use super::copies::delete_due_copies;
use super::multiparts::abort_abandoned;
use super::observe::observe;
use super::progress::At;
use super::safety_limits::Withheld;
use super::unattached::remove_unattached;
use super::worker::{BATCH, Target, WorkError, Worker};
use crate::app::AppError;
use crate::domain::run::{CandidateKind, Mode, Stage};
use crate::domain::transition::Event;
use crate::domain::{Status, Timestamp, Upload, UploadId};

/// Marks uploads missing or rejects them, deletes due objects and aborts abandoned multipart
/// uploads, from the shard's cursor on.
pub(super) async fn finalize(worker: &Worker<'_>) -> Result<(), WorkError> {
    let shard = worker.progress.shard;
    let cursor = |stage: Stage| shard.cursor.clone().filter(|_| shard.stage == stage);
    let mut withheld = Withheld::default();
    if shard.stage <= Stage::Delete {
        withheld = worker.limits.withheld().await?;
    }
    if shard.stage <= Stage::Missing {
        end_candidates(worker, &withheld, cursor(Stage::Missing)).await?;
    }
    if shard.stage <= Stage::Delete {
        remove_unattached(worker).await?;
        delete_due(worker, &withheld, cursor(Stage::Delete)).await?;
        delete_due_copies(worker).await?;
    }
    retry_due_aborts(worker).await?;
    // In an incremental run the progress is saved at the end of the shard.
    if worker.progress.run.request.mode == Mode::Audit {
        let at = (Stage::Multiparts, cursor(Stage::Multiparts));
        worker.progress.save(Vec::new(), at).await?;
        abort_abandoned(worker, cursor(Stage::Multiparts)).await?;
    }
    // The changes to some owners were withheld, so the run ends as stopped.
    withheld.why.map_or(Ok(()), |why| Err(WorkError::Stopped(why)))
}

/// Reads the object of each candidate once more, just before its absence or its other bytes are
/// recorded.
async fn end_candidates(
    worker: &Worker<'_>,
    withheld: &Withheld,
    cursor: Option<String>,
) -> Result<(), WorkError> {
    let (db, shard) = (&worker.target.app.db, worker.progress.shard);
    let mut after: Option<UploadId> = cursor.and_then(|id| id.parse().ok());
    loop {
        let candidates = db.missing_candidates();
        let page = candidates.list_after(shard, &CandidateKind::HELD, after, BATCH as u64).await;
        let (Some(last), rows) = page.map_err(AppError::from)? else { return Ok(()) };
        let rows = rows.into_iter().filter(|row| {
            matches!(row.status(), Status::Uploaded | Status::Missing)
                && !withheld.owners.contains(&row.owner)
        });
        let observed = stream::iter(rows).map(|row| observe(worker, row).boxed());
        let mut observed = observed.buffered(worker.settings.concurrency);
        let mut events = Vec::new();
        while let Some((upload, event)) = observed.next().await {
            match event {
                Ok(event) => events.push((upload, event)),
                Err(error) => worker.progress.count_error(&upload, &error),
            }
        }
        // The bucket is checked after the HEADs, because it may have been replaced by a bucket with
        // other bytes. For absences, it is checked when they are applied.
        if events.iter().any(|(_, event)| matches!(event, Event::Observed(_))) {
            let what = "objects of verified uploads have other bytes";
            worker.limits.require_own_bucket(what).await?;
        }
        worker.progress.save(events, (Stage::Missing, Some(last.to_string()))).await?;
        // The bucket is not known to be this database's, so the remaining candidates would not be
        // changed either.
        if worker.progress.report.tally().unverified().is_some() {
            return Ok(());
        }
        after = Some(last);
    }
}

/// Deletes objects of final rows, up to the run's budget. A final row never opens again and
/// its key belongs to it alone, so a late deletion can't remove a wanted object.
async fn delete_due(
    worker: &Worker<'_>,
    withheld: &Withheld,
    cursor: Option<String>,
) -> Result<(), WorkError> {
    let Target { app, location, .. } = worker.target;
    let dry_run = worker.progress.run.request.dry_run;
    let mut after = cursor.as_deref().and_then(parse_cursor);
    loop {
        let (scan, owners) = (app.db.scan(), &*withheld.owners);
        let page =
            scan.list_due_deletions(location.into(), app.now(), owners, after, BATCH as u64).await;
        let mut due = page.map_err(AppError::from)?;
        if due.is_empty() {
            break;
        }
        worker.limits.require_own_bucket("objects are due for deletion").await?;
        let within_budget = spend_budget(worker, &mut due).await?;
        let Some(last) = due.last() else { return Ok(()) };
        after = last.deletion.after.map(|at| (at, last.id));
        let at: At = (Stage::Delete, after.map(cursor_of));
        if dry_run {
            report_deletions(worker, &due);
            worker.progress.save(Vec::new(), at).await?;
        } else {
            // The copies that moves made of these objects are not needed any more. They become due
            // first, so that a crash during the deletions leaves no copy behind.
            let ids: Vec<_> = due.iter().map(|upload| upload.id).collect();
            let ended = app.db.object_copies().end_all(&ids, app.now()).await;
            ended.map_err(AppError::from)?;
            let deleted = delete(worker, due).await;
            worker.progress.save(deleted, at).await?;
        }
        if !within_budget {
            return Ok(());
        }
    }
    if dry_run { report_dry_due(worker, withheld).await } else { Ok(()) }
}

/// Reports what a real run would delete.
fn report_deletions(worker: &Worker<'_>, rows: &[Upload]) {
    let (now, mut tally) = (worker.target.app.now(), worker.progress.report.tally());
    for row in rows {
        tally.count_deletion(row, now);
    }
}

/// Takes these deletions from the run's budget, and removes those that exceed it from `due`.
/// Returns whether the budget covers all of them.
pub(super) async fn spend_budget<T>(
    worker: &Worker<'_>,
    due: &mut Vec<T>,
) -> Result<bool, WorkError> {
    let requested = due.len();
    let (shard, lease) = (worker.progress.shard, worker.progress.lease.length);
    let (shards, budget) = (worker.target.app.db.shards(), worker.settings.max_deletions);
    let granted = shards.spend_deletions(shard, lease, requested as u64, budget).await;
    let granted = granted.map_err(AppError::from)?.ok_or(WorkError::LostLease)?;
    due.truncate(usize::try_from(granted).unwrap_or(usize::MAX));
    Ok(due.len() == requested)
}

/// Counts the uploads whose objects would be due for deletion after a real run. Only for dry runs,
/// which change no rows.
async fn report_dry_due(worker: &Worker<'_>, withheld: &Withheld) -> Result<(), WorkError> {
    let (db, shard) = (&worker.target.app.db, worker.progress.shard);
    let mut after = None;
    loop {
        let candidates = db.missing_candidates();
        let page = candidates.list_after(shard, &[CandidateKind::Due], after, BATCH as u64).await;
        let (Some(last), mut rows) = page.map_err(AppError::from)? else { return Ok(()) };
        if after.is_none() {
            worker.limits.require_own_bucket("objects are due for deletion").await?;
        }
        after = Some(last);
        let owners = &withheld.owners;
        rows.retain(|row| !(owners.contains(&row.owner) && row.deletion_is_damage()));
        let within_budget = spend_budget(worker, &mut rows).await?;
        report_deletions(worker, &rows);
        if !within_budget {
            return Ok(());
        }
    }
}

/// Deletes objects, several at a time, and returns the events of the deleted ones.
async fn delete(worker: &Worker<'_>, due: Vec<Upload>) -> Vec<(Upload, Event)> {
    let deletions = stream::iter(due).map(|upload| delete_one(worker, upload).boxed());
    let mut deletions = deletions.buffered(worker.settings.concurrency);
    let mut deleted = Vec::new();
    while let Some((upload, result)) = deletions.next().await {
        match result {
            Ok(true) => deleted.push((upload, Event::ObjectDeleted)),
            Ok(false) => {}
            Err(error) => worker.progress.count_error(&upload, &error),
        }
    }
    deleted
}

/// Reads the row again and deletes its object. Returns `false` if the deletion is no longer due.
async fn delete_one(worker: &Worker<'_>, upload: Upload) -> (Upload, Result<bool, AppError>) {
    worker.throttle.acquire().await;
    let (app, id) = (worker.target.app, upload.id);
    let deleted = async {
        let Some(row) = app.db.uploads().find_any_owner(id).await? else { return Ok(false) };
        let is_here = row.location == upload.location && row.key == upload.key;
        if !is_here || !row.status().is_final() || !row.deletion.is_due(app.now()) {
            return Ok(false);
        }
        worker.target.store.objects.delete(row.key.as_str()).await?;
        Ok(true)
    };
    let deleted = deleted.await;
    (upload, deleted)
}

/// The cursor for a position in the order of deletions.
fn cursor_of((at, id): (Timestamp, UploadId)) -> String {
    format!("{} {id}", at.to_rfc3339())
}

fn parse_cursor(text: &str) -> Option<(Timestamp, UploadId)> {
    let (at, id) = text.split_once(' ')?;
    Some((at.parse().ok()?, id.parse().ok()?))
}
