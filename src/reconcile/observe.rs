//! Reads rows, observes their objects several at a time, and saves the results.

use std::collections::HashMap;

use futures_util::{FutureExt as _, StreamExt as _, stream};

use super::adopt::adopt;
use super::progress::At;
use super::report::{finding_of, object_finding};
use super::worker::{BATCH, Target, WorkError, Worker};
use crate::app::AppError;
use crate::domain::RejectReason;
use crate::domain::inspection::Annotations;
use crate::domain::marker::BucketIdentity;
use crate::domain::reconcile::Listed;
use crate::domain::run::{CandidateKind, Finding, FindingKind, Stage};
use crate::domain::transition::{Absence, Event, Observation, step};
use crate::domain::upload::{ConfirmedBy, ObjectFacts};
use crate::domain::{Status, Upload, UploadId};
use crate::storage::ObjectMeta;

/// The action for a row.
pub(super) enum Task {
    /// Send a HEAD, and validate the object.
    Observe,
    /// Record that bytes arrived for a row in a final state.
    MarkDue(Listed),
    /// Report the state of the row.
    Report,
    /// Report the object, which has no row at this location: it is a stray, or an orphan. If the
    /// run adopts orphans, create a row for it.
    Rowless(UploadId, Listed),
    /// Delete this tail (an object with tus bytes that were too few for a part), unless its upload
    /// is pending.
    Tail(Listed),
}

impl Task {
    /// Whether the task may send a request or write a row. [`Self::Report`] only reports, and
    /// objects without a row are processed in batches of their own.
    pub(super) fn is_observation(&self) -> bool {
        !matches!(self, Self::Report | Self::Rowless(..))
    }
}

/// Sends a HEAD for each of these keys.
pub(super) async fn observe_keys(worker: &Worker<'_>, keys: Vec<String>) -> Result<(), WorkError> {
    for keys in keys.chunks(BATCH) {
        let tasks = keys.iter().map(|key| (key.clone(), Task::Observe)).collect();
        process(worker, tasks, keys.last().cloned()).await?;
    }
    Ok(())
}

/// Processes a batch of tasks and saves the results. The shard is then done up to `key`.
pub(super) async fn process(
    worker: &Worker<'_>,
    tasks: Vec<(String, Task)>,
    key: Option<String>,
) -> Result<(), WorkError> {
    let tasks = process_rowless(worker, tasks).await?;
    let rows = read(worker, tasks).await?;
    let mut events = Vec::new();
    let mut candidates = 0;
    for (upload, event) in observe_all(worker, rows).await {
        match event {
            Err(error) => worker.progress.count_error(&upload, &error),
            Ok(event) => match believe(worker, upload, event).await? {
                Some(event) => events.push(event),
                None => candidates += 1,
            },
        }
    }
    let at: At = (Stage::Compare, key);
    worker.progress.save(events, at).await?;
    if candidates > 0 { worker.limits.check_candidates(candidates).await } else { Ok(()) }
}

/// Sends one HEAD, and validates the object.
pub(super) async fn observe(
    worker: &Worker<'_>,
    upload: Upload,
) -> (Upload, Result<Event, AppError>) {
    worker.throttle.acquire().await;
    worker.progress.report.count(|counters| counters.head_requests += 1);
    let event = if upload.status().is_final() {
        observe_ended(worker, &upload).await
    } else {
        worker.target.app.observe_object(&upload, ConfirmedBy::Scan).await
    };
    (upload, event)
}

/// Records that bytes arrived after the upload ended. They will be deleted, so they are not
/// validated.
async fn observe_ended(worker: &Worker<'_>, upload: &Upload) -> Result<Event, AppError> {
    let Target { app, store, .. } = worker.target;
    let (key, requested_at) = (upload.key.as_str().to_owned(), app.now());
    let Some(ObjectMeta { etag, size, last_modified, .. }) = store.objects.head(&key).await? else {
        return Ok(Event::Absent(Absence {
            requested_at,
            by_head: true,
            last_part_at: None,
            by: ConfirmedBy::Scan,
        }));
    };
    Ok(unexpected(Listed { key, etag, size, last_modified }))
}

/// Reports the objects of a batch that have no row at this location, and returns the tasks of rows.
/// Creates rows for the orphans if the run adopts them.
async fn process_rowless(
    worker: &Worker<'_>,
    tasks: Vec<(String, Task)>,
) -> Result<Vec<(String, Task)>, WorkError> {
    let (mut rowless, mut of_rows) = (Vec::new(), Vec::new());
    for (key, task) in tasks {
        match task {
            Task::Rowless(id, object) => rowless.push((id, object)),
            task => of_rows.push((key, task)),
        }
    }
    if rowless.is_empty() {
        return Ok(of_rows);
    }
    let Target { app, location, .. } = worker.target;
    let orphans = record_strays(worker, rowless).await?;
    let count = orphans.len() as u64;
    worker.progress.report.count(|counters| counters.orphans += count);
    if let Some(owner) = &worker.progress.run.request.adopt {
        for orphans in orphans.chunks(BATCH) {
            adopt(worker, owner, orphans.to_vec()).await?;
        }
    } else {
        let finding =
            |(_, object)| object_finding(location, FindingKind::Orphan, object, app.now());
        worker.progress.report.tally().record(orphans.into_iter().map(finding));
    }
    Ok(of_rows)
}

/// Counts and reports the strays: the objects whose upload has a row elsewhere. Such an object is a
/// copy, or was stored by somebody else, and is never changed. Returns the other objects, which are
/// orphans.
async fn record_strays(
    worker: &Worker<'_>,
    rowless: Vec<(UploadId, Listed)>,
) -> Result<Vec<(UploadId, Listed)>, AppError> {
    let Target { app, location, .. } = worker.target;
    let ids: Vec<_> = rowless.iter().map(|(id, _)| *id).collect();
    let copies = app.db.object_copies().find_at(location.into(), &ids).await?;
    let locations = app.db.scan().list_locations(ids).await?;
    let locations: HashMap<_, _> =
        locations.into_iter().map(|found| (found.upload, found)).collect();
    let mut orphans = Vec::new();
    let mut tally = worker.progress.report.tally();
    for (id, object) in rowless {
        match locations.get(&id) {
            // The old or the new object of a move. It has a record of its own, and a run deletes it
            // when it is no longer needed.
            _ if copies.contains(&id) => {}
            None => orphans.push((id, object)),
            // Its row was created after the rows were read.
            Some(found) if found.policy == location.policy && found.location == location.number => {
            }
            Some(found) => {
                tally.count(|counters| counters.strays += 1);
                let finding = object_finding(location, FindingKind::Stray, object, app.now());
                let detail = Some(format!("{}/{}", found.policy, found.location));
                tally.record([Finding { detail, ..finding }]);
            }
        }
    }
    Ok(orphans)
}

/// Reads the rows of a batch. If a row is gone, its upload had ended and was deleted by retention.
async fn read(
    worker: &Worker<'_>,
    tasks: Vec<(String, Task)>,
) -> Result<Vec<(Upload, Task)>, AppError> {
    if tasks.is_empty() {
        return Ok(Vec::new());
    }
    let keys = tasks.iter().map(|(key, _)| key.clone()).collect();
    let scan = worker.target.app.db.scan();
    let rows = scan.find_by_keys(worker.target.location.into(), keys).await?;
    let rows: HashMap<_, _> =
        rows.into_iter().map(|row| (row.key.as_str().to_owned(), row)).collect();
    let mut found = Vec::with_capacity(tasks.len());
    for (key, task) in tasks {
        match (rows.get(&key), task) {
            (Some(row), task) => found.push((row.clone(), task)),
            (None, Task::Tail(object)) => report_foreign(worker, object),
            (None, _) => {}
        }
    }
    Ok(found)
}

/// Reports a tail whose upload is not known. Such a tail is never deleted.
fn report_foreign(worker: &Worker<'_>, object: Listed) {
    let Target { app, location, .. } = worker.target;
    let mut tally = worker.progress.report.tally();
    tally.count(|counters| counters.foreign += 1);
    tally.record([object_finding(location, FindingKind::Foreign, object, app.now())]);
}

/// Records that an ended upload has left a tail. The finalizing shard deletes it.
async fn record_tail(worker: &Worker<'_>, upload: &Upload) -> Result<(), AppError> {
    let app = worker.target.app;
    if upload.status() == Status::Pending || worker.progress.run.request.dry_run {
        return Ok(());
    }
    // One record for all tails of an upload.
    let token = upload.id.0;
    app.db.multipart_aborts().create_intent(upload, token, app.now()).await?;
    Ok(())
}

async fn observe_all(
    worker: &Worker<'_>,
    rows: Vec<(Upload, Task)>,
) -> Vec<(Upload, Result<Event, AppError>)> {
    let observed = stream::iter(rows).map(|(upload, task)| {
        async move {
            match task {
                Task::Observe => Some(observe(worker, upload).await),
                Task::MarkDue(object) => Some((upload, Ok(unexpected(object)))),
                // `process_rowless` has removed these tasks.
                Task::Rowless(..) => None,
                Task::Tail(_) => {
                    record_tail(worker, &upload).await.err().map(|error| (upload, Err(error)))
                }
                Task::Report => {
                    let finding = finding_of(&upload, worker.target.app.now());
                    worker.progress.report.tally().record(finding);
                    None
                }
            }
        }
        .boxed()
    });
    // In the order of the keys, so that the findings have the same order.
    let concurrency = worker.settings.concurrency;
    observed.buffered(concurrency).filter_map(std::future::ready).collect().await
}

/// Returns the event to apply, if any. The loss or the rejection of a verified object is not
/// applied here, because the finalizing shard decides about it. If the bucket is not known to
/// belong to this database, no absence, and no rejection of a verified object, is applied at all.
async fn believe(
    worker: &Worker<'_>,
    upload: Upload,
    event: Event,
) -> Result<Option<(Upload, Event)>, WorkError> {
    let verified = matches!(upload.status(), Status::Uploaded | Status::Missing);
    let absent = matches!(event, Event::Absent(_));
    if !absent && !verified {
        return Ok(Some((upload, event)));
    }
    let target = worker.target;
    let next = step(upload.clone(), event.clone(), target.app.now(), target.policy);
    let next = next.map_err(AppError::from)?;
    let damages = upload.is_damaged_by(&next.upload);
    if !absent && !damages {
        return Ok(Some((upload, event)));
    }
    let mismatch = match worker.limits.bucket_identity().await? {
        BucketIdentity::Match if upload.status() != Status::Uploaded && !damages => {
            return Ok(Some((upload, event)));
        }
        BucketIdentity::Match => None,
        unverified => Some(unverified),
    };
    if next.changed {
        let (kind, what) = if absent {
            (CandidateKind::Missing, "an object is missing")
        } else {
            (CandidateKind::Rejection, "an object has other bytes than the verified ones")
        };
        let mut tally = worker.progress.report.tally();
        match mismatch {
            Some(why) => tally.set_unverified(|| format!("{what}, but {why}")),
            None => tally.add_candidate(kind, upload.id),
        }
    }
    Ok(None)
}

/// The event for bytes that are stored at the key of a row in a final state.
fn unexpected(object: Listed) -> Event {
    let facts = ObjectFacts {
        etag: object.etag,
        version_id: None,
        size: object.size,
        content_type: None,
        checksum: None,
    };
    let verdict = Err(RejectReason::Overwritten.into());
    let annotations = Annotations::new();
    Event::Observed(Observation { facts, verdict, by: ConfirmedBy::Scan, annotations })
}
