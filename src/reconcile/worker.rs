//! One policy's part of a run: joins listing and rows, asks `domain::reconcile` what each
//! pair calls for, and does it in bounded concurrent batches.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::{FutureExt as _, StreamExt as _, TryStreamExt as _, stream};

use super::harm::{Held, lock};
use super::merge::{MergeError, Pair, merge};
use super::pace::Pace;
use super::plan::{self, Look};
use super::report::{Report, finding_of};
use super::{ReconcileSettings, marker, streams};
use crate::app::{App, AppError};
use crate::domain::policy::RejectReason;
use crate::domain::reconcile::{Action, Listed, decide_both, decide_object, decide_row};
use crate::domain::run::{Finding, FindingKind, Mode, RunRequest};
use crate::domain::transition::{Event, Observation, step};
use crate::domain::upload::{ConfirmedBy, Facts, State};
use crate::domain::{KeyRange, Policy, Timestamp, Upload};
use crate::storage::Store;

/// How many rows are looked at, and saved in one transaction, at a time.
pub(super) const BATCH: usize = 100;

/// How many shards of a policy may fail before the others are not tried any more.
const MAX_FAILED_SHARDS: usize = 3;

/// Why a policy's part of a run ended early.
#[derive(Debug, thiserror::Error)]
pub enum WorkError {
    /// Doing on would do too much damage, or nobody knows whose bucket this is.
    #[error("{0}")]
    Stopped(String),
    /// Database or store failed.
    #[error(transparent)]
    App(#[from] AppError),
    /// The listing can't be joined.
    #[error("the listing can't be compared with the table")]
    Merge(#[from] MergeError<AppError>),
}

/// What a pair of row and object needs from the store.
enum Work {
    /// HEAD and judge.
    Look(Upload),
    /// Note bytes at a final row.
    MarkDue(Upload, Listed),
}

/// One policy's part of a run.
pub struct Worker<'a> {
    pub(super) app: &'a App,
    pub(super) policy: &'a Policy,
    pub(super) store: &'a Store,
    pub(super) request: &'a RunRequest,
    pub(super) settings: &'a ReconcileSettings,
    pub(super) report: &'a Report,
    /// Deletions that are left of the run's budget.
    pub(super) budget: &'a AtomicU64,
    /// The bound on requests a second.
    pub(super) pace: &'a Pace,
    pub(super) held: Held,
    /// What went wrong in single shards.
    failed: Mutex<Vec<WorkError>>,
}

impl<'a> Worker<'a> {
    /// Prepares a policy's part: counts its rows, reads its marker.
    pub async fn new(
        app: &'a App,
        policy: &'a Policy,
        request: &'a RunRequest,
        settings: &'a ReconcileSettings,
        report: &'a Report,
        budget: &'a AtomicU64,
        pace: &'a Pace,
    ) -> Result<Self, WorkError> {
        let store = app.store_of(policy)?;
        let trust = marker::check(app, policy, store, request.force, request.dry_run).await?;
        let rows = app.db.count_rows(&policy.name).await.map_err(AppError::from)?;
        let (held, failed) = (Held::new(trust, rows), Mutex::default());
        Ok(Self { app, policy, store, request, settings, report, budget, pace, held, failed })
    }

    /// Does it all: compares, then ends what is missing, deletes what is due, and aborts
    /// what is abandoned. A shard that fails leaves the others their turn.
    pub async fn run(&self) -> Result<(), WorkError> {
        let shards = plan::shards(self.policy, self.store);
        self.report.shards.0.fetch_add(shards.len() as u64, Ordering::Relaxed);
        stream::iter(shards.into_iter().map(Ok))
            .try_for_each_concurrent(self.settings.shards, |range| self.shard(range).boxed())
            .await?;
        self.end_missing_and_delete().await?;
        self.abort_due().await?;
        if self.request.mode == Mode::Audit {
            self.abort_multiparts().await?;
        }
        let failed = std::mem::take(&mut *lock(&self.failed));
        failed.into_iter().next().map_or(Ok(()), Err)
    }

    async fn shard(&self, range: KeyRange) -> Result<(), WorkError> {
        match self.look_at(range).await {
            Ok(()) => {
                self.report.shards.1.fetch_add(1, Ordering::Relaxed);
                Ok(())
            }
            Err(error @ WorkError::Stopped(_)) => Err(error),
            Err(error) => {
                tracing::warn!(policy = %self.policy.name,
                    error = &error as &dyn std::error::Error, "a shard was not reconciled");
                let mut failed = lock(&self.failed);
                if failed.len() + 1 >= MAX_FAILED_SHARDS {
                    return Err(failed.pop().unwrap_or(error));
                }
                failed.push(error);
                Ok(())
            }
        }
    }

    async fn look_at(&self, range: KeyRange) -> Result<(), WorkError> {
        let look = match self.request.mode {
            Mode::Audit => Look { heads: Vec::new(), list: Some(range) },
            Mode::Incremental => {
                let window = self.settings.late_window;
                plan::incremental(self.app, self.policy, self.store, range, window).await?
            }
        };
        self.act(look.heads.into_iter().map(Work::Look).collect()).await?;
        match look.list {
            Some(range) => self.compare(&range).await,
            None => Ok(()),
        }
    }

    /// Joins a range of the listing with the same range of rows.
    async fn compare(&self, range: &KeyRange) -> Result<(), WorkError> {
        let (app, page) = (self.app, self.settings.page_size);
        // The earliest request of this listing: evidence is never younger than it.
        let asked_at = app.now();
        let rows = streams::rows(&app.db, &self.policy.name, range, page);
        let cost = &self.report.listing;
        let objects = streams::listing(self.store.objects.as_ref(), range, page, cost, self.pace);
        let mut pairs = std::pin::pin!(merge(rows, objects));
        let mut work = Vec::new();
        while let Some(pair) = pairs.try_next().await? {
            work.extend(self.sort(pair, asked_at).await?);
            if work.len() >= BATCH {
                self.act(std::mem::take(&mut work)).await?;
            }
        }
        self.act(work).await
    }

    /// Reports what is only to be seen, and hands on what needs the store.
    async fn sort(
        &self,
        pair: Pair<Upload, Listed>,
        asked_at: Timestamp,
    ) -> Result<Option<Work>, WorkError> {
        let now = self.app.now();
        let (action, row, object) = match pair {
            Pair::Left(row) => (decide_row(&row, asked_at, now, self.policy), Some(row), None),
            Pair::Right(object) => {
                (decide_object(&object, asked_at, self.policy), None, Some(object))
            }
            Pair::Both(row, object) => (decide_both(&row, &object, now), Some(row), Some(object)),
        };
        match (action, row, object) {
            (Action::Verify | Action::ProveAbsent, Some(row), _) => {
                return Ok(Some(Work::Look(row)));
            }
            (Action::MarkDue, Some(row), Some(object)) => {
                return Ok(Some(Work::MarkDue(row, object)));
            }
            (Action::Orphan(_), _, Some(object)) => {
                self.report.count(|counters| counters.orphans += 1);
                self.report_object(FindingKind::Orphan, object, now).await?;
            }
            (Action::Foreign, _, Some(object)) => {
                self.report.count(|counters| counters.foreign += 1);
                self.report_object(FindingKind::Foreign, object, now).await?;
            }
            // Deletions that are due are done from the table, in the end.
            (_, Some(row), _) => self.find(finding_of(&row, now)).await?,
            _ => {}
        }
        Ok(None)
    }

    async fn report_object(
        &self,
        kind: FindingKind,
        object: Listed,
        now: Timestamp,
    ) -> Result<(), WorkError> {
        let upload = self.policy.prefix.parse_key(&object.key);
        let finding = Finding {
            kind,
            policy: self.policy.name.clone(),
            key: object.key,
            upload,
            size: Some(object.size),
            detail: None,
            found_at: now,
        };
        self.find([finding]).await
    }

    pub(super) async fn find(
        &self,
        findings: impl IntoIterator<Item = Finding>,
    ) -> Result<(), WorkError> {
        Ok(self.report.find(self.app, findings).await.map_err(AppError::from)?)
    }

    /// Looks at a batch, several at once, and saves what comes of it in one transaction.
    async fn act(&self, work: Vec<Work>) -> Result<(), WorkError> {
        let looked = stream::iter(work).map(|work| self.evidence(work).boxed());
        let mut looked = looked.buffer_unordered(self.settings.concurrency);
        let mut events = Vec::new();
        while let Some((upload, event)) = looked.next().await {
            match event {
                Ok(event) => events.extend(self.hold_back(upload, event)?),
                Err(error) => self.count_error(&upload, &error),
            }
        }
        self.apply(events).await
    }

    async fn evidence(&self, work: Work) -> (Upload, Result<Event, AppError>) {
        match work {
            Work::Look(upload) => {
                self.pace.turn().await;
                self.report.count(|counters| counters.head_requests += 1);
                let event = self.app.look(&upload, ConfirmedBy::Scan).await;
                (upload, event)
            }
            Work::MarkDue(upload, object) => {
                let facts = Facts {
                    etag: object.etag,
                    version_id: None,
                    size: object.size,
                    content_type: None,
                    checksum: None,
                };
                let verdict = Err(RejectReason::Overwritten);
                let by = ConfirmedBy::Scan;
                (upload, Ok(Event::Observed(Observation { facts, verdict, by })))
            }
        }
    }

    pub(super) fn count_error(&self, upload: &Upload, error: &AppError) {
        self.report.count(|counters| counters.errors += 1);
        tracing::warn!(upload = %upload.id, error = error as &dyn std::error::Error,
            "not reconciled; the next run tries again");
    }

    pub(super) async fn apply(&self, events: Vec<(Upload, Event)>) -> Result<(), WorkError> {
        let now = self.app.now();
        let before: Vec<_> = events.iter().map(|(upload, _)| upload.clone()).collect();
        let after: Vec<Result<(Upload, bool), AppError>> = if self.request.dry_run {
            let decide = |(upload, event)| {
                let step = step(upload, event, now, self.policy)?;
                self.held.note_dry(&step, now);
                Ok((step.upload, step.changed))
            };
            events.into_iter().map(decide).collect()
        } else {
            let applied = self.app.apply_many(events).await?;
            applied.into_iter().map(|a| a.map(|a| (a.upload, a.changed))).collect()
        };
        for (before, after) in before.iter().zip(after) {
            match after {
                Ok((after, changed)) => {
                    if changed {
                        self.count(before, &after);
                    }
                    self.find(finding_of(&after, now)).await?;
                }
                Err(error) => self.count_error(before, &error),
            }
        }
        Ok(())
    }

    fn count(&self, before: &Upload, after: &Upload) {
        self.report.count(|counters| match &after.state {
            _ if before.status() == after.status() => {}
            State::Uploaded(verified) => {
                counters.confirmed += 1;
                counters.late += u64::from(verified.late);
            }
            // Verified, and overtaken by a newer upload of its track.
            State::Removed { verified: Some(verified), .. } if !before.status().is_final() => {
                counters.confirmed += 1;
                counters.late += u64::from(verified.late);
            }
            State::Rejected { reason, .. } => {
                counters.rejected += 1;
                counters.overwritten += u64::from(*reason == RejectReason::Overwritten);
            }
            State::Expired => counters.expired += 1,
            State::Missing(_) => counters.missing += 1,
            State::Pending | State::Cancelled | State::Removed { .. } => {}
        });
    }
}
