//! One shard of a run: joins listing and rows, asks `domain::reconcile` what each pair
//! calls for, and does it in bounded concurrent batches.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use futures_util::{FutureExt as _, StreamExt as _, stream};
use tokio::sync::OnceCell;

use super::ReconcileSettings;
use super::batch::At;
use super::compare::Work;
use super::marker::BucketIdentity;
use super::merge::MergeError;
use super::plan::{Listing, Planner};
use super::report::{Report, finding_of};
use super::throttle::Throttle;
use crate::app::{App, AppError};
use crate::domain::reconcile::Listed;
use crate::domain::run::{Mode, Run, RunShard, ShardStatus, Stage, SuspectKind};
use crate::domain::transition::{Event, Observation, step};
use crate::domain::upload::{ConfirmedBy, ObjectFacts};
use crate::domain::verdict::RejectReason;
use crate::domain::{KeyRange, Policy, Status, Upload};
use crate::storage::Store;

/// How many rows are looked at, and saved in one transaction, at a time.
pub(super) const BATCH: usize = 100;

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

/// What a process knows of a run's policy, shared by the shards it works on.
#[derive(Debug, Default)]
pub(super) struct Session {
    /// Whose bucket it is.
    pub(super) bucket_identity: OnceCell<BucketIdentity>,
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
    pub(super) throttle: &'a Throttle,
    pub(super) session: &'a Session,
    pub(super) alive: &'a Alive,
}

impl Worker<'_> {
    /// Does all of it, from where the shard stands.
    pub(super) async fn work(&self) -> Result<ShardStatus, WorkError> {
        // A forced run writes a marker that was lost, whatever else there is to do.
        self.bucket_identity().await?;
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
            self.finalize().await?;
        }
        let doubts = self.report.tally().doubts().is_some();
        Ok(if doubts { ShardStatus::Doubted } else { ShardStatus::Done })
    }

    async fn look_at(&self, range: KeyRange) -> Result<(), WorkError> {
        if self.run.request.mode == Mode::Audit {
            return self.compare(Listing { range, asked_at: self.app.now(), rows: None }).await;
        }
        let window = self.settings.late_window;
        let mut planner = Planner::new(self.app, self.policy, self.store, range, window);
        let mut heads = Vec::new();
        for part in planner.parts().await? {
            let look = planner.look(&part).await?;
            heads.extend(look.heads);
            if let Some(listing) = look.list {
                // What is saved of a listing says that all before it is done.
                self.ask_for(std::mem::take(&mut heads)).await?;
                self.compare(listing).await?;
            }
        }
        self.ask_for(heads).await
    }

    /// A HEAD for each of these keys.
    async fn ask_for(&self, keys: Vec<String>) -> Result<(), WorkError> {
        for keys in keys.chunks(BATCH) {
            let work = keys.iter().map(|key| (key.clone(), Work::Look)).collect();
            self.read_and_act(work, keys.last().cloned()).await?;
        }
        Ok(())
    }

    /// Looks at a batch, several at once, and saves what comes of it; then all up to this
    /// key is done.
    pub(super) async fn act(
        &self,
        work: Vec<(Upload, Work)>,
        key: Option<String>,
    ) -> Result<(), WorkError> {
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

    async fn evidence(&self, work: Vec<(Upload, Work)>) -> Vec<(Upload, Result<Event, AppError>)> {
        let looked = stream::iter(work).map(|(upload, work)| {
            async move {
                match work {
                    Work::Look => Some(self.observe(upload).await),
                    Work::MarkDue(object) => Some((upload, Ok(sight(object)))),
                    Work::Report => {
                        self.report.tally().find(finding_of(&upload, self.app.now()));
                        None
                    }
                }
            }
            .boxed()
        });
        // In the order of the keys, so that findings are.
        looked.buffered(self.settings.concurrency).filter_map(std::future::ready).collect().await
    }

    /// One HEAD, and what the bytes are.
    pub(super) async fn observe(&self, upload: Upload) -> (Upload, Result<Event, AppError>) {
        self.throttle.acquire().await;
        self.report.count(|counters| counters.head_requests += 1);
        let event = self.app.observe_object(&upload, ConfirmedBy::Scan).await;
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
        let doubt = match self.bucket_identity().await? {
            BucketIdentity::Match if upload.status() != Status::Uploaded => {
                return Ok(Some((upload, event)));
            }
            BucketIdentity::Match => None,
            BucketIdentity::Mismatch(why) => Some(why),
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
    let facts = ObjectFacts {
        etag: object.etag,
        version_id: None,
        size: object.size,
        content_type: None,
        checksum: None,
    };
    let verdict = Err(RejectReason::Overwritten);
    Event::Observed(Observation { facts, verdict, by: ConfirmedBy::Scan })
}
