//! Saving a batch of a shard's work: decided, and written with the shard's progress in one
//! transaction that only the shard's holder can commit.

use super::report::{Tally, finding_of};
use super::worker::{WorkError, Worker};
use crate::app::AppError;
use crate::app::transitions::record;
use crate::db::reconcile::shards::Batch;
use crate::db::uploads::Change;
use crate::domain::run::{Stage, SuspectKind};
use crate::domain::transition::{Effect, Event, Step, step};
use crate::domain::upload::ConfirmedBy;
use crate::domain::{Status, Timestamp, Upload};

/// How often rows that others write at the same time are read again.
const MAX_TRIES: usize = 8;

/// How far a shard is when a batch is written: the stage, and up to where it is done.
pub(super) type At = (Stage, Option<String>);

/// An upload as it was, and what its event makes of it.
type Decided = (Upload, Result<Step, AppError>);

impl Worker<'_> {
    /// Applies a batch of events, or in a dry run says what would come of them; with it all
    /// that waits to be written, and how far the shard is then.
    pub(super) async fn save(
        &self,
        mut events: Vec<(Upload, Event)>,
        at: At,
    ) -> Result<(), WorkError> {
        for tries in 0.. {
            let now = self.app.now();
            let decided: Vec<Decided> = events
                .iter()
                .map(|(upload, event)| {
                    let step = step(upload.clone(), event.clone(), now, self.policy);
                    (upload.clone(), step.map_err(AppError::from))
                })
                .collect();
            match self.write(&events, &decided, &at, now).await? {
                Batch::Saved(_) => return Ok(()),
                Batch::Lost => return Err(WorkError::LostLease),
                Batch::Raced(raced) if tries < MAX_TRIES => {
                    self.look_again(&mut events, &decided, raced).await?;
                }
                Batch::Raced(raced) => {
                    for i in changed(&decided, raced).into_iter().rev() {
                        let (upload, _) = events.remove(i);
                        self.count_error(&upload, &AppError::Contended);
                    }
                }
            }
        }
        Ok(())
    }

    async fn write(
        &self,
        events: &[(Upload, Event)],
        decided: &[Decided],
        at: &At,
        now: Timestamp,
    ) -> Result<Batch, WorkError> {
        let dry_run = self.run.request.dry_run;
        let mut changes = Vec::new();
        for (_, step) in decided {
            if let Ok(step) = step
                && step.changed
                && !dry_run
            {
                let (upload, effects) = (step.upload.clone(), step.effects.clone());
                changes.push(Change { upload, effects, policy: self.policy });
            }
        }
        let mut tally = self.report.tally().clone();
        let mark = |saved: &[Upload]| {
            note_all(&mut tally, decided, saved, dry_run, now);
            tally.mark(Some(at.clone()))
        };
        let lease = self.settings.lease;
        let batch = self.app.db.shards().save(self.shard, lease, changes, now, mark).await;
        let batch = batch.map_err(AppError::from)?;
        if let Batch::Saved(saved) = &batch {
            self.alive.renewed();
            self.report.written(tally);
            self.follow_up(events, decided, saved).await;
        }
        Ok(batch)
    }

    /// What follows a commit.
    async fn follow_up(&self, events: &[(Upload, Event)], decided: &[Decided], saved: &[Upload]) {
        let mut saved = saved.iter();
        for ((_, event), (before, step)) in events.iter().zip(decided) {
            match step {
                Ok(step) if step.changed => {
                    let Some(upload) = saved.next() else { break };
                    if step.effects.contains(&Effect::AbortMultipart)
                        && let Some(multipart_id) = &before.multipart_id
                    {
                        self.app.abort_multipart(self.store, upload, multipart_id).await;
                    }
                    record(before.status(), upload, event, self.policy);
                }
                Ok(_) => {}
                Err(error) => warn(before, error),
            }
        }
    }

    /// Reads again what others wrote first. A sight of the object may be older than what
    /// they verified, and would make good bytes look overwritten: then it is taken anew.
    async fn look_again(
        &self,
        events: &mut Vec<(Upload, Event)>,
        decided: &[Decided],
        raced: Vec<usize>,
    ) -> Result<(), WorkError> {
        for i in changed(decided, raced).into_iter().rev() {
            let (upload, event) = events.remove(i);
            let row =
                self.app.db.uploads().find_any_owner(upload.id).await.map_err(AppError::from)?;
            let Some(row) = row else { continue };
            let verified = matches!(row.status(), Status::Uploaded | Status::Missing);
            let event = match event {
                Event::Observed(_) if verified => {
                    self.app.observe_object(&row, ConfirmedBy::Scan).await
                }
                event => Ok(event),
            };
            match event {
                // An absence of what is verified by now is for the closing shard to prove.
                Ok(Event::Absent(_)) if row.status() == Status::Uploaded => {}
                Ok(event) => events.insert(i, (row, event)),
                Err(error) => self.count_error(&row, &error),
            }
        }
        Ok(())
    }

    pub(super) fn count_error(&self, upload: &Upload, error: &AppError) {
        self.report.count(|counters| counters.errors += 1);
        warn(upload, error);
    }
}

/// Where the changes of these numbers are in the batch.
fn changed(decided: &[Decided], numbers: Vec<usize>) -> Vec<usize> {
    let places: Vec<usize> = (0..)
        .zip(decided)
        .filter(|(_, (_, step))| step.as_ref().is_ok_and(|step| step.changed))
        .map(|(place, _)| place)
        .collect();
    numbers.into_iter().filter_map(|number| places.get(number).copied()).collect()
}

/// Counts and reports a batch whose changes were saved as these, in the batch's order.
fn note_all(
    tally: &mut Tally,
    decided: &[Decided],
    saved: &[Upload],
    dry_run: bool,
    now: Timestamp,
) {
    let mut saved = saved.iter();
    for (before, step) in decided {
        let after = match step {
            Err(_) => {
                tally.count(|counters| counters.errors += 1);
                continue;
            }
            Ok(step) if !step.changed || dry_run => &step.upload,
            Ok(step) => saved.next().unwrap_or(&step.upload),
        };
        if step.as_ref().is_ok_and(|step| step.changed) {
            tally.count_change(before, after);
            // What a real run would delete in the end.
            if dry_run && after.deletion.is_due(now) {
                tally.suspect(SuspectKind::Due, after.id);
            }
        }
        tally.find(finding_of(after, now));
    }
}

fn warn(upload: &Upload, error: &AppError) {
    tracing::warn!(upload = %upload.id, error = error as &dyn std::error::Error,
        "not reconciled; the next run tries again");
}
