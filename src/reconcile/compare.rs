//! Compares a range of the listing with the same range of rows. Most pairs need no action, so only
//! the columns that the decision needs are read.

use std::time::Instant;

use futures_util::TryStreamExt as _;

use super::merge::{Keyed as _, Pair, merge};
use super::observe::{Task, process};
use super::plan::Listing;
use super::report::{is_worth_reporting, object_finding};
use super::streams;
use super::worker::{BATCH, Target, WorkError, Worker};
use crate::domain::Timestamp;
use crate::domain::reconcile::{
    Action, Listed, UploadSummary, decide_both, decide_object, decide_row,
};
use crate::domain::run::FindingKind;

/// How many findings and candidates may wait to be written. A batch may exceed it.
const MAX_UNWRITTEN: usize = 500;

/// Joins a range of the listing with its rows, and processes the pairs that need an action.
///
/// # Errors
/// If the keys of a side are not in ascending order, the lease is lost, or the store or the
/// database fails.
pub(super) async fn compare(worker: &Worker<'_>, listing: Listing) -> Result<(), WorkError> {
    let Target { app, location, store, .. } = worker.target;
    let (report, page) = (worker.progress.report, worker.settings.page_size);
    let pages = (listing.first_page(page), page);
    let Listing { range, requested_at, rows } = listing;
    let rows = streams::rows(&app.db, location.into(), &range, page, rows);
    let objects = streams::listing(store, &range, pages, report, worker.throttle);
    let mut pairs = std::pin::pin!(merge(rows, objects));
    let (mut tasks, mut observations) = (Vec::new(), 0);
    let mut last: Option<String> = None;
    let mut saved_at = Instant::now();
    while let Some(pair) = pairs.try_next().await? {
        let key = match &pair {
            Pair::Left(row) | Pair::Both(row, _) => row.key(),
            Pair::Right(object) => object.key(),
        };
        match &mut last {
            Some(last) => key.clone_into(last),
            None => last = Some(key.to_owned()),
        }
        if let Some(task) = task_of(worker, pair, requested_at) {
            observations += usize::from(task.1.is_observation());
            tasks.push(task);
        }
        if observations >= BATCH
            || tasks.len() + report.tally().unwritten() >= MAX_UNWRITTEN
            || saved_at.elapsed() >= worker.settings.save_every
        {
            process(worker, std::mem::take(&mut tasks), last.clone()).await?;
            (observations, saved_at) = (0, Instant::now());
        }
    }
    if tasks.is_empty() {
        // The progress is written at the end of the shard, or with the next stage.
        return Ok(());
    }
    process(worker, tasks, last).await
}

/// Decides on a pair. Returns the key and the task, if there is something to do. A foreign object
/// is only reported here.
fn task_of(
    worker: &Worker<'_>,
    pair: Pair<UploadSummary, Listed>,
    requested_at: Timestamp,
) -> Option<(String, Task)> {
    let Target { app, policy, location, .. } = worker.target;
    let now = app.now();
    let mut tally = worker.progress.report.tally();
    let (action, row, object) = match pair {
        Pair::Left(row) => (decide_row(&row, requested_at, now, policy), Some(row), None),
        Pair::Right(object) => {
            (decide_object(&object, requested_at, &location.prefix, policy), None, Some(object))
        }
        Pair::Both(row, object) => {
            (decide_both(&row, &object, now, policy), Some(row), Some(object))
        }
    };
    tally.count(|counters| counters.listed += u64::from(object.is_some()));
    match (action, row, object) {
        (Action::Verify | Action::ProveAbsent, Some(row), _) => {
            return Some((row.key, Task::Observe));
        }
        (Action::MarkDue, Some(row), Some(object)) => {
            return Some((row.key, Task::MarkDue(object)));
        }
        (Action::Rowless(id), _, Some(object)) => {
            return Some((object.key.clone(), Task::Rowless(id, object)));
        }
        (Action::Tail(id), _, Some(object)) => {
            return Some((location.prefix.key(id).to_string(), Task::Tail(object)));
        }
        (Action::Foreign, _, Some(object)) => {
            tally.count(|counters| counters.foreign += 1);
            tally.record([object_finding(location, FindingKind::Foreign, object, now)]);
        }
        // `Action::Delete` needs no task: the finalizing shard reads due deletions from the table.
        (_, Some(row), _) if is_worth_reporting(&row) => return Some((row.key, Task::Report)),
        _ => {}
    }
    None
}
