//! A shard's progress: each batch of its work is saved with its counters, findings and cursor
//! in one transaction that only the holder of the shard's lease can commit.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::report::{Report, Tally, finding_of, overwritten};
use super::worker::WorkError;
use crate::app::transitions::{Fence, Outcome, unverified_change};
use crate::app::{App, AppError};
use crate::domain::run::{CandidateKind, Run, RunShard, Stage};
use crate::domain::transition::Event;
use crate::domain::{Status, Timestamp, Upload, UploadId};

/// The stage of a shard, and the cursor up to which the stage is done.
pub(super) type At = (Stage, Option<String>);

/// A shard's lease.
#[derive(Debug)]
pub(super) struct Lease {
    /// How long the lease lasts after each renewal.
    pub(super) length: Duration,
    renewed_at: Mutex<Instant>,
}

impl Lease {
    /// A lease that was just renewed.
    pub(super) fn new(length: Duration) -> Self {
        Self { length, renewed_at: Mutex::new(Instant::now()) }
    }

    /// Records that the lease was renewed now.
    pub(super) fn renewed(&self) {
        *self.renewed_at.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// The time since the last renewal.
    pub(super) fn age(&self) -> Duration {
        self.renewed_at.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
    }
}

/// The progress of one shard of a run.
#[derive(Clone, Copy)]
pub(super) struct ShardProgress<'a> {
    pub(super) app: &'a App,
    pub(super) run: &'a Run,
    pub(super) shard: &'a RunShard,
    pub(super) report: &'a Report,
    pub(super) lease: &'a Lease,
}

impl ShardProgress<'_> {
    /// Applies a batch of events, or in a dry run counts their results, and saves everything
    /// that is not yet written. After that the shard is done up to `at`.
    ///
    /// # Errors
    /// If the lease is lost, or the database fails. An event that fails is counted and logged.
    pub(super) async fn save(&self, events: Vec<(Upload, Event)>, at: At) -> Result<(), WorkError> {
        let dry_run = self.run.request.dry_run;
        let ids: Vec<_> = events.iter().map(|(upload, _)| upload.id).collect();
        let mut written = None;
        let mut progress = |outcomes: &[Outcome<'_>]| {
            let mut tally = self.report.tally().clone();
            for outcome in outcomes {
                add(&mut tally, outcome, dry_run, self.app.now());
            }
            let progress = tally.progress(Some(at.clone()));
            written = Some(tally);
            progress
        };
        let (shard, lease) = (self.shard, self.lease.length);
        let fence = Fence { shard, lease, dry_run, progress: &mut progress };
        let Some(results) = self.app.apply_fenced(events, fence).await? else {
            return Err(WorkError::LostLease);
        };
        self.lease.renewed();
        if let Some(tally) = written {
            self.report.written(tally);
        }
        for (id, result) in ids.iter().zip(&results) {
            match result {
                // Its upload had ended and the row was deleted by retention.
                Ok(_) | Err(AppError::NotFound(_)) => {}
                Err(error) => warn(id, error),
            }
        }
        Ok(())
    }

    /// Counts and logs that an upload was not reconciled.
    pub(super) fn count_error(&self, upload: &Upload, error: &AppError) {
        self.report.count(|counters| counters.errors += 1);
        warn(&upload.id, error);
    }
}

/// Adds the result of one event.
fn add(tally: &mut Tally, outcome: &Outcome<'_>, dry_run: bool, now: Timestamp) {
    let after = match outcome.after {
        Ok(after) => after,
        Err(AppError::NotFound(_)) => return,
        Err(_) => return tally.count(|counters| counters.errors += 1),
    };
    if let Some(identity) = outcome.unverified {
        tally.set_unverified(|| format!("an object is missing, but {identity}"));
    }
    if let Event::Moved(_) = outcome.event {
        if outcome.changed {
            tally.count_move(outcome.before, dry_run);
        }
        return;
    }
    if outcome.changed {
        tally.count_change(outcome.before, after);
        if !dry_run
            && after.status() == Status::Rejected
            && outcome.before.status() != after.status()
        {
            tally.add_candidate(CandidateKind::Rejected, after.id);
        }
        // A run that is not a dry run would delete the object at its end.
        if dry_run && after.deletion.is_due(now) {
            tally.add_candidate(CandidateKind::Due, after.id);
            if after.deletion_is_damage() {
                tally.add_candidate(CandidateKind::DueDamage, after.id);
            }
        }
    }
    tally.record(finding_of(after, now));
    if outcome.changed && unverified_change(outcome.before, after) {
        let rule = match outcome.event {
            Event::Observed(seen) => seen.verdict.as_ref().err().map(|broken| broken.reason),
            _ => None,
        };
        tally.record([overwritten(after, rule, now)]);
    }
}

fn warn(upload: &UploadId, error: &AppError) {
    tracing::warn!(%upload, error = error as &dyn std::error::Error,
        "an upload was not reconciled; the next run tries again");
}
