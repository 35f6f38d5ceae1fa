//! One policy's part of a run: joins listing and rows, asks `domain::reconcile` what each
//! pair calls for, and does it in bounded concurrent batches.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::{FutureExt as _, StreamExt as _, TryStreamExt as _, stream};

use super::marker::Trust;
use super::merge::{MergeError, Pair, merge};
use super::plan::{self, Look};
use super::report::{Report, finding_of};
use super::{ReconcileSettings, marker, streams};
use crate::app::{App, AppError};
use crate::domain::policy::RejectReason;
use crate::domain::reconcile::{Action, Listed, decide_both, decide_object, decide_row};
use crate::domain::run::{Finding, FindingKind, Mode, RunRequest};
use crate::domain::transition::{Event, Observation, step};
use crate::domain::upload::{ConfirmedBy, Facts, State};
use crate::domain::{KeyRange, Policy, Status, Timestamp, Upload};
use crate::storage::Store;

/// How many rows are looked at, and saved in one transaction, at a time.
const BATCH: usize = 100;

/// A run that would end or delete no more than this is never stopped.
const HARMLESS: u64 = 100;

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
    app: &'a App,
    policy: &'a Policy,
    store: &'a Store,
    request: &'a RunRequest,
    settings: &'a ReconcileSettings,
    report: &'a Report,
    /// Deletions that are left of the run's budget.
    budget: &'a AtomicU64,
    /// How many ends of verified uploads, and deletions, are too many.
    threshold: u64,
    trust: Trust,
    /// Proven absences of verified uploads, held back until it is clear how many.
    missing: Mutex<Vec<(Upload, Event)>>,
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
    ) -> Result<Self, WorkError> {
        let store = app.store_of(policy)?;
        let trust = marker::check(app, policy, store, request.force, request.dry_run).await?;
        let rows = app.db.count_rows(&policy.name).await.map_err(AppError::from)?;
        let threshold = HARMLESS.max(rows / 100);
        let missing = Mutex::default();
        Ok(Self {
            app,
            policy,
            store,
            request,
            settings,
            report,
            budget,
            threshold,
            trust,
            missing,
        })
    }

    /// Does it all: compares, then ends what is missing, then deletes what is due.
    pub async fn run(&self) -> Result<(), WorkError> {
        let shards = plan::shards(self.policy, self.store);
        self.report.shards.0.fetch_add(shards.len() as u64, Ordering::Relaxed);
        stream::iter(shards.into_iter().map(Ok))
            .try_for_each_concurrent(self.settings.shards, |range| self.shard(range).boxed())
            .await?;
        self.end_missing_and_delete().await
    }

    async fn shard(&self, range: KeyRange) -> Result<(), WorkError> {
        let look = match self.request.mode {
            Mode::Audit => Some(Look::List(range)),
            Mode::Incremental => {
                let window = self.settings.late_window;
                plan::incremental(self.app, self.policy, self.store, range, window).await?
            }
        };
        match look {
            None => {}
            Some(Look::List(range)) => self.compare(&range).await?,
            Some(Look::Heads(rows)) => self.act(rows.into_iter().map(Work::Look).collect()).await?,
        }
        self.report.shards.1.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Joins a range of the listing with the same range of rows.
    async fn compare(&self, range: &KeyRange) -> Result<(), WorkError> {
        let (app, page) = (self.app, self.settings.page_size);
        // The earliest request of this listing: evidence is never younger than it.
        let asked_at = app.now();
        let rows = streams::rows(&app.db, &self.policy.name, range, page);
        let cost = &self.report.listing;
        let objects = streams::listing(self.store.objects.as_ref(), range, page, cost);
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
            Pair::Right(object) => (decide_object(&object, now, self.policy), None, Some(object)),
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

    async fn find(&self, findings: impl IntoIterator<Item = Finding>) -> Result<(), WorkError> {
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

    fn count_error(&self, upload: &Upload, error: &AppError) {
        self.report.count(|counters| counters.errors += 1);
        tracing::warn!(upload = %upload.id, error = error as &dyn std::error::Error,
            "not reconciled; the next run tries again");
    }

    /// Keeps the loss of a verified object for later: one is news, thousands are a wrong
    /// bucket.
    fn hold_back(
        &self,
        upload: Upload,
        event: Event,
    ) -> Result<Option<(Upload, Event)>, WorkError> {
        if upload.status() != Status::Uploaded || !matches!(event, Event::Absent(_)) {
            return Ok(Some((upload, event)));
        }
        let mut missing = self.missing.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        missing.push((upload, event));
        let count = missing.len() as u64;
        drop(missing);
        self.check_doubt("an object of a verified upload is missing")?;
        self.check_damage(count)?;
        Ok(None)
    }

    fn check_doubt(&self, what: &str) -> Result<(), WorkError> {
        match &self.trust {
            Trust::Ours => Ok(()),
            Trust::Doubtful(why) => Err(WorkError::Stopped(format!("{what}, but {why}"))),
        }
    }

    fn check_damage(&self, count: u64) -> Result<(), WorkError> {
        if count <= self.threshold || self.request.force {
            return Ok(());
        }
        Err(WorkError::Stopped(format!(
            "policy `{}`: more than {} objects would be marked missing or deleted; \
             `--force` does it",
            self.policy.name, self.threshold
        )))
    }

    async fn apply(&self, events: Vec<(Upload, Event)>) -> Result<(), WorkError> {
        let now = self.app.now();
        let before: Vec<_> = events.iter().map(|(upload, _)| upload.clone()).collect();
        let after: Vec<Result<(Upload, bool), AppError>> = if self.request.dry_run {
            let decide = |(upload, event)| {
                let step = step(upload, event, now, self.policy)?;
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
            State::Removed { verified: Some(_), .. } if !before.status().is_final() => {
                counters.confirmed += 1;
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

    /// The harmful part, when all of it is known.
    async fn end_missing_and_delete(&self) -> Result<(), WorkError> {
        let missing = std::mem::take(
            &mut *self.missing.lock().unwrap_or_else(std::sync::PoisonError::into_inner),
        );
        let budget = self.budget.load(Ordering::Relaxed);
        let now = self.app.now();
        let due = self.app.db.due_deletions(&self.policy.name, now, budget).await;
        let due = due.map_err(AppError::from)?;
        self.check_damage((missing.len() + due.len()) as u64)?;
        let mut missing = missing.into_iter();
        loop {
            let batch: Vec<_> = missing.by_ref().take(BATCH).collect();
            if batch.is_empty() {
                break;
            }
            self.apply(batch).await?;
        }
        if due.is_empty() {
            return Ok(());
        }
        self.check_doubt("objects are due for deletion")?;
        self.budget.fetch_sub(due.len() as u64, Ordering::Relaxed);
        for batch in due.chunks(BATCH) {
            self.delete(batch).await?;
        }
        Ok(())
    }

    /// Deletes objects of final rows. A final row never opens again and its key is its
    /// own, so nothing that is wanted can be hit, however late this comes.
    async fn delete(&self, batch: &[Upload]) -> Result<(), WorkError> {
        if self.request.dry_run {
            self.report.count(|counters| counters.deleted += batch.len() as u64);
            return Ok(());
        }
        let deletions = stream::iter(batch.to_vec()).map(|upload| {
            async move {
                let gone = self.store.objects.delete(upload.key.as_str()).await;
                (upload, gone)
            }
            .boxed()
        });
        let mut deletions = deletions.buffer_unordered(self.settings.concurrency);
        let mut gone = Vec::with_capacity(batch.len());
        while let Some((upload, result)) = deletions.next().await {
            match result {
                Ok(()) => gone.push((upload, Event::ObjectDeleted)),
                Err(error) => self.count_error(&upload, &error.into()),
            }
        }
        let deleted = gone.len() as u64;
        for applied in self.app.apply_many(gone).await? {
            applied?;
        }
        self.report.count(|counters| counters.deleted += deleted);
        Ok(())
    }
}
