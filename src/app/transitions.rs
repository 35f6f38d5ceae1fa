//! The only writer of upload states.
//!
//! Every change of an upload is an [`Event`], applied to a batch of one or more uploads:
//!
//! 1. Decide the result of each event (`domain::transition::step`, a pure function).
//! 2. Withhold absences if the bucket is not known to be the right one. Evidence of absence comes
//!    from runs, events and confirmations; all of it passes this step.
//! 3. Commit the changes, each guarded by the version of the row that was read. A [`Fence`] makes
//!    the commit all or nothing, and valid only while a shard's lease is held.
//! 4. If another writer was first, read the row again and decide again. Single events take
//!    [`turns`](super::turns), so that many requests for one upload all succeed.
//! 5. After the commit: abort multipart uploads, count and log.
//!
//! To add a change: add an event to `domain::transition` with its rows in the table there, and call
//! [`App::apply`].

use std::collections::BTreeMap;
use std::time::Duration;

use super::bucket_identity::CheckOptions;
use super::turns::{MAX_WRITES, pause};
use super::{App, AppError, Result};
use crate::db::reconcile::shards::{Batch, ShardProgress};
use crate::db::uploads::{Change, Saved};
use crate::domain::history::Cause;
use crate::domain::marker::BucketIdentity;
use crate::domain::run::RunShard;
use crate::domain::transition::{Effect, Event, Step, Verification, step};
use crate::domain::upload::State;
use crate::domain::{Policy, Status, Timestamp, Upload, UploadId};
use crate::storage::Store;
use crate::telemetry::metrics as names;

/// The result of an event.
#[derive(Debug, Clone)]
pub struct Applied {
    /// The upload as it is committed.
    pub upload: Upload,
    /// Whether this event changed it.
    pub changed: bool,
}

/// A shard's lease that guards a batch, and the shard's progress that is written with it.
pub(crate) struct Fence<'a> {
    /// The shard. If another process holds its lease, nothing is written.
    pub shard: &'a RunShard,
    /// How long the lease lasts after the commit.
    pub lease: Duration,
    /// Whether only the progress is written, and no upload.
    pub dry_run: bool,
    /// Returns the progress to write. Called again whenever the batch is decided again.
    pub progress: &'a mut (dyn FnMut(&[Outcome<'_>]) -> ShardProgress + Send),
}

/// The result of one event of a batch that is being committed.
pub(crate) struct Outcome<'a> {
    /// The upload as it was read.
    pub before: &'a Upload,
    /// The upload after the event, or why the event failed.
    pub after: Result<&'a Upload, &'a AppError>,
    /// Whether the event changes the upload.
    pub changed: bool,
    /// If the event is an absence that is withheld: why the bucket may not be this database's.
    pub unverified: Option<&'a BucketIdentity>,
    /// The event.
    pub event: &'a Event,
}

/// One event of a batch.
struct Item<'a> {
    /// The upload as it was read.
    upload: Upload,
    event: Event,
    /// How often another writer was first.
    lost: usize,
    progress: Progress<'a>,
}

enum Progress<'a> {
    Open,
    Decided(Decision<'a>),
    /// An absence in a bucket that is not known to be this database's. The upload does not change.
    Withheld(BucketIdentity),
    Applied(Applied),
    Failed(AppError),
}

/// The result of an event for an upload under its policy.
struct Decision<'a> {
    step: Step,
    policy: &'a Policy,
    store: &'a Store,
}

/// The result of one attempt to commit a batch.
enum Committed {
    /// One result for each change, in their order. All changes except the lost ones are committed.
    Each(Vec<Saved>),
    /// Nothing is written: another writer was first for the changes with these numbers.
    Nothing(Vec<usize>),
    /// Nothing is written: the shard's lease is lost.
    LeaseLost,
}

impl App {
    /// Applies one event.
    ///
    /// # Errors
    /// If the state refuses the event, if other writers were first each of [`MAX_WRITES`] times
    /// ([`AppError::Contended`]), or if the database or the store fails.
    pub async fn apply(&self, upload: Upload, event: &Event) -> Result<Applied> {
        let _turn = self.turns.wait(upload.id.0).await;
        let mut results = self.apply_many(vec![(upload, event.clone())]).await?;
        results.pop().unwrap_or(Err(AppError::Contended))
    }

    /// Applies events to different uploads in one transaction, and returns their results in
    /// the same order. An event that fails does not affect the others.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn apply_many(&self, events: Vec<(Upload, Event)>) -> Result<Vec<Result<Applied>>> {
        Ok(self.transition(events, None).await?.unwrap_or_default())
    }

    /// Like [`Self::apply_many`], but all or nothing, and only while a shard's lease is held.
    /// Returns `None` if the lease is lost; then nothing is written.
    pub(crate) async fn apply_fenced(
        &self,
        events: Vec<(Upload, Event)>,
        fence: Fence<'_>,
    ) -> Result<Option<Vec<Result<Applied>>>> {
        self.transition(events, Some(fence)).await
    }

    async fn transition(
        &self,
        events: Vec<(Upload, Event)>,
        mut fence: Option<Fence<'_>>,
    ) -> Result<Option<Vec<Result<Applied>>>> {
        let mut items: Vec<Item<'_>> = events.into_iter().map(Item::from).collect();
        let dry_run = fence.as_ref().is_some_and(|fence| fence.dry_run);
        loop {
            let now = self.now();
            for item in &mut items {
                self.decide(item, now).await;
            }
            self.withhold_unverified(&mut items, dry_run).await?;
            match self.commit(&items, fence.as_mut(), now).await? {
                Committed::LeaseLost => return Ok(None),
                Committed::Nothing(lost) => {
                    let mut changing: Vec<_> =
                        items.iter_mut().filter(|item| item.changes()).collect();
                    for number in lost {
                        if let Some(item) = changing.get_mut(number) {
                            self.read_again(item).await;
                        }
                    }
                }
                Committed::Each(saved) => {
                    let mut saved = saved.into_iter();
                    for item in &mut items {
                        if !item.changes() || dry_run {
                            item.end_unsaved();
                        } else if let Some(Saved::Done(upload)) = saved.next() {
                            self.end_saved(item, upload).await;
                        } else {
                            self.read_again(item).await;
                        }
                    }
                    if !items.iter().any(|item| matches!(item.progress, Progress::Open)) {
                        return Ok(Some(items.into_iter().map(Item::result).collect()));
                    }
                }
            }
        }
    }

    async fn decide<'a>(&'a self, item: &mut Item<'a>, now: Timestamp) {
        if !matches!(item.progress, Progress::Open | Progress::Decided(_)) {
            return;
        }
        let decision = self.rules_of(&item.upload).await.and_then(|(policy, store)| {
            let step = step(item.upload.clone(), item.event.clone(), now, policy)?;
            Ok(Decision { step, policy, store })
        });
        item.progress = decision.map_or_else(Progress::Failed, Progress::Decided);
    }

    /// Withholds absences that would change an upload, unless the bucket belongs to this database.
    /// The marker is read after the HEAD that showed the absence, because in a removed or replaced
    /// bucket a HEAD also shows an absence.
    async fn withhold_unverified(&self, items: &mut [Item<'_>], dry_run: bool) -> Result<()> {
        let mut identities = BTreeMap::new();
        for item in items.iter_mut().filter(|item| matches!(item.event, Event::Absent(_))) {
            let Progress::Decided(Decision { step, .. }) = &item.progress else { continue };
            if !step.changed {
                continue;
            }
            let location_id = (item.upload.policy.clone(), item.upload.location);
            if !identities.contains_key(&location_id) {
                let options = CheckOptions { dry_run, ..CheckOptions::default() };
                let location = self.location_of(&item.upload).await?;
                let identity = self.check_location(&location, options).await?;
                identities.insert(location_id.clone(), identity);
            }
            match identities.get(&location_id) {
                Some(BucketIdentity::Match) | None => {}
                Some(identity) => item.progress = Progress::Withheld(identity.clone()),
            }
        }
        Ok(())
    }

    async fn commit(
        &self,
        items: &[Item<'_>],
        fence: Option<&mut Fence<'_>>,
        now: Timestamp,
    ) -> Result<Committed> {
        let changes: Vec<_> = items.iter().filter_map(Item::change).collect();
        let Some(fence) = fence else {
            if changes.is_empty() {
                return Ok(Committed::Each(Vec::new()));
            }
            return Ok(Committed::Each(self.db.uploads().save(changes, now).await?));
        };
        let changes = if fence.dry_run { Vec::new() } else { changes };
        let progress = |saved: &[Upload]| (fence.progress)(&outcomes(items, saved));
        let batch = self.db.shards().save(fence.shard, fence.lease, changes, now, progress).await?;
        Ok(match batch {
            Batch::Saved(saved) => Committed::Each(saved.into_iter().map(Saved::Done).collect()),
            Batch::Raced(lost) => Committed::Nothing(lost),
            Batch::Lost => Committed::LeaseLost,
        })
    }

    /// The effects after the commit of a change.
    async fn end_saved(&self, item: &mut Item<'_>, upload: Upload) {
        let Progress::Decided(Decision { step, policy, store }) = &item.progress else { return };
        if step.effects.contains(&Effect::AbortMultipart)
            && let Some(multipart_id) = &item.upload.multipart_id
        {
            self.abort_multipart(store, &upload, multipart_id).await;
        }
        record(&item.upload, &upload, &item.event, policy);
        item.progress = Progress::Applied(Applied { upload, changed: true });
    }

    /// Prepares an event for another decision after another writer was first.
    async fn read_again(&self, item: &mut Item<'_>) {
        item.lost += 1;
        pause(item.lost).await;
        let again = if item.lost < MAX_WRITES {
            self.current(item.upload.id, &item.event).await
        } else {
            Err(AppError::Contended)
        };
        item.progress = match again {
            // The loss of a verified object needs evidence that is younger than this row.
            Ok((upload, Event::Absent(_)))
                if matches!(upload.status(), Status::Inspecting | Status::Uploaded) =>
            {
                Progress::Applied(Applied { upload, changed: false })
            }
            Ok((upload, event)) => {
                (item.upload, item.event) = (upload, event);
                Progress::Open
            }
            Err(error) => Progress::Failed(error),
        };
    }

    /// The current row, and the event for it. An observation may be older than the bytes that the
    /// other writer verified, and would make valid bytes look overwritten. So the object is
    /// observed again, also for an operator.
    async fn current(&self, id: UploadId, event: &Event) -> Result<(Upload, Event)> {
        let upload =
            self.db.uploads().find_any_owner(id).await?.ok_or(AppError::NotFound("upload"))?;
        let event = match event {
            Event::Observed(seen)
                if matches!(
                    upload.status(),
                    Status::Inspecting | Status::Uploaded | Status::Missing
                ) =>
            {
                self.observe_object(&upload, seen.by).await?
            }
            Event::Verify(Verification { accept_changed, operator, .. }) => {
                self.observe_for_operator(operator, &upload, *accept_changed).await?
            }
            event => event.clone(),
        };
        Ok((upload, event))
    }
}

impl From<(Upload, Event)> for Item<'_> {
    fn from((upload, event): (Upload, Event)) -> Self {
        Self { upload, event, lost: 0, progress: Progress::Open }
    }
}

impl<'a> Item<'a> {
    fn changes(&self) -> bool {
        matches!(&self.progress, Progress::Decided(decision) if decision.step.changed)
    }

    fn change(&self) -> Option<Change<'a>> {
        match &self.progress {
            Progress::Decided(Decision { step, policy, .. }) if step.changed => {
                let (upload, effects) = (step.upload.clone(), step.effects.clone());
                let (from, cause) = (self.upload.status(), Cause::of(&self.event, &upload.state));
                let left_behind = step.left_behind.clone();
                Some(Change { upload, effects, policy, from, cause, left_behind })
            }
            _ => None,
        }
    }

    /// Ends an event that changes nothing.
    fn end_unsaved(&mut self) {
        self.progress = match std::mem::replace(&mut self.progress, Progress::Open) {
            Progress::Decided(Decision { step: Step { upload, changed, .. }, .. }) => {
                Progress::Applied(Applied { upload, changed })
            }
            ended => ended,
        };
    }

    fn result(self) -> Result<Applied> {
        match self.progress {
            Progress::Applied(applied) => Ok(applied),
            Progress::Withheld(_) => Ok(Applied { upload: self.upload, changed: false }),
            Progress::Failed(error) => Err(error),
            Progress::Open | Progress::Decided(_) => Err(AppError::Contended),
        }
    }
}

/// The results of a batch whose changes were saved as these uploads, in their order. In a dry run
/// nothing is saved, and each upload is as its event would change it.
fn outcomes<'a>(items: &'a [Item<'_>], saved: &'a [Upload]) -> Vec<Outcome<'a>> {
    let mut saved = saved.iter();
    let outcome = |item: &'a Item<'_>| {
        let (after, changed) = match &item.progress {
            Progress::Decided(Decision { step, .. }) if step.changed => {
                (Ok(saved.next().unwrap_or(&step.upload)), true)
            }
            Progress::Decided(Decision { step, .. }) => (Ok(&step.upload), false),
            Progress::Applied(applied) => (Ok(&applied.upload), applied.changed),
            Progress::Failed(error) => (Err(error), false),
            Progress::Open | Progress::Withheld(_) => (Ok(&item.upload), false),
        };
        let unverified = match &item.progress {
            Progress::Withheld(identity) => Some(identity),
            _ => None,
        };
        Outcome { before: &item.upload, after, changed, unverified, event: &item.event }
    };
    items.iter().map(outcome).collect()
}

/// Whether a verified object was written again with the same size, and there is no checksum to
/// compare its bytes.
pub(crate) fn unverified_change(before: &Upload, after: &Upload) -> bool {
    let State::Uploaded(now) = &after.state else { return false };
    let before = before.state.ever_verified();
    before.is_some_and(|before| before.facts.same_bytes(&now.facts).is_none())
}

/// Logs and counts a committed change.
fn record(before: &Upload, upload: &Upload, event: &Event, policy: &Policy) {
    if unverified_change(before, upload) && !matches!(event, Event::Moved(_)) {
        tracing::warn!(upload = %upload.id, policy = %policy.name, key = upload.key.as_str(),
            "the object was written again, and there is no checksum to compare its bytes with the \
            verified ones");
    }
    if before.status() != upload.status() {
        let (name, status) = (|| policy.name.as_str().to_owned(), upload.status().name());
        metrics::counter!(names::TRANSITIONS,
            "policy" => name(), "status" => status, "source" => source(event))
        .increment(1);
        if let State::Uploaded(verified) = &upload.state {
            let took = (verified.at - upload.created_at).as_seconds_f64().max(0.0);
            metrics::histogram!(names::CREATION_TO_UPLOADED,
                "policy" => name(), "source" => verified.confirmed_by.name())
            .record(took);
        }
    }
    tracing::info!(upload = %upload.id, policy = %policy.name, status = upload.status().name(),
        version = upload.version, "upload changed");
}

/// The cause of a change, for metrics.
fn source(event: &Event) -> &'static str {
    match event {
        Event::Observed(seen) => seen.by.name(),
        Event::Absent(_) => "absence",
        Event::Inspected(_) => "inspection",
        Event::Renew { .. }
        | Event::ExtendDeadline { .. }
        | Event::MultipartOpened { .. }
        | Event::Attach { .. }
        | Event::Delete => "client",
        Event::Unattached => "unattached",
        Event::Supersede => "superseded",
        Event::ObjectDeleted => "deleted",
        Event::Verify(_) | Event::KeepObject { .. } => "operator",
        Event::Moved(_) => "move",
    }
}
