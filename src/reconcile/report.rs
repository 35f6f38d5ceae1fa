//! What a shard reports while it works: counters and findings that are not written yet.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::db::reconcile::shards::Mark;
use crate::domain::reconcile::UploadSummary;
use crate::domain::run::{Counters, Finding, FindingKind, RunShard, Stage, SuspectKind};
use crate::domain::upload::State;
use crate::domain::verdict::RejectReason;
use crate::domain::{Status, Timestamp, Upload, UploadId};

/// What a shard did, saw and suspects.
#[derive(Debug, Clone)]
pub struct Tally(Mark);

impl Tally {
    /// What was written of a shard before.
    pub fn of(shard: &RunShard) -> Self {
        Self(Mark {
            at: None,
            counters: shard.counters,
            found: shard.findings,
            findings: Vec::new(),
            suspects: Vec::new(),
            doubt: shard.doubt.clone(),
        })
    }

    /// Counts.
    pub fn count(&mut self, f: impl FnOnce(&mut Counters)) {
        f(&mut self.0.counters);
    }

    /// Notes what is worth reporting.
    pub fn find(&mut self, findings: impl IntoIterator<Item = Finding>) {
        self.0.findings.extend(findings);
    }

    /// Keeps an upload in mind for the closing shard.
    pub fn suspect(&mut self, kind: SuspectKind, id: UploadId) {
        self.0.suspects.push((kind, id));
    }

    /// Says why an absence was not believed; the first reason stays.
    pub fn doubt(&mut self, why: impl FnOnce() -> String) {
        self.0.doubt.get_or_insert_with(why);
    }

    /// The first reason why an absence was not believed.
    pub fn doubts(&self) -> Option<&str> {
        self.0.doubt.as_deref()
    }

    /// The counters so far.
    pub fn counters(&self) -> &Counters {
        &self.0.counters
    }

    /// How much waits to be written.
    pub fn waiting(&self) -> usize {
        self.0.findings.len() + self.0.suspects.len()
    }

    /// All of it, to be written with how far the shard is.
    pub fn mark(&self, at: Option<(Stage, Option<String>)>) -> Mark {
        Mark { at, ..self.0.clone() }
    }

    /// The same, once all of it is written.
    #[must_use]
    fn written(mut self) -> Self {
        self.0.found += self.0.findings.len() as u64;
        self.0.findings.clear();
        self.0.suspects.clear();
        self
    }

    /// Counts and reports an object that is deleted, or in a dry run would be.
    pub fn count_deletion(&mut self, upload: &Upload, now: Timestamp) {
        self.0.counters.deleted += 1;
        self.find([deletion_of(upload, now)]);
    }

    /// Counts what became of an upload.
    pub fn count_change(&mut self, before: &Upload, after: &Upload) {
        if after.deletion.done.is_some() && before.deletion.done.is_none() {
            self.count_deletion(after, after.updated_at);
        }
        let counters = &mut self.0.counters;
        match &after.state {
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
        }
    }
}

/// A shard's tally, noted from many places of its work.
pub struct Report(Mutex<Tally>);

impl Report {
    /// Begins where the shard stands.
    pub fn of(shard: &RunShard) -> Self {
        Self(Mutex::new(Tally::of(shard)))
    }

    /// The tally, for a moment.
    pub fn tally(&self) -> MutexGuard<'_, Tally> {
        // It is sound between any two statements of its users.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts.
    pub fn count(&self, f: impl FnOnce(&mut Counters)) {
        self.tally().count(f);
    }

    /// Takes over a tally all of which is written.
    pub fn written(&self, tally: Tally) {
        *self.tally() = tally.written();
    }
}

/// What a run says of an object that it deletes, or in a dry run would delete.
pub const DELETE: &str = "delete";

/// The deletion of a final row's object: what it was found as is said elsewhere.
pub fn deletion_of(upload: &Upload, now: Timestamp) -> Finding {
    Finding {
        kind: FindingKind::Rejected,
        policy: upload.policy.clone(),
        key: upload.key.as_str().to_owned(),
        upload: Some(upload.id),
        size: upload.state.facts().map(|facts| facts.size),
        detail: Some(DELETE.to_owned()),
        found_at: now,
    }
}

/// Whether [`finding_of`] the whole row says anything.
pub fn is_worth_reporting(row: &UploadSummary) -> bool {
    match row.status {
        Status::Missing => true,
        Status::Rejected => row.deletion.done.is_none(),
        Status::Uploaded => row.late,
        Status::Pending | Status::Expired | Status::Cancelled | Status::Removed => false,
    }
}

/// What a row's state is worth reporting as, whoever brought it there.
pub fn finding_of(upload: &Upload, now: Timestamp) -> Option<Finding> {
    let (kind, detail) = match &upload.state {
        State::Missing(_) => (FindingKind::Missing, None),
        State::Rejected { .. } if upload.deletion.done.is_some() => return None,
        State::Rejected { reason: RejectReason::Overwritten, .. } => {
            (FindingKind::Overwritten, None)
        }
        State::Rejected { reason, .. } => (FindingKind::Rejected, Some(reason.name().to_owned())),
        State::Uploaded(verified) if verified.late => (FindingKind::Late, None),
        _ => return None,
    };
    Some(Finding {
        kind,
        policy: upload.policy.clone(),
        key: upload.key.as_str().to_owned(),
        upload: Some(upload.id),
        size: upload.state.facts().map(|facts| facts.size),
        detail,
        found_at: now,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::transition::tests::{at, upload_in};
    use crate::domain::upload::Deletion;

    #[test]
    fn of_each_row_it_is_known_beforehand_whether_there_is_a_finding() {
        for status in Status::ALL {
            for late in [false, true] {
                for done in [None, Some(at(11))] {
                    let mut row = upload_in(status);
                    row.deletion = Deletion { done, ..row.deletion };
                    if let State::Uploaded(verified) | State::Missing(verified) = &mut row.state {
                        verified.late = late;
                    }
                    let finding = finding_of(&row, at(12));
                    let known = is_worth_reporting(&UploadSummary::from(&row));
                    assert_eq!(known, finding.is_some(), "{row:?}");
                }
            }
        }
    }
}
