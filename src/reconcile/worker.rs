//! One shard of a run: joins listing and rows, asks `domain::reconcile` what each pair
//! calls for, and does it in bounded concurrent batches.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use futures_util::{FutureExt as _, StreamExt as _, TryStreamExt as _, stream};
use tokio::sync::OnceCell;

use super::batch::At;
use super::marker::Trust;
use super::merge::{Keyed as _, MergeError, Pair, merge};
use super::pace::Pace;
use super::plan::{self, Look};
use super::report::{Report, finding_of};
use super::{ReconcileSettings, streams};
use crate::app::{App, AppError};
use crate::domain::policy::RejectReason;
use crate::domain::reconcile::{Action, Listed, decide_both, decide_object, decide_row};
use crate::domain::run::{
    Finding, FindingKind, Mode, Run, RunShard, ShardStatus, Stage, SuspectKind,
};
use crate::domain::transition::{Event, Observation, step};
use crate::domain::upload::{ConfirmedBy, Facts};
use crate::domain::{KeyRange, Policy, Status, Timestamp, Upload};
use crate::storage::Store;

/// How many rows are looked at, and saved in one transaction, at a time.
pub(super) const BATCH: usize = 100;

/// How many findings wait to be written, at most by a batch more.
const MAX_WAITING: usize = 500;

/// Why the work on a shard ended early.
#[derive(Debug, thiserror::Error)]
pub enum WorkError {
    /// Doing on would do too much damage, or nobody knows whose bucket this is.
    #[error("{0}")]
    Stopped(String),
    /// Another process works on the shard, or the run has ended: nothing is written.
    #[error("the shard is another's by now")]
    LostLease,
    /// Its processes ended before it did, again and again.
    #[error("{0} processes ended before the shard did")]
    Left(i64),
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

/// What a process knows of a run's policy, shared by the shards it works on.
#[derive(Debug, Default)]
pub(super) struct Session {
    /// Whose bucket it is.
    pub(super) trust: OnceCell<Trust>,
    /// How many rows the policy has.
    pub(super) rows: OnceCell<u64>,
}

/// When the shard's lease was renewed last.
#[derive(Debug)]
pub(super) struct Alive(Mutex<Instant>);

impl Alive {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Instant::now()))
    }

    pub(super) fn renewed(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    pub(super) fn since(&self) -> std::time::Duration {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
    }
}

/// The work on one shard.
pub(super) struct Worker<'a> {
    pub(super) app: &'a App,
    pub(super) policy: &'a Policy,
    pub(super) store: &'a Store,
    pub(super) run: &'a Run,
    pub(super) shard: &'a RunShard,
    pub(super) settings: &'a ReconcileSettings,
    pub(super) report: &'a Report,
    /// The bound on requests a second.
    pub(super) pace: &'a Pace,
    pub(super) session: &'a Session,
    pub(super) alive: &'a Alive,
}

impl Worker<'_> {
    /// Does all of it, from where the shard stands.
    pub(super) async fn work(&self) -> Result<ShardStatus, WorkError> {
        // A forced run writes a marker that was lost, whatever else there is to do.
        self.trust().await?;
        if self.shard.stage == Stage::Compare
            && let Some(range) = &self.shard.range
        {
            let range = match &self.shard.cursor {
                Some(key) => range.resumed_after(key),
                None => range.clone(),
            };
            self.look_at(range).await?;
        }
        if self.shard.closing {
            self.close().await?;
        }
        let doubts = self.report.tally().doubts().is_some();
        Ok(if doubts { ShardStatus::Doubted } else { ShardStatus::Done })
    }

    async fn look_at(&self, range: KeyRange) -> Result<(), WorkError> {
        let look = match self.run.request.mode {
            Mode::Audit => Look { heads: Vec::new(), list: Some(range) },
            Mode::Incremental => {
                let window = self.settings.late_window;
                plan::incremental(self.app, self.policy, self.store, range, window).await?
            }
        };
        let mut heads = look.heads.into_iter().peekable();
        while heads.peek().is_some() {
            let batch: Vec<_> = heads.by_ref().take(BATCH).collect();
            let last = batch.last().map(|row| row.key.as_str().to_owned());
            self.act(batch.into_iter().map(Work::Look).collect(), last).await?;
        }
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
        let objects = streams::listing(self.store, range, page, self.report, self.pace);
        let mut pairs = std::pin::pin!(merge(rows, objects));
        let mut work = Vec::new();
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
            work.extend(self.sort(pair, asked_at));
            if work.len() >= BATCH
                || self.report.tally().waiting() >= MAX_WAITING
                || saved_at.elapsed() >= self.settings.save_every
            {
                self.act(std::mem::take(&mut work), last.clone()).await?;
                saved_at = Instant::now();
            }
        }
        if work.is_empty() {
            // Written with the shard's end, or with the next stage.
            return Ok(());
        }
        self.act(work, last).await
    }

    /// Reports what is only to be seen, and hands on what needs the store.
    fn sort(&self, pair: Pair<Upload, Listed>, asked_at: Timestamp) -> Option<Work> {
        let now = self.app.now();
        let mut tally = self.report.tally();
        let (action, row, object) = match pair {
            Pair::Left(row) => (decide_row(&row, asked_at, now, self.policy), Some(row), None),
            Pair::Right(object) => {
                (decide_object(&object, asked_at, self.policy), None, Some(object))
            }
            Pair::Both(row, object) => (decide_both(&row, &object, now), Some(row), Some(object)),
        };
        tally.count(|counters| counters.listed += u64::from(object.is_some()));
        match (action, row, object) {
            (Action::Verify | Action::ProveAbsent, Some(row), _) => return Some(Work::Look(row)),
            (Action::MarkDue, Some(row), Some(object)) => return Some(Work::MarkDue(row, object)),
            (Action::Orphan(_), _, Some(object)) => {
                tally.count(|counters| counters.orphans += 1);
                tally.find([self.finding(FindingKind::Orphan, object, now)]);
            }
            (Action::Foreign, _, Some(object)) => {
                tally.count(|counters| counters.foreign += 1);
                tally.find([self.finding(FindingKind::Foreign, object, now)]);
            }
            // Deletions that are due are done from the table, in the end.
            (_, Some(row), _) => tally.find(finding_of(&row, now)),
            _ => {}
        }
        None
    }

    fn finding(&self, kind: FindingKind, object: Listed, now: Timestamp) -> Finding {
        Finding {
            kind,
            policy: self.policy.name.clone(),
            upload: self.policy.prefix.parse_key(&object.key),
            key: object.key,
            size: Some(object.size),
            detail: None,
            found_at: now,
        }
    }

    /// Looks at a batch, several at once, and saves what comes of it; then all up to this
    /// key is done.
    async fn act(&self, work: Vec<Work>, key: Option<String>) -> Result<(), WorkError> {
        let mut events = Vec::new();
        let mut suspects = false;
        for (upload, event) in self.evidence(work).await {
            match event {
                Err(error) => self.count_error(&upload, &error),
                Ok(event) => match self.hold_back(upload, event).await? {
                    Some(event) => events.push(event),
                    None => suspects = true,
                },
            }
        }
        let at: At = (Stage::Compare, key);
        self.save(events, at).await?;
        if suspects { self.check_suspects().await } else { Ok(()) }
    }

    async fn evidence(&self, work: Vec<Work>) -> Vec<(Upload, Result<Event, AppError>)> {
        let looked = stream::iter(work).map(|work| {
            async move {
                match work {
                    Work::Look(upload) => self.look(upload).await,
                    Work::MarkDue(upload, object) => (upload, Ok(sight(object))),
                }
            }
            .boxed()
        });
        // In the order of the keys, so that findings are.
        looked.buffered(self.settings.concurrency).collect().await
    }

    /// One HEAD, and what the bytes are.
    pub(super) async fn look(&self, upload: Upload) -> (Upload, Result<Event, AppError>) {
        self.pace.turn().await;
        self.report.count(|counters| counters.head_requests += 1);
        let event = self.app.look(&upload, ConfirmedBy::Scan).await;
        (upload, event)
    }

    /// Keeps the loss of a verified object for the closing shard. Where nobody knows whose
    /// bucket this is, no absence is believed at all.
    async fn hold_back(
        &self,
        upload: Upload,
        event: Event,
    ) -> Result<Option<(Upload, Event)>, WorkError> {
        if !matches!(event, Event::Absent(_)) {
            return Ok(Some((upload, event)));
        }
        let doubt = match self.trust().await? {
            Trust::Ours if upload.status() != Status::Uploaded => {
                return Ok(Some((upload, event)));
            }
            Trust::Ours => None,
            Trust::Doubtful(why) => Some(why),
        };
        let id = upload.id;
        let step = step(upload, event, self.app.now(), self.policy).map_err(AppError::from)?;
        if step.changed {
            let mut tally = self.report.tally();
            match doubt {
                Some(why) => tally.doubt(|| format!("an object is not there, but {why}")),
                None => tally.suspect(SuspectKind::Missing, id),
            }
        }
        Ok(None)
    }
}

/// What a listing shows of bytes at a final row.
fn sight(object: Listed) -> Event {
    let facts = Facts {
        etag: object.etag,
        version_id: None,
        size: object.size,
        content_type: None,
        checksum: None,
    };
    let verdict = Err(RejectReason::Overwritten);
    Event::Observed(Observation { facts, verdict, by: ConfirmedBy::Scan })
}
