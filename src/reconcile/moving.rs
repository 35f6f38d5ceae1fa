//! Moves the verified objects of a former location to the policy's current one.
//!
//! For each object: a HEAD, a copy that is compared with the original (`storage::transfer`), and
//! one guarded write that repoints the upload and records the old object, which is deleted later
//! (`copies`). Before the first byte is copied, the copy is recorded in the database (announced).
//! So after a crash, a run finds the copy, and either uses it or deletes it.
//!
//! An object that can't be moved is a finding, and stays where it is.

mod object;
mod plan;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use chrono::TimeDelta;
use futures_util::{FutureExt as _, StreamExt as _, stream};
use tokio::sync::{Semaphore, mpsc};

use self::object::{NotMoved, ObjectMove};
use super::progress::At;
use super::worker::{BATCH, Target, WorkError, Worker};
use crate::app::AppError;
use crate::app::bucket_identity::CheckOptions;
use crate::db::reconcile::scan::PolicyLocation;
use crate::domain::marker::BucketIdentity;
use crate::domain::run::{Finding, FindingKind, Run, Stage};
use crate::domain::transition::{Event, Relocation};
use crate::domain::{KeyRange, Location, ObjectCopy, Status, Upload, UploadId};
use crate::storage::Store;
use crate::storage::transfer::Memory;

pub(super) use self::plan::shards_of_move;

/// The number of bytes that the moves of a run may hold in memory in this process.
const MEMORY: u64 = 64 << 20;

/// How long a copy that was announced and not used is kept. This is longer than the transfer of a
/// page of large objects takes, because no run may delete the copies before that.
const ANNOUNCED_FOR: TimeDelta = TimeDelta::days(7);

/// What all shards of a run share in this process.
#[derive(Debug)]
pub(super) struct Transfers {
    memory: Memory,
    /// One permit for each object that may be transferred at the same time.
    permits: Semaphore,
    concurrency: usize,
}

impl Transfers {
    /// The transfers of a run.
    pub(super) fn of(run: &Run) -> Self {
        let moving = run.request.moving.as_ref();
        let concurrency = moving.map_or(1, |moving| usize::from(moving.concurrency).max(1));
        Self { memory: Memory::new(MEMORY), permits: Semaphore::new(concurrency), concurrency }
    }
}

/// The destination of a shard's objects.
struct To {
    location: Arc<Location>,
    store: Store,
}

impl To {
    /// The location, as an argument for queries.
    fn policy_location(&self) -> PolicyLocation<'_> {
        (&*self.location).into()
    }
}

/// Moves the objects of a range.
///
/// # Errors
/// If the current location does not belong to this database, the lease is lost, or the database
/// fails. A store that fails is a finding for each object.
pub(super) async fn move_range(worker: &Worker<'_>, range: KeyRange) -> Result<(), WorkError> {
    let Target { app, policy, location, .. } = worker.target;
    let current = app.current_location(policy).await?;
    if current.number == location.number {
        return Err(WorkError::Stopped(format!(
            "policy `{}`: the configuration has changed, and the location to move from is the \
             current one again; nothing is moved",
            policy.name
        )));
    }
    let to = To { store: app.store_at(&current)?.clone(), location: current };
    let dry_run = worker.progress.run.request.dry_run;
    let options = CheckOptions { dry_run, ..CheckOptions::default() };
    match app.check_location(&to.location, options).await? {
        BucketIdentity::Match => {}
        unverified if dry_run => {
            tracing::warn!(policy = %policy.name, why = %unverified,
                "a move would stop, because the new location is not known to be this database's");
        }
        unverified => {
            let policy = &policy.name;
            return Err(WorkError::Stopped(format!(
                "policy `{policy}`: the new location cannot be used: {unverified}"
            )));
        }
    }
    let late_since = app.now() - worker.settings.late_window;
    let mut remaining = range;
    loop {
        let scan = app.db.scan();
        let page = scan.list_movable(location.into(), &remaining, late_since, BATCH as u64).await;
        let page = page.map_err(AppError::from)?;
        let Some(last) = page.last().map(|upload| upload.key.as_str().to_owned()) else {
            return Ok(());
        };
        let done_before = remaining.after.take();
        move_page(worker, &to, page, (done_before, last.clone())).await?;
        remaining.after = Some(last);
    }
}

/// Moves a page of uploads. `cursors` are the shard's cursors before and after the page.
async fn move_page(
    worker: &Worker<'_>,
    to: &To,
    page: Vec<Upload>,
    cursors: (Option<String>, String),
) -> Result<(), WorkError> {
    let (closed, open): (Vec<_>, Vec<_>) =
        page.into_iter().partition(|upload| is_closed(worker.target, upload));
    let announced = announce(worker, to, &closed).await?;
    let moves = closed.into_iter().map(|upload| {
        let object = ObjectMove {
            worker,
            to,
            may_exist: announced.known.contains(&upload.id),
            is_free: announced.free.contains(&upload.id),
        };
        async move {
            let moved = object.transfer(&upload).await;
            (upload, moved)
        }
        .boxed()
    });
    let mut moves = stream::iter(moves).buffer_unordered(worker.transfers.concurrency);
    let (sender, mut results) = mpsc::unbounded_channel();
    let transfers = async move {
        while let Some(result) = moves.next().await {
            if sender.send(result).is_err() {
                break;
            }
        }
        Ok(())
    };
    let (mut events, mut failed) = (Vec::new(), Vec::new());
    let saving = async {
        let mut saved_at = Instant::now();
        while let Some((upload, moved)) = results.recv().await {
            match moved {
                Ok(relocation) => events.push((upload, relocation)),
                Err(why) => failed.push((upload, why)),
            }
            if saved_at.elapsed() >= worker.settings.save_every {
                let at = (Stage::Compare, cursors.0.clone());
                save(worker, to, std::mem::take(&mut events), at).await?;
                saved_at = Instant::now();
            }
        }
        Ok::<_, WorkError>(())
    };
    // Transfers continue while results are saved. A paused transfer could hold the database
    // connection that `save` waits for.
    tokio::try_join!(transfers, saving)?;
    // Open and failed uploads are counted in the same write as the cursor. So they are counted
    // once, even if the page is repeated after a crash.
    report(worker, open.len(), failed);
    save(worker, to, events, (Stage::Compare, Some(cursors.1))).await
}

/// Whether an upload is verified and its object does not change any more.
fn is_closed(target: Target<'_>, upload: &Upload) -> bool {
    let Target { app, policy, store, .. } = target;
    upload.status() == Status::Uploaded && !app.may_be_overwritten(upload, policy, store)
}

/// The copies of a page.
#[derive(Default)]
struct Announced {
    /// The uploads whose copy was announced before, and may have been written.
    known: BTreeSet<UploadId>,
    /// The uploads whose copy may be written now.
    free: BTreeSet<UploadId>,
}

async fn announce(worker: &Worker<'_>, to: &To, uploads: &[Upload]) -> Result<Announced, AppError> {
    if worker.progress.run.request.dry_run {
        return Ok(Announced::default());
    }
    let app = worker.target.app;
    let ids: Vec<_> = uploads.iter().map(|upload| upload.id).collect();
    let known = app.db.object_copies().find_at(to.policy_location(), &ids).await?;
    let copies = uploads.iter().map(|upload| ObjectCopy {
        upload: upload.id,
        policy: upload.policy.clone(),
        location: to.location.number,
        key: to.location.prefix.key(upload.id),
        delete_after: app.now() + ANNOUNCED_FOR,
    });
    let copies: Vec<_> = copies.collect();
    let free = app.db.object_copies().announce(&copies).await?;
    Ok(Announced { known, free })
}

/// Repoints uploads to their copies. If another change of an upload was committed first, the upload
/// is not repointed, and its copy is not needed.
async fn save(
    worker: &Worker<'_>,
    to: &To,
    moved: Vec<(Upload, Relocation)>,
    at: At,
) -> Result<(), WorkError> {
    let ids: Vec<_> = moved.iter().map(|(upload, _)| upload.id).collect();
    let events = moved.into_iter().map(|(upload, relocation)| (upload, Event::Moved(relocation)));
    worker.progress.save(events.collect(), at).await?;
    if worker.progress.run.request.dry_run {
        return Ok(());
    }
    let app = worker.target.app;
    // Makes the copies that are not needed due for deletion. The announcements of repointed uploads
    // are already deleted.
    app.db
        .object_copies()
        .end_at(to.policy_location(), &ids, app.now())
        .await
        .map_err(AppError::from)?;
    Ok(())
}

fn report(worker: &Worker<'_>, open: usize, failed: Vec<(Upload, NotMoved)>) {
    let now = worker.target.app.now();
    let mut tally = worker.progress.report.tally();
    tally.count(|counters| counters.moves.open += open as u64);
    for (upload, why) in failed {
        tally.count(|counters| {
            counters.moves.failed += 1;
            counters.moves.differences += u64::from(why.is_difference());
        });
        tally.record([Finding {
            kind: FindingKind::NotMoved,
            policy: upload.policy.clone(),
            key: upload.key.as_str().to_owned(),
            upload: Some(upload.id),
            size: upload.state.facts().map(|facts| facts.size),
            detail: Some(why.to_string()),
            found_at: now,
        }]);
    }
}
